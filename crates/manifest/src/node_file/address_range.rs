//! Ranges of IP addresses in CIDR notation.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use isomer_ids::InvalidText;

/// A range of IP addresses with a common prefix: `10.0.0.0/8`. A single address is also a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    /// The address before the slash, as written.
    pub address: IpAddr,
    /// The length of the common prefix in bits: at most 32 for IPv4, 128 for IPv6.
    pub prefix: u8,
}

impl FromStr for AddressRange {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let invalid = |problem: &str| InvalidText::new("a range of IP addresses", "10.0.0.0/8", text, problem);
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid("it must begin with an IP address"))?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => max,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let prefix = digits.parse().ok().filter(|prefix| *prefix <= max);
                prefix.ok_or_else(|| invalid("the prefix length is missing, or is longer than the address"))?
            }
            Some(_) => return Err(invalid("`/` must be followed by the prefix length in bits")),
        };
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_an_address_with_a_prefix_length() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("::1", "::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<AddressRange>().map(|network| network.to_string()).as_deref(), Ok(shown));
        }
        for text in
            ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "proxy.example", "10.0.0.0:80"]
        {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }
}
