//! Digests, written as hexadecimal digits in lower case.
//!
//! A client uploads a *release*, which is named by its [`ReleaseDigest`]. A *revision* is a release that was deployed
//! to an app, and is named by the digest of the release. The [`PlanDigest`] covers the decisions of a plan on which two
//! processes must agree before they call each other.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::invalid::InvalidText;
use crate::name_type::name_type;

name_type! {
    /// The SHA-256 of some bytes, as 64 hexadecimal digits.
    Digest,
    |text| hexadecimal(text, 64, "a SHA-256", "it must have 64 hexadecimal digits, in lower case"),
    { "pattern": "^[0-9a-f]{64}$" }
}

name_type! {
    /// The digest that names a release: the first 32 hexadecimal digits of a SHA-256 over the manifest, the shape, the
    /// components and the files.
    ReleaseDigest,
    |text| hexadecimal(
        text,
        32,
        "a revision",
        "it must have 32 hexadecimal digits; `isomer revisions APP` lists the app's revisions",
    ),
    { "pattern": "^[0-9a-f]{32}$" }
}

name_type! {
    /// The id of a token: 16 hexadecimal digits, unique among all tokens that a node has ever had. The id is part of
    /// the token's text and is not secret.
    TokenId,
    |text| hexadecimal(text, 16, "a token id", "it must have 16 hexadecimal digits, in lower case"),
    { "pattern": "^[0-9a-f]{16}$" }
}

/// The digest of everything on which two processes must agree before they call each other: the components' bytes, the
/// process in which each component runs, how calls cross every seam, and the grants of each component. The digest is
/// the first 16 bytes of a SHA-256.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanDigest(pub [u8; 16]);

impl fmt::Display for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlanDigest({self})")
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in bytes {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
        }
        Self(text.into())
    }
}

impl From<[u8; 16]> for ReleaseDigest {
    fn from(bytes: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(bytes)).into())
    }
}

impl ReleaseDigest {
    /// Returns the first 12 digits, which are enough to tell an app's revisions apart.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// Returns the digest as bytes.
    ///
    /// # Panics
    /// Never, because the digits were checked when the digest was created.
    #[must_use]
    pub fn bytes(&self) -> [u8; 16] {
        let number = u128::from_str_radix(&self.0, 16).expect("32 hexadecimal digits");
        number.to_be_bytes()
    }
}

impl From<[u8; 8]> for TokenId {
    fn from(bytes: [u8; 8]) -> Self {
        Self(format!("{:016x}", u64::from_be_bytes(bytes)).into())
    }
}

fn hexadecimal(text: &str, digits: usize, kind: &'static str, rule: &'static str) -> Result<Arc<str>, InvalidText> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == digits && text.bytes().all(is_digit) {
        return Ok(text.into());
    }
    Err(InvalidText::new(
        kind,
        &"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"[..digits],
        text,
        rule,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_digest_is_its_bytes() {
        let digest = ReleaseDigest::from([7; 16]);
        assert_eq!(digest.bytes(), [7; 16]);
        assert_eq!(digest.to_string(), "07".repeat(16));
        assert_eq!(serde_json::from_str::<ReleaseDigest>(&serde_json::to_string(&digest).unwrap()).unwrap(), digest);
        assert!(serde_json::from_str::<Digest>("\"abc\"").is_err());
        assert_eq!("0A".repeat(32).parse::<Digest>().expect_err("upper case").kind, "a SHA-256");
    }

    #[test]
    fn a_plan_digest_is_serialized_as_its_bytes() {
        let digest = PlanDigest([1; 16]);
        assert_eq!(serde_json::to_string(&digest).unwrap(), serde_json::to_string(&[1_u8; 16]).unwrap());
        assert_eq!(digest.to_string(), "01".repeat(16));
    }
}
