//! Finding out which page made a browser send a request. Any page can make a browser send requests to a loopback
//! address. Browsers state the page's origin in the header `Origin`, and its relation to the target in
//! `Sec-Fetch-Site`; scripts cannot change either.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName};

/// The header in which browsers state whether the page and the target of a request have the same origin.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Returns whether a page of this server made the browser send the request. The caller has checked that the header
/// `Host` contains a name of this server.
///
/// A request that changes something must have the header `Origin`. Other requests need not have it, because browsers do
/// not send `Origin` when a page only reads from its own origin. `Sec-Fetch-Site` may be absent, because old browsers
/// do not send it.
pub(crate) fn is_own_page(headers: &HeaderMap, changes: bool) -> bool {
    let is_same_site = match single(headers, &SEC_FETCH_SITE) {
        Ok(site) => site.is_none_or(|site| site == b"same-origin"),
        Err(Repeated) => false,
    };
    let is_same_origin = match (single(headers, &ORIGIN), single(headers, &HOST)) {
        (Ok(None), Ok(Some(_))) => !changes,
        (Ok(Some(origin)), Ok(Some(host))) => origin_host(origin).is_some_and(|of| of.eq_ignore_ascii_case(host)),
        _ => false,
    };
    is_same_site && is_same_origin
}

/// Returns whether the browser's connection uses TLS, even if it ends at a proxy in front of this server. The origin in
/// `headers` states this.
pub(crate) fn is_secure(headers: &HeaderMap) -> bool {
    matches!(single(headers, &ORIGIN), Ok(Some(origin)) if origin.starts_with(b"https://"))
}

/// Returns the host name and port of an origin, for comparison with the header `Host`. The scheme is ignored, because a
/// proxy in front of this server may change the scheme. It must not change the header `Host`.
fn origin_host(origin: &[u8]) -> Option<&[u8]> {
    origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"))
}

/// The error for a header that occurs more than once.
struct Repeated;

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Repeated> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(http::HeaderValue::as_bytes)),
        _ => Err(Repeated),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn is_own(changes: bool, headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        is_own_page(&map, changes)
    }

    #[test]
    fn only_own_pages_are_accepted() {
        let host = ("host", "127.0.0.1:7171");
        let own = ("origin", "http://127.0.0.1:7171");
        let same = ("sec-fetch-site", "same-origin");
        for changes in [false, true] {
            assert!(is_own(changes, &[host, own, same]) && is_own(changes, &[host, own]));
            assert_eq!(is_own(changes, &[host, same]), !changes, "without an origin");
            for origin in
                ["http://127.0.0.1:3000", "http://evil.example", "null", "", "127.0.0.1:7171", "ftp://127.0.0.1:7171"]
            {
                assert!(!is_own(changes, &[host, ("origin", origin)]), "{origin}");
            }
            for site in ["same-site", "cross-site", "none", ""] {
                assert!(!is_own(changes, &[host, own, ("sec-fetch-site", site)]), "{site}");
            }
            assert!(!is_own(changes, &[host, own, ("origin", "http://evil.example")]));
            assert!(!is_own(changes, &[host, ("host", "evil.example"), own]));
            assert!(!is_own(changes, &[own]));
        }
        assert!(is_own(true, &[("host", "node.example"), ("origin", "https://Node.example")]));
    }
}
