//! Cookies on their way to and from components.
//!
//! Components never see the cookie of a session. If the manifest names a cookie of the app that identifies visitors, this
//! cookie is removed from requests, whatever its value, and replaced by the session's identity.
//!
//! Servers read the `Cookie` field in different ways: some ignore case, some split at commas or white space, some decode
//! percent-encoded names, some remove quotes or control characters, and some replace characters by underscores. Many
//! take the last of several pairs with one name. A pair is removed if its name could be read as a reserved one in any of
//! these ways. The pair with the identity is written first, so that an unfinished quote in another pair cannot hide it.

use http::header::{COOKIE, HeaderName, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use isomer_ids::is_front_door_cookie;

use crate::session::Identity;

/// The prefix of the names of session cookies over plain HTTP. The rest of the name depends on the app's key, so that
/// apps on other ports of the same host, which share cookies, do not overwrite each other's cookie.
pub(crate) const PLAIN_COOKIE_PREFIX: &str = "isomer-session-";

/// The name of session cookies over HTTPS. Browsers accept a cookie with the prefix `__Host-` only from the host itself
/// and over HTTPS, so another subdomain cannot set it.
pub(crate) const SECURE_COOKIE: &str = "__Host-isomer-session";

/// An obsolete field that some servers still read as cookies.
const COOKIE2: HeaderName = HeaderName::from_static("cookie2");
const SET_COOKIE2: HeaderName = HeaderName::from_static("set-cookie2");

/// The reason why a line of `Set-Cookie` of an app's own cookie ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieChange {
    /// The cookie is removed: it is empty or has expired.
    Removed,
    /// The cookie gets a value that is not the session's identity.
    Replaced,
}

/// The names of cookies that components neither receive from clients nor set.
#[derive(Debug, Clone)]
pub(crate) struct ReservedCookies {
    /// The name of the app's cookie that identifies visitors.
    pub(crate) app_cookie: Option<Box<str>>,
}

impl ReservedCookies {
    /// Replaces the `Cookie` fields of a request: removes all pairs with reserved names, and adds the app's cookie with
    /// `identity`.
    pub(crate) fn rewrite_request(&self, headers: &mut HeaderMap, identity: Option<Identity>) {
        headers.remove(COOKIE2);
        let mut pairs: Vec<Vec<u8>> = Vec::new();
        if let (Some(name), Some(identity)) = (&self.app_cookie, identity) {
            pairs.push(format!("{name}={identity}").into_bytes());
        }
        if let http::header::Entry::Occupied(entry) = headers.entry(COOKIE) {
            let (_, values) = entry.remove_entry_mult();
            for value in values {
                let kept = value.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
                pairs.extend(kept.filter(|pair| !pair.is_empty() && !self.is_reserved_pair(pair)).map(<[u8]>::to_vec));
            }
        }
        if pairs.is_empty() {
            return;
        }
        // The pairs are parts of valid field values, so the joined value is valid too.
        if let Ok(mut value) = HeaderValue::from_bytes(&pairs.join(&b"; "[..])) {
            value.set_sensitive(true);
            headers.insert(COOKIE, value);
        }
    }

    /// Removes the lines of `Set-Cookie` with reserved names. Returns how the app's cookie changes, if it changes.
    pub(crate) fn filter_response(&self, headers: &mut HeaderMap, identity: Option<Identity>) -> Option<CookieChange> {
        headers.remove(SET_COOKIE2);
        let http::header::Entry::Occupied(entry) = headers.entry(SET_COOKIE) else { return None };
        let (_, lines) = entry.remove_entry_mult();
        let lines: Vec<_> = lines.collect();
        let mut change = None;
        for line in lines {
            match self.kind_of(line.as_bytes()) {
                CookieKind::Other => {
                    headers.append(SET_COOKIE, line);
                }
                CookieKind::Session => {}
                // The last line decides, as it does in a browser.
                CookieKind::App => change = Some(changed(line.as_bytes(), identity)),
            }
        }
        change.flatten()
    }

    /// Returns which kind of cookie a line of `Set-Cookie` sets.
    pub(crate) fn kind_of(&self, line: &[u8]) -> CookieKind {
        let pair = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let name = read_name(pair);
        if is_front_door_cookie(name) {
            CookieKind::Session
        } else if self.is_app_cookie(name) && !has_no_name(pair) {
            CookieKind::App
        } else if self.is_reserved_pair(pair) {
            // Some servers would read the reserved name when the browser sends the cookie.
            CookieKind::Session
        } else {
            CookieKind::Other
        }
    }

