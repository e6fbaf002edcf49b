//! Where a group is reached, as people write it: `unix:/run/isomer/cart.sock`, `127.0.0.1:7000`, `[::1]:7000`, `cart.internal:7000`.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::LinkError;

/// The most bytes of a Unix socket's path: the kernel's `sun_path` has 108 with its end.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The most bytes of a host's name.
const HOST_BYTES_MAX: usize = 253;

/// Where a group is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A Unix socket's absolute path.
    Unix(PathBuf),
    /// A host, by name or number (without brackets), and a port.
    Tcp {
        /// The host.
        host: String,
        /// The port; 0 lets the system choose where one listens.
        port: u16,
    },
}

impl Address {
    /// Does it stay inside this machine, by what is written? Names count if they are `localhost`.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(ip) => ip.is_loopback(),
                Err(_) => host.eq_ignore_ascii_case("localhost"),
            },
        }
    }

    /// Is it a Unix socket, which is never spoken to by TLS?
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    fn unix(path: &str) -> Result<Self, &'static str> {
        if !Path::new(path).is_absolute() {
            return Err("a socket's path is absolute");
        }
        if path.len() > SOCKET_PATH_BYTES_MAX {
            return Err("a socket's path has at most 107 bytes");
        }
        if path.contains('\0') || path.ends_with('/') {
            return Err("it is no file's path");
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }

    fn tcp(text: &str) -> Result<Self, &'static str> {
        let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
        let port = if port.bytes().all(|byte| byte.is_ascii_digit()) { port.parse().ok() } else { None };
        let port = port.ok_or("the port is no number up to 65535")?;
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
            return Err("that is no host");
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl FromStr for Address {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let parsed = match text.strip_prefix("unix:") {
            Some(path) => Self::unix(path),
            None => Self::tcp(text),
        };
        parsed.map_err(|problem| LinkError::Address { text: text.to_owned(), problem })
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
    fn what_is_written_is_what_is_shown() {
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
            ("unix:/run/", "no file"),
            ("cart", "the port is missing"),
            ("cart:", "no number"),
            ("cart:70000", "no number"),
            ("cart:+7", "no number"),
            (":7000", "host is missing"),
            ("[::1:7000", "brackets"),
            ("[cart]:7000", "brackets"),
            ("::1:x:7000", "no host"),
            ("http://cart:7000", "no host"),
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
