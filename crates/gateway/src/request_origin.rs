//! Which page made a browser send a request.
//!
//! Any page can make a browser send requests to any host. Browsers state the origin of the page in the field `Origin`,
//! and its relation to the target in `Sec-Fetch-Site`. Scripts can change neither field.

use http::header::{CONTENT_TYPE, HeaderName, ORIGIN};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Method};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The reason why a request does not come from a page of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForeignRequest {
    /// The request has no `Origin`, or several.
    #[error("the request needs exactly one Origin header")]
    NoOrigin,
    /// `Origin` names another scheme, host or port than that of the request.
    #[error("the request comes from a page of another origin")]
    OtherOrigin,
    /// `Sec-Fetch-Site` is not `same-origin`.
    #[error("the request comes from a page of another site")]
    OtherSite,
}

/// Checks that a script of the app's own origin sent the request. `scheme` and `authority` are those that the client
/// used.
///
/// # Errors
/// If the request has no `Origin`, or if a field names another origin.
pub fn check_origin(headers: &HeaderMap, scheme: &Scheme, authority: &Authority) -> Result<(), ForeignRequest> {
    match single(headers, &SEC_FETCH_SITE) {
        Ok(None | Some(b"same-origin")) => {}
        _ => return Err(ForeignRequest::OtherSite),
    }
    let Ok(Some(origin)) = single(headers, &ORIGIN) else { return Err(ForeignRequest::NoOrigin) };
    if is_same_origin(origin, scheme, authority) { Ok(()) } else { Err(ForeignRequest::OtherOrigin) }
}

/// Returns whether a request has exactly one content type, and it is `content_type`. Case and parameters are ignored.
#[must_use]
pub fn has_content_type(headers: &HeaderMap, content_type: &str) -> bool {
    let Ok(Some(value)) = single(headers, &CONTENT_TYPE) else { return false };
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(content_type.as_bytes())
}

/// Returns whether the request loads a page into a tab, so that scripts of the response run with the app's origin.
pub(crate) fn is_page_navigation(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::POST)
        && matches!(single(headers, &SEC_FETCH_MODE), Ok(Some(b"navigate")))
        && matches!(single(headers, &SEC_FETCH_DEST), Ok(Some(b"document")))
}

/// Returns whether a response to this request may start a session. A request for an image or a script of a page does not
/// need one. A request with an unsafe method from another site does not get one either: browsers do not send the cookie
/// of an existing session with such a request, so the new session would replace it.
pub(crate) fn may_start_session(method: &Method, headers: &HeaderMap) -> bool {
    let is_page_or_fetch = match single(headers, &SEC_FETCH_DEST) {
        Ok(None) => true,
        Ok(Some(dest)) => matches!(dest, b"document" | b"empty"),
        Err(Repeated) => false,
    };
    let is_own = match single(headers, &SEC_FETCH_SITE) {
        Ok(None) => !headers.contains_key(ORIGIN) || method.is_safe(),
        Ok(Some(site)) => method.is_safe() || matches!(site, b"same-origin" | b"none"),
        Err(Repeated) => false,
    };
    is_page_or_fetch && is_own
}

fn is_same_origin(origin: &[u8], scheme: &Scheme, authority: &Authority) -> bool {
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let Some((origin_scheme, rest)) = origin.split_once("://") else { return false };
    let Ok(origin_authority) = rest.parse::<Authority>() else { return false };
    // An origin has no path, and no user information. `Authority` accepts the latter.
    if rest.contains(['@', '/', '?', '#']) || origin_scheme != scheme.as_str() {
        return false;
    }
    let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let port = |authority: &Authority| match authority.port() {
        Some(port) => Some(port.as_u16()),
        // The port is empty, as in `host:`.
        None if authority.as_str().ends_with(':') => None,
        None => Some(default),
    };
    let host = |authority: &Authority| authority.host().trim_end_matches('.').to_ascii_lowercase();
    let (own, other) = (port(authority), port(&origin_authority));
    own.is_some() && own == other && host(authority) == host(&origin_authority)
}

