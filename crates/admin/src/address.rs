//! The address at which a node serves its admin API: a TCP address or a Unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The default address of a node's admin API.
pub const DEFAULT: &str = "127.0.0.1:7171";

/// The prefix of the address of a Unix socket.
const UNIX: &str = "unix:";

/// An address at which a node serves its admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address. With port 0, the operating system chooses the port.
    Tcp(SocketAddr),
    /// The path of a Unix socket. Only the socket's owner can connect.
    Unix(PathBuf),
}

/// The error for a text that is not an address of an admin API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an address for the admin API: write `127.0.0.1:7171` or `unix:/path/of/a.sock`")]
pub struct InvalidAddress {
    text: String,
}

impl AdminAddress {
    /// Returns whether only processes on this machine can reach the address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Returns the address as a client writes it: `http://127.0.0.1:7171` or `unix:/path/of/a.sock`.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}"),
            Self::Unix(path) => format!("{UNIX}{}", path.display()),
        }
    }
}

impl Default for AdminAddress {
    fn default() -> Self {
        DEFAULT.parse().expect("the default is an address")
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for AdminAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress { text: text.chars().filter(|c| !c.is_control()).take(120).collect() };
        match text.strip_prefix(UNIX) {
            Some("") => Err(invalid()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in ["127.0.0.1:7171", "[::1]:0", "unix:/run/isomer.sock", "unix:relative.sock"] {
            assert_eq!(text.parse::<AdminAddress>().unwrap().to_string(), text);
        }
        for text in ["", "unix:", "7171", "localhost:7171", "http://127.0.0.1:7171", "127.0.0.1"] {
            assert!(text.parse::<AdminAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_local_if_other_machines_cannot_reach_it() {
        let is_local = |text: &str| text.parse::<AdminAddress>().unwrap().is_local();
        assert!(["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "unix:a"].into_iter().all(is_local));
        assert!(!["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "[::ffff:10.0.0.1]:1"].into_iter().any(is_local));
    }
}
