//! The contents of a release with the bytes of its parts. All parcels (the shipped forms of a release) are written from
//! these contents.
//!
//! This crate depends neither on the engine nor on the app's folder, so a program that only runs a parcel needs little
//! more than this crate to read it.

#![forbid(unsafe_code)]

pub mod artifact;
mod digest;
pub mod exe;
pub mod image;
pub mod index;
pub mod sbom;

use std::collections::BTreeMap;

use bytes::Bytes;
use isomer_api::{Release, ReleasePart};
use isomer_ids::Digest;
use sha2::Digest as _;

pub use digest::{parts, release_digest};

/// A release, and the bytes of its parts.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The release.
    pub release: Release,
    /// The bytes of each part of the release, by digest.
    pub parts: BTreeMap<Digest, Bytes>,
}

/// Adds the bytes of a part to `parts`, under their digest.
pub fn add_part(parts: &mut BTreeMap<Digest, Bytes>, bytes: Bytes) -> ReleasePart {
    let digest = Digest::from(<[u8; 32]>::from(sha2::Sha256::digest(&bytes)));
    let part = ReleasePart { digest: digest.clone(), bytes: bytes.len() as u64 };
    parts.insert(digest, bytes);
    part
}