/// The error for a field that occurs more than once.
#[derive(Debug, PartialEq, Eq)]
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
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn checked(lines: &[(&'static str, &'static str)], scheme: Scheme, authority: &str) -> Result<(), ForeignRequest> {
        check_origin(&fields(lines), &scheme, &authority.parse().unwrap())
    }

    #[test]
    fn only_pages_of_the_same_origin_are_accepted() {
        let own = ("origin", "https://shop.example");
        let same = ("sec-fetch-site", "same-origin");
        assert_eq!(checked(&[own, same], Scheme::HTTPS, "shop.example"), Ok(()));
        assert_eq!(checked(&[own], Scheme::HTTPS, "Shop.Example:443"), Ok(()));
        assert_eq!(checked(&[("origin", "http://[::1]:8080")], Scheme::HTTP, "[::1]:8080"), Ok(()));
        assert_eq!(checked(&[same], Scheme::HTTPS, "shop.example"), Err(ForeignRequest::NoOrigin));
        assert_eq!(checked(&[own, own], Scheme::HTTPS, "shop.example"), Err(ForeignRequest::NoOrigin));
        assert_eq!(checked(&[own], Scheme::HTTP, "shop.example"), Err(ForeignRequest::OtherOrigin));
        for origin in [
            "null",
            "",
            "shop.example",
            "https://",
            "https://shop.example.evil.example",
            "https://evil.example",
            "https://www.shop.example",
            "https://shop.example:8443",
            "https://shop.example:",
            "https://shop.example@evil.example",
            "https://evil@shop.example",
            "https://shop.example/",
            "HTTPS://shop.example",
            "https://shop.example, https://evil.example",
            "file://shop.example",
        ] {
            assert_eq!(
                checked(&[("origin", origin), same], Scheme::HTTPS, "shop.example"),
                Err(ForeignRequest::OtherOrigin),
                "{origin}"
            );
        }
        for site in ["same-site", "cross-site", "none", "", "Same-Origin"] {
            assert_eq!(
                checked(&[own, ("sec-fetch-site", site)], Scheme::HTTPS, "shop.example"),
                Err(ForeignRequest::OtherSite),
                "{site}"
            );
        }
        assert_eq!(checked(&[own, same, same], Scheme::HTTPS, "shop.example"), Err(ForeignRequest::OtherSite));
    }

    #[test]
    fn a_content_type_that_forms_can_send_is_not_accepted() {
        let has = |value| has_content_type(&fields(&[("content-type", value)]), "application/vnd.isomer.call");
        assert!(has("application/vnd.isomer.call") && has("Application/vnd.Isomer.call; v=1"));
        for other in ["text/plain", "application/vnd.isomer.calls", "text/plain; application/vnd.isomer.call", ""] {
            assert!(!has(other), "{other}");
        }
        let twice = [("content-type", "application/vnd.isomer.call"), ("content-type", "text/plain")];
        assert!(!has_content_type(&fields(&twice), "application/vnd.isomer.call"));
    }

    #[test]
    fn only_navigations_of_tabs_are_pages() {
        let navigate = ("sec-fetch-mode", "navigate");
        let is_page = |method: Method, lines: &[_]| is_page_navigation(&method, &fields(lines));
        assert!(is_page(Method::GET, &[navigate, ("sec-fetch-dest", "document")]));
        for lines in [
            &[navigate, ("sec-fetch-dest", "iframe")][..],
            &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "document")],
            &[navigate],
            &[],
        ] {
            assert!(!is_page(Method::GET, lines), "{lines:?}");
        }
        assert!(!is_page(Method::PUT, &[navigate, ("sec-fetch-dest", "document")]));
    }

    #[test]
    fn a_request_of_another_site_replaces_no_session() {
        let may = |method: Method, lines: &[_]| may_start_session(&method, &fields(lines));
        let (cross, own) = (("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-origin"));
        let document = ("sec-fetch-dest", "document");
        assert!(may(Method::GET, &[]) && may(Method::POST, &[]) && may(Method::GET, &[cross, document]));
        assert!(may(Method::POST, &[own, document]) && may(Method::POST, &[own, ("sec-fetch-dest", "empty")]));
        assert!(!may(Method::POST, &[cross, document]));
        assert!(!may(Method::POST, &[("sec-fetch-site", "same-site"), document]));
        assert!(!may(Method::POST, &[("origin", "https://evil.example")]));
        assert!(!may(Method::GET, &[("sec-fetch-dest", "image")]));
        assert!(!may(Method::GET, &[("sec-fetch-dest", "iframe"), cross]));
    }
}
