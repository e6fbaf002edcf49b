//! Trusted proxies in front of the front door. They announce the addresses of their clients.

use std::net::IpAddr;

use isomer_transport::IpNetwork;

/// The trusted proxies of a front door.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// The networks of the proxies. A proxy's connection carries requests of many clients, so the maximum per client
    /// network does not apply to it. The client address in a proxy's `X-Forwarded-For` or `Forwarded` field is trusted.
    pub trusted: Vec<IpNetwork>,
    /// Whether the proxies announce the client of each connection with the PROXY protocol. The connection is then
    /// counted for that client's network. A proxy's connection that does not begin with a PROXY header is closed.
    pub proxy_protocol: bool,
}

impl Proxies {
    /// Returns whether a connection from `address` must begin with a PROXY header.
    pub(crate) fn sends_header(&self, address: IpAddr) -> bool {
        self.proxy_protocol && self.trusts(address)
    }

    /// Returns whether `address` belongs to a trusted proxy.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}
