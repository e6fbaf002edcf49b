//! The cache of compiled code: a folder of sealed files. `compiling` adds code to it.
//!
//! The file is long because a third of it is tests, one for each way to tamper with a file of code.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use wasmtime::component::Component;

use super::key::Key;
use super::loaded::{Code, LoadedCode};
use super::seal::{SealKey, SealedFile, new_file, temporary_path};
use crate::engine::Engine;

/// The maximum length in bytes of the note that is stored next to an entry's code.
const NOTE_BYTES_MAX: u64 = 64 << 20;

/// The maximum length in bytes of code that is read into memory.
const CODE_BYTES_MAX: u64 = 1 << 30;

/// The minimum time between two updates of a file's modification time, which records the file's last use. Updating it
/// at every use would cost a disk write each time.
const USE_NOTED_EVERY: Duration = Duration::from_secs(600);

/// The maximum number of files that are remembered as verified. When it is exceeded, the list is cleared, and each file
/// is verified again at its next use.
const VERIFIED_MAX: usize = 16_384;

/// The reasons why code cannot be loaded or compiled.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// The cache's folder cannot be created, or other users may write to it.
    #[error("cannot use `{}` for compiled code", path.display())]
    Folder {
        /// The path of the folder.
        path: PathBuf,
        /// Why the folder cannot be used.
        source: io::Error,
    },
    /// The component is not valid, or the compiler failed.
    #[error("cannot compile the component")]
    Compile {
        /// The error that wasmtime returned.
        source: wasmtime::Error,
    },
    /// The code is missing, and this program does not compile code.
    #[error("the code was not shipped, and this program does not compile code")]
    NoCompiler,
    /// Code of a shipped app cannot be read, or was changed.
    #[error("cannot read the app's compiled code")]
    Shipped {
        /// Why the code cannot be read.
        source: io::Error,
    },
    /// The system gives no memory for code of a shipped app, or memory that cannot be sealed.
    #[error("cannot create memory for the app's compiled code")]
    Memory {
        /// The system's error.
        source: io::Error,
    },
    /// Code of a shipped app was made for another machine.
    #[error("the app's compiled code does not run on this machine")]
    Incompatible {
        /// The error that wasmtime returned.
        source: wasmtime::Error,
    },
}

/// A folder of compiled code: either a cache, or the code of deployed apps.
#[derive(Debug, Clone)]
pub struct CodeCache {
    pub(super) folder: PathBuf,
    /// Whether the folder holds the code of deployed apps. If so, only [`CodeCache::sweep`] removes unused files from
    /// it. In any other folder, compiling code also removes unused files, and missing code is compiled again.
    pub(super) is_kept: bool,
    key: SealKey,
    verified: Arc<Mutex<HashMap<Key, FileStamp>>>,
    pub(super) loaded: Arc<LoadedCode>,
}

