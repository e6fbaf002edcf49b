//! The index of a shipped program: what its payload contains, and where.

use std::collections::BTreeMap;

use isomer_api::Release;
use isomer_api::deploy::{MANIFEST_BYTES_MAX, PARTS_MAX};
use isomer_ids::{Digest, ReleaseDigest};
use serde::{Deserialize, Serialize};

use crate::digest::{parts, release_digest};

/// The maximum number of entries of compiled code: two for each group of each shape.
const CODE_MAX: usize = 10_000;

/// The index of a payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExeIndex {
    /// The version of Isomer that wrote the file.
    pub isomer: String,
    /// The target for which the code is compiled.
    pub target: String,
    /// The digest of the release.
    pub digest: ReleaseDigest,
    /// The release. Its shape is the shape that the program runs in.
    pub release: Release,
    /// The SBOM, a document in the format of CycloneDX.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<Digest>,
    /// The compiled code and its notes, by key.
    pub code: BTreeMap<String, CodeEntry>,
    /// The place of each part, by the SHA-256 of its bytes.
    pub parts: BTreeMap<Digest, PartPlace>,
}

/// The compiled code of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeEntry {
    /// The part that contains the code.
    pub code: Digest,
    /// The part that contains the note: the metadata that the runtime needs to load the code.
    pub note: Digest,
}

/// The place of a part in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartPlace {
    /// The offset from the beginning of the payload.
    pub offset: u64,
    /// The length in bytes.
    pub bytes: u64,
}

/// The error for an index that contradicts itself. The text states what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the index of the app is not valid: {0}")]
pub struct InvalidIndex(&'static str);

impl ExeIndex {
    /// Checks that all parts exist, and lie within the first `parts_bytes` bytes of the payload.
    ///
    /// # Errors
    /// If the index contradicts itself, or exceeds a limit.
    pub fn check(&self, parts_bytes: u64) -> Result<(), InvalidIndex> {
        let within = |place: &PartPlace| place.offset.checked_add(place.bytes).is_some_and(|end| end <= parts_bytes);
        let of_release = parts(&self.release);
        let mut of_release = of_release.map(|part| (&part.digest, part.bytes));
        let mut others = self.code.values().flat_map(|entry| [&entry.code, &entry.note]).chain(&self.sbom);
        let rules = [
            (self.release.manifest.len() <= MANIFEST_BYTES_MAX, "the manifest is too long"),
            (self.release.components.len() <= PARTS_MAX, "it has too many components"),
            (self.release.files.len() + self.release.folders.len() <= PARTS_MAX, "it has too many files"),
            (self.code.len() <= CODE_MAX, "it has too many entries of compiled code"),
            (self.parts.len() <= 2 * PARTS_MAX + 2 * CODE_MAX + 1, "it has too many parts"),
            (self.parts.values().all(within), "a part is outside of the file"),
            (
                of_release.all(|(digest, bytes)| self.parts.get(digest).is_some_and(|place| place.bytes == bytes)),
                "a part of the release is missing",
            ),
            (others.all(|digest| self.parts.contains_key(digest)), "a part is missing"),
            (release_digest(&self.release) == self.digest, "the release has another digest"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(InvalidIndex(broken)),
            None => Ok(()),
        }
    }
}
