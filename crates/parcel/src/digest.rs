//! The digests that name a release and a build.

use isomer_api::{Release, ReleasePart};
use isomer_ids::ReleaseDigest;
use sha2::{Digest as _, Sha256};

/// The first input of a release's digest. Changing this value changes the digests of all releases.
const IDENTITY: &[u8] = b"isomer-revision-1";

/// Returns the digest of a release: a hash of all its content, except its host names and message.
#[must_use]
pub fn release_digest(release: &Release) -> ReleaseDigest {
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(IDENTITY);
    add(release.manifest.as_bytes());
    add(release.shape.as_bytes());
    add(&release.components.len().to_le_bytes());
    for (name, part) in &release.components {
        add(name.as_bytes());
        add(part.digest.as_str().as_bytes());
    }
    for (path, part) in &release.files {
        add(path.as_str().as_bytes());
        add(part.digest.as_str().as_bytes());
    }
    if !release.folders.is_empty() {
        // A separator that cannot be a path, so that the folders after it cannot be confused with the files before it.
        add(b"\0folders");
        release.folders.iter().for_each(|path| add(path.as_str().as_bytes()));
    }
    let hash: [u8; 32] = hasher.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    ReleaseDigest::from(id)
}

/// Returns the parts of a release: its components and files.
pub fn parts(release: &Release) -> impl Iterator<Item = &ReleasePart> {
    release.components.values().chain(release.files.values())
}
