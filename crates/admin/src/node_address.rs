//! The address of a node in the form in which users of a client write it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use http::Uri;

use crate::address::AdminAddress;

/// The file in a data directory that contains the URL of the process's admin API.
pub const URL_FILE: &str = "admin.url";

/// The maximum size in bytes of [`URL_FILE`].
const URL_BYTES_MAX: u64 = 4 << 10;

/// The address of a node, as a user of a client writes it. Unlike [`crate::address::AdminAddress`], it may have a host
/// name, because the node may be behind a tunnel or a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeAddress {
    /// The part `HOST:PORT` of an address `http://HOST:PORT`.
    Tcp(String),
    /// The path of an address `unix:PATH`.
    Unix(PathBuf),
}

impl NodeAddress {
    /// Parses `http://HOST:PORT` or `unix:PATH`; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Self::Unix(path.into()));
        }
        let uri: Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        let is_whole = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none();
        let host = authority.as_str();
        let port = authority.port_u16().unwrap_or(80);
        (is_whole && !host.contains('@')).then(|| Self::Tcp(format!("{}:{port}", authority.host())))
    }

    /// Reads the address from the data directory `data`. The process that uses this directory has written the address
    /// there.
    ///
    /// # Errors
    /// If the file cannot be read, or contains no address.
    pub fn read_from(data: &Path) -> io::Result<Self> {
        let file = File::open(data.join(URL_FILE))?;
        let mut text = String::new();
        file.take(URL_BYTES_MAX).read_to_string(&mut text)?;
        Self::parse(text.trim()).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it contains no address"))
    }

    /// Returns whether the address is on this machine, so that no other machine can read the traffic.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(authority) => {
                authority.starts_with("localhost:")
                    || authority.parse::<std::net::SocketAddr>().is_ok_and(|it| it.ip().to_canonical().is_loopback())
            }
        }
    }
}

/// Writes the URL of an admin API to the data directory `data`. The file never contains only a part of the URL.
///
/// # Errors
/// If the file cannot be written.
pub fn write_url(data: &Path, url: &str) -> io::Result<()> {
    let new = data.join(format!("{URL_FILE}.new"));
    std::fs::write(&new, format!("{url}\n"))?;
    std::fs::rename(&new, data.join(URL_FILE))
}

impl From<&AdminAddress> for NodeAddress {
    fn from(address: &AdminAddress) -> Self {
        match address {
            AdminAddress::Tcp(address) => Self::Tcp(address.to_string()),
            AdminAddress::Unix(path) => Self::Unix(path.clone()),
        }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_by_url_or_socket() {
        let parsed = |text: &str| NodeAddress::parse(text).map(|node| node.to_string());
        assert_eq!(parsed("http://127.0.0.1:7171/").as_deref(), Some("http://127.0.0.1:7171"));
        assert_eq!(parsed("http://node.internal").as_deref(), Some("http://node.internal:80"));
        assert_eq!(parsed("http://[::1]:7171").as_deref(), Some("http://[::1]:7171"));
        assert_eq!(parsed("unix:/run/a.sock").as_deref(), Some("unix:/run/a.sock"));
        for bad in ["", "unix:", "127.0.0.1:7171", "https://a", "http://a/b", "http://a?b", "http://user@a", "dir"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_is_local_if_other_machines_cannot_read_the_traffic() {
        let is_local = |text: &str| NodeAddress::parse(text).unwrap().is_local();
        assert!(["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "unix:a"].into_iter().all(is_local));
        assert!(!["http://10.0.0.1:1", "http://localhost.evil:1", "http://node:1"].into_iter().any(is_local));
    }
}
