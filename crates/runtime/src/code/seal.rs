//! Seals of files. A seal is a keyed digest (HMAC-SHA256) at the end of a file. It proves that a program that has the
//! key wrote the file under its current name.
//!
//! The key is random, is stored next to the sealed folder with mode 0600, and is created when it is first needed. A
//! seal covers the file's name, so that one valid file cannot replace another valid file. A file is verified through
//! the descriptor that is used afterwards, never by its path.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ring::hmac::{Context, HMAC_SHA256, Key};
use subtle::ConstantTimeEq as _;

/// The length of a key, in bytes.
const KEY_BYTES: usize = 32;

/// The last bytes of every sealed file. They include the version of the format, so that a file of another version is
/// not mistaken for a damaged file.
const MAGIC: &[u8; 8] = b"isoseal1";

/// The length of a digest, in bytes.
const DIGEST_BYTES: usize = 32;

/// The number of bytes that a seal adds to a file: the digest, then [`MAGIC`].
pub(crate) const SEAL_BYTES: u64 = (DIGEST_BYTES + MAGIC.len()) as u64;

/// The number of bytes of a file that are read and digested in one step.
const CHUNK_BYTES: usize = 128 << 10;

/// The number that the next temporary file name of this process contains.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// The key of a folder's seals. Cheap to clone. Its `Debug` output does not show the key.
#[derive(Clone)]
pub(crate) struct SealKey(Key);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey")
    }
}

impl SealKey {
    /// Reads the key from `path`, or creates the key file if it does not exist. A key that is damaged, or that other
    /// users may read or write, is replaced. All files that were sealed with the replaced key become invalid.
    ///
    /// # Errors
    /// If the key file cannot be read or created.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match read_key(path) {
            Ok(Some(key)) => return Ok(Self::new(&key)),
            Ok(None) => {
                isomer_telemetry::warn!(path = %path.display(), "the key of compiled code is damaged or not private; replacing the key");
                fs::remove_file(path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let temporary = temporary_path(path);
        let made = make_key(&temporary).and_then(|()| match isomer_disk::rename_new(&temporary, path) {
            // Another process has just created the key file. This process uses the key in that file.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            named => named,
        });
        let _ = fs::remove_file(&temporary);
        made?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the key of compiled code is damaged");
        Ok(Self::new(&read_key(path)?.ok_or_else(damaged)?))
    }

    fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(Key::new(HMAC_SHA256, key))
    }

    /// Returns a new digest that already includes `name`.
    fn digest(&self, name: &str) -> Context {
        let mut mac = Context::with_key(&self.0);
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name.as_bytes());
        mac
    }

    /// Returns whether `file` was sealed under `name` with this key. Reads the whole file from the beginning, whatever
    /// the position of its cursor.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn verify(&self, file: &File, name: &str) -> io::Result<bool> {
        let Some(content) = file.metadata()?.len().checked_sub(SEAL_BYTES) else { return Ok(false) };
        let mut mac = self.digest(name);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < content {
            let wanted = usize::try_from(content - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            match file.read_at(&mut chunk[..wanted], at)? {
                // The file was truncated while it was read.
                0 => return Ok(false),
                read => {
                    mac.update(&chunk[..read]);
                    at += read as u64;
                }
            }
        }
        let mut seal = [0; DIGEST_BYTES + MAGIC.len()];
        file.read_exact_at(&mut seal, content)?;
        let (digest, magic) = seal.split_at(DIGEST_BYTES);
        Ok(magic == MAGIC && is_same(mac, digest))
    }

    /// Returns the content of a small file that was sealed under `name`. Returns `None` if the seal is not valid, or if
    /// the content is longer than `bytes_max` bytes.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn read(&self, file: File, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        file.take(bytes_max.saturating_add(SEAL_BYTES)).read_to_end(&mut bytes)?;
        let Some((rest, magic)) = bytes.split_last_chunk::<{ MAGIC.len() }>() else { return Ok(None) };
        let Some((content, digest)) = rest.split_last_chunk::<DIGEST_BYTES>() else { return Ok(None) };
        let mut mac = self.digest(name);
        mac.update(content);
        let is_sealed = magic == MAGIC && is_same(mac, digest);
        Ok(is_sealed.then(|| content.to_vec()))
    }

    /// Creates a temporary file that becomes the file at `path` when [`SealedFile::finish`] is called.
    ///
    /// # Errors
    /// If the temporary file cannot be created next to `path`.
    pub(crate) fn write(&self, path: &Path) -> io::Result<SealedFile> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let temporary = temporary_path(path);
        let file = new_file(&temporary, 0o400)?;
        Ok(SealedFile {
            mac: self.digest(name),
            file,
            unfinished: TemporaryName(Some(temporary)),
            path: path.to_owned(),
        })
    }
}

/// A file that is being written under a temporary name, to be sealed. Dropping this value removes the file.
#[derive(Debug)]
pub struct SealedFile {
    mac: Context,
    file: File,
    unfinished: TemporaryName,
    path: PathBuf,
}

