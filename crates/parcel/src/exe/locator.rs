//! The locator: the place of the payload in a shipped program, and the digest of its index.

use std::ops::Range;

/// The name of the section of the program that contains the locator.
pub const SECTION: &str = ".isomer";

/// The length of a locator in bytes.
pub const LOCATOR_BYTES: usize = 80;

/// The length of the section: the locator, then the version of the runtime, filled up with zeros.
pub const SECTION_BYTES: usize = 128;

/// The maximum length of an index in bytes. An index of [`PARTS_MAX`](isomer_api::deploy::PARTS_MAX) files with the longest
/// paths takes about half of this.
const INDEX_BYTES_MAX: u64 = 32 << 20;

/// The first bytes of a locator. They include the version of the format.
const MAGIC: &[u8; 16] = b"isomer-parcel-1\n";

/// The place of a payload in the program's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locator {
    /// The offset of the payload's first byte in the file.
    pub offset: u64,
    /// The length of the payload in bytes, including the index.
    pub bytes: u64,
    /// The length of the index in bytes. The index is at the end of the payload.
    pub index_bytes: u64,
    /// The SHA-256 of the index.
    pub index_digest: [u8; 32],
}

/// The error for bytes that are not a locator of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the locator of the payload is damaged, or was written by another version")]
pub struct InvalidLocator;

impl Locator {
    /// The locator of a program without a payload.
    pub const EMPTY: [u8; LOCATOR_BYTES] = {
        let mut bytes = [0; LOCATOR_BYTES];
        let mut at = 0;
        while at < MAGIC.len() {
            bytes[at] = MAGIC[at];
            at += 1;
        }
        bytes
    };

    /// Returns the section of a program without a payload. `version` is the version of the runtime.
    ///
    /// # Panics
    /// If `version` is too long. The function is evaluated at compile time, so this is a compiler error.
    #[must_use]
    pub const fn section(version: &str) -> [u8; SECTION_BYTES] {
        let mut bytes = [0; SECTION_BYTES];
        let mut at = 0;
        while at < LOCATOR_BYTES {
            bytes[at] = Self::EMPTY[at];
            at += 1;
        }
        let version = version.as_bytes();
        while at < LOCATOR_BYTES + version.len() {
            bytes[at] = version[at - LOCATOR_BYTES];
            at += 1;
        }
        bytes
    }

    /// Returns the locator as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LOCATOR_BYTES] {
        let mut bytes = Self::EMPTY;
        bytes[16..24].copy_from_slice(&self.offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.index_bytes.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.index_digest);
        bytes
    }

    /// Parses a locator. Returns `None` for the locator of a program without a payload.
    ///
    /// # Errors
    /// If the bytes are not a locator of this version, or contain an impossible offset or length.
    pub fn parse(bytes: &[u8; LOCATOR_BYTES]) -> Result<Option<Self>, InvalidLocator> {
        if *bytes == Self::EMPTY {
            return Ok(None);
        }
        let number = |range: Range<usize>| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[range]);
            u64::from_le_bytes(number)
        };
        let mut index_digest = [0; 32];
        index_digest.copy_from_slice(&bytes[40..72]);
        let locator = Self { offset: number(16..24), bytes: number(24..32), index_bytes: number(32..40), index_digest };
        let end = locator.offset.checked_add(locator.bytes).filter(|end| i64::try_from(*end).is_ok());
        let is_valid = bytes[..16] == MAGIC[..]
            && bytes[72..] == [0; 8]
            && end.is_some()
            && locator.offset > 0
            && (1..=INDEX_BYTES_MAX.min(locator.bytes)).contains(&locator.index_bytes);
        if is_valid { Ok(Some(locator)) } else { Err(InvalidLocator) }
    }

    /// Returns the offset in the file of the first byte after the payload.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }

    /// Returns the length in bytes of the parts, which are before the index.
    #[must_use]
    pub fn parts_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.index_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_locator_is_read_as_it_was_written(
            offset in 1..1_u64 << 40,
            parts in 0..1_u64 << 40,
            index_bytes in 1..=INDEX_BYTES_MAX,
            index_digest: [u8; 32],
        ) {
            let locator = Locator { offset, bytes: parts + index_bytes, index_bytes, index_digest };
            prop_assert_eq!(Locator::parse(&locator.to_bytes()), Ok(Some(locator)));
        }

        #[test]
        fn no_bytes_give_a_place_that_overflows(tail in proptest::collection::vec(any::<u8>(), LOCATOR_BYTES - 16)) {
            let mut bytes = Locator::EMPTY;
            bytes[16..].copy_from_slice(&tail);
            if let Ok(Some(locator)) = Locator::parse(&bytes) {
                prop_assert!(locator.offset.checked_add(locator.bytes).is_some());
                prop_assert!(locator.index_bytes <= locator.bytes);
                prop_assert!(locator.index_bytes <= INDEX_BYTES_MAX);
            }
        }
    }

    #[test]
    fn a_program_without_a_payload_has_an_empty_locator() {
        assert_eq!(Locator::parse(&Locator::EMPTY), Ok(None));
        let mut other = Locator::EMPTY;
        other[0] = b'I';
        assert_eq!(Locator::parse(&other), Err(InvalidLocator));
    }
}
