//! Decides whether a response is compressed, and changes its head accordingly (RFC 9110, sections 8.4, 8.8.3 and
//! 12.5.3).
//!
//! A response is compressed if the manifest enables compression for the component (`compress = true`), if the client
//! accepts it, and if the content type is compressible. A response is left unchanged if it already has a content
//! coding, is a part of a representation, is a stream of events, or must not be transformed. The compressed response is
//! another representation: it has no length and no ranges, its entity tag is weak, and `vary` tells caches which
//! request fields it depends on. If a response could be compressed but the client does not accept compression, only
//! `vary` is set.

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::response_semantics::has_no_content;

/// A response that announces fewer bytes than this is not compressed, because compression would cost more than it
/// saves.
const LENGTH_MIN: u64 = 1 << 10;

/// The fields that contain a digest of the content. A response with such a field is not compressed, because the digest
/// would be wrong.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// A content coding that the front door can apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Zstd,
    Gzip,
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// The request's fields that determine the content coding of the response.
#[derive(Debug, Clone)]
pub(crate) struct AcceptedCodings {
    coding: Option<Coding>,
    /// The entity tags in `if-none-match`, which the client has cached.
    cached: Option<HeaderValue>,
}

impl AcceptedCodings {
    /// Reads the fields of a request.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self { coding: preferred(headers), cached: headers.get(IF_NONE_MATCH).cloned() }
    }

    /// Decides whether a response is compressed, and changes its head accordingly. If the response is compressed,
    /// returns the result of `reserve`, which reserves a compressor; otherwise returns `None`.
    pub(crate) fn decide<T>(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        reserve: impl FnOnce(Coding) -> Option<T>,
    ) -> Option<T> {
        if status == StatusCode::NOT_MODIFIED {
            self.confirm(headers);
            // A 304 must have the same `vary` as the cached response (RFC 9110, section 15.4.5). A 304 has no content
            // type, so this code cannot check whether the cached response was compressible, and always sets `vary`.
            vary(headers);
            return None;
        }
        if !is_transformable(status, headers) {
            return None;
        }
        vary(headers);
        let coding = self.coding?;
        let reserved = reserve(coding)?;
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        headers.remove(CONTENT_LENGTH);
        headers.remove(ACCEPT_RANGES);
        weaken(headers);
        Some(reserved)
    }

    /// Sets the `ETag` of a 304 response to the value that the client sent in `If-None-Match`. If the client cached a
    /// compressed response, it sent the weak form of the guest's strong `ETag` (see [`weaken`]).
    fn confirm(&self, headers: &mut HeaderMap) {
        let Some(tag) = headers.get(ETAG).and_then(|tag| tag.to_str().ok()) else { return };
        let has = self.cached.as_ref().and_then(|cached| cached.to_str().ok()).unwrap_or_default();
        let weak = format!("W/{tag}");
        if tag.starts_with('"') && has.split(',').any(|one| one.trim() == weak) {
            weaken(headers);
        }
    }
}

/// Returns the coding that the client prefers, or zstd if the client accepts both codings equally.
fn preferred(headers: &HeaderMap) -> Option<Coding> {
    let (mut zstd, mut gzip, mut others) = (None, None, None);
    for value in headers.get_all(ACCEPT_ENCODING) {
        for entry in value.to_str().ok()?.split(',') {
            let mut parts = entry.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            // An invalid weight is treated as 0, so the coding is not used.
            let weight = weight
                .map_or(1.0, |text| text.parse::<f32>().ok().filter(|it| (0.0..=1.0).contains(it)).unwrap_or(0.0));
            match name {
                _ if name.eq_ignore_ascii_case("zstd") => zstd = Some(weight),
                _ if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => gzip = Some(weight),
                "*" => others = Some(weight),
                _ => {}
            }
        }
    }
    let weight = |weight: Option<f32>| weight.or(others).unwrap_or(0.0);
    let (zstd, gzip) = (weight(zstd), weight(gzip));
    if zstd > 0.0 && zstd >= gzip { Some(Coding::Zstd) } else { (gzip > 0.0).then_some(Coding::Gzip) }
}

fn is_transformable(status: StatusCode, headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(CONTENT_ENCODING).into_iter();
    let is_coded = codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let is_part = status == StatusCode::PARTIAL_CONTENT || headers.contains_key(CONTENT_RANGE);
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let is_fixed =
        lists(headers, &CACHE_CONTROL, "no-transform") || DIGESTS.iter().any(|name| headers.contains_key(*name));
    !has_no_content(status)
        && !is_coded
        && !is_part
        && !is_fixed
        && length.is_none_or(|length| length >= LENGTH_MIN)
        && headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(is_compressible)
}

/// Returns whether content of this type is usually uncompressed, so that compressing it saves bytes.
fn is_compressible(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.split_once('/') {
        Some(("text", subtype)) => subtype != "event-stream",
        Some(("application", subtype)) => {
            subtype.ends_with("+json")
                || subtype.ends_with("+xml")
                || matches!(
                    subtype,
                    "json"
                        | "xml"
                        | "javascript"
                        | "x-javascript"
                        | "ecmascript"
                        | "wasm"
                        | "x-ndjson"
                        | "ndjson"
                        | "sql"
                        | "yaml"
                        | "toml"
                        | "graphql"
                        | "rtf"
                )
        }
        Some(("image", subtype)) => matches!(subtype, "svg+xml" | "bmp" | "x-icon" | "vnd.microsoft.icon"),
        Some(("font", subtype)) => matches!(subtype, "ttf" | "otf" | "collection"),
        _ => false,
    }
}