/// The identity and the change time (ctime) of a file when it was verified. Every change of the file's content updates
/// its change time, and no program can set a change time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl CodeCache {
    /// Opens `folder`, and the key file next to it. Creates the folder, for this user only, if it does not exist.
    ///
    /// # Errors
    /// If the folder cannot be created, or if another user owns it or may write to it. Such a user could change the
    /// code that this process runs.
    pub fn open(folder: &Path) -> Result<Self, CodeError> {
        let failed = |source| CodeError::Folder { path: folder.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let metadata = fs::metadata(folder).map_err(failed)?;
        let mine = fs::metadata("/proc/self").map(|me| me.uid()).unwrap_or(metadata.uid());
        if metadata.uid() != mine || metadata.mode() & 0o022 != 0 {
            let reason =
                "the folder must belong to the user of this program, and no other user may write to it (chmod go-w)";
            return Err(failed(io::Error::new(io::ErrorKind::PermissionDenied, reason)));
        }
        let key = SealKey::open(&key_of(folder)).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), is_kept: false, key, verified: Arc::default(), loaded: Arc::default() })
    }

    /// Opens `folder` like [`CodeCache::open`], but only [`CodeCache::sweep`] removes unused code from the folder.
    ///
    /// # Errors
    /// The errors of [`CodeCache::open`].
    pub fn open_kept(folder: &Path) -> Result<Self, CodeError> {
        Ok(Self { is_kept: true, ..Self::open(folder)? })
    }

    /// Returns whether code exists under `key` and is unchanged since it was written. Records the use of unchanged
    /// code, and removes changed code. Reads the whole file unless the file is already verified.
    pub fn has(&self, key: &Key) -> bool {
        self.open_verified(key).is_some()
    }

    /// Removes entries that are not among `needed` (by [`Key::as_str`]) and have not been used for `unused_max`. Also
    /// removes files that writers left unfinished. Returns the number of removed files.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn sweep(&self, needed: &HashSet<String>, now: SystemTime, unused_max: Duration) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else { continue };
            let name = entry.file_name();
            let is_needed =
                name.to_str().and_then(|name| name.split('.').next()).is_some_and(|key| needed.contains(key));
            let is_unused = now.duration_since(metadata.modified()?).is_ok_and(|unused| unused >= unused_max);
            if metadata.is_file() && !is_needed && is_unused && fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Returns the note that is stored under `key`. Cheaper than [`CodeCache::load`], because it needs no engine with a
    /// pool.
    pub fn note(&self, key: &Key) -> Option<Vec<u8>> {
        let path = self.path(key, "note");
        let file = File::open(&path).ok()?;
        note_use(&file);
        match self.key.read(file, &self.name(key, "note"), NOTE_BYTES_MAX) {
            Ok(Some(note)) => Some(note),
            Ok(None) => {
                self.refuse(&path);
                None
            }
            Err(error) => {
                isomer_telemetry::warn!(path = %path.display(), %error, "cannot read a note of compiled code");
                None
            }
        }
    }

    /// Maps the code that is stored under `key`. Returns `None` if the code must be compiled again, because it does not
    /// exist, was changed, or is refused by wasmtime (for example because another version of wasmtime compiled it).
    pub fn load(&self, engine: &Engine, key: &Key) -> Option<Code> {
        if let Some(code) = self.loaded.get(engine, key) {
            return Some(code);
        }
        let file = self.open_verified(key)?;
        // The path of the open descriptor refers to the verified file, even if another file now has this file's name.
        let verified = format!("/proc/self/fd/{}", file.as_raw_fd());
        #[expect(unsafe_code, reason = "compiled code is run as it is")]
        // SAFETY: `deserialize_file` must be given only bytes that `Component::serialize` or
        // `Engine::precompile_component` returned. The seal proves that a holder of the folder's key wrote these bytes,
        // and a holder of the key writes only such bytes. The bytes do not change while they are mapped: the folder
        // belongs to this user and no other user can write to it (checked in `open`), and its files are written under a
        // temporary name, read-only from the beginning, and never opened for writing again. wasmtime itself checks that
        // the code was compiled by the same version with the same settings.
        let component = unsafe { Component::deserialize_file(engine.wasmtime(), &verified) };
        let path = self.path(key, "code");
        let component = component
            .inspect_err(|error| {
                isomer_telemetry::debug!(path = %path.display(), %error, "cannot load compiled code");
                // Code of another wasmtime version is removed, so that it is compiled again. Code that could not be
                // read is not removed, because it may be intact.
                if error.downcast_ref::<io::Error>().is_none() {
                    let _ = fs::remove_file(&path);
                }
            })
            .ok()?;
        Some(self.loaded.add(engine, key, component.into()))
    }

    /// Returns the code that is stored under `key` as bytes, if it is unchanged since it was written.
    pub fn read_code(&self, key: &Key) -> Option<Vec<u8>> {
        let file = self.open_verified(key)?;
        self.key.read(file, &self.name(key, "code"), CODE_BYTES_MAX).ok()?
    }

    /// Opens the code that is stored under `key`, if it is unchanged since it was written.
    fn open_verified(&self, key: &Key) -> Option<File> {
        let path = self.path(key, "code");
        let file = File::open(&path).ok()?;
        note_use(&file);
        match self.verify(key, &file) {
            Ok(true) => Some(file),
            Ok(false) => {
                self.refuse(&path);
                None
            }
            Err(error) => {
                isomer_telemetry::warn!(path = %path.display(), %error, "cannot read compiled code");
                None
            }
        }
    }

    fn verify(&self, key: &Key, file: &File) -> io::Result<bool> {
        let stamp = FileStamp::of(file)?;
        if self.verified().get(key) == Some(&stamp) {
            return Ok(true);
        }
        if !self.key.verify(file, &self.name(key, "code"))? {
            return Ok(false);
        }
        // The file was touched while it was read, for example by another process that records a use. The content that
        // was read is valid, but the file is verified again at its next use.
        if FileStamp::of(file)? != stamp {
            return Ok(true);
        }
        let mut verified = self.verified();
        if verified.len() >= VERIFIED_MAX {
            verified.clear();
        }
        verified.insert(key.clone(), stamp);
        Ok(true)
    }

    fn verified(&self) -> MutexGuard<'_, HashMap<Key, FileStamp>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a file that was changed after it was written, and logs the removal.
    fn refuse(&self, path: &Path) {
        isomer_telemetry::warn!(path = %path.display(), "compiled code was changed by another program, or is sealed with another key; removing the file and compiling again");
        let _ = fs::remove_file(path);
    }

    /// Creates a file for the code of `key`, into which another process writes the code that it compiles. Readers do
    /// not see the file before [`CodeCache::finish`].
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn write_code(&self, key: &Key) -> io::Result<SealedFile> {
        self.key.write(&self.path(key, "code"))
    }

    /// Seals the written code and gives the file its final name. Blocks.
    ///
    /// # Errors
    /// If writing to the disk fails.
    pub fn finish(&self, code: SealedFile) -> io::Result<()> {
        code.finish(self.is_kept)
    }

    /// Creates an unnamed temporary file on the folder's disk, for data that is too large for memory.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn scratch(&self) -> io::Result<File> {
        let path = temporary_path(&self.folder.join("scratch"));
        let file = new_file(&path, 0o600)?;
        fs::remove_file(&path)?;
        Ok(file)
    }

    /// Stores a note under a key that has no code.
    ///
    /// # Errors
    /// If writing to the disk fails.
    pub fn write_note(&self, key: &Key, note: &[u8]) -> io::Result<()> {
        self.write(key, "note", note)
    }

    fn name(&self, key: &Key, kind: &str) -> String {
        format!("{}.{kind}", key.as_str())
    }

    fn path(&self, key: &Key, kind: &str) -> PathBuf {
        self.folder.join(self.name(key, kind))
    }

    /// Writes a file under a temporary name and renames it, so that readers see the whole file or no file.
    pub(super) fn write(&self, key: &Key, kind: &str, bytes: &[u8]) -> io::Result<()> {
        let mut sealing = self.key.write(&self.path(key, kind))?;
        sealing.write_all(bytes)?;
        sealing.finish(self.is_kept)
    }
}

