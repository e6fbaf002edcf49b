//! The names of entries in the cache of compiled code.

#[cfg(feature = "compiler")]
use std::hash::{Hash as _, Hasher};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

#[cfg(feature = "compiler")]
use crate::engine::Engine;

/// The name of an entry in the code cache: a SHA-256 hash of the inputs from which the entry was made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// The error for a text that is not a [`Key`].
#[derive(Debug, thiserror::Error)]
#[error("a key has 64 hexadecimal digits")]
pub struct InvalidKey;

impl TryFrom<String> for Key {
    type Error = InvalidKey;

    /// Accepts only hexadecimal digits, because a key becomes part of a path.
    fn try_from(text: String) -> Result<Self, InvalidKey> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_digit) { Ok(Self(text)) } else { Err(InvalidKey) }
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl Key {
    /// Returns the key as 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key of 64 zeros, which no entry has.
    #[must_use]
    pub fn unknown() -> Self {
        Self("0".repeat(64))
    }

    /// Returns the hash of `ingredients` and the engine's settings. The length of each ingredient is also hashed, so
    /// that moving a byte from one ingredient to the next changes the key.
    #[cfg(feature = "compiler")]
    pub fn new<'a>(engine: &Engine, ingredients: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Self::hasher(ingredients);
        let mut settings = HashInto(&mut hasher);
        engine.wasmtime().precompile_compatibility_hash().hash(&mut settings);
        Self::of(hasher)
    }

    /// Returns the hash of `ingredients` without an engine's settings: the name of code in a shipped app. An app is shipped
    /// with code for one kind of machine, and the machine that loads the code need not have a compiler.
    pub fn shipped<'a>(ingredients: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self::of(Self::hasher(std::iter::once(b"shipped".as_slice()).chain(ingredients)))
    }

    /// Returns the hash of this key and `ingredients`. Code without access to an engine can thus derive a key that
    /// depends on the engine's settings.
    #[must_use]
    pub fn with<'a>(&'a self, ingredients: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self::of(Self::hasher(std::iter::once(self.0.as_bytes()).chain(ingredients)))
    }

    fn hasher<'a>(ingredients: impl IntoIterator<Item = &'a [u8]>) -> Sha256 {
        let mut hasher = Sha256::new();
        for ingredient in ingredients {
            hasher.update((ingredient.len() as u64).to_le_bytes());
            hasher.update(ingredient);
        }
        hasher
    }

    fn of(hasher: Sha256) -> Self {
        Self(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A [`Hasher`] that passes the bytes on to a SHA-256 digest.
#[cfg(feature = "compiler")]
struct HashInto<'a>(&'a mut Sha256);

#[cfg(feature = "compiler")]
impl Hasher for HashInto<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
