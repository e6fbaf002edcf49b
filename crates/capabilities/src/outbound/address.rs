//! Classifies IP addresses by the part of the network that they belong to.
//!
//! The classification follows the IANA special-purpose address registries (RFC 6890 and its updates). In addition, some
//! addresses of cloud services that are public according to the registries count as private, because a guest must not
//! reach the credentials of a virtual machine. If an IPv6 address contains an IPv4 address (mapped, compatible, NAT64,
//! 6to4, ISATAP), the IPv4 address decides, so that no spelling of `127.0.0.1` is a public address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A part of the network, as seen from this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The public internet.
    Public,
    /// This machine (loopback).
    Loopback,
    /// A network that is not part of the public internet: private, link-local, carrier-grade NAT, unique-local,
    /// reserved.
    Private,
    /// Addresses to which no connection can be made: unspecified, multicast, broadcast.
    Never,
}

impl Reach {
    /// Returns the part of the network that `address` belongs to.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }
}

fn of_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, d] = address.octets();
    match (a, b, c) {
        _ if (a, b, c, d) == (255, 255, 255, 255) => Reach::Never,
        // Multicast (224.0.0.0/4), and "this network" (0.0.0.0/8), because Linux connects 0.0.0.0 to loopback.
        (0, _, _) | (224..=239, _, _) => Reach::Never,
        (127, _, _) => Reach::Loopback,
        (10, _, _)
        | (100, 64..=127, _)
        | (169, 254, _)
        | (172, 16..=31, _)
        | (192, 168, _)
        // The service networks of IBM's cloud.
        | (161, 26, _)
        | (166, 8..=11, _)
        // Networks for protocol assignments, documentation, 6to4 relays and benchmarking, and reserved networks.
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18..=19, _)
        | (198, 51, 100)
        | (203, 0, 113)
        | (240..=255, _, _) => Reach::Private,
        // Azure's platform, which gives each virtual machine information about itself at this address.
        (168, 63, 129) if d == 16 => Reach::Private,
        _ => Reach::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Reach {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        of_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (s0, s1) {
        _ if address.is_unspecified() => Reach::Never,
        _ if address.is_loopback() => Reach::Loopback,
        // IPv4-mapped (::ffff:0:0/96), IPv4-translated (::ffff:0:0:0/96) and IPv4-compatible (::/96).
        (0, 0) if (s2, s3) == (0, 0) && matches!((s4, s5), (0, 0xffff) | (0xffff, 0) | (0, 0)) => v4(s6, s7),
        // NAT64 (64:ff9b::/96) and 6to4 (2002::/16).
        (0x0064, 0xff9b) if (s2, s3, s4, s5) == (0, 0, 0, 0) => v4(s6, s7),
        (0x2002, _) => v4(s1, s2),
        (0xff00..=0xffff, _) => Reach::Never,
        // ISATAP (RFC 5214), with any prefix.
        _ if matches!(s4, 0 | 0x0200) && s5 == 0x5efe && v4(s6, s7) != Reach::Public => v4(s6, s7),
        // Within 2000::/3 (global unicast), two kinds of networks are not public: protocol assignments (2001::/23, with
        // Teredo and ORCHID) and documentation (2001:db8::/32, 3fff::/20). Addresses outside 2000::/3 are local or
        // reserved.
        (0x2001, 0..=0x01ff | 0x0db8) | (0x3fff, 0..=0x0fff) => Reach::Private,
        (0x2000..=0x3fff, _) => Reach::Public,
        _ => Reach::Private,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_known_in_every_spelling() {
        let cases = [
            (
                Reach::Loopback,
                "127.0.0.1 127.255.255.254 ::1 ::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::1 ::ffff:0:127.0.0.1",
            ),
            (
                Reach::Private,
                "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 100.127.255.255 192.0.0.1 192.0.2.1 \
                 192.88.99.1 168.63.129.16 161.26.0.10 166.11.255.255 \
                 192.0.0.192 100.100.100.200 169.254.169.253 fd00:ec2::254 fd20:ce::254 fd00:42::42 ::ffff:168.63.129.16 64:ff9b::a83f:8110 \
                 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1 2001:4860::5efe:10.0.0.1 2001:4860::200:5efe:169.254.169.254 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 240.0.0.1 255.255.255.254 fc00::1 fdff::1 fe80::1 \
                 fec0::1 ::ffff:10.0.0.1 64:ff9b::a00:1 64:ff9b:1::1 2002:c0a8:101::1 2001::1 2001:db8::1 3fff::1 100::1 5f00::1 4000::1",
            ),
            (
                Reach::Never,
                "0.0.0.0 0.1.2.3 224.0.0.1 239.255.255.255 255.255.255.255 :: ff02::1 ::ffff:0.0.0.0 ::ffff:224.0.0.1",
            ),
            (
                Reach::Public,
                "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 198.17.0.1 198.20.0.1 223.255.255.255 \
                 168.63.129.15 168.63.128.16 166.12.0.1 161.27.0.1 2001:4860::5efe:8.8.8.8 2606:4700::1111 2001:4860::8888 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1 3ffe::1",
            ),
        ];
        for (expected, addresses) in cases {
            for address in addresses.split_whitespace() {
                assert_eq!(Reach::of(address.parse().expect(address)), expected, "{address}");
            }
        }
    }
}