impl FileStamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Returns the path of the key file of `folder`. The key is outside of the folder, so that write access to the folder
/// does not give access to the key.
fn key_of(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".key");
    folder.with_file_name(name)
}

/// Records a use of `file` in its modification time, which has no other purpose: the file's content never changes.
fn note_use(file: &File) {
    let now = SystemTime::now();
    let noted = file.metadata().and_then(|metadata| metadata.modified());
    if noted.is_ok_and(|noted| now.duration_since(noted).is_ok_and(|since| since < USE_NOTED_EVERY)) {
        return;
    }
    // An error is ignored: the only consequence is that the file may be removed earlier.
    let _ = file.set_modified(now);
}

#[cfg(test)]
#[cfg(feature = "compiler")]
mod tests {
    use super::*;
    use crate::code::precompile;

    #[test]
    fn unused_code_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("code");
        let cache = CodeCache::open(&folder).unwrap();
        let now = SystemTime::now();
        for (name, days) in [("a", 0), ("b", 1), ("c", 2), ("d", 31)] {
            fs::write(folder.join(name), [0; 10]).unwrap();
            let file = fs::File::open(folder.join(name)).unwrap();
            file.set_modified(now - Duration::from_secs(days * 24 * 3600)).unwrap();
        }
        let left = |bytes_max| {
            cache.remove_unused(now, bytes_max).unwrap();
            let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names = names.collect::<Vec<_>>();
            names.sort();
            names
        };
        assert_eq!(left(1000), ["a", "b", "c"]);
        assert_eq!(left(20), ["a", "b"]);
    }

    #[test]
    fn kept_code_is_removed_only_when_it_is_not_needed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("code");
        let cache = CodeCache::open_kept(&folder).unwrap();
        let now = SystemTime::now();
        let (needed, unneeded, new) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
        let named = |key: &String| Key::try_from(key.clone()).unwrap();
        for (key, days) in [(&needed, 90), (&unneeded, 90), (&new, 0)] {
            for kind in ["code", "note"] {
                cache.write(&named(key), kind, b"code").unwrap();
                let file = File::open(folder.join(format!("{key}.{kind}"))).unwrap();
                file.set_modified(now - Duration::from_secs(days * 24 * 3600)).unwrap();
            }
        }
        let hour = Duration::from_secs(3600);
        assert_eq!(cache.sweep(&HashSet::from([needed.clone()]), now, hour).unwrap(), 2);
        let has = |key: &String| cache.has(&named(key));
        assert!(has(&needed) && has(&new) && !has(&unneeded));
        assert!(Key::try_from("../".repeat(21) + "a").is_err(), "a path is accepted as a key");
    }

    /// Returns a cache that has compiled code under two keys.
    fn two_compiled(folder: &Path) -> (Engine, CodeCache, [Key; 2]) {
        let engine = Engine::on_demand().unwrap();
        let cache = CodeCache::open(folder).unwrap();
        let keys = ["(component)", "(component (core module))"].map(|text| {
            let bytes = wat::parse_str(text).unwrap();
            let key = Key::new(&engine, [bytes.as_slice()]);
            drop(cache.compile(&engine, &key, &bytes, text.as_bytes()).unwrap());
            key
        });
        (engine, cache, keys)
    }

    /// Replaces the file at `path` with a new file that contains `bytes`.
    fn replace(path: &Path, bytes: &[u8]) {
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn changed_code_is_not_loaded_but_removed() {
        type Change = fn(&Path, &Path);
        let changes: [(&str, Change); 5] = [
            ("a flipped bit", |path, _| {
                let mut bytes = fs::read(path).unwrap();
                let half = bytes.len() / 2;
                bytes[half] ^= 4;
                replace(path, &bytes);
            }),
            ("another valid file", |path, other| replace(path, &fs::read(other).unwrap())),
            ("cut short", |path, _| {
                let bytes = fs::read(path).unwrap();
                replace(path, &bytes[..bytes.len() - 1]);
            }),
            ("without a seal", |path, _| {
                let bytes = fs::read(path).unwrap();
                replace(path, &bytes[..bytes.len() - 40]);
            }),
            ("changed in place", |path, _| {
                // Another program of the same user can change the file despite its read-only mode.
                fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, b"x", 100).unwrap();
            }),
        ];
        for (what, change) in changes {
            let parent = tempfile::tempdir().unwrap();
            let (engine, cache, [one, two]) = two_compiled(&parent.path().join("code"));
            assert!(cache.load(&engine, &one).is_some() && cache.has(&two), "{what}: unchanged code is not loaded");
            let path = cache.path(&one, "code");
            change(&path, &cache.path(&two, "code"));
            assert!(cache.load(&engine, &one).is_none(), "{what}");
            assert!(!path.exists(), "{what}: the changed file is not removed");
            assert!(cache.load(&engine, &two).is_some(), "{what}: the code of the other key is not loaded any more");
        }
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("code");
        let (engine, cache, [one, two]) = two_compiled(&folder);
        assert_eq!(cache.note(&one).unwrap(), b"(component)");
        let note = fs::read(cache.path(&one, "note")).unwrap();
        replace(&cache.path(&two, "note"), &note);
        assert!(cache.note(&two).is_none(), "the seal of a note does not cover its name");
        fs::remove_file(key_of(&folder)).unwrap();
        let cache = CodeCache::open(&folder).unwrap();
        assert!(
            cache.load(&engine, &one).is_none() && cache.note(&one).is_none(),
            "files that are sealed with another key are loaded"
        );
    }

    #[test]
    fn code_that_was_compiled_elsewhere_is_loaded() {
        let parent = tempfile::tempdir().unwrap();
        let engine = Engine::on_demand().unwrap();
        let cache = CodeCache::open_kept(&parent.path().join("code")).unwrap();
        let bytes = wat::parse_str("(component (core module))").unwrap();
        let key = Key::new(&engine, [bytes.as_slice()]);
        let mut code = cache.write_code(&key).unwrap();
        code.write_all(&precompile(&engine, &bytes).unwrap()).unwrap();
        assert!(!cache.has(&key));
        cache.finish(code).unwrap();
        assert!(cache.has(&key) && cache.load(&engine, &key).is_some());
    }
}
