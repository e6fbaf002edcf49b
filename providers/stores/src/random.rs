//! Random numbers, and random names of files, so that two instances never use the same name.

use crate::wasi::random::random;

/// Returns a random number.
pub(crate) fn number() -> u64 {
    random::get_random_u64()
}

/// Returns 16 random hexadecimal digits.
pub(crate) fn name() -> String {
    format!("{:016x}", number())
}
