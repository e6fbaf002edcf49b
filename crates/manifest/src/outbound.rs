//! The notation of hosts for outbound HTTP: `HOST`, `HOST:PORT`, `*.example.com`, `*`, an IP address (`[::1]:8080`).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use isomer_ids::{HOST_BYTES_MAX, InvalidText, is_host_label};

use crate::model::OutboundHost;

impl FromStr for OutboundHost {
    type Err = InvalidText;

    /// Parses a host. The result does not allow private addresses.
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let invalid = |problem: &str| InvalidText::new("a host", "api.example.com:443", text, problem);
        let lower = text.to_ascii_lowercase();
        if let Some((_, rest)) = lower.split_once("://") {
            let host = rest.split(['/', '?', '#']).next().and_then(|host| host.rsplit('@').next());
            let suggestion = host.filter(|host| host.parse::<Self>().is_ok());
            return Err(invalid("a grant names a host, not a URL").suggest(suggestion));
        }
        if let Some((host, _)) = lower.split_once('/') {
            let suggestion = Some(host).filter(|host| host.parse::<Self>().is_ok());
            return Err(invalid("a grant names a host, without a path").suggest(suggestion));
        }
        if let Ok(address) = lower.parse::<Ipv6Addr>() {
            return Ok(Self { host: address.to_string(), port: None, private: false, authority: None });
        }
        let (host, port) = if let Some(bracketed) = lower.strip_prefix('[') {
            let (address, rest) = bracketed.split_once(']').ok_or_else(|| invalid("a `]` is missing"))?;
            let address: Ipv6Addr =
                address.parse().map_err(|_| invalid("the text in brackets is not an IPv6 address"))?;
            match rest.strip_prefix(':') {
                None if rest.is_empty() => (address.to_string(), None),
                None => return Err(invalid("only `:PORT` can follow the `]`")),
                Some(port) => (address.to_string(), Some(port)),
            }
        } else {
            match lower.rsplit_once(':') {
                None => (lower, None),
                Some((host, port)) => (host.to_owned(), Some(port)),
            }
        };
        let port = match port.map(|port| (port, port.parse::<u16>())) {
            None => None,
            Some((text, Ok(port))) if port > 0 && !text.starts_with('+') => Some(port),
            Some(_) => return Err(invalid("the port must be a number from 1 to 65535")),
        };
        check_host(&host).map_err(invalid)?;
        Ok(Self { host, port, private: false, authority: None })
    }
}

/// Checks that the text is `*`, `*.NAME`, a name, or an IP address.
fn check_host(host: &str) -> Result<(), &'static str> {
    if host == "*" || host.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() {
        return Ok(());
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.contains('*') {
        return Err("`*` can only be the whole host or its first part (`*.example.com`)");
    }
    if name.len() > HOST_BYTES_MAX {
        return Err("it is longer than a host name can be");
    }
    for part in name.split('.') {
        if !is_host_label(part) {
            return Err(if part.is_ascii() {
                "a host name has parts of letters, digits and `-`, separated by single `.`"
            } else {
                "a host name must be written in its ASCII form (`xn--…`)"
            });
        }
    }
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("it looks like an IP address but is not valid");
    }
    Ok(())
}

impl fmt::Display for OutboundHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => f.write_str(&self.host),
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_parsed_and_displayed() {
        for (text, host, port, shown) in [
            ("API.Example.com", "api.example.com", None, "api.example.com"),
            ("localhost:8080", "localhost", Some(8080), "localhost:8080"),
            ("*.example.com:443", "*.example.com", Some(443), "*.example.com:443"),
            ("*", "*", None, "*"),
            ("*:80", "*", Some(80), "*:80"),
            ("10.0.0.1", "10.0.0.1", None, "10.0.0.1"),
            ("::1", "::1", None, "::1"),
            ("[::1]", "::1", None, "::1"),
            ("[0:0::1]:90", "::1", Some(90), "[::1]:90"),
        ] {
            let parsed: OutboundHost = text.parse().expect(text);
            assert_eq!((parsed.host.as_str(), parsed.port, parsed.private), (host, port, false));
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(shown.parse(), Ok(parsed));
        }
    }

    #[test]
    fn invalid_hosts_are_refused_with_a_reason_and_a_suggestion() {
        for (text, problem, suggestion) in [
            ("", "empty", None),
            ("https://me@api.example.com/v1?x", "not a URL", Some("api.example.com")),
            ("api.example.com/v1", "without a path", Some("api.example.com")),
            ("a.*.com", "first part", None),
            ("host:0", "1 to 65535", None),
            ("host:+80", "1 to 65535", None),
            ("host:http", "1 to 65535", None),
            ("a..b", "single `.`", None),
            ("-a.b", "letters, digits", None),
            ("bücher.example", "ASCII", None),
            ("1.2.3", "IP address", None),
            ("256.1.1.1", "IP address", None),
            ("[::1", "`]`", None),
            ("[::1]80", "follow", None),
        ] {
            let error = text.parse::<OutboundHost>().expect_err(text);
            assert!(error.problem.contains(problem), "{error}");
            assert_eq!(error.suggestion.as_deref(), suggestion, "{text}");
        }
    }
}
