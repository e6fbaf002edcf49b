//! The names of stores, which are used as file names.
//!
//! Names come from a manifest, but are checked again here, just before a path is built. A name must not lead out of its
//! folder, hide a file, or differ from another name only in case.

/// The maximum length of a store's name, in bytes.
const STORE_NAME_BYTES_MAX: usize = 64;

/// The error for a text that is not a valid name of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is not a valid name of a store: use 1 to {STORE_NAME_BYTES_MAX} of `a`–`z`, `0`–`9`, `-` and `_`, and start with a \
     letter or digit"
)]
pub struct InvalidStoreName {
    /// The invalid text.
    pub name: String,
}

/// Checks that `name` is a valid name of a store: 1 to 64 characters of `a`–`z`, `0`–`9`, `-` and `_`, the first of
/// them a letter or digit.
pub fn check_store_name(name: &str) -> Result<(), InvalidStoreName> {
    let first_fits = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest_fits = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if first_fits && rest_fits && name.len() <= STORE_NAME_BYTES_MAX {
        Ok(())
    } else {
        Err(InvalidStoreName { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        for name in
            ["", ".", "..", "../x", "a/b", "a\\b", "/etc", "-x", "_x", "A", "a b", "a.b", "a\0", "ä", &"a".repeat(65)]
        {
            assert!(check_store_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "orders", "cart-2", "0", "a_b", &"a".repeat(64)] {
            assert!(check_store_name(name).is_ok(), "{name:?}");
        }
    }
}
