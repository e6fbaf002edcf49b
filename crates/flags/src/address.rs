//! Parsers for flags whose values are addresses to listen on.

use std::net::SocketAddr;

use isomer_admin::AdminAddress;
use isomer_ids::InvalidText;
use isomer_manifest::parse_listen;

/// Parses the value of a `--listen` flag.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    parse_listen(text).map_err(|invalid| with_hint(&invalid))
}

/// Parses the value of `--admin`: an address to listen on, or `unix:PATH`.
pub fn admin(text: &str) -> Result<AdminAddress, String> {
    if text.starts_with("unix:") {
        return text.parse().map_err(|error: isomer_admin::InvalidAddress| error.to_string());
    }
    listen(text).map(AdminAddress::Tcp)
}

/// The value of a flag `--admin` that can switch the admin API off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminFlag {
    /// The admin API is switched off.
    Off,
    /// The address of the admin API.
    At(AdminAddress),
}

impl AdminFlag {
    /// Returns the address, or `None` if the admin API is switched off.
    pub fn address(&self) -> Option<AdminAddress> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address.clone()),
        }
    }
}

/// Parses the value of `--admin`: an address to listen on, `unix:PATH`, or `off`.
pub fn admin_or_off(text: &str) -> Result<AdminFlag, String> {
    if text == "off" { Ok(AdminFlag::Off) } else { admin(text).map(AdminFlag::At) }
}

/// Formats the error of an invalid value with its hint, on one line.
pub fn with_hint(invalid: &InvalidText) -> String {
    format!("{invalid}; {}", invalid.hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_address_is_an_address_or_a_socket() {
        for (text, address) in [
            ("localhost:7171", "127.0.0.1:7171"),
            (":0", "127.0.0.1:0"),
            ("7171", "127.0.0.1:7171"),
            ("[::1]:7171", "[::1]:7171"),
            ("unix:/run/isomer.sock", "unix:/run/isomer.sock"),
        ] {
            assert_eq!(admin(text).map(|address| address.to_string()).as_deref(), Ok(address));
        }
        assert_eq!(admin_or_off("off"), Ok(AdminFlag::Off));
        assert_eq!(admin_or_off("7171").map(|flag| flag.address().is_some()), Ok(true));
        assert!(admin("unix:").is_err());
        assert!(admin("localhost").unwrap_err().contains("write `localhost:8080`"));
    }
}
