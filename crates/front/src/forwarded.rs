//! The client of a request, and the header fields that describe the client to a guest.
//!
//! A guest does not see the connection. So every request has `forwarded` (RFC 7239), `x-forwarded-for`,
//! `x-forwarded-proto` and `x-forwarded-host`, all written by the front door. If a client sends fields with these
//! names, other `x-forwarded-…` fields or `x-real-ip`, the front door removes them.
//!
//! On a connection of a trusted proxy, the front door reads the proxy's fields. Each proxy appends the address from
//! which it received the request, so the list is read from its end: the client is the last address that does not belong
//! to a trusted proxy. Everything before that address may come from the client. The guest receives one address and not
//! the list, so that an app finds the client whichever end of the list it reads. `x-forwarded-for` is used if present,
//! otherwise `forwarded`. A proxy that writes only `forwarded` must therefore remove `x-forwarded-for`.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

use http::header::{FORWARDED, HeaderName};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue};
use isomer_transport::IpNetwork;

use crate::host;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The prefix of the names of the `x-forwarded-…` fields.
const FAMILY: &str = "x-forwarded-";

/// The maximum number of entries of a list that are read, starting at its end. If all of them are trusted proxies, the
/// last one that was read is treated as the client.
const HOPS_MAX: usize = 32;

/// The two ends of a connection: the client (or a proxy), and the listener.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// The peer's address, or the client address that a trusted proxy announced in the PROXY protocol.
    pub(crate) client: IpAddr,
    /// Whether the peer's forwarding fields are trusted.
    pub(crate) is_trusted: bool,
    /// The listener's address.
    pub(crate) local: SocketAddr,
    /// The fields that were written for the connection's first request. Cached, because most requests of a connection
    /// are for the same host and need the same fields.
    first_fields: OnceLock<ForwardedFields>,
}

/// The values of the fields that the front door writes to a request.
#[derive(Debug, Clone)]
struct ForwardedFields {
    authority: Authority,
    is_secure: bool,
    client: HeaderValue,
    host: HeaderValue,
    forwarded: HeaderValue,
}

/// The origin of a request: its client, and the scheme and host that the client used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) client: IpAddr,
    /// The scheme that the client used, if a trusted proxy states it.
    pub(crate) scheme: Option<Scheme>,
    /// The host that the client requested, if a trusted proxy states it.
    host: Option<HeaderValue>,
}

impl Endpoints {
    pub(crate) fn new(client: IpAddr, is_trusted: bool, local: SocketAddr) -> Self {
        let client = client.to_canonical();
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        Self { client, is_trusted, local, first_fields: OnceLock::new() }
    }

    /// Returns the authority of requests without a host: the listener's address (RFC 9110, section 7.1).
    pub(crate) fn authority(&self) -> Option<Authority> {
        self.local.to_string().parse().ok()
    }
}

impl Origin {
    /// Returns the origin of a request that arrived over the connection between `ends`. `trusted` are the networks of
    /// trusted proxies.
    pub(crate) fn of(headers: &HeaderMap, ends: &Endpoints, trusted: &[IpNetwork]) -> Self {
        let direct = Self { client: ends.client, scheme: None, host: None };
        if !ends.is_trusted {
            return direct;
        }
        let origin = match headers.contains_key(&FOR) {
            true => Self::of_list(headers, ends.client, trusted),
            false if headers.contains_key(FORWARDED) => Self::of_forwarded(headers, ends.client, trusted),
            false => direct,
        };
        Self {
            client: origin.client,
            scheme: origin.scheme.or_else(|| scheme(last(headers, &PROTO)?)),
            host: origin.host.or_else(|| valid_host(last(headers, &HOST)?)),
        }
    }

