//! The normal form of paths, in which they are compared with routes (RFC 3986, sections 6.2.2.1 and 6.2.2.2).
//!
//! `%7E`, `%7e` and `~` are the same character, and `%c3` is `%C3`. Reserved characters stay encoded: for example, an
//! encoded `/` is part of a segment and does not separate segments. Dot segments are not resolved: a guest receives the
//! path as the client sent it, and cannot know how the front door would resolve them.

/// Returns `path` with unreserved characters decoded, and with its other percent-encodings in upper case. Returns
/// `None` if `path` has no percent-encoding and so is already in normal form.
pub(crate) fn normalize(path: &str) -> Option<String> {
    if !path.contains('%') {
        return None;
    }
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        normal.push_str(before);
        rest = after;
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|digits| Some((digits, u8::from_str_radix(digits, 16).ok()?))) {
            Some((digits, byte)) => {
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                    normal.push(char::from(byte));
                } else {
                    normal.push('%');
                    normal.push_str(&digits.to_ascii_uppercase());
                }
                rest = &after[2..];
            }
            // `%` does not start a percent-encoding here, so it is kept.
            None => normal.push('%'),
        }
    }
    normal.push_str(rest);
    Some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_paths_have_one_form() {
        for (path, form) in [
            ("/plain/path", "/plain/path"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/caf%C3%A9", "/caf%C3%A9"),
            ("/%7euser/%41%2D%5f%2e", "/~user/A-_."),
            ("/a%2fb", "/a%2Fb"),
            ("/a%20b%", "/a%20b%"),
            ("/100%zz%4", "/100%zz%4"),
            ("/%25%34%31", "/%2541"),
            ("/%e2%82%ac\u{20ac}%\u{20ac}", "/%E2%82%AC\u{20ac}%\u{20ac}"),
        ] {
            let normal = normalize(path).unwrap_or_else(|| path.to_owned());
            assert_eq!(normal, form, "{path}");
            assert_eq!(normalize(&normal).unwrap_or_else(|| normal.clone()), form, "{path}");
        }
    }
}