    fn is_app_cookie(&self, name: &[u8]) -> bool {
        self.app_cookie.as_ref().is_some_and(|reserved| name.eq_ignore_ascii_case(reserved.as_bytes()))
    }

    /// Returns whether some server could read a reserved name in a pair.
    fn is_reserved_pair(&self, pair: &[u8]) -> bool {
        let decoded: Vec<u8> = percent_encoding::percent_decode(pair).collect();
        [pair, &decoded].into_iter().any(|pair| {
            let is_separator = |byte: &u8| matches!(byte, b',' | b';') || !byte.is_ascii_graphic();
            let mut names = pair.split(is_separator).map(read_name);
            names.any(|name| is_front_door_cookie(name) || self.is_app_cookie(name)) || self.is_app_variable(pair)
        })
    }

    /// Returns whether a server that makes variables from cookies reads the app's cookie in a pair. PHP replaces `.`,
    /// white space and `[` in names by underscores, and reads `a[b]` as an element of the variable `a`.
    fn is_app_variable(&self, pair: &[u8]) -> bool {
        let Some(reserved) = &self.app_cookie else { return false };
        let name = read_name(pair);
        let array = &name[..name.iter().position(|byte| *byte == b'[').unwrap_or(name.len())];
        let character = |byte: &u8| match byte {
            b'.' | b'[' | b' ' | b'\t' => b'_',
            byte => byte.to_ascii_lowercase(),
        };
        let variable = |name: &[u8]| name.iter().map(character).collect::<Vec<_>>();
        let reserved = variable(reserved.as_bytes());
        variable(name) == reserved || variable(array) == reserved
    }
}

/// The kind of cookie that a line of `Set-Cookie` sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CookieKind {
    /// The cookie of a session, which only the front door sets.
    Session,
    /// The app's cookie that identifies visitors.
    App,
    /// Any other cookie.
    Other,
}

/// Returns the values of all cookies with exactly this name in a request.
pub(crate) fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = headers.get_all(COOKIE).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Returns whether a line of `Set-Cookie` has the attribute `name`, in any case.
pub(crate) fn has_attribute(line: &[u8], name: &str) -> bool {
    attributes(line).any(|(attribute, _)| attribute.eq_ignore_ascii_case(name.as_bytes()))
}

/// Returns how a line of `Set-Cookie` changes the cookie, which has the value `identity`.
pub(crate) fn changed(line: &[u8], identity: Option<Identity>) -> Option<CookieChange> {
    let value = bare(value_of(line.split(|byte| *byte == b';').next().unwrap_or_default()));
    match identity {
        _ if value.is_empty() || has_expired(line) => Some(CookieChange::Removed),
        Some(identity) if identity.matches(value) => None,
        _ => Some(CookieChange::Replaced),
    }
}

/// Returns whether a line of `Set-Cookie` removes its cookie (RFC 6265, section 5.2). `Max-Age` has precedence over
/// `Expires`.
fn has_expired(line: &[u8]) -> bool {
    let last = |name: &str| attributes(line).filter(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes())).last();
    if let Some((_, seconds)) = last("max-age") {
        let digits = seconds.strip_prefix(b"-").unwrap_or(seconds);
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        return is_number && (digits.len() < seconds.len() || digits.iter().all(|digit| *digit == b'0'));
    }
    let Some((_, date)) = last("expires") else { return false };
    let date = std::str::from_utf8(date).ok().and_then(|date| httpdate::parse_http_date(date).ok());
    // Some servers write dates with dashes, which the parser does not know. A date in 1970 means removal.
    let is_epoch = || last("expires").is_some_and(|(_, date)| date.windows(4).any(|year| year == b"1970"));
    date.map_or_else(is_epoch, |date| date <= std::time::SystemTime::now())
}

/// Returns the names and values of the attributes in a line of `Set-Cookie`.
fn attributes(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').skip(1).map(|attribute| {
        let mut parts = attribute.splitn(2, |byte| *byte == b'=');
        let mut next = || parts.next().unwrap_or_default().trim_ascii();
        (next(), next())
    })
}

