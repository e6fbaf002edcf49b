//! Files named by their digest: `FOLDER/ab/abcdef…`.
//!
//! A blob is written to a temporary file while its digest is computed. The file is then synced, and renamed only if the
//! computed digest equals the announced one. So a file whose name is a digest is complete and correct.
//!
//! The files of a release are hard links to blobs. Each query for a blob marks the blob as used. A blob without
//! references is removed only some time after its last use, so that it is not removed between its upload and the
//! deployment that needs it.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use isomer_ids::Digest;
use sha2::{Digest as _, Sha256};

/// The maximum size of a blob, in bytes.
pub const BLOB_BYTES_MAX: u64 = 256 << 20;

/// The number of the next temporary file of this process, so that temporary names are unique.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// The reason why a blob cannot be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The digest of the uploaded bytes differs from the announced digest.
    #[error("the uploaded bytes have the digest `{found}`, not the announced digest `{said}`")]
    Digest {
        /// The digest that the client announced.
        said: Digest,
        /// The digest of the uploaded bytes.
        found: Digest,
    },
    /// The upload is larger than [`BLOB_BYTES_MAX`].
    #[error("the part is larger than the maximum of {}", isomer_display::size(.bytes_max))]
    TooLarge {
        /// The maximum size of a blob, in bytes.
        bytes_max: u64,
    },
    /// An operation on the file system failed.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The path of the file or folder.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| BlobError::Io { path, source }
}

