//! The script that registers the service worker, and the pages to which it is appended.
//!
//! The script is appended after the end of the document: HTML parsers run it as the last element of the body. So the
//! page is sent as it arrives from the component, and no HTML is parsed. A compressed or partial
//! response, or one that must not be transformed, is left unchanged.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ring::digest::{SHA256, digest};

use crate::content_security_policy::{allow_registration, can_register};

/// The content of the script. It does nothing in browsers that cannot suspend WebAssembly, and never throws: in some
/// documents, `navigator.serviceWorker` itself throws. Browsers request the worker's script from the server whenever they
/// look for a new version, and may take the files that it imports from their caches, because these never change.
const SCRIPT: &str = concat!(
    r#"try{if("serviceWorker"in navigator&&"Suspending"in WebAssembly)"#,
    r#"navigator.serviceWorker.register("/_isomer/worker.js",{type:"module",scope:"/"}).catch(()=>{})}catch{}"#,
);

/// The element that is appended to pages.
static ELEMENT: LazyLock<Bytes> = LazyLock::new(|| format!("<script>{SCRIPT}</script>").into());

/// The source that allows the script in a Content Security Policy.
static HASH: LazyLock<String> =
    LazyLock::new(|| format!("'sha256-{}'", base64(digest(&SHA256, SCRIPT.as_bytes()).as_ref())));

/// The fields that contain a digest of the content, which the script would make wrong.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// The request fields that decide whether the script is appended.
const DEPENDS_ON: [&str; 2] = ["sec-fetch-mode", "sec-fetch-dest"];

/// Decides whether the script is appended to the response of a page navigation, and changes the head of the response
/// accordingly. Returns the bytes to append.
///
/// The page with the script is another representation than the page without it: its entity tag is weak, it has no
/// ranges, and `vary` names the fields that decide.
pub(crate) fn append_script(status: StatusCode, headers: &mut HeaderMap) -> Option<Bytes> {
    if status == StatusCode::NOT_MODIFIED {
        // The stored page may have been sent with the script. The policy in a 304 replaces the stored policy.
        weaken(headers);
        add_vary(headers);
        allow_registration(headers, &HASH);
        return None;
    }
    if !is_page(status, headers) {
        return None;
    }
    let element = ELEMENT.clone();
    if let Some(length) = content_length(headers) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length.saturating_add(element.len() as u64)));
    }
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
    add_vary(headers);
    allow_registration(headers, &HASH);
    Some(element)
}

fn is_page(status: StatusCode, headers: &HeaderMap) -> bool {
    let has_content = !status.is_informational()
        && ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT].contains(&status);
    let is_fixed = has_item(headers, &CACHE_CONTROL, "no-transform")
        || headers.contains_key(CONTENT_RANGE)
        || DIGESTS.iter().any(|name| headers.contains_key(*name));
    let mut codings = headers.get_all(CONTENT_ENCODING).into_iter();
    let is_coded = codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let is_unencoded_page = has_content && !is_fixed && !is_coded && is_html(headers);
    is_unencoded_page && can_register(headers) && headers.get_all(CONTENT_LENGTH).iter().count() < 2
}

/// Returns whether the content is HTML in an ASCII-compatible encoding.
fn is_html(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (types.next(), types.next()) else { return false };
    let Ok(kind) = kind.to_str() else { return false };
    let mut parts = kind.split(';').map(str::trim);
    let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    let is_ascii = |name: &str| {
        ["utf-8", "utf8", "us-ascii"].contains(&name)
            || name.starts_with("iso-8859-")
            || name.starts_with("windows-125")
    };
    is_html && charset.is_none_or(|charset| is_ascii(&charset))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Makes the entity tag weak, because a strong tag promises identical bytes.
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        headers.insert(ETAG, weak);
    }
}

fn add_vary(headers: &mut HeaderMap) {
    for name in DEPENDS_ON {
        if !has_item(headers, &VARY, name) && !has_item(headers, &VARY, "*") {
            headers.append(VARY, HeaderValue::from_static(name));
        }
    }
}

/// Returns whether the comma-separated list in the fields called `name` contains `item`.
pub(crate) fn has_item(headers: &HeaderMap, name: &HeaderName, item: &str) -> bool {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|one| one.trim().eq_ignore_ascii_case(item))
}

/// Returns `bytes` in base64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let is_used = digit <= chunk.len();
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if is_used { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_SECURITY_POLICY;

    use super::*;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn base64_has_the_digits_of_the_specification() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn the_script_is_appended_to_html() {
        let mut headers = fields(&[
            ("content-type", "text/html; charset=UTF-8"),
            ("content-length", "100"),
            ("etag", "\"v1\""),
            ("accept-ranges", "bytes"),
            ("content-security-policy", "default-src 'self'"),
            ("vary", "cookie, sec-fetch-dest"),
        ]);
        let appended = append_script(StatusCode::OK, &mut headers).unwrap();
        assert!(appended.starts_with(b"<script>") && appended.ends_with(b"</script>"));
        assert!(!SCRIPT.contains("</") && !SCRIPT.contains("<!--"), "the element contains only the script");
        assert_eq!(headers[CONTENT_LENGTH], (100 + appended.len()).to_string());
        assert_eq!(headers[ETAG], "W/\"v1\"");
        assert!(!headers.contains_key(ACCEPT_RANGES));
        assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), ["cookie, sec-fetch-dest", "sec-fetch-mode"]);
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains(HASH.as_str()), "{policy}");
    }

    #[test]
    fn other_responses_stay_unchanged() {
        let html = ("content-type", "text/html");
        for (status, lines) in [
            (200, &[("content-type", "text/plain")][..]),
            (200, &[("content-type", "application/xhtml+xml")]),
            (200, &[("content-type", "text/html; charset=utf-16")]),
            (200, &[]),
            (200, &[html, html]),
            (200, &[html, ("content-encoding", "gzip")]),
            (200, &[html, ("cache-control", "public, No-Transform")]),
            (200, &[html, ("content-security-policy", "default-src 'self'; sandbox allow-scripts")]),
            (200, &[html, ("repr-digest", "sha-256=:AAAA:")]),
            (206, &[html]),
            (200, &[html, ("content-range", "bytes 0-9/100")]),
            (204, &[html]),
        ] {
            let before = fields(lines);
            let mut headers = before.clone();
            assert_eq!(append_script(StatusCode::from_u16(status).unwrap(), &mut headers), None, "{status} {lines:?}");
            assert_eq!(headers, before);
        }
    }

    #[test]
    fn a_confirmed_page_keeps_a_policy_that_allows_the_script() {
        let mut headers = fields(&[("etag", "\"v1\""), ("content-security-policy", "script-src 'self'")]);
        assert_eq!(append_script(StatusCode::NOT_MODIFIED, &mut headers), None);
        assert_eq!(headers[ETAG], "W/\"v1\"");
        assert!(headers[CONTENT_SECURITY_POLICY].to_str().unwrap().contains(HASH.as_str()));
    }
}
