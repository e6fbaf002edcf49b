//! Proxies in front of the front door that are trusted to name their clients.

use std::net::IpAddr;

use isomer_transport::IpNetwork;

/// Proxies in front of the front door.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Their networks. Their connections are not counted for a client network, since they carry many clients, and the client that
    /// they name in `X-Forwarded-For` or `Forwarded` is believed.
    pub trusted: Vec<IpNetwork>,
    /// Whether they name the client of each connection by the PROXY protocol. The connection is then counted for that client, and a
    /// connection of theirs that does not begin with the protocol's header is closed.
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
