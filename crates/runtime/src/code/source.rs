//! The sources of compiled code of a process: a cache on disk, or the archive of a shipped app.

use std::io;

use super::archive::CodeArchive;
use super::cache::{CodeCache, CodeError};
use super::key::Key;
use super::loaded::Code;
use crate::engine::Engine;

/// The source of a process's compiled code. Cheap to clone.
#[derive(Debug, Clone)]
pub enum CodeSource {
    /// A cache on disk. Missing code is compiled.
    Cache(CodeCache),
    /// The code of a shipped app. Missing code cannot be compiled, even if this program has a compiler.
    Archive(CodeArchive),
}

impl From<CodeCache> for CodeSource {
    fn from(cache: CodeCache) -> Self {
        Self::Cache(cache)
    }
}

impl From<CodeArchive> for CodeSource {
    fn from(archive: CodeArchive) -> Self {
        Self::Archive(archive)
    }
}

impl CodeSource {
    /// Returns whether this source compiles missing code.
    #[must_use]
    pub fn compiles(&self) -> bool {
        cfg!(feature = "compiler") && matches!(self, Self::Cache(_))
    }

    /// Returns the key of code that was made from `ingredients`. In a cache, the key includes the engine's settings.
    pub fn key<'a>(&self, engine: &Engine, ingredients: impl IntoIterator<Item = &'a [u8]>) -> Key {
        match self {
            #[cfg(feature = "compiler")]
            Self::Cache(_) => Key::new(engine, ingredients),
            _ => {
                let _ = engine;
                Key::shipped(ingredients)
            }
        }
    }

    /// Returns the note and the code that are stored under `key`, or `None` if one of them does not exist.
    ///
    /// # Errors
    /// If code of a shipped app cannot be read, was changed, or is for another machine. Such an entry of a cache does not
    /// exist.
    pub fn find(&self, engine: &Engine, key: &Key) -> Result<Option<(Vec<u8>, Code)>, CodeError> {
        let (note, code) = match self {
            Self::Cache(cache) => (cache.note(key), cache.load(engine, key)),
            Self::Archive(archive) => (archive.note(key)?, archive.load(engine, key)?),
        };
        Ok(note.zip(code))
    }

    /// Returns the note that is stored under `key`, if it can be read.
    pub fn note(&self, key: &Key) -> Option<Vec<u8>> {
        match self {
            Self::Cache(cache) => cache.note(key),
            Self::Archive(archive) => archive.note(key).inspect_err(log).ok()?,
        }
    }

    /// Stores a note under a key that has no code.
    ///
    /// # Errors
    /// If writing to the disk fails, or if the notes were shipped with the app.
    pub fn write_note(&self, key: &Key, note: &[u8]) -> io::Result<()> {
        match self {
            Self::Cache(cache) => cache.write_note(key, note),
            Self::Archive(_) => Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, CodeError::NoCompiler)),
        }
    }

    /// Returns whether there may be code under `key`. The code of a shipped app is verified when it is loaded.
    pub fn has(&self, key: &Key) -> bool {
        match self {
            Self::Cache(cache) => cache.has(key),
            Self::Archive(_) => self.note(key).is_some(),
        }
    }

    /// Maps the code that is stored under `key`. Returns `None` if it does not exist or cannot be used.
    pub fn load(&self, engine: &Engine, key: &Key) -> Option<Code> {
        match self {
            Self::Cache(cache) => cache.load(engine, key),
            Self::Archive(archive) => archive.load(engine, key).inspect_err(log).ok()?,
        }
    }

    /// Returns the note and the code that are stored in a cache under `key` as bytes.
    pub fn read(&self, key: &Key) -> Option<(Vec<u8>, Vec<u8>)> {
        match self {
            Self::Cache(cache) => cache.note(key).zip(cache.read_code(key)),
            Self::Archive(_) => None,
        }
    }

    /// Compiles `component` and returns the code as bytes: see [`CodeCache::compile_to_bytes`].
    ///
    /// # Errors
    /// If the component does not compile, or if this source does not compile code.
    #[cfg_attr(not(feature = "compiler"), expect(unused_variables, reason = "only a compiler uses them"))]
    pub fn compile_to_bytes(
        &self,
        engine: &Engine,
        key: &Key,
        component: &[u8],
        note: &[u8],
    ) -> Result<Vec<u8>, CodeError> {
        match self {
            #[cfg(feature = "compiler")]
            Self::Cache(cache) => cache.compile_to_bytes(engine, key, component, note),
            _ => Err(CodeError::NoCompiler),
        }
    }

    /// Compiles `component` and stores the code under `key`: see [`CodeCache::compile`].
    ///
    /// # Errors
    /// If the component does not compile, or if this source does not compile code.
    #[cfg_attr(not(feature = "compiler"), expect(unused_variables, reason = "only a compiler uses them"))]
    pub fn compile(&self, engine: &Engine, key: &Key, component: &[u8], note: &[u8]) -> Result<Code, CodeError> {
        match self {
            #[cfg(feature = "compiler")]
            Self::Cache(cache) => cache.compile(engine, key, component, note),
            _ => Err(CodeError::NoCompiler),
        }
    }

    /// Compiles `component` on the calling thread only, and stores the code: see [`CodeCache::compile_on_this_thread`].
    ///
    /// # Errors
    /// If the component does not compile, or if this source does not compile code.
    #[cfg_attr(not(feature = "compiler"), expect(unused_variables, reason = "only a compiler uses them"))]
    pub fn compile_on_this_thread(
        &self,
        engine: &Engine,
        key: &Key,
        component: &[u8],
        note: &[u8],
    ) -> Result<(), CodeError> {
        match self {
            #[cfg(feature = "compiler")]
            Self::Cache(cache) => cache.compile_on_this_thread(engine, key, component, note),
            _ => Err(CodeError::NoCompiler),
        }
    }
}

fn log(error: &CodeError) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    isomer_telemetry::warn!(%error, cause, "cannot use code of the shipped app");
}
