//! Names of secrets, and the maximum size of their values.
//!
//! A name has at most 64 bytes. In earlier versions, some parts of the node accepted names of up to 128 bytes. Stored
//! names nevertheless have at most 64 bytes, because the admin API and manifests never accepted longer ones.

use crate::invalid::InvalidText;
use crate::kebab::kebab;
use crate::name_type::name_type;

/// The maximum size of a secret's value in bytes, from any source: the admin API, a file or the environment.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The maximum length of a secret's name in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The regular expression of secrets' names.
pub const SECRET_NAME_PATTERN: &str = "^[A-Za-z][A-Za-z0-9_.-]{0,63}$";

const RULE: &str = "it must be a letter, then letters, digits, `_`, `-` or `.`, 64 characters at most";

name_type! {
    /// The name of a secret of a tenant or an app.
    SecretName,
    |text| match is_secret_name(text) {
        true => Ok(text.into()),
        false => Err(InvalidText::new("a secret name", "payment-key", text, RULE).suggest(kebab(text))),
    },
    { "pattern": SECRET_NAME_PATTERN }
}

fn is_secret_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_name_is_no_path() {
        for good in ["a", "payment-key", "A.b_c-9", &"a".repeat(64)] {
            assert!(SecretName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "9a", "a/b", "..", "a b", "ä", &"a".repeat(65)] {
            assert!(SecretName::new(bad).is_err(), "{bad}");
        }
    }
}
