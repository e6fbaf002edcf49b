//! Kebab names, `[a-z][a-z0-9]*(-[a-z0-9]+)*`, of at most [`NAME_CHARS_MAX`] characters. Components, stores, groups and
//! shapes have kebab names.
//!
//! A component's name becomes part of labels inside WebAssembly, where the Component Model requires kebab names, and a
//! store's name becomes the name of a file.

use crate::invalid::InvalidText;
use crate::name_type::name_type;

/// The maximum number of characters of a kebab name.
pub const NAME_CHARS_MAX: usize = 64;

/// The regular expression of kebab names. It does not limit the length.
pub const NAME_PATTERN: &str = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$";

name_type! {
    /// The name of a component of an app.
    ComponentName,
    |name| check_name("a component name", name).map(|()| name.into()),
    { "pattern": NAME_PATTERN, "maxLength": NAME_CHARS_MAX }
}

name_type! {
    /// The name of a key-value or SQL store of an app.
    StoreName,
    |name| check_name("a store name", name).map(|()| name.into()),
    { "pattern": NAME_PATTERN, "maxLength": NAME_CHARS_MAX }
}

/// Checks a kebab name. `kind` is the kind of name, with its article: `a group name`.
///
/// # Errors
/// If the name is not a kebab name.
pub fn check_name(kind: &'static str, name: &str) -> Result<(), InvalidText> {
    let problem = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.chars().count() > NAME_CHARS_MAX {
        format!("it has {} characters, at most {NAME_CHARS_MAX} are allowed", name.chars().count())
    } else if let Some(wrong) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        format!("`{}` is not a lower-case letter, a digit or `-`", wrong.escape_debug())
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        "it must begin with a lower-case letter".to_owned()
    } else if name.ends_with('-') || name.contains("--") {
        "each `-` must stand between letters or digits".to_owned()
    } else {
        return Ok(());
    };
    Err(InvalidText::new(kind, "cart-2", name, problem).suggest(kebab(name)))
}

/// Returns the kebab name that is closest to `text`, or `None` if `text` contains no letter from A to Z.
#[must_use]
pub fn kebab(text: &str) -> Option<String> {
    let mut name = String::new();
    let mut previous_was_lower = false;
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            if character.is_ascii_uppercase() && previous_was_lower {
                name.push('-');
            }
            if !name.is_empty() || character.is_ascii_alphabetic() {
                name.push(character.to_ascii_lowercase());
            }
            previous_was_lower = character.is_ascii_lowercase();
        } else {
            if !name.is_empty() && !name.ends_with('-') {
                name.push('-');
            }
            previous_was_lower = false;
        }
        if name.len() >= NAME_CHARS_MAX {
            break;
        }
    }
    name.truncate(NAME_CHARS_MAX);
    let name = name.trim_end_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kebab_names_are_accepted_and_other_names_refused_with_the_rule() {
        for good in ["a", "cart", "cart-2", "a1-b2-3"] {
            assert_eq!(ComponentName::new(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for (bad, problem) in [
            ("", "empty"),
            ("Cart", "`C`"),
            ("1cart", "begin"),
            ("cart_2", "`_`"),
            ("cart-", "between"),
            ("a--b", "between"),
            (&"x".repeat(65), "65 characters"),
        ] {
            let error = ComponentName::new(bad).expect_err(bad).to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn suggested_names_are_valid() {
        for (text, suggested) in [
            ("My_Cart", Some("my-cart")),
            ("cartService", Some("cart-service")),
            ("--x--y--", Some("x-y")),
            ("42", None),
            ("9lives", Some("lives")),
            ("über", Some("ber")),
        ] {
            assert_eq!(kebab(text).as_deref(), suggested);
        }
        let long = kebab(&"ab-".repeat(40)).expect("letters are left");
        assert_eq!(check_name("a name", &long), Ok(()));
    }
}