/// A folder that stores blobs.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    /// Opens the folder, and creates it if it does not exist. Removes the temporary files of unfinished uploads of an
    /// earlier process.
    ///
    /// # Errors
    /// If the folder cannot be created or read, or a temporary file cannot be removed.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        let blobs = Self { folder: folder.to_owned() };
        let unfinished = blobs.unfinished();
        make_private(&unfinished).map_err(failed(&unfinished))?;
        for entry in fs::read_dir(&unfinished).map_err(failed(&unfinished))? {
            let path = entry.map_err(failed(&unfinished))?.path();
            fs::remove_file(&path).map_err(failed(&path))?;
        }
        Ok(blobs)
    }

    /// Returns the path of the blob with the digest `digest`, whether or not the blob exists.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(&digest.as_str()[..2]).join(digest.as_str())
    }

    /// Returns whether a blob with this digest and size exists. Marks the blob as used if it exists.
    ///
    /// # Errors
    /// If the file system fails.
    pub fn has(&self, digest: &Digest, bytes: u64) -> Result<bool, BlobError> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => {
                let metadata = file.metadata().map_err(failed(&path))?;
                file.set_modified(SystemTime::now()).map_err(failed(&path))?;
                Ok(metadata.len() == bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(&path)(error)),
        }
    }

    /// Returns the size of the blob in bytes; 0 if the blob does not exist.
    ///
    /// # Errors
    /// If the file system fails.
    pub fn bytes(&self, digest: &Digest) -> Result<u64, BlobError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(failed(&path)(error)),
        }
    }

    /// Replaces the blob's file with a synced copy that has no other hard links. Used when the file system allows no
    /// more hard links to the file.
    ///
    /// # Errors
    /// If the file system fails.
    pub fn renew(&self, digest: &Digest) -> io::Result<()> {
        let (goal, number) = (self.path(digest), WRITES.fetch_add(1, Ordering::Relaxed));
        let temporary = self.unfinished().join(format!("{digest}.{number}"));
        let renewed = fs::copy(&goal, &temporary)
            .and_then(|_| File::open(&temporary)?.sync_all())
            .and_then(|()| fs::rename(&temporary, &goal));
        renewed.inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        sync_folder(goal.parent().expect("a blob lies in a folder"))
    }

    /// Starts the upload of a blob that is announced with this digest.
    ///
    /// # Errors
    /// If the temporary file cannot be created.
    pub fn upload(&self, digest: &Digest) -> Result<Upload, BlobError> {
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let temporary = self.unfinished().join(format!("{digest}.{number}"));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&temporary).map_err(failed(&temporary))?;
        let goal = self.path(digest);
        Ok(Upload { digest: digest.clone(), goal, temporary, file, hasher: Sha256::new(), written: 0 })
    }

    /// Removes the blobs that are not in `referenced` and were last used at least `unused_max` before `now`. Returns
    /// the number of removed blobs.
    ///
    /// # Errors
    /// If a folder cannot be read or a blob cannot be removed. The remaining blobs are then not checked.
    pub fn sweep(
        &self,
        referenced: &HashSet<Digest>,
        now: SystemTime,
        unused_max: Duration,
    ) -> Result<usize, BlobError> {
        let mut removed = 0;
        for folder in fs::read_dir(&self.folder).map_err(failed(&self.folder))? {
            let folder = folder.map_err(failed(&self.folder))?.path();
            if folder == self.unfinished() {
                continue;
            }
            for entry in fs::read_dir(&folder).map_err(failed(&folder))? {
                let entry = entry.map_err(failed(&folder))?;
                let name = entry.file_name();
                let Some(Ok(digest)) = name.to_str().map(str::parse::<Digest>) else { continue };
                if referenced.contains(&digest) || !is_unused(&entry, now, unused_max) {
                    continue;
                }
                fs::remove_file(entry.path()).map_err(failed(&entry.path()))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn unfinished(&self) -> PathBuf {
        self.folder.join("unfinished")
    }
}

fn is_unused(entry: &fs::DirEntry, now: SystemTime, unused_max: Duration) -> bool {
    let used = entry.metadata().and_then(|metadata| metadata.modified());
    used.is_ok_and(|used| now.duration_since(used).is_ok_and(|unused| unused >= unused_max))
}

/// An upload of a blob. If the upload is dropped before [`Upload::finish`], the bytes are discarded.
#[derive(Debug)]
pub struct Upload {
    digest: Digest,
    goal: PathBuf,
    temporary: PathBuf,
    file: File,
    hasher: Sha256,
    written: u64,
}

impl Upload {
    /// Appends bytes to the upload.
    ///
    /// # Errors
    /// If the upload becomes larger than [`BLOB_BYTES_MAX`], or the file system fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.written += bytes.len() as u64;
        if self.written > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge { bytes_max: BLOB_BYTES_MAX });
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(failed(&self.temporary))
    }

    /// Finishes the upload: stores the blob if its bytes have the announced digest.
    ///
    /// # Errors
    /// If the bytes have a different digest, or the file system fails.
    pub fn finish(mut self) -> Result<(), BlobError> {
        let found = Digest::from(<[u8; 32]>::from(std::mem::take(&mut self.hasher).finalize()));
        if found != self.digest {
            return Err(BlobError::Digest { said: self.digest.clone(), found });
        }
        let goal = &self.goal;
        if is_linked(goal, &self.digest, self.written).map_err(failed(goal))? {
            // Keeps the existing file, because releases link to it: a second file would occupy the space twice.
            return mark_used(goal).map_err(failed(goal));
        }
        self.file.sync_all().map_err(failed(&self.temporary))?;
        let folder = self.goal.parent().expect("a blob lies in a folder");
        if !folder.is_dir() {
            make_private(folder).map_err(failed(folder))?;
            let above = folder.parent().expect("in the folder of all");
            // Removes the folder if its directory entry cannot be synced, because the next upload would assume that the
            // directory entry of an existing folder has been synced.
            sync_folder(above).inspect_err(|_| drop(fs::remove_dir(folder))).map_err(failed(above))?;
        }
        let was_there = self.goal.exists();
        fs::rename(&self.temporary, &self.goal).map_err(failed(&self.goal))?;
        let synced = sync_folder(folder);
        if synced.is_err() && !was_there {
            // Removes the new blob if its directory entry cannot be synced, because later uploads treat an existing
            // blob as durable. A blob that existed before this upload is kept: it may be in use, and has the same
            // bytes.
            let _ = fs::remove_file(&self.goal);
        }
        synced.map_err(failed(folder))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // After a finished upload, this removal fails, because the temporary file was renamed.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Returns whether the blob exists, has the expected size and digest, and has other hard links, which are the files of
/// releases.
fn is_linked(path: &Path, digest: &Digest, bytes: u64) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if metadata.nlink() < 2 || metadata.len() != bytes {
        return Ok(false);
    }
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => hasher.update(&piece[..read]),
        }
    }
    Ok(Digest::from(<[u8; 32]>::from(hasher.finalize())) == *digest)
}

fn mark_used(path: &Path) -> io::Result<()> {
    File::open(path)?.set_modified(SystemTime::now())
}

/// Syncs a folder. Without this sync, the directory entry of a synced file may be lost in a crash.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
