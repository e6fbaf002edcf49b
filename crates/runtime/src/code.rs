//! Compiled code on disk: compiled once, mapped from then on.
//!
//! An entry is named by a [`Key`] over everything that went into it: what was compiled and with which engine. Beside the code lies
//! a note, opaque here: whatever the caller needs to use the code without looking at its source again.
//!
//! Who removes what is a matter of who owns the folder. A cache ([`CodeCache::open`]) tidies itself: what has not been used for long, or
//! is more than the folder may hold, is removed when something new is compiled. Kept code ([`CodeCache::open_kept`]) is what deployed
//! apps start from: nothing of it goes away but by [`CodeCache::sweep`], which is told what is needed, and it is synced, so that what was
//! deployed is there after a loss of power. Removing code that is mapped hurts nobody.

use std::collections::HashSet;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

use crate::engine::Engine;

/// Numbers the files that this process writes.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// What all files of a folder may have together.
const BYTES_MAX: u64 = 2 << 30;

/// How long a file is kept that nobody uses.
const UNUSED_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// A file's time of modification says when it was used last: its content never changes.
fn mark_used(path: &Path) {
    // Without it, it is removed a little earlier than it could be.
    let _ = fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Names an entry: a SHA-256 over its ingredients.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// A text that names no entry.
#[derive(Debug, thiserror::Error)]
#[error("a key has 64 hexadecimal digits")]
pub struct InvalidKey;

impl TryFrom<String> for Key {
    type Error = InvalidKey;

    /// A key is part of a path: nothing else may be.
    fn try_from(text: String) -> Result<Self, InvalidKey> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_digit) { Ok(Self(text)) } else { Err(InvalidKey) }
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl Key {
    /// The key as 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A key over `ingredients` (each with its length, so that they cannot run into one another) and the engine's settings.
    pub fn new<'a>(engine: &Engine, ingredients: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for ingredient in ingredients {
            hasher.update((ingredient.len() as u64).to_le_bytes());
            hasher.update(ingredient);
        }
        let mut settings = HashInto(&mut hasher);
        engine.wasmtime().precompile_compatibility_hash().hash(&mut settings);
        Self(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Lets a `Hash` value feed a SHA-256.
struct HashInto<'a>(&'a mut Sha256);

impl Hasher for HashInto<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

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

/// Compiled code, ready to be linked. All who hold the same share one mapping of it. Cheap to clone.
#[derive(Clone)]
pub struct Code(pub(crate) Arc<Component>);

impl Code {
    /// The component itself.
    pub fn component(&self) -> &Component {
        &self.0
    }
}

impl From<Component> for Code {
    fn from(component: Component) -> Self {
        Self(Arc::new(component))
    }
}

/// A folder of compiled code.
#[derive(Debug, Clone)]
pub struct CodeCache {
    folder: PathBuf,
    /// Is it needed by what was deployed? Else it can be made again at any time.
    is_kept: bool,
}

impl CodeCache {
    /// Opens `folder`, making it (for this user alone) if it is not there.
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
        Ok(Self { folder: folder.to_owned(), is_kept: false })
    }

    /// Opens `folder` as [`CodeCache::open`] does, for code that stays until [`CodeCache::sweep`] is told that nobody needs it.
    ///
    /// # Errors
    /// As [`CodeCache::open`].
    pub fn open_kept(folder: &Path) -> Result<Self, CodeError> {
        Ok(Self { is_kept: true, ..Self::open(folder)? })
    }

    /// Is the entry there, whole? If so, it is marked as used.
    pub fn has(&self, key: &Key) -> bool {
        let code = self.path(key, "code");
        let is_there = code.exists() && self.note(key).is_some();
        if is_there {
            mark_used(&code);
        }
        is_there
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
        let note = fs::read(&path).ok()?;
        mark_used(&path);
        Some(note)
    }

    /// The entry's code, mapped. `None` if it is not there or wasmtime refuses it (another version, cut short): compile again.
    pub fn load(&self, engine: &Engine, key: &Key) -> Option<Code> {
        if let Some(code) = engine.loaded(key) {
            return Some(code);
        }
        let path = self.path(key, "code");
        if !path.exists() {
            return None;
        }
        #[expect(unsafe_code, reason = "compiled code is run as it is")]
        // SAFETY: `deserialize_file` must be given only what `Component::serialize` made. The folder belongs to this user and
        // nobody else can write to it (checked in `open`), files in it are made only by `compile` below, under a temporary
        // name that is renamed when it is complete, and are never written to again. wasmtime checks version and settings.
        let component = unsafe { Component::deserialize_file(engine.wasmtime(), &path) };
        mark_used(&path);
        let component = component
            .inspect_err(|error| {
                tracing::debug!(path = %path.display(), %error, "compiled code is not used");
                // Cut short, or another version's: gone, it is missed and made again. What could not even be read may be whole.
                if error.downcast_ref::<io::Error>().is_none() && fs::read(&path).is_ok() {
                    let _ = fs::remove_file(&path);
                }
            })
            .ok()?;
        Some(engine.remember(key, component.into()))
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
            tracing::warn!(folder = %self.folder.display(), %error, "cannot keep compiled code");
        }
        if !self.is_kept
            && let Err(error) = self.remove_unused(SystemTime::now(), BYTES_MAX)
        {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot clean up compiled code");
        }
        // Mapped from the file it takes no memory but what is used of it, and that can be had again.
        let mapped = if is_written { self.load(engine, key) } else { None };
        Ok(mapped.unwrap_or_else(|| engine.remember(key, compiled.into())))
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

    fn path(&self, key: &Key, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", key.0))
    }

    /// Under a temporary name first: readers see the whole file or none.
    fn write(&self, key: &Key, kind: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(key, kind);
        // Two that compile the same at the same time must not write into one another's file.
        let unique = format!("{}-{}", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed));
        let temporary = self.folder.join(format!(".{}.{kind}.{unique}", key.0));
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                if self.is_kept { file.sync_all() } else { Ok(()) }
            })
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| if self.is_kept { fs::File::open(&self.folder)?.sync_all() } else { Ok(()) });
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_is_removed() {
        let folder = std::env::temp_dir().join(format!("isomer-code-{}", std::process::id()));
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
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn kept_code_goes_away_only_when_nobody_needs_it() {
        let folder = std::env::temp_dir().join(format!("isomer-kept-{}", std::process::id()));
        let cache = CodeCache::open_kept(&folder).unwrap();
        let now = SystemTime::now();
        let (needed, unneeded, new) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
        for (key, days) in [(&needed, 90), (&unneeded, 90), (&new, 0)] {
            for kind in ["code", "note"] {
                let path = folder.join(format!("{key}.{kind}"));
                fs::write(&path, "code").unwrap();
                let file = fs::File::open(&path).unwrap();
                file.set_modified(now - Duration::from_secs(days * 24 * 3600)).unwrap();
            }
        }
        let hour = Duration::from_secs(3600);
        assert_eq!(cache.sweep(&HashSet::from([needed.clone()]), now, hour).unwrap(), 2);
        let has = |key: &str| cache.has(&Key::try_from(key.to_owned()).unwrap());
        assert!(has(&needed) && has(&new) && !has(&unneeded));
        fs::remove_dir_all(&folder).unwrap();
        assert!(Key::try_from("../".repeat(21) + "a").is_err(), "a key is not a path");
    }
}
