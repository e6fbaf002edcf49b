//! Downloaded blobs on disk, by digest. A blob is checked each time it is read, so a damaged file is downloaded again.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use isomer_ids::Digest;
use isomer_parcel::artifact::sha256;

use crate::error::RegistryError;

/// A folder of downloaded blobs. Several processes may use it at the same time.
#[derive(Debug, Clone)]
pub struct BlobCache {
    folder: Option<PathBuf>,
}

impl BlobCache {
    /// Creates a cache in `folder`, which is created when the first blob is stored.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// Creates a cache that stores nothing.
    #[must_use]
    pub fn disabled() -> Self {
        Self { folder: None }
    }

    /// Returns a blob of at most `max` bytes, if the cache has it and it is undamaged.
    #[must_use]
    pub fn get(&self, digest: &Digest, max: u64) -> Option<Bytes> {
        let bytes = read_bounded(&self.path(digest)?, max).ok()?;
        (sha256(&bytes) == *digest).then(|| bytes.into())
    }

    /// Stores a blob. The caller has checked its digest.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn insert(&self, digest: &Digest, bytes: &[u8]) -> Result<(), RegistryError> {
        let Some(path) = self.path(digest) else { return Ok(()) };
        let folder = path.parent().unwrap_or(Path::new("."));
        let write = || {
            std::fs::create_dir_all(folder)?;
            // The file is complete when it gets its name, so an interrupted download leaves no partial blob.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(bytes)?;
            file.persist(&path).map_err(|error| error.error)
        };
        write().map(drop).map_err(|source| RegistryError::File { path, source })
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join("sha256").join(digest.as_str()))
    }
}

/// Reads a file of at most `max` bytes.
pub(crate) fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let problem = format!("the file is larger than {}", isomer_display::size(max));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_undamaged_blobs_are_returned() {
        let folder = tempfile::tempdir().unwrap();
        let cache = BlobCache::new(folder.path().join("blobs"));
        let digest = sha256(b"content");
        assert_eq!(cache.get(&digest, 100), None);
        cache.insert(&digest, b"content").unwrap();
        assert_eq!(cache.get(&digest, 100).unwrap().as_ref(), b"content");
        assert_eq!(cache.get(&digest, 6), None, "it is larger than expected");
        let path = folder.path().join("blobs/sha256").join(digest.as_str());
        std::fs::write(path, b"altered").unwrap();
        assert_eq!(cache.get(&digest, 100), None);
        BlobCache::disabled().insert(&digest, b"content").unwrap();
        assert_eq!(BlobCache::disabled().get(&digest, 100), None);
    }
}
