//! The notation of routes: `/cart` is one path, `/static/...` is that path and all paths below it, `/...` is every
//! path.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use isomer_ids::InvalidText;

use crate::model::Route;

/// The path of the front door's health check. Requests for this path never reach an app.
pub const FRONT_HEALTH_PATH: &str = "/.isomer/health";

/// The value of the JSON Schema keyword `pattern` for a route. It matches only the beginning of a route; [`FromStr`]
/// checks the complete rule.
pub(crate) const ROUTE_PATTERN: &str = "^/";

/// The value of the JSON Schema keyword `pattern` for a path that is not a route: the path has no query, and does not
/// end with `...`.
pub(crate) const PATH_PATTERN: &str = r"^/([^?#]*[^.?#]\.{0,2})?$";

impl Route {
    /// Returns whether the route matches the path of a request. Equivalent notations of a path, such as `/a` and
    /// `/%61`, match the same routes. `path` contains no query.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let path = &*normal(path);
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => {
                path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

impl FromStr for Route {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let invalid = |problem: &str| InvalidText::new("a route", "/cart/...", text, problem);
        let Some(path) = text.strip_prefix('/') else {
            let suggestion = text.find("://").map_or(text, |scheme| &text[scheme + 3..]);
            let suggestion = if suggestion.len() == text.len() { Some(format!("/{text}")) } else { None };
            let suggestion = suggestion.filter(|suggestion| suggestion.parse::<Self>().is_ok());
            return Err(invalid("it must begin with `/`").suggest(suggestion));
        };
        let (path, prefix) = match path.strip_suffix("...") {
            Some("") => (None, true),
            Some(before) if before.ends_with('/') => (Some(&before[..before.len() - 1]), true),
            _ => (Some(path), false),
        };
        // The path is normalised, so that two notations of the same path are the same route and an encoded `..` is
        // detected.
        let path = path.map(normal);
        let segments: Vec<&str> = path.as_deref().map(|path| path.split('/').collect()).unwrap_or_default();
        for (index, segment) in segments.iter().enumerate() {
            let last = index + 1 == segments.len();
            if segment.is_empty() && (prefix || !last) {
                return Err(invalid("it has an empty segment between two `/`").suggest(repaired(text)));
            }
            if matches!(*segment, "." | "..") {
                return Err(invalid("a segment must not be `.` or `..`"));
            }
            if segment.contains("...") {
                return Err(invalid("`...` must be the whole last segment").suggest(repaired(text)));
            }
            if segment.starts_with(['{', ':', '*', '<']) || segment.ends_with('*') {
                let before: String = segments[..index].iter().map(|segment| format!("/{segment}")).collect();
                return Err(invalid("routes have no parameters; a prefix ends in `/...`")
                    .suggest(Some(format!("{before}/..."))));
            }
            if let Some(wrong) = wrong_character(segment) {
                let (rule, suggestion) = match wrong {
                    '?' | '#' => {
                        ("it must be a path without query and fragment", text.split(wrong).next().map(str::to_owned))
                    }
                    '%' => ("`%` must be followed by two hexadecimal digits", None),
                    _ => ("it contains a character that is not allowed in the path of a URL", Some(encoded(text))),
                };
                return Err(invalid(rule).suggest(suggestion.filter(|suggestion| suggestion.parse::<Self>().is_ok())));
            }
        }
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        Ok(if prefix { Self::Prefix(path) } else { Self::Exact(path) })
    }
}

/// Returns the path with percent-encodings in upper case, and with encoded unreserved characters decoded (RFC 3986,
/// sections 6.2.2.1 and 6.2.2.2). Invalid encodings are not changed, so that [`wrong_character`] finds them.
fn normal(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut pieces = path.split('%');
    let mut normal = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let byte = piece.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                normal.push(char::from(byte));
                normal.push_str(&piece[2..]);
            }
            Some(byte) => normal.push_str(&format!("%{byte:02X}{}", &piece[2..])),
            None => normal.push_str(&format!("%{piece}")),
        }
    }
    Cow::Owned(normal)
}

