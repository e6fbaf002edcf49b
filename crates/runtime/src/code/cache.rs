//! The folder of compiled code: its files, their seals, and when they are removed.
//!
//! long because a third of it are tests: what others may do to a file of code is tried one by one.

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
use super::seal::{SealKey, Sealing, new_file, unfinished_beside};
use crate::engine::Engine;

/// What all files of a folder may have together.
const BYTES_MAX: u64 = 2 << 30;

/// How long a file is kept that nobody uses.
const UNUSED_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The most bytes of a note.
const NOTE_BYTES_MAX: u64 = 64 << 20;

/// How much older than its last use a file's time of modification may be: noting every use would cost a write each.
const USE_NOTED_EVERY: Duration = Duration::from_secs(600);

/// Files that are known to be right. Above that all are forgotten, and verified again when they are used.
const VERIFIED_MAX: usize = 16_384;

/// Why code is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// The cache's folder cannot be made, or others may write to it.
    #[error("cannot use `{}` for compiled code", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The component is not valid, or the compiler gave up.
    #[error("cannot compile the component")]
    Compile {
        /// What wasmtime said.
        source: wasmtime::Error,
    },
}

/// Compiles `component`, and gives the code as bytes: nothing of it is mapped in this process.
///
/// # Errors
/// When it does not compile.
pub fn precompile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, CodeError> {
    engine.wasmtime().precompile_component(component).map_err(|source| CodeError::Compile { source })
}

/// A folder of compiled code.
#[derive(Debug, Clone)]
pub struct CodeCache {
    folder: PathBuf,
    /// Is it needed by what was deployed? Else it can be made again at any time.
    is_kept: bool,
    key: SealKey,
    verified: Arc<Mutex<HashMap<Key, Stamp>>>,
    loaded: Arc<LoadedCode>,
}

