//! Networks of IP addresses: client networks, by which connections are counted, and networks of trusted proxies.
//!
//! A client usually has a whole /64 of IPv6 addresses and can use a new address for every connection, so all addresses
//! of a /64 are counted as one client. A dual-stack listener reports IPv4 addresses as IPv4-mapped IPv6 addresses,
//! which are treated as IPv4 addresses.

use std::net::{IpAddr, Ipv6Addr};

/// The number of leading bits of an IPv6 address that identify the network of one client.
const IPV6_CLIENT_BITS: u8 = 64;

/// The network of one client: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientNetwork(IpAddr);

impl ClientNetwork {
    /// Returns the network of a client at `address`.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => Self(IpAddr::V6(masked_v6(address, IPV6_CLIENT_BITS))),
            address => Self(address),
        }
    }
}

/// A network: the addresses that share the first `prefix` bits of `address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpNetwork {
    /// Any address of the network.
    pub address: IpAddr,
    /// The number of leading bits that all addresses share: at most 32 for IPv4, and at most 128 for IPv6.
    pub prefix: u8,
}

impl IpNetwork {
    /// Returns whether `address` belongs to the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(u32::from(32 - self.prefix.min(32))).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                masked_v6(network, self.prefix) == masked_v6(address, self.prefix)
            }
            _ => false,
        }
    }
}

fn masked_v6(address: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(u32::from(128 - prefix.min(128))).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> ClientNetwork {
        ClientNetwork::of(text.parse().expect("an address"))
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_a_64_of_ipv6() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn a_network_has_the_addresses_that_share_its_prefix() {
        for (network, prefix, inside, outside) in [
            ("10.0.0.0", 8, "10.255.1.2", "11.0.0.1"),
            ("10.0.0.5", 8, "::ffff:10.1.1.1", "2001:db8::1"),
            ("192.0.2.1", 32, "192.0.2.1", "192.0.2.2"),
            ("192.0.2.1", 31, "192.0.2.0", "192.0.2.2"),
            ("0.0.0.0", 0, "203.0.113.9", "::1"),
            ("2001:db8::", 32, "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", 128, "::1", "::2"),
            ("::", 0, "2001:db8::1", "192.0.2.1"),
        ] {
            let network = IpNetwork { address: network.parse().expect("an address"), prefix };
            assert!(network.contains(inside.parse().expect("an address")), "{network:?} {inside}");
            assert!(!network.contains(outside.parse().expect("an address")), "{network:?} {outside}");
        }
    }
}
