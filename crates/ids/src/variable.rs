//! Names of environment variables.

/// The regular expression of the names that [`is_environment_name`] accepts.
pub const ENVIRONMENT_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// Returns whether a text can be the name of an environment variable: `[A-Za-z_][A-Za-z0-9_]*` (POSIX.1-2017, XBD
/// 3.235).
#[must_use]
pub fn is_environment_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
