//! The rules for browser groups: the place of a group, and the name of the app's session cookie.

use isomer_ids::{InvalidText, is_front_door_cookie};

/// The value of `place` for a group that runs in the tabs of visitors.
pub(crate) const BROWSER: &str = "browser";

/// The `pattern` of a cookie's name in the JSON Schema. A token of RFC 9110 may contain other characters, but servers read
/// them in different ways: some decode `%`, and some remove quotes. So a request could contain the cookie in a spelling
/// that the front door does not recognise.
pub(crate) const COOKIE_PATTERN: &str = "^[0-9A-Za-z_.-]+$";

/// The maximum length of a cookie's name.
pub(crate) const COOKIE_CHARS_MAX: usize = 128;

/// Checks the name of the app's session cookie.
pub(crate) fn check_cookie_name(name: &str) -> Result<(), InvalidText> {
    let invalid = |problem: &str| InvalidText::new("a name of a cookie", "shop-session", name, problem);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() {
        return Err(invalid("it is empty"));
    }
    if name.len() > COOKIE_CHARS_MAX {
        return Err(invalid("it has more than 128 characters"));
    }
    if !name.chars().all(is_plain) {
        return Err(invalid("it may contain letters, digits, `-`, `_` and `.`"));
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
    fn names_of_cookies_have_one_spelling() {
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
            "id'",
            "shop%5Fsession",
            "$id",
            "a+b",
            "isomer-session",
            "Isomer-session-1",
            "isomer-session-shop",
            "__host-Isomer-session",
            &longer,
        ] {
            assert!(check_cookie_name(name).is_err(), "{name:?}");
        }
    }
}