    fn of_list(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNetwork]) -> Self {
        let (mut client, mut hops) = (peer, 0);
        for entry in entries(headers, &FOR).take(HOPS_MAX) {
            let Some(address) = address(entry) else { break };
            (client, hops) = (address, hops + 1);
            if !is_trusted(address, trusted) {
                break;
            }
        }
        // If each proxy has appended to `x-forwarded-for` and to `x-forwarded-proto`, a proxy's entries have the same
        // position in both lists.
        let protos = entries(headers, &PROTO).take(HOPS_MAX).collect::<Vec<_>>();
        let of_client = protos.get(hops.max(1) - 1).or(protos.last());
        Self { client, scheme: of_client.and_then(|proto| scheme(proto)), host: None }
    }

    fn of_forwarded(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNetwork]) -> Self {
        let mut origin = Self { client: peer, scheme: None, host: None };
        for element in elements(headers).take(HOPS_MAX) {
            let pairs = || split(element, b';').filter_map(|pair| pair.split_once('='));
            let find =
                |key: &str| pairs().find(|(name, _)| name.trim().eq_ignore_ascii_case(key)).map(|(_, it)| it.trim());
            // The search ends at an obfuscated name (`for=_hidden`), which is not an address.
            let Some(address) = find("for").and_then(address) else { break };
            let proto = find("proto").map(|text| text.trim_matches('"'));
            origin = Self {
                client: address,
                scheme: proto.and_then(scheme),
                host: find("host").and_then(|text| valid_host(text.trim_matches('"'))),
            };
            if !is_trusted(address, trusted) {
                break;
            }
        }
        origin
    }

    /// Writes the forwarding fields of the request. Removes all other forwarding fields that an untrusted client sent,
    /// and keeps those that a trusted proxy sent.
    pub(crate) fn write(self, headers: &mut HeaderMap, ends: &Endpoints, scheme: &Scheme, authority: &Authority) {
        let is_secure = *scheme == Scheme::HTTPS;
        let fields = if ends.is_trusted {
            let fields = self.fields(is_secure, authority);
            // `insert` replaces all values of the field, including those that the proxy received from its client.
            if headers.contains_key(&REAL_IP) {
                headers.insert(REAL_IP, fields.client.clone());
            }
            fields
        } else {
            remove_family(headers);
            let first = ends.first_fields.get_or_init(|| self.fields(is_secure, authority));
            if first.is_secure == is_secure && first.authority == *authority {
                first.clone()
            } else {
                self.fields(is_secure, authority)
            }
        };
        headers.reserve(FIELDS_WRITTEN);
        headers.insert(FORWARDED, fields.forwarded);
        headers.insert(FOR, fields.client);
        headers.insert(PROTO, HeaderValue::from_static(if is_secure { "https" } else { "http" }));
        headers.insert(HOST, fields.host);
    }

    fn fields(&self, is_secure: bool, authority: &Authority) -> ForwardedFields {
        let client = value(&self.client.to_string());
        let host = self.host.clone().unwrap_or_else(|| value(authority.as_str()));
        let forwarded = forwarded(self.client, &client, &host, is_secure);
        ForwardedFields { authority: authority.clone(), is_secure, client, host, forwarded }
    }
}

/// The number of fields that the front door adds to a request: the four forwarding fields, and `traceparent`.
const FIELDS_WRITTEN: usize = 5;

/// Removes `x-real-ip` and all `x-forwarded-…` fields. Called for requests that do not come from a trusted proxy,
/// because only trusted proxies may send such fields.
fn remove_family(headers: &mut HeaderMap) {
    let dropped = headers.keys().filter(|name| is_of_family(name.as_str())).cloned().collect::<Vec<_>>();
    for name in dropped {
        headers.remove(name);
    }
}

/// Returns whether `name` is `x-real-ip` or the name of an `x-forwarded-…` field. Treats `_` like `-`, because
/// frameworks that pass fields to an app as variables (CGI) do not distinguish the two.
fn is_of_family(name: &str) -> bool {
    let same = |text: &str, other: &str| {
        text.len() == other.len()
            && text.bytes().zip(other.bytes()).all(|(one, other)| one == other || (one == b'_' && other == b'-'))
    };
    name.get(..FAMILY.len()).is_some_and(|start| same(start, FAMILY)) || same(name, REAL_IP.as_str())
}

