//! Random texts that give access: one-time codes, cookies and keys. The program keeps only their digests, so a copy of
//! its memory gives no access, and compares digests in constant time.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The number of random bytes of a secret.
const RANDOM_BYTES: usize = 32;

/// The error for an operating system that provides no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system has no random bytes")]
pub struct NoRandomness;

/// A random text of 64 hexadecimal digits. Its `Debug` output does not contain the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns a new secret.
    ///
    /// # Errors
    /// If the operating system provides no random bytes.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self::from_bytes(bytes))
    }

    pub(crate) fn from_bytes(bytes: [u8; RANDOM_BYTES]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns the text, to be sent to the browser.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the digest, which the program keeps.
    #[must_use]
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(self.0.as_bytes())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The SHA-256 digest of a [`Secret`].
#[derive(Debug, Clone)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Returns whether this is the digest of `text`, in a time that does not depend on the digests.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        self.0.ct_eq(&Self::of(text).0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_digest_and_not_printed() {
        let secret = Secret::random().unwrap();
        assert_eq!(secret.reveal().len(), 2 * RANDOM_BYTES);
        assert_ne!(secret, Secret::random().unwrap());
        assert!(secret.digest().matches(secret.reveal().as_bytes()));
        assert!(!secret.digest().matches(b"") && !secret.digest().matches(&secret.reveal().as_bytes()[1..]));
        assert!(!format!("{secret:?}").contains(secret.reveal()));
    }
}