impl Write for SealedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.mac.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl SealedFile {
    /// Appends the seal to the file, then renames the file to its final name, which is atomic. Blocks.
    pub(crate) fn finish(mut self, is_synced: bool) -> io::Result<()> {
        self.file.write_all(self.mac.clone().sign().as_ref())?;
        self.file.write_all(MAGIC)?;
        if is_synced {
            self.file.sync_all()?;
        }
        let temporary = self.unfinished.0.take().expect("a file is finished only once");
        if let Err(error) = fs::rename(&temporary, &self.path) {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        match self.path.parent() {
            Some(folder) if is_synced => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    }
}

/// Compares the digests in constant time.
fn is_same(mac: Context, digest: &[u8]) -> bool {
    mac.sign().as_ref().ct_eq(digest).into()
}

/// The path of a temporary file, which is removed when this value is dropped. `None` if there is no file to remove.
#[derive(Debug)]
struct TemporaryName(Option<PathBuf>);

impl Drop for TemporaryName {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// Creates a file with the permission bits `mode`. The returned handle allows reading and writing even if `mode` does
/// not.
pub(crate) fn new_file(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
}

/// Returns a temporary path for a file, next to `path`. Every call returns a different path, so that two writers of the
/// same file do not write into each other's temporary file.
pub(crate) fn temporary_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}-{number}", std::process::id()))
}

fn make_key(path: &Path) -> io::Result<()> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let mut file = new_file(path, 0o600)?;
    // Sets the mode again, because the process's umask may have changed it.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(&key)?;
    file.sync_all()
}

/// Reads the key from `path`. Returns `None` if the key is damaged, or if other users may read or write the file.
fn read_key(path: &Path) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.mode() & 0o077 != 0 || metadata.len() != KEY_BYTES as u64 {
        return Ok(None);
    }
    let mut key = [0; KEY_BYTES];
    file.read_exact(&mut key)?;
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(key: &SealKey, path: &Path, content: &[u8]) {
        let mut sealing = key.write(path).unwrap();
        sealing.write_all(content).unwrap();
        sealing.finish(false).unwrap();
    }

    #[test]
    fn only_files_sealed_under_their_name_with_the_key_are_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let key = SealKey::open(&folder.path().join("key")).unwrap();
        let (path, other) = (folder.path().join("a.code"), folder.path().join("b.code"));
        let content = (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>();
        sealed(&key, &path, &content);
        let verify = |key: &SealKey, path: &Path, name: &str| {
            let whole = key.read(File::open(path).unwrap(), name, 1 << 30).unwrap();
            let verified = key.verify(&File::open(path).unwrap(), name).unwrap();
            assert_eq!(verified, whole.is_some());
            assert!(whole.is_none_or(|whole| whole == content));
            verified
        };
        assert!(verify(&key, &path, "a.code"));
        assert!(!verify(&key, &path, "b.code"), "a seal is valid under another name");
        let again = SealKey::open(&folder.path().join("key")).unwrap();
        assert!(verify(&again, &path, "a.code"), "the stored key is not used again");
        let strange = SealKey::open(&folder.path().join("other-key")).unwrap();
        assert!(!verify(&strange, &path, "a.code"), "a seal is valid with another key");
        let bytes = fs::read(&path).unwrap();
        for at in
            [0, 1, 128 << 10, bytes.len() - 41, bytes.len() - 40, bytes.len() - 9, bytes.len() - 8, bytes.len() - 1]
        {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            fs::write(&other, flipped).unwrap();
            assert!(!verify(&key, &other, "a.code"), "the seal is valid after a bit was flipped at {at}");
        }
        for length in [0, 1, 39, 40, bytes.len() - 1] {
            fs::write(&other, &bytes[..length]).unwrap();
            assert!(!verify(&key, &other, "a.code"), "the seal is valid after the file was cut to {length} bytes");
        }
        assert!(
            key.read(File::open(&path).unwrap(), "a.code", 1000).unwrap().is_none(),
            "content over the limit is returned"
        );
        let mut entries =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        entries.sort();
        assert_eq!(entries, ["a.code", "b.code", "key", "other-key"], "a temporary file is left");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o400);
    }

    #[test]
    fn a_key_that_others_may_read_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        SealKey::open(&path).unwrap();
        let first = fs::read(&path).unwrap();
        assert_eq!((first.len(), fs::metadata(&path).unwrap().mode() & 0o777), (32, 0o600));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        SealKey::open(&path).unwrap();
        assert_ne!(fs::read(&path).unwrap(), first);
        fs::write(&path, "short").unwrap();
        SealKey::open(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), 32);
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let key = SealKey::open(&folder.path().join("key")).unwrap();
        let mut sealing = key.write(&folder.path().join("a.code")).unwrap();
        sealing.write_all(b"half").unwrap();
        drop(sealing);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
