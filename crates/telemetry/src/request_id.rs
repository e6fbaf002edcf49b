//! The identity of a request.

use std::fmt;
use std::num::NonZeroU64;

use crate::random::random_u64;

/// The identity of a request in the logs of all processes that handle it. Displayed as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(NonZeroU64);

impl RequestId {
    /// Returns a new random identity. A client that knows some identities cannot predict another identity.
    pub fn random() -> Self {
        loop {
            if let Some(id) = Self::from_raw(random_u64()) {
                return id;
            }
        }
    }

    /// Returns the identity with the number `raw`, or `None` for zero.
    pub fn from_raw(raw: u64) -> Option<Self> {
        NonZeroU64::new(raw).map(Self)
    }

    /// Returns the identity as a number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_identity() {
        assert_eq!(RequestId::from_raw(0), None);
        assert_eq!(RequestId::from_raw(0xab).map(|id| id.to_string()), Some("00000000000000ab".to_owned()));
    }
}
