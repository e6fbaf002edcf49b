//! The addresses of groups, as users write them: `unix:/run/isomer/cart.sock`, `127.0.0.1:7000`, `[::1]:7000`, `cart.internal:7000`.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The maximum length of a Unix socket's path in bytes: the kernel's `sun_path` has 108 bytes, including the
/// terminating NUL.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The maximum length of a host name in bytes.
const HOST_BYTES_MAX: usize = 253;

/// The error for a text that is not a valid address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid address: {problem}")]
pub struct InvalidLinkAddress {
    /// The text as the user wrote it.
    pub text: String,
    /// What is wrong with the text.
    pub problem: &'static str,
}

/// The address of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
    /// A host name or IP address (without brackets), and a port.
    Tcp {
        /// The host name or IP address, without brackets.
        host: String,
        /// The port; for a listener, 0 lets the system choose.
        port: u16,
    },
}

impl Address {
    /// Returns whether the address is a Unix socket, a loopback address or `localhost`. Does not resolve host names.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(ip) => ip.is_loopback(),
                Err(_) => host.eq_ignore_ascii_case("localhost"),
            },
        }
    }

    /// Returns whether the address is a Unix socket, over which TLS is never used.
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    fn unix(path: &str) -> Result<Self, &'static str> {
        if !Path::new(path).is_absolute() {
            return Err("the path of a socket has to be absolute");
        }
        if path.len() > SOCKET_PATH_BYTES_MAX {
            return Err("the path of a socket may have at most 107 bytes");
        }
        if path.contains('\0') || path.ends_with('/') {
            return Err("it is not the path of a file");
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }

    fn tcp(text: &str) -> Result<Self, &'static str> {
        let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
        let port = if port.bytes().all(|byte| byte.is_ascii_digit()) { port.parse().ok() } else { None };
        let port = port.ok_or("the port is not a number up to 65535")?;
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(Some(inside)) if inside.parse::<std::net::Ipv6Addr>().is_ok() => inside,
            Some(_) => return Err("there is no IPv6 address between the brackets"),
            None => host,
        };
        let is_name = |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if host.is_empty() {
            return Err("the host is missing");
        }
        if host.len() > HOST_BYTES_MAX || (host.parse::<IpAddr>().is_err() && !is_name(host)) {
            return Err("the host is not valid");
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl FromStr for Address {
    type Err = InvalidLinkAddress;

    fn from_str(text: &str) -> Result<Self, InvalidLinkAddress> {
        let parsed = match text.strip_prefix("unix:") {
            Some(path) => Self::unix(path),
            None => Self::tcp(text),
        };
        parsed.map_err(|problem| InvalidLinkAddress { text: text.to_owned(), problem })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_displayed_as_it_is_written() {
        for text in ["unix:/run/a b.sock", "127.0.0.1:7000", "[::1]:7000", "cart.internal:1", "localhost:0"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn each_mistake_is_named() {
        let long = format!("unix:/{}", "a".repeat(107));
        for (text, problem) in [
            ("unix:run/a.sock", "absolute"),
            (&*long, "107 bytes"),
            ("unix:/run/", "not the path of a file"),
            ("cart", "the port is missing"),
            ("cart:", "not a number"),
            ("cart:70000", "not a number"),
            ("cart:+7", "not a number"),
            (":7000", "host is missing"),
            ("[::1:7000", "brackets"),
            ("[cart]:7000", "brackets"),
            ("::1:x:7000", "host is not valid"),
            ("http://cart:7000", "host is not valid"),
            ("", "the port is missing"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn only_loopback_is_local() {
        for (text, is_local) in [
            ("unix:/run/a.sock", true),
            ("127.3.2.1:1", true),
            ("[::1]:1", true),
            ("LOCALHOST:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("localhost.example:1", false),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_local(), is_local, "{text}");
        }
    }
}
