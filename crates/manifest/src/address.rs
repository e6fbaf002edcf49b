//! The notation of socket addresses in a node file: `HOST:PORT`, or `unix:PATH`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use isomer_ids::InvalidText;

/// The address of a group or of the admin API: a TCP address or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkAddress {
    /// A host (a name or an IP address, without brackets) and a port.
    Tcp {
        /// The host name or IP address.
        host: String,
        /// The port. With 0, the system chooses a free port.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl LinkAddress {
    /// Returns whether the address always denotes this machine: a Unix socket, a loopback address or `localhost`. Any
    /// other host name may resolve to another machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl FromStr for LinkAddress {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let invalid = |problem: &str| InvalidText::new("an address", "10.0.0.7:7070", text, problem);
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.trim_start_matches("//") {
                "" => Err(invalid("`unix:` must be followed by a path")),
                _ => Ok(Self::Unix(path.into())),
            };
        }
        if let Some((_, rest)) = text.split_once("://") {
            let suggestion = rest.trim_end_matches('/');
            let suggestion = Some(suggestion).filter(|suggestion| suggestion.parse::<Self>().is_ok());
            return Err(invalid("it is a URL; write only its host and port").suggest(suggestion));
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
            Some((host, port)) => {
                let host: Ipv6Addr =
                    host.parse().map_err(|_| invalid("the text in brackets is not an IPv6 address"))?;
                (host.to_string(), port)
            }
            None => match text.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return Err(invalid("an IPv6 address must be in brackets: `[::1]:7070`"));
                }
                Some((host, port)) => (host.to_owned(), port),
                None => return Err(invalid("the port is missing").suggest(Some(format!("{text}:7070")))),
            },
        };
        let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(of_name) {
            return Err(invalid("the host must be a name or an IP address"));
        }
        let port = port.parse().map_err(|_| invalid("the port must be a number up to 65535"))?;
        Ok(Self::Tcp { host, port })
    }
}

impl fmt::Display for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_displayed() {
        for (text, local) in [
            ("10.0.0.7:7070", false),
            ("127.0.0.1:0", true),
            ("[::1]:7070", true),
            ("[2001:db8::1]:7070", false),
            ("localhost:7070", true),
            ("services.shop.internal:7070", false),
            ("unix:/run/shop/services.sock", true),
        ] {
            let address: LinkAddress = text.parse().expect(text);
            assert_eq!((address.to_string().as_str(), address.is_local()), (text, local));
        }
    }

    #[test]
    fn invalid_addresses_are_refused_with_the_reason() {
        for (text, why) in [
            ("10.0.0.7", "the port is missing"),
            ("10.0.0.7:http", "a number"),
            ("10.0.0.7:70700", "a number"),
            (":7070", "the host"),
            ("https://10.0.0.7:7070", "URL"),
            ("::1:7070", "brackets"),
            ("[fe80]:1", "not an IPv6"),
            ("unix:", "a path"),
            ("", "the port"),
        ] {
            let error = text.parse::<LinkAddress>().expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