/// Returns the first character that a segment of a URL's path cannot contain (RFC 3986, `pchar`).
fn wrong_character(segment: &str) -> Option<char> {
    let mut rest = segment.chars();
    while let Some(character) = rest.next() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' => {}
            '-' | '.' | '_' | '~' | '!' | '$' | '&' | '\'' | '(' | ')' | '*' | '+' | ',' | ';' | '=' | ':' | '@' => {}
            '%' if rest.next().is_some_and(|c| c.is_ascii_hexdigit())
                && rest.next().is_some_and(|c| c.is_ascii_hexdigit()) => {}
            wrong => return Some(wrong),
        }
    }
    None
}

/// Returns the route, in which each character that a URL's path cannot contain is percent-encoded.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for character in text.chars() {
        if character == '/' || character == '%' || wrong_character(character.encode_utf8(&mut [0; 4])).is_none() {
            encoded.push(character);
        } else {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    encoded
}

/// Returns the route without empty segments and with `...` as a separate segment, or `None` if the result is not a
/// route.
fn repaired(text: &str) -> Option<String> {
    let prefix = text.ends_with("...");
    let parts: Vec<&str> = text.trim_end_matches('.').split('/').filter(|part| !part.is_empty()).collect();
    let mut repaired: String = parts.iter().map(|part| format!("/{part}")).collect();
    if prefix {
        repaired.push_str("/...");
    }
    (repaired != text && repaired.parse::<Route>().is_ok()).then_some(repaired)
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{path}/..."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_parsed_displayed_and_matched() {
        for (text, hits, misses) in [
            ("/", &["/"][..], &["/a", ""][..]),
            ("/cart", &["/cart"], &["/cart/", "/cart/1", "/cartoon"]),
            ("/cart/", &["/cart/"], &["/cart"]),
            ("/static/...", &["/static", "/static/", "/static/a/b"], &["/", "/statics"]),
            ("/...", &["/", "/a/b"], &[]),
            ("/a%20b/...", &["/a%20b/c"], &["/a b/c"]),
            ("/caf%C3%A9", &["/caf%c3%a9", "/c%61f%C3%a9"], &["/cafe", "/caf%25C3%25A9"]),
            ("/~user/...", &["/%7Euser/a", "/%7euser"], &["/%2F~user", "/%7Fuser"]),
        ] {
            let route: Route = text.parse().expect(text);
            assert_eq!(route.to_string(), text);
            for hit in hits {
                assert!(route.matches(hit), "{text} matches {hit}");
            }
            for miss in misses {
                assert!(!route.matches(miss), "{text} does not match {miss}");
            }
        }
        assert_eq!("/...".parse(), Ok(Route::Prefix(String::new())));
        assert_eq!("/%c3%7e".parse(), "/%C3~".parse::<Route>());
    }

    #[test]
    fn invalid_routes_are_refused_with_a_reason_and_a_suggestion() {
        for (text, problem, suggestion) in [
            ("", "begin with", Some("/")),
            ("cart", "begin with", Some("/cart")),
            ("https://example.com/cart", "begin with", None),
            ("/a//b", "empty segment", Some("/a/b")),
            ("//...", "empty segment", Some("/...")),
            ("/a/../b", "`..`", None),
            ("/product/{id}", "no parameters", Some("/product/...")),
            ("/product/:id/x", "no parameters", Some("/product/...")),
            ("/static/*", "no parameters", Some("/static/...")),
            ("/static...", "last segment", Some("/static/...")),
            ("/.../a", "last segment", None),
            ("/cart?x=1", "without query", Some("/cart")),
            ("/a b", "not allowed", Some("/a%20b")),
            ("/a%2", "followed by two", None),
            ("/a/%2e%2E/b", "`..`", None),
            ("/ü/...", "not allowed", Some("/%C3%BC/...")),
        ] {
            let error = text.parse::<Route>().expect_err(text);
            assert!(error.problem.contains(problem), "{error}");
            assert_eq!(error.suggestion.as_deref(), suggestion, "{text}");
        }
    }
}
