//! Trusted proxies in front of the front door, which announce the addresses of their clients.

use std::net::IpAddr;

use isomer_transport::IpNetwork;

/// Proxies in front of the front door.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// The networks of the proxies. A proxy's connections carry many clients, so they are not counted for a client
    /// network. The client address in a proxy's `X-Forwarded-For` or `Forwarded` is trusted.
    pub trusted: Vec<IpNetwork>,
    /// Whether the proxies announce the client of each connection by the PROXY protocol. The connection is then counted
    /// for that client, and a proxy's connection that does not begin with the protocol's header is closed.
    pub proxy_protocol: bool,
}

impl Proxies {
    /// Returns whether a connection from `address` begins with the header of the PROXY protocol.
    pub(crate) fn sends_header(&self, address: IpAddr) -> bool {
        self.proxy_protocol && self.trusts(address)
    }

    /// Returns whether `address` belongs to one of the proxies.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}