/// Returns whether the comma-separated list in the fields called `name` contains `item`.
fn lists(headers: &HeaderMap, name: &HeaderName, item: &str) -> bool {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|one| one.trim().eq_ignore_ascii_case(item))
}

fn vary(headers: &mut HeaderMap) {
    if !lists(headers, &VARY, "accept-encoding") && !lists(headers, &VARY, "*") {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Makes the entity tag weak, because a strong tag promises identical bytes.
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        headers.insert(ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a field"));
        }
        headers
    }

    fn accepts(text: &str) -> AcceptedCodings {
        AcceptedCodings::of(&fields(&[("accept-encoding", text)]))
    }

    #[test]
    fn the_client_chooses_the_coding() {
        for (text, coding) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br", Some(Coding::Gzip)),
            ("X-GZIP", Some(Coding::Gzip)),
            ("zstd;q=0.5, gzip;q=0.8", Some(Coding::Gzip)),
            ("zstd;q=0, gzip;q=0", None),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.1, zstd;q=0", Some(Coding::Gzip)),
            ("gzip;q=0, *", Some(Coding::Zstd)),
            ("gzip;q=nonsense", None),
            ("identity", None),
            ("br", None),
            ("", None),
        ] {
            assert_eq!(accepts(text).coding, coding, "{text}");
        }
        assert_eq!(AcceptedCodings::of(&HeaderMap::new()).coding, None);
    }

    #[test]
    fn responses_that_must_not_or_need_not_be_compressed_stay_unchanged() {
        let all = accepts("zstd, gzip");
        for (status, lines) in [
            (200, &[("content-type", "image/png")][..]),
            (200, &[("content-type", "text/event-stream; charset=utf-8")]),
            (200, &[("content-type", "application/octet-stream")]),
            (200, &[]),
            (200, &[("content-type", "text/html"), ("content-encoding", "br")]),
            (200, &[("content-type", "text/html"), ("content-length", "1023")]),
            (200, &[("content-type", "text/html"), ("cache-control", "public, No-Transform")]),
            (200, &[("content-type", "text/html"), ("repr-digest", "sha-256=:AAAA:")]),
            (206, &[("content-type", "text/html"), ("content-range", "bytes 0-9/100")]),
            (204, &[("content-type", "text/html")]),
        ] {
            let before = fields(lines);
            let mut headers = before.clone();
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(all.decide(status, &mut headers, Some), None, "{lines:?}");
            assert_eq!(headers, before, "{lines:?}");
        }
    }

    #[test]
    fn the_head_of_a_compressed_response_is_changed() {
        let original = [
            ("content-type", "application/problem+json"),
            ("content-length", "5000"),
            ("accept-ranges", "bytes"),
            ("etag", "\"v1\""),
            ("vary", "origin"),
        ];
        let mut headers = fields(&original);
        assert_eq!(accepts("gzip").decide(StatusCode::NOT_FOUND, &mut headers, Some), Some(Coding::Gzip));
        let mut expected = fields(&[
            ("content-type", "application/problem+json"),
            ("content-encoding", "gzip"),
            ("etag", "W/\"v1\""),
            ("vary", "origin"),
            ("vary", "accept-encoding"),
        ]);
        assert_eq!(headers, expected);
        // `vary` is set, because caches must know that other clients get another representation.
        let mut headers = fields(&original);
        assert_eq!(accepts("identity").decide(StatusCode::OK, &mut headers, Some), None);
        expected = fields(&original);
        expected.append(VARY, HeaderValue::from_static("accept-encoding"));
        assert_eq!(headers, expected);
        // If no compressor can be reserved, the response is sent unchanged.
        let mut headers = fields(&original);
        assert_eq!(accepts("gzip").decide(StatusCode::OK, &mut headers, |_| None::<()>), None);
        assert_eq!(headers, expected);
        let mut headers = fields(&[("content-type", "text/css"), ("vary", "*")]);
        assert!(accepts("gzip").decide(StatusCode::OK, &mut headers, Some).is_some());
        assert_eq!(headers.get_all(VARY).iter().count(), 1);
    }

    #[test]
    fn a_weak_tag_is_confirmed_as_a_weak_tag() {
        for (has, tag, told) in [
            ("W/\"v1\"", "\"v1\"", "W/\"v1\""),
            ("\"v0\", W/\"v1\"", "\"v1\"", "W/\"v1\""),
            ("\"v1\"", "\"v1\"", "\"v1\""),
            ("W/\"v1\"", "W/\"v1\"", "W/\"v1\""),
        ] {
            let accepts = AcceptedCodings::of(&fields(&[("accept-encoding", "gzip"), ("if-none-match", has)]));
            let mut headers = fields(&[("etag", tag)]);
            assert_eq!(accepts.decide(StatusCode::NOT_MODIFIED, &mut headers, Some), None);
            assert_eq!(headers.get(ETAG).expect("a tag"), told, "{has} {tag}");
            assert_eq!(headers.get(VARY).expect("what it depends on"), "accept-encoding");
        }
    }
}