/// Returns the value of the field `Forwarded` (RFC 7239, section 4).
fn forwarded(client: IpAddr, text: &HeaderValue, host: &HeaderValue, is_secure: bool) -> HeaderValue {
    let (before, after): (&[u8], &[u8]) = if client.is_ipv6() { (b"for=\"[", b"]\"") } else { (b"for=", b"") };
    let proto: &[u8] = if is_secure { b"https" } else { b"http" };
    let parts: [&[u8]; 7] = [before, text.as_bytes(), after, b";host=\"", host.as_bytes(), b"\";proto=", proto];
    HeaderValue::from_bytes(&parts.concat()).unwrap_or_else(|_| HeaderValue::from_static("for=unknown"))
}

/// Returns the last entry of the comma-separated list in the fields called `name`.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    entries(headers, name).next()
}

/// Returns the entries of the comma-separated list in all fields called `name`, from the last to the first.
fn entries<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let fields = headers.get_all(name).into_iter().rev();
    texts(fields.flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b',')))
}

/// Returns the elements of all `Forwarded` fields, from the last to the first.
fn elements(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    texts(headers.get_all(FORWARDED).into_iter().rev().flat_map(|field| rsplit_quoted(field.as_bytes())))
}

/// Decodes the entries, and skips empty ones. A client may send bytes that are not UTF-8 before the entries that a
/// proxy appends. So each entry is decoded separately, and an undecodable entry is kept as an invalid one.
fn texts<'a>(entries: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a str> {
    entries.map(|entry| std::str::from_utf8(entry).map_or("?", str::trim)).filter(|entry| !entry.is_empty())
}

/// Splits `text` at commas outside of quotes, from the last part to the first. The text is read from its end, because
/// the entries that a proxy has appended are well formed, but a client may have sent an unclosed quote before them.
fn rsplit_quoted(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let mut quoted = false;
        let comma = text.iter().enumerate().rev().find(|(at, byte)| {
            quoted ^= **byte == b'"' && !is_escaped(text, *at);
            **byte == b',' && !quoted
        });
        Some(match comma {
            Some((at, _)) => {
                rest = Some(&text[..at]);
                &text[at + 1..]
            }
            None => text,
        })
    })
}

/// Returns whether an odd number of backslashes precedes the byte at `at`.
fn is_escaped(text: &[u8], at: usize) -> bool {
    text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Splits `text` at unquoted separators `between`, and trims each part.
fn split(text: &str, between: u8) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let is_end = move |character: char| {
        let is_end = !quoted && character == char::from(between);
        if character == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && character == '\\' && !escaped;
        is_end
    };
    text.split(is_end).map(str::trim)
}

/// Returns the address of an entry: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`, with or without
/// quotes.
fn address(entry: &str) -> Option<IpAddr> {
    let text = entry.trim_matches('"');
    let parsed = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?.0.parse().ok()?,
        None => match text.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
        },
    };
    Some(parsed.to_canonical())
}

fn scheme(text: &str) -> Option<Scheme> {
    match text {
        _ if text.eq_ignore_ascii_case("https") => Some(Scheme::HTTPS),
        _ if text.eq_ignore_ascii_case("http") => Some(Scheme::HTTP),
        _ => None,
    }
}

/// Returns `text` as a header value if it is a valid host.
fn valid_host(text: &str) -> Option<HeaderValue> {
    let authority = text.parse::<Authority>().ok()?;
    host::normal(&authority).is_some().then(|| value(authority.as_str()))
}

fn is_trusted(address: IpAddr, trusted: &[IpNetwork]) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