/// What a file was when it was verified: whatever changes its content changes its change time, which nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl CodeCache {
    /// Opens `folder`, making it (for this user alone) if it is not there, and the key that lies beside it.
    ///
    /// # Errors
    /// When it cannot be made, or someone else owns it or may write to it: code is run from there.
    pub fn open(folder: &Path) -> Result<Self, CodeError> {
        let failed = |source| CodeError::Folder { path: folder.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let metadata = fs::metadata(folder).map_err(failed)?;
        let mine = fs::metadata("/proc/self").map(|me| me.uid()).unwrap_or(metadata.uid());
        if metadata.uid() != mine || metadata.mode() & 0o022 != 0 {
            let reason = "it must belong to the user who runs this, and nobody else may write to it (chmod go-w)";
            return Err(failed(io::Error::new(io::ErrorKind::PermissionDenied, reason)));
        }
        let key = SealKey::open(&key_of(folder)).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), is_kept: false, key, verified: Arc::default(), loaded: Arc::default() })
    }

    /// Opens `folder` as [`CodeCache::open`] does, for code that stays until [`CodeCache::sweep`] is told that nobody needs it.
    ///
    /// # Errors
    /// As [`CodeCache::open`].
    pub fn open_kept(folder: &Path) -> Result<Self, CodeError> {
        Ok(Self { is_kept: true, ..Self::open(folder)? })
    }

    /// Is the entry's code there, as it was written? If so, it is marked as used; if it was changed, it is removed. Reads all of a file
    /// that it does not know yet.
    pub fn has(&self, key: &Key) -> bool {
        self.open_verified(key).is_some()
    }

    /// Removes entries that are not among `needed` (by [`Key::as_str`]) and were used last before `unused_max`, and what writers that
    /// are gone have left. Returns how many files.
    ///
    /// # Errors
    /// When the folder cannot be read.
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

    /// The entry's note alone: cheap, needs no engine with a pool.
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
                isomer_telemetry::warn!(path = %path.display(), %error, "a note of compiled code cannot be read");
                None
            }
        }
    }

    /// The entry's code, mapped. `None` if it is not there, was changed, or wasmtime refuses it (another version): compile again.
    pub fn load(&self, engine: &Engine, key: &Key) -> Option<Code> {
        if let Some(code) = self.loaded.get(engine, key) {
            return Some(code);
        }
        let file = self.open_verified(key)?;
        // The file that was verified, whatever lies under its name by now.
        let verified = format!("/proc/self/fd/{}", file.as_raw_fd());
        #[expect(unsafe_code, reason = "compiled code is run as it is")]
        // SAFETY: `deserialize_file` must be given only what `Component::serialize` or `Engine::precompile_component` made. The seal proves
        // that these bytes were written by a holder of the folder's key, which only writes those. Nobody changes them while they are mapped: the
        // folder belongs to this user and nobody else can write to it (checked in `open`), and its files are written under a temporary name,
        // read-only from the beginning, and never opened for writing again. wasmtime checks version and settings.
        let component = unsafe { Component::deserialize_file(engine.wasmtime(), &verified) };
        let path = self.path(key, "code");
        let component = component
            .inspect_err(|error| {
                isomer_telemetry::debug!(path = %path.display(), %error, "compiled code is not used");
                // Another version's: gone, it is missed and made again. What could not even be read may be whole.
                if error.downcast_ref::<io::Error>().is_none() {
                    let _ = fs::remove_file(&path);
                }
            })
            .ok()?;
        Some(self.loaded.add(engine, key, component.into()))
    }

    /// The entry's code, if it is what was written.
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
                isomer_telemetry::warn!(path = %path.display(), %error, "compiled code cannot be read");
                None
            }
        }
    }

    fn verify(&self, key: &Key, file: &File) -> io::Result<bool> {
        let stamp = Stamp::of(file)?;
        if self.verified().get(key) == Some(&stamp) {
            return Ok(true);
        }
        if !self.key.verify(file, &self.name(key, "code"))? {
            return Ok(false);
        }
        // Touched meanwhile, as by another process that notes a use: right as it was read, and to be read again next time.
        if Stamp::of(file)? != stamp {
            return Ok(true);
        }
        let mut verified = self.verified();
        if verified.len() >= VERIFIED_MAX {
            verified.clear();
        }
        verified.insert(key.clone(), stamp);
        Ok(true)
    }

    fn verified(&self) -> MutexGuard<'_, HashMap<Key, Stamp>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a file that is not what was written.
    fn refuse(&self, path: &Path) {
        isomer_telemetry::warn!(path = %path.display(), "compiled code was changed by somebody else, or sealed with another key: it is removed, and compiled again");
        let _ = fs::remove_file(path);
    }

    /// Begins to write the code of an entry that was compiled elsewhere. Nobody sees it before [`CodeCache::finish`].
    ///
    /// # Errors
    /// When no file can be made.
    pub fn write_code(&self, key: &Key) -> io::Result<Sealing> {
        self.key.write(&self.path(key, "code"))
    }

    /// Puts code in its place. Blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish(&self, code: Sealing) -> io::Result<()> {
        code.finish(self.is_kept)
    }

    /// A file without a name on the folder's disk, for what is too much to be held in memory.
    ///
    /// # Errors
    /// When none can be made.
    pub fn scratch(&self) -> io::Result<File> {
        let path = unfinished_beside(&self.folder.join("scratch"));
        let file = new_file(&path, 0o600)?;
        fs::remove_file(&path)?;
        Ok(file)
    }

    /// Compiles `component` and keeps the code under `key`. A full disk costs the cache's help, not the code.
    ///
    /// # Errors
    /// When the component does not compile.
    pub fn compile(&self, engine: &Engine, key: &Key, component: &[u8], note: &[u8]) -> Result<Code, CodeError> {
        let compiled =
            Component::from_binary(engine.wasmtime(), component).map_err(|source| CodeError::Compile { source })?;
        let kept = compiled.serialize().map_err(|error| io::Error::other(error.to_string())).and_then(|code| {
            self.write(key, "code", &code)?;
            self.write(key, "note", note)
        });
        let is_written = kept.is_ok();
        if let Err(error) = kept {
            isomer_telemetry::warn!(folder = %self.folder.display(), %error, "cannot keep compiled code");
        }
        if !self.is_kept
            && let Err(error) = self.remove_unused(SystemTime::now(), BYTES_MAX)
        {
            isomer_telemetry::warn!(folder = %self.folder.display(), %error, "cannot clean up compiled code");
        }
        // Mapped from the file it takes no memory but what is used of it, and that can be had again.
        let mapped = if is_written { self.load(engine, key) } else { None };
        Ok(mapped.unwrap_or_else(|| self.loaded.add(engine, key, compiled.into())))
    }

    /// Removes files that were used last before [`UNUSED_MAX`], or before others that alone are `bytes_max`.
    fn remove_unused(&self, now: SystemTime, bytes_max: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // One that is gone by now was removed by another process that does the same.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        files.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let mut kept_bytes = 0_u64;
        for (used, bytes, path) in files {
            kept_bytes = kept_bytes.saturating_add(bytes);
            if kept_bytes > bytes_max || now.duration_since(used).is_ok_and(|unused| unused > UNUSED_MAX) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    fn name(&self, key: &Key, kind: &str) -> String {
        format!("{}.{kind}", key.as_str())
    }

    fn path(&self, key: &Key, kind: &str) -> PathBuf {
        self.folder.join(self.name(key, kind))
    }

    /// Under a temporary name first: readers see the whole file or none.
    fn write(&self, key: &Key, kind: &str, bytes: &[u8]) -> io::Result<()> {
        let mut sealing = self.key.write(&self.path(key, kind))?;
        sealing.write_all(bytes)?;
        sealing.finish(self.is_kept)
    }
}

impl Stamp {
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

/// Where the key of a folder's seals lies: beside it, so that whoever may write to the folder alone does not get it.
fn key_of(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".key");
    folder.with_file_name(name)
}

/// A file's time of modification says when it was used last, more or less: its content never changes.
fn note_use(file: &File) {
    let now = SystemTime::now();
    let noted = file.metadata().and_then(|metadata| metadata.modified());
    if noted.is_ok_and(|noted| now.duration_since(noted).is_ok_and(|since| since < USE_NOTED_EVERY)) {
        return;
    }
    // Without it, it is removed a little earlier than it could be.
    let _ = file.set_modified(now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_is_removed() {
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
    fn kept_code_goes_away_only_when_nobody_needs_it() {
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
        assert!(Key::try_from("../".repeat(21) + "a").is_err(), "a key is not a path");
    }

    /// A folder with compiled code under two keys.
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

    /// Puts another file in a file's place.
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
                // As by somebody with the same rights: the file's mode does not hold.
                fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, b"x", 100).unwrap();
            }),
        ];
        for (what, change) in changes {
            let parent = tempfile::tempdir().unwrap();
            let (engine, cache, [one, two]) = two_compiled(&parent.path().join("code"));
            assert!(cache.load(&engine, &one).is_some() && cache.has(&two), "{what}: known to be right");
            let path = cache.path(&one, "code");
            change(&path, &cache.path(&two, "code"));
            assert!(cache.load(&engine, &one).is_none(), "{what}");
            assert!(!path.exists(), "{what}: it is removed");
            assert!(cache.load(&engine, &two).is_some(), "{what}: the other is as it was");
        }
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("code");
        let (engine, cache, [one, two]) = two_compiled(&folder);
        assert_eq!(cache.note(&one).unwrap(), b"(component)");
        let note = fs::read(cache.path(&one, "note")).unwrap();
        replace(&cache.path(&two, "note"), &note);
        assert!(cache.note(&two).is_none(), "a note has its own name too");
        fs::remove_file(key_of(&folder)).unwrap();
        let cache = CodeCache::open(&folder).unwrap();
        assert!(cache.load(&engine, &one).is_none() && cache.note(&one).is_none(), "sealed with another key");
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
