//! Downloaded blobs on disk, by digest. A blob is checked each time it is read, so a damaged file is downloaded again.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use isomer_ids::Digest;
use isomer_parcel::artifact::sha256;

/// The maximum size in bytes of all blobs.
const CACHE_BYTES_MAX: u64 = 4 << 30;

/// The number of bytes after which a process looks again for blobs to remove. The cache may be larger by this size.
const PRUNE_BYTES: u64 = 256 << 20;

/// A folder of downloaded blobs. Several processes may use it at the same time. If its blobs have more than 4 GiB, those that
/// were not used for the longest time are removed.
#[derive(Debug, Clone)]
pub struct BlobCache {
    folder: Option<PathBuf>,
    bytes_max: u64,
    /// The bytes that were stored since the last look at the folder; `None` before the first one.
    unpruned: Arc<Mutex<Option<u64>>>,
}

impl BlobCache {
    /// Creates a cache in `folder`, which is created when the first blob is stored.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..Self::disabled() }
    }

    /// Creates a cache that stores nothing.
    #[must_use]
    pub fn disabled() -> Self {
        Self { folder: None, bytes_max: CACHE_BYTES_MAX, unpruned: Arc::default() }
    }

    /// Returns a blob of at most `max` bytes, if the cache has it and it is undamaged.
    #[must_use]
    pub fn get(&self, digest: &Digest, max: u64) -> Option<Bytes> {
        let path = self.path(digest)?;
        let bytes = read_bounded(&path, max).ok()?;
        if sha256(&bytes) != *digest {
            return None;
        }
        // Blobs that are in use are the last ones to be removed. A cache that cannot be written is used nevertheless.
        let _unchanged = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(bytes.into())
    }

    /// Stores a blob. The caller has checked its digest. Does nothing if the blob cannot be stored, for example because the
    /// disk is full: the caller has its bytes.
    pub fn insert(&self, digest: &Digest, bytes: &[u8]) {
        let Some(path) = self.path(digest) else { return };
        let folder = path.parent().unwrap_or(Path::new("."));
        let write = || {
            std::fs::create_dir_all(folder)?;
            // The file is complete when it gets its name, so an interrupted download leaves no partial blob.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(bytes)?;
            file.persist(&path).map_err(|error| error.error)
        };
        let _not_stored = write();
        let mut unpruned = self.unpruned.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = unpruned.unwrap_or(PRUNE_BYTES).saturating_add(bytes.len() as u64);
        *unpruned = Some(stored);
        if stored >= PRUNE_BYTES.min(self.bytes_max) {
            self.prune(folder);
            *unpruned = Some(0);
        }
    }

    /// Removes the blobs that were not used for the longest time until the others have at most `bytes_max` bytes.
    fn prune(&self, folder: &Path) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        let files = entries.flatten().filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((metadata.modified().ok()?, entry.path(), metadata.len()))
        });
        let mut files: Vec<_> = files.collect();
        files.sort();
        let mut total = files.iter().fold(0_u64, |sum, (_, _, bytes)| sum.saturating_add(*bytes));
        for (_, path, bytes) in files {
            if total <= self.bytes_max {
                return;
            }
            // Another process may have removed it already.
            let _removed = std::fs::remove_file(path);
            total -= bytes.min(total);
        }
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
        cache.insert(&digest, b"content");
        assert_eq!(cache.get(&digest, 100).unwrap().as_ref(), b"content");
        assert_eq!(cache.get(&digest, 6), None, "it is larger than expected");
        let path = folder.path().join("blobs/sha256").join(digest.as_str());
        std::fs::write(path, b"altered").unwrap();
        assert_eq!(cache.get(&digest, 100), None);
        BlobCache::disabled().insert(&digest, b"content");
        assert_eq!(BlobCache::disabled().get(&digest, 100), None);
    }

    #[test]
    fn the_blobs_that_were_not_used_for_the_longest_time_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = BlobCache { bytes_max: 10, ..BlobCache::new(folder.path().to_owned()) };
        let blobs = [&b"aaaa"[..], b"bbbb", b"cccc"];
        let set_age = |bytes: &[u8], seconds: u64| {
            let file = File::open(cache.path(&sha256(bytes)).unwrap()).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        };
        for (number, bytes) in blobs[..2].iter().enumerate() {
            cache.insert(&sha256(bytes), bytes);
            set_age(bytes, number as u64);
        }
        // The older one is used, so the other one is removed.
        assert!(cache.get(&sha256(blobs[0]), 4).is_some());
        cache.insert(&sha256(blobs[2]), blobs[2]);
        cache.insert(&sha256(blobs[2]), blobs[2]);
        let is_there = |bytes: &[u8]| cache.path(&sha256(bytes)).unwrap().exists();
        assert_eq!(blobs.map(is_there), [true, false, true]);
    }

    #[test]
    fn a_cache_that_cannot_be_written_stores_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let cache = BlobCache::new(folder.path().join("file"));
        cache.insert(&sha256(b"content"), b"content");
        assert_eq!(cache.get(&sha256(b"content"), 100), None);
    }
}
