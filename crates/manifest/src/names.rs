//! Typed identifiers: the names of components and stores, and the rules for all names in a manifest.
//!
//! Names are kebab names, `[a-z][a-z0-9]*(-[a-z0-9]+)*`, of at most [`NAME_CHARS_MAX`] characters, since a component's
//! name becomes part of labels inside WebAssembly and a store's name becomes the name of a file.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

use crate::invalid::InvalidText;

/// The longest name, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// The rule as a regular expression (without the length).
pub(crate) const NAME_PATTERN: &str = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$";

/// Check a kebab name. `kind` is what it is, with its article: `a component name`.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_name(kind: &'static str, name: &str) -> Result<(), InvalidText> {
    let problem = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.chars().count() > NAME_CHARS_MAX {
        format!("it has {} characters and may have {NAME_CHARS_MAX}", name.chars().count())
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

/// The kebab name nearest to `text`, or nothing where no letter is left of it.
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

/// Is this a name that an environment variable may have: `[A-Za-z_][A-Za-z0-9_]*`?
#[must_use]
pub fn is_environment_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// [`is_environment_name`] as a regular expression.
pub(crate) const ENVIRONMENT_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// Check the name of a secret, as [`is_secret_name`] does.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_secret_name(name: &str) -> Result<(), InvalidText> {
    if is_secret_name(name) {
        return Ok(());
    }
    let rule = "it must be a letter, then letters, digits, `_`, `-` or `.`, 64 characters at most";
    Err(InvalidText::new("a secret name", "payment-key", name, rule).suggest(kebab(name)))
}

/// Is this a name that a secret may have: a letter, then letters, digits, `_`, `-` or `.`, at most [`NAME_CHARS_MAX`]?
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    name.len() <= NAME_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// [`is_secret_name`] as a regular expression.
pub(crate) const SECRET_PATTERN: &str = "^[A-Za-z][A-Za-z0-9_.-]{0,63}$";

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// What it is, with its article.
            pub const KIND: &'static str = $kind;

            /// A checked name.
            ///
            /// # Errors
            /// The rule that `name` breaks.
            pub fn new(name: &str) -> Result<Self, InvalidText> {
                check_name($kind, name)?;
                Ok(Self(name.into()))
            }

            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidText;

            fn from_str(name: &str) -> Result<Self, InvalidText> {
                Self::new(name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&name).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": NAME_PATTERN, "maxLength": NAME_CHARS_MAX })
            }
        }
    };
}

name_type! {
    /// The name of a component of an app.
    ComponentName, "a component name"
}

name_type! {
    /// The name of a key-value or SQL store.
    StoreName, "a store name"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kebab_names_are_accepted_and_others_say_why() {
        for good in ["a", "cart", "cart-2", "a1-b2-3"] {
            assert_eq!(ComponentName::new(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for (bad, why) in [
            ("", "empty"),
            ("Cart", "`C`"),
            ("1cart", "begin"),
            ("cart_2", "`_`"),
            ("cart-", "between"),
            ("a--b", "between"),
            (&"x".repeat(65), "65 characters"),
        ] {
            let error = ComponentName::new(bad).expect_err(bad).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn suggestions_are_themselves_legal() {
        for (given, suggested) in [
            ("My_Cart", Some("my-cart")),
            ("cartService", Some("cart-service")),
            ("--x--y--", Some("x-y")),
            ("42", None),
            ("9lives", Some("lives")),
            ("über", Some("ber")),
        ] {
            assert_eq!(kebab(given).as_deref(), suggested);
        }
        let long = kebab(&"ab-".repeat(40)).expect("letters are left");
        assert_eq!(check_name("a thing", &long), Ok(()));
    }
}
