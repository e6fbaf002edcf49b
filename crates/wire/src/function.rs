//! The keys by which both sides of a seam identify functions.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::image;

/// The key of one function of one component. It is a hash of the wire's version, the component, the interface, the
/// function's name and its structurally resolved type. If the two sides of a seam were built from different WIT, their
/// keys differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionKey(pub [u8; 16]);

impl FunctionKey {
    /// Returns the key of the function `function` of `component`. `interface` is the id of the exported interface with
    /// its version, and `type_hash` is the hash of the function's type.
    pub fn new(component: &str, interface: &str, function: &str, type_hash: &[u8; 16]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update([image::VERSION]);
        for text in [component, interface, function] {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        hasher.update(type_hash);
        let hash: [u8; 32] = hasher.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        Self(key)
    }
}

impl fmt::Display for FunctionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FunctionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FunctionKey({self})")
    }
}

impl Serialize for FunctionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FunctionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        match u128::from_str_radix(&digits, 16) {
            Ok(number) if digits.len() == 32 => Ok(Self(number.to_be_bytes())),
            _ => Err(serde::de::Error::custom("a function's key has 32 hexadecimal digits")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_key() {
        let key = FunctionKey::new("cart", "a:b/c@1.0.0", "get", &[7; 16]);
        assert_eq!(key, FunctionKey::new("cart", "a:b/c@1.0.0", "get", &[7; 16]));
        for other in [
            FunctionKey::new("cart2", "a:b/c@1.0.0", "get", &[7; 16]),
            FunctionKey::new("cart", "a:b/c@1.0.1", "get", &[7; 16]),
            FunctionKey::new("cart", "a:b/c@1.0.0", "got", &[7; 16]),
            FunctionKey::new("cart", "a:b/c@1.0.0", "get", &[8; 16]),
            FunctionKey::new("carta", ":b/c@1.0.0", "get", &[7; 16]),
        ] {
            assert_ne!(key, other);
        }
    }
}