/// Returns the name in a pair as lenient servers read it: without white space, quotes and control characters around it. A
/// pair without `=` is treated as a name. A name may follow other `=`: browsers send a cookie without a name, such as
/// `=a=b`, as `a=b`.
fn read_name(pair: &[u8]) -> &[u8] {
    let start = pair.iter().position(|byte| !is_noise(*byte) && *byte != b'=').unwrap_or(pair.len());
    let rest = &pair[start..];
    bare(&rest[..rest.iter().position(|byte| *byte == b'=').unwrap_or(rest.len())])
}

/// Returns whether a pair has no name, so that its value is the whole cookie.
fn has_no_name(pair: &[u8]) -> bool {
    let end = pair.iter().position(|byte| *byte == b'=').unwrap_or_default();
    bare(&pair[..end]).is_empty()
}

/// Returns the part of a pair after the first `=`.
fn value_of(pair: &[u8]) -> &[u8] {
    pair.iter().position(|byte| *byte == b'=').map_or(&[], |at| &pair[at + 1..])
}

/// Returns `text` without white space, quotes, control characters and bytes that are not ASCII at both ends.
fn bare(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_noise(*byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_noise(*byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

fn is_noise(byte: u8) -> bool {
    !byte.is_ascii_graphic() || matches!(byte, b'"' | b'\'')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::{KEY_BYTES, SessionKey};

    fn reserved() -> ReservedCookies {
        ReservedCookies { app_cookie: Some("shop_session".into()) }
    }

    fn identity() -> Identity {
        SessionKey::new(&[1; KEY_BYTES]).issue(0).unwrap().identity()
    }

    fn rewritten(lines: &[&[u8]], identity: Option<Identity>) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        reserved().rewrite_request(&mut headers, identity);
        headers.get_all(COOKIE).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    #[test]
    fn a_component_receives_the_identity_and_other_cookies() {
        let identity = identity();
        let own = format!("shop_session={identity}");
        assert_eq!(rewritten(&[], Some(identity)), [own.as_str()]);
        assert_eq!(rewritten(&[b"a=1; b=2", b"c=3"], Some(identity)), [format!("{own}; a=1; b=2; c=3")]);
        assert_eq!(rewritten(&[b"a=1"], None), ["a=1"]);
        assert_eq!(rewritten(&[b"shop_session=x"], None), Vec::<String>::new());
    }

    #[test]
    fn no_spelling_of_a_reserved_name_reaches_a_component() {
        let identity = identity();
        for hostile in [
            &b"shop_session=evil"[..],
            b"  shop_session = evil",
            b"\tshop_session\t=\tevil",
            b"SHOP_Session=evil",
            b"\"shop_session\"=evil",
            b"a=\"; shop_session=evil; b=\"",
            b"a=1, shop_session=evil",
            b"a=1,shop_session =evil",
            b"shop_session",
            b"=shop_session=evil",
            b"==shop_session=evil",
            b"\"=shop_session=evil",
            b"\xa0shop_session=evil",
            b"shop%5Fsession=evil",
            b"shop%5fsession%20=evil",
            b"%73hop_session=evil",
            b"a=1%2C%20shop_session=evil",
            b"a=1 shop_session=evil",
            b"a=1\tshop_session=evil",
            b"a=\"x\" shop_session=evil",
            b"shop.session=evil",
            b"shop session=evil",
            b"shop[session=evil",
            b"shop_session[]=evil",
            b"shop_session[a]=evil",
            b"shop%2Esession%5B0%5D=evil",
            b"isomer%2Dsession-12345678=evil",
            b"__Host-isomer-session=evil",
            b"__host-isomer-session=evil",
            b"isomer-session-12345678=evil",
            b"x=1; isomer-session-=evil",
        ] {
            let lines = rewritten(&[hostile, b"ok=1"], Some(identity));
            assert_eq!(lines.len(), 1, "{hostile:?}");
            assert!(!lines[0].contains("evil"), "{lines:?}");
            assert!(
                lines[0].starts_with(&format!("shop_session={identity}")) && lines[0].ends_with("ok=1"),
                "{lines:?}"
            );
        }
        let mut headers = HeaderMap::from_iter([(COOKIE2, HeaderValue::from_static("shop_session=evil"))]);
        reserved().rewrite_request(&mut headers, None);
        assert!(headers.is_empty());
    }

    #[test]
    fn similar_names_are_kept() {
        for kept in ["shop_session2=1", "my_shop_session=1", "a=shop_session", "xisomer-session-1=1"] {
            assert_eq!(rewritten(&[kept.as_bytes()], None), [kept]);
        }
    }

    fn filtered(lines: &[&str], identity: Option<Identity>) -> (Vec<String>, Option<CookieChange>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SET_COOKIE, line.parse().unwrap());
        }
        let change = reserved().filter_response(&mut headers, identity);
        (headers.get_all(SET_COOKIE).iter().map(|line| line.to_str().unwrap().to_owned()).collect(), change)
    }

    #[test]
    fn a_change_of_the_apps_cookie_is_reported_and_not_sent() {
        let identity = identity();
        for (line, change) in [
            (format!("shop_session={identity}; Path=/"), None),
            ("shop_session=other; Path=/; HttpOnly".to_owned(), Some(CookieChange::Replaced)),
            ("shop_session=".to_owned(), Some(CookieChange::Removed)),
            ("shop_session=\"\"; Path=/".to_owned(), Some(CookieChange::Removed)),
            (format!("shop_session={identity}; Max-Age=0"), Some(CookieChange::Removed)),
            (format!("shop_session={identity}; max-age = -1"), Some(CookieChange::Removed)),
            (format!("shop_session={identity}; Max-Age=3600; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), None),
            (format!("shop_session={identity}; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), Some(CookieChange::Removed)),
            (format!("shop_session={identity}; Expires=Thu, 01-Jan-1970 00:00:00 GMT"), Some(CookieChange::Removed)),
            (format!("shop_session={identity}; Expires=Fri, 31 Dec 9999 23:59:59 GMT"), None),
        ] {
            assert_eq!(
                filtered(&["a=1", &line, "b=2; Secure"], Some(identity)),
                (vec!["a=1".into(), "b=2; Secure".into()], change),
                "{line}"
            );
        }
        let lines = ["shop_session=first", &format!("shop_session={identity}")];
        assert_eq!(filtered(&lines, Some(identity)).1, None, "the last line decides");
    }

    #[test]
    fn a_component_cannot_set_a_session() {
        for line in [
            "__Host-isomer-session=x; Secure; Path=/",
            "__HOST-Isomer-Session=x",
            "isomer-session-12345678=x",
            "=isomer-session-12345678=x",
            "=shop_session=x",
            "shop%5Fsession=x; Domain=example.com",
            "a=1 shop_session=x",
            "isomer-session-12345678",
        ] {
            assert_eq!(filtered(&[line, "a=1"], None), (vec!["a=1".to_owned()], None), "{line}");
        }
    }

    proptest! {
        /// Reads the result as lenient servers do: with or without decoding of names, separated by white space or not.
        /// Checks that no reserved name has another value.
        #[test]
        fn no_field_smuggles_a_reserved_cookie(
            lines in proptest::collection::vec(
                "([ -~]{0,12}|;|,|=|\"| |\t|%5F|%73|%20|%3D|shop|_|session|shop_session|SHOP_SESSION|isomer-session-1){0,12}",
                0..4,
            ),
        ) {
            let identity = identity();
            let bytes: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
            let result = rewritten(&bytes, Some(identity)).join("; ");
            let decode =
                |text: &str| text.replace("%5F", "_").replace("%73", "s").replace("%20", " ").replace("%3D", "=");
            let servers: [(&[char], bool); 4] =
                [(&[';', ','], false), (&[';', ','], true), (&[';', ',', ' ', '\t'], false), (&[';', ',', ' ', '\t'], true)];
            for (separators, decodes) in servers {
                for part in result.split(separators) {
                    let part = if decodes { decode(part) } else { part.to_owned() };
                    let part = part.trim_start_matches(['=', ' ', '\t', '"']);
                    let name = part.split('=').next().unwrap_or_default().trim().trim_matches('"').to_lowercase();
                    prop_assert!(!name.starts_with("isomer-session-"), "{}", result);
                    if name == "shop_session" {
                        prop_assert_eq!(part.trim(), format!("shop_session={identity}"));
                    }
                }
            }
        }
    }
}
