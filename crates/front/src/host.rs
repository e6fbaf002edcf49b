//! The host that a request is for. The host of a request is read once, and hosts are compared in a normal form.
//!
//! If two spellings of a host name were treated differently, a request could be admitted for one tenant and served by
//! the app of another tenant. So a host name has one normal form (lower case, no port, no trailing dot, addresses as
//! the operating system formats them). An invalid host name is refused and not corrected.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Request, Version};

/// The maximum lengths in bytes of a host name (`NAME_BYTES_MAX`), and of one of its labels (`LABEL_BYTES_MAX`; RFC
/// 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// The host that a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestedHost {
    /// The host of this authority.
    Named(Authority),
    /// No host. HTTP/1.0 does not require a Host header, and health checks of load balancers often have none.
    Unnamed,
}

/// Returns the host that the request is for: from `:authority` or an absolute URI if present, otherwise from the Host
/// header. Returns `None` if the host is not valid.
///
/// An HTTP/1.1 request must have exactly one Host header (RFC 9112, section 3.2), which is ignored if the URI is
/// absolute (section 3.2.2). Over HTTP/2, `:authority` and the Host header must name the same host (RFC 9113, section
/// 8.3.1).
pub(crate) fn requested<B>(request: &Request<B>) -> Option<RequestedHost> {
    let header = only_host(request.headers())?;
    if header.is_none() && request.uri().authority().is_none() && request.version() <= Version::HTTP_10 {
        return Some(RequestedHost::Unnamed);
    }
    authority(request, header).map(RequestedHost::Named)
}

fn authority<B>(request: &Request<B>, header: Option<&[u8]>) -> Option<Authority> {
    if header.is_none() && request.version() == Version::HTTP_11 {
        return None;
    }
    match (request.uri().authority(), header) {
        (Some(authority), Some(header)) if request.version() == Version::HTTP_2 => {
            let named = Authority::try_from(header).ok()?;
            (normal(&named)? == normal(authority)? && port(&named) == port(authority)).then(|| authority.clone())
        }
        (Some(authority), _) => Some(authority.clone()),
        (None, Some(header)) => Authority::try_from(header).ok(),
        (None, None) => None,
    }
}

/// Returns the value of the Host header, or `Some(None)` if there is no such header. Returns `None` if there are
/// several.
fn only_host(headers: &HeaderMap) -> Option<Option<&[u8]>> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().map(http::HeaderValue::as_bytes);
    hosts.next().is_none().then_some(host)
}

/// Returns the host of `authority` in normal form. Returns `None` if the host is not valid, or if `authority` contains
/// user information.
pub(crate) fn normal(authority: &Authority) -> Option<Cow<'_, str>> {
    let text = authority.as_str();
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return is_port(rest).then(|| Cow::Owned(format!("[{address}]")));
    }
    let (name, rest) = text.find(':').map_or((text, ""), |at| text.split_at(at));
    if !is_port(rest) {
        return None;
    }
    // `shop.example.` names the same host: the trailing dot marks the name as absolute (RFC 3986, section 3.2.2).
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) {
        return None;
    }
    let small = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if small { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) })
}

/// Returns whether a host in normal form is an IP address. Clients cannot send IP addresses as server names in a TLS
/// handshake (RFC 6066, section 3).
pub(crate) fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok()
}

/// Returns whether `text` is empty, or `:` followed by a port. The port may have no digits (RFC 3986, section 3.2.3).
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some("") => true,
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
        None => text.is_empty(),
    }
}

fn port(authority: &Authority) -> Option<u16> {
    authority.port_u16()
}

/// Returns whether `text` consists of letters, digits, `-` (RFC 1123, section 2.1) and `_` (which service names
/// contain).
fn is_label(text: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        normal(&text.parse().ok()?).map(Cow::into_owned)
    }

    #[test]
    fn a_host_name_has_one_normal_form() {
        for (text, host) in [
            ("shop.example", "shop.example"),
            ("SHOP.Example", "shop.example"),
            ("shop.example:8080", "shop.example"),
            ("shop.example:", "shop.example"),
            ("shop.example.", "shop.example"),
            ("Shop.Example.:80", "shop.example"),
            ("127.0.0.1:3000", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[0:0::0:1]:80", "[::1]"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
            ("a_b.example", "a_b.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(read(text).as_deref(), Some(host), "{text}");
        }
        let borrowed = Authority::from_static("shop.example:80");
        assert!(matches!(normal(&borrowed), Some(Cow::Borrowed("shop.example"))));
    }

    #[test]
    fn invalid_host_names_are_refused() {
        let (label, name) = ("a".repeat(64), vec!["a"; 128].join("."));
        for text in [
            "",
            ".",
            "..",
            "a..",
            ".a",
            "a..b",
            "user@a",
            "user:secret@a",
            "a:b",
            "a:99999",
            "a:+1",
            "a:80:80",
            "*",
            "*.a",
            "a%2eb",
            "a%00",
            "a!b",
            "a,b",
            "[::1",
            "::1",
            "[::1]a",
            "[::1%25eth0]",
            "[v1.a]",
            "[1.2.3.4]",
            "b\u{fc}cher.example",
            &label,
            &name,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(read(&"a".repeat(63)).is_some() && read(&name[..253]).is_some());
    }
}
