//! Addresses to listen on, as users write them: `127.0.0.1:3000`, `[::1]:3000`, `localhost:3000`, `:3000`, `3000`.
//!
//! Host names other than `localhost` are refused, because an address to listen on must be an IP address of this
//! machine. An address without a host is a loopback address. So other machines reach a listener only if the node file
//! or a flag says so (`0.0.0.0:3000`, `[::]:3000`).

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use isomer_ids::InvalidText;

use crate::address::LinkAddress;

/// The host that is used if an address contains only a port.
const LOCALHOST: &str = "localhost";

/// The port that an error suggests if an address has no port.
const PORT: u16 = 8080;

const KIND: &str = "an address of this machine";
const EXAMPLE: &str = "127.0.0.1:8080";

/// Parses `127.0.0.1:3000`, `[::1]:3000`, `localhost:3000`, `:3000` or `3000`. The host of the last three is 127.0.0.1.
///
/// # Errors
/// Returns the reason if the text is not an address.
pub fn parse_listen(text: &str) -> Result<SocketAddr, InvalidText> {
    let invalid = |problem: &str| InvalidText::new(KIND, EXAMPLE, text, problem);
    let no_address = || {
        // In the configuration of other servers, `*` means all addresses, so `0.0.0.0` is suggested instead.
        let suggestion =
            text.strip_prefix("*:").and_then(|port| Some(format!("0.0.0.0:{}", port.parse::<u16>().ok()?)));
        invalid("the host must be `localhost` or an IP address").suggest(suggestion)
    };
    if text.starts_with('*') {
        return Err(no_address());
    }
    match with_host(text).parse::<LinkAddress>() {
        Ok(LinkAddress::Tcp { host, port }) if host.eq_ignore_ascii_case(LOCALHOST) => {
            Ok((Ipv4Addr::LOCALHOST, port).into())
        }
        Ok(LinkAddress::Tcp { host, port }) => {
            let address: IpAddr = host.parse().map_err(|_| no_address())?;
            Ok((address, port).into())
        }
        Ok(LinkAddress::Unix(_)) => Err(invalid("HTTP is served over TCP")),
        Err(error) => {
            // For a URL, the suggestion of the `LinkAddress` parser is used as it is. For a missing port, the
            // suggestion is replaced, because it contains the default port of links.
            let suggestion = if text.contains(':') { error.suggestion } else { Some(format!("{text}:{PORT}")) };
            let suggestion = suggestion.filter(|suggestion| parse_listen(suggestion).is_ok() && !text.is_empty());
            Err(invalid(&error.problem).suggest(suggestion))
        }
    }
}

/// Returns `text`, with `localhost` added as the host if `text` is only a port.
pub(crate) fn with_host(text: &str) -> Cow<'_, str> {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.strip_prefix(':') {
        Some(port) if is_port(port) => format!("{LOCALHOST}:{port}").into(),
        _ if is_port(text) => format!("{LOCALHOST}:{text}").into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_notations_of_an_address_are_parsed() {
        for (text, address) in [
            ("127.0.0.1:3000", "127.0.0.1:3000"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:3000", "[::1]:3000"),
            ("[::]:80", "[::]:80"),
            ("localhost:3000", "127.0.0.1:3000"),
            ("LocalHost:1", "127.0.0.1:1"),
            (":3000", "127.0.0.1:3000"),
            ("3000", "127.0.0.1:3000"),
            (":0", "127.0.0.1:0"),
        ] {
            assert_eq!(parse_listen(text).map(|address| address.to_string()).as_deref(), Ok(address), "{text}");
        }
    }

    #[test]
    fn invalid_addresses_are_refused_with_a_reason_and_a_suggestion() {
        for (text, why, suggestion) in [
            ("", "the port is missing", None),
            (":", "the host", None),
            ("127.0.0.1", "the port is missing", Some("127.0.0.1:8080")),
            ("localhost", "the port is missing", Some("localhost:8080")),
            ("http://localhost:3000/", "only its host and port", Some("localhost:3000")),
            ("*:3000", "IP address", Some("0.0.0.0:3000")),
            ("shop.example:80", "IP address", None),
            ("::1:3000", "brackets", None),
            ("70000", "up to 65535", None),
            (":70000", "up to 65535", None),
            ("localhost:http", "up to 65535", None),
            ("unix:/run/a.sock", "over TCP", None),
        ] {
            let error = parse_listen(text).expect_err(text);
            assert!(error.problem.contains(why), "{error}");
            assert_eq!((error.suggestion.as_deref(), error.text.as_str()), (suggestion, text));
        }
    }
}