/// Returns `text` as a header value. `text` is an address or a parsed authority, which contains only visible ASCII
/// characters, so the conversion does not fail.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the fields that a request from `client` has after forwarding. The network 10.0.0.0/8 is trusted.
    fn forwarded_fields(client: &str, fields: &[(&'static str, &str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, text) in fields {
            headers.append(*name, HeaderValue::from_bytes(text.as_bytes()).expect("a value"));
        }
        let trusted = [IpNetwork { address: "10.0.0.0".parse().expect("an address"), prefix: 8 }];
        let client: IpAddr = client.parse().expect("an address");
        let ends =
            Endpoints::new(client, is_trusted(client.to_canonical(), &trusted), "127.0.0.1:80".parse().expect("one"));
        let origin = Origin::of(&headers, &ends, &trusted);
        let scheme = origin.scheme.clone().unwrap_or(Scheme::HTTP);
        origin.write(&mut headers, &ends, &scheme, &Authority::from_static("shop.example:8080"));
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        lines.sort();
        lines
    }

    fn expected(forwarded: &str, client: &str, proto: &str, host: &str) -> Vec<String> {
        vec![
            format!("forwarded: {forwarded}"),
            format!("x-forwarded-for: {client}"),
            format!("x-forwarded-host: {host}"),
            format!("x-forwarded-proto: {proto}"),
        ]
    }

    #[test]
    fn fields_that_a_client_sends_are_dropped() {
        let own = [
            ("forwarded", "for=198.51.100.1;proto=https"),
            ("x-forwarded-for", "198.51.100.1, 10.0.0.1"),
            ("x-forwarded-for", "198.51.100.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "bank.example"),
            ("x-forwarded-port", "443"),
            ("x-real-ip", "198.51.100.1"),
            ("x_forwarded_for", "198.51.100.1"),
            ("x-forwarded_host", "bank.example"),
            ("x_real-ip", "198.51.100.1"),
        ];
        let direct = "for=203.0.113.9;host=\"shop.example:8080\";proto=http";
        for fields in [&own[..], &[]] {
            let lines = expected(direct, "203.0.113.9", "http", "shop.example:8080");
            assert_eq!(forwarded_fields("203.0.113.9", fields), lines);
            assert_eq!(forwarded_fields("::ffff:203.0.113.9", fields), lines);
        }
        let six = "for=\"[2001:db8::1]\";host=\"shop.example:8080\";proto=http";
        assert_eq!(forwarded_fields("2001:db8::1", &own), expected(six, "2001:db8::1", "http", "shop.example:8080"));
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        let plain = |client: &str| {
            let text = format!("for={client};host=\"shop.example:8080\";proto=http");
            expected(&text, client, "http", "shop.example:8080")
        };
        for (list, client) in [
            (&["198.51.100.7"][..], "198.51.100.7"),
            // The client's entries precede the entries that the proxies have appended.
            (&["10.9.9.9, 192.0.2.66, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            (&["192.0.2.66", "198.51.100.7:4711", "10.0.0.2,10.0.0.3"], "198.51.100.7"),
            (&["::ffff:198.51.100.7"], "198.51.100.7"),
            // If all entries are trusted proxies, the first one is the client.
            (&["10.0.0.5, 10.0.0.4"], "10.0.0.5"),
            // An entry that is not an address ends the chain.
            (&["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["nonsense"], "10.0.0.1"),
            // An opening quote from the client does not hide the proxy's entry.
            (&["\", 198.51.100.7"], "198.51.100.7"),
            (&["\"192.0.2.66, 198.51.100.7"], "198.51.100.7"),
            // Non-ASCII bytes from the client do not hide the proxy's entry.
            (&["\u{fc}, 198.51.100.7"], "198.51.100.7"),
            (&["198.51.100.7, \u{fc}, 10.0.0.2"], "10.0.0.2"),
            (&[], "10.0.0.1"),
        ] {
            let fields: Vec<_> = list.iter().map(|text| ("x-forwarded-for", *text)).collect();
            assert_eq!(forwarded_fields("10.0.0.1", &fields), plain(client), "{list:?}");
        }
    }

    #[test]
    fn all_values_of_a_proxys_real_ip_are_replaced() {
        let fields = [("x-forwarded-for", "198.51.100.7"), ("x-real-ip", "192.0.2.66"), ("x-real-ip", "192.0.2.67")];
        let lines = forwarded_fields("10.0.0.1", &fields);
        let real_ips: Vec<_> = lines.iter().filter(|line| line.starts_with("x-real-ip")).collect();
        assert_eq!(real_ips, ["x-real-ip: 198.51.100.7"]);
    }

    #[test]
    fn the_scheme_and_the_host_are_those_of_the_client() {
        let lines =
            expected("for=198.51.100.7;host=\"shop.example\";proto=https", "198.51.100.7", "https", "shop.example");
        for fields in [
            &[
                ("x-forwarded-for", "198.51.100.7"),
                ("x-forwarded-proto", "HTTPS"),
                ("x-forwarded-host", "shop.example"),
            ][..],
            &[
                ("x-forwarded-for", "198.51.100.7, 10.0.0.2"),
                ("x-forwarded-proto", "https, http"),
                ("x-forwarded-host", "shop.example"),
            ],
            &[("forwarded", "for=198.51.100.7;proto=https;host=shop.example, for=10.0.0.2;proto=http")],
            &[("forwarded", "for=\"198.51.100.7:80\"; Host=\"shop.example\" ;PROTO=\"https\"")],
            // The entry that the proxy has appended is used, not the entry that it received.
            &[
                ("x-forwarded-for", "198.51.100.7"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "shop.example"),
                ("forwarded", "for=192.0.2.66;proto=http;host=bank.example"),
            ],
        ] {
            assert_eq!(forwarded_fields("10.0.0.1", fields), lines, "{fields:?}");
        }
        // An invalid host or scheme is ignored.
        let fields = [("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a\"b"), ("x-forwarded-port", "443")];
        let mut plain =
            expected("for=10.0.0.1;host=\"shop.example:8080\";proto=http", "10.0.0.1", "http", "shop.example:8080");
        plain.insert(3, "x-forwarded-port: 443".to_owned());
        assert_eq!(forwarded_fields("10.0.0.1", &fields), plain);
    }

    #[test]
    fn a_quote_that_a_client_opens_does_not_hide_what_a_proxy_appends() {
        let host = "shop.example:8080";
        for client in ["for=\"", "for=\"\\", "for=\"a\\\"", "\"\"\"", "for=192.0.2.66;host=\"x", "\\\"", "\u{fc}"] {
            let field = format!("{client}, for=198.51.100.7;proto=http");
            let lines = expected(&format!("for=198.51.100.7;host=\"{host}\";proto=http"), "198.51.100.7", "http", host);
            assert_eq!(forwarded_fields("10.0.0.1", &[("forwarded", &field)]), lines, "{field}");
            let field = format!("{client}, for=\"[2001:db8::7]:80\";by=\"a\\\"b,c\"");
            let lines =
                expected(&format!("for=\"[2001:db8::7]\";host=\"{host}\";proto=http"), "2001:db8::7", "http", host);
            assert_eq!(forwarded_fields("10.0.0.1", &[("forwarded", &field)]), lines, "{field}");
        }
    }

    #[test]
    fn quoted_separators_separate_nothing() {
        assert_eq!(split("a;b=\"c;d\\\";e\";f", b';').collect::<Vec<_>>(), ["a", "b=\"c;d\\\";e\"", "f"]);
        let forwarded = "for=\"[2001:db8::7]:80\";host=\"a,b\", for=10.0.0.2";
        let host = "shop.example:8080";
        let lines = expected(&format!("for=\"[2001:db8::7]\";host=\"{host}\";proto=http"), "2001:db8::7", "http", host);
        assert_eq!(forwarded_fields("10.0.0.1", &[("forwarded", forwarded)]), lines);
    }
}
