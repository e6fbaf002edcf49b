//! The rules for browser groups: the place of a group, and the name of the app's session cookie.

use isomer_ids::InvalidText;

/// The value of `place` for a group that runs in the tabs of visitors.
pub(crate) const BROWSER: &str = "browser";

/// The `pattern` of a cookie's name in the JSON Schema: a token of RFC 9110.
pub(crate) const COOKIE_PATTERN: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";

/// The maximum length of a cookie's name.
pub(crate) const COOKIE_CHARS_MAX: usize = 128;

/// Returns whether a cookie belongs to the front door: its own session cookie on encrypted connections, or one of those on
/// other connections, whose names begin with `isomer-session`. Servers that read names without regard to case exist, so
/// the case is ignored.
#[must_use]
pub fn is_front_door_cookie(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.strip_prefix("__host-").unwrap_or(&name).starts_with("isomer-session")
}

/// Checks the name of the app's session cookie.
pub(crate) fn check_cookie_name(name: &str) -> Result<(), InvalidText> {
    let invalid = |problem: &str| InvalidText::new("a name of a cookie", "shop-session", name, problem);
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+.^_`|~-".contains(c);
    if name.is_empty() {
        return Err(invalid("it is empty"));
    }
    if name.len() > COOKIE_CHARS_MAX {
        return Err(invalid("it has more than 128 characters"));
    }
    if !name.chars().all(is_token) {
        return Err(invalid(
            "it may contain letters, digits and some special characters, for example `-`, `_` and `.`",
        ));
    }
    if is_front_door_cookie(name) {
        return Err(invalid("this cookie belongs to the front door"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_cookies_are_tokens() {
        let long = "a".repeat(COOKIE_CHARS_MAX);
        for name in ["shop_session-id", "__Host-shop", "S", "a.b", &long] {
            assert_eq!(check_cookie_name(name), Ok(()));
        }
        let longer = format!("{long}a");
        for name in [
            "",
            "a b",
            "a=b",
            "a;b",
            "ä",
            "a\r\nb",
            "isomer-session",
            "Isomer-session-1",
            "__host-Isomer-session",
            &longer,
        ] {
            assert!(check_cookie_name(name).is_err(), "{name:?}");
        }
    }
}
