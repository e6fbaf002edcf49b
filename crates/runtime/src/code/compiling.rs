//! Compiling into the cache, and removing code that was not used for a long time.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use wasmtime::component::Component;

use super::cache::{CodeCache, CodeError};
use super::key::Key;
use super::loaded::Code;
use crate::engine::Engine;

/// The maximum total size of all files in the folder, in bytes.
const BYTES_MAX: u64 = 2 << 30;

/// The time after which an unused file is removed.
const UNUSED_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Compiles `component` and returns the machine code as bytes. Does not map the code into this process.
///
/// # Errors
/// If the component does not compile.
pub fn precompile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, CodeError> {
    engine.wasmtime().precompile_component(component).map_err(|source| CodeError::Compile { source })
}

impl CodeCache {
    /// Compiles `component` and stores the code under `key`. If the code cannot be stored, for example because the disk
    /// is full, it is still returned.
    ///
    /// # Errors
    /// If the component does not compile.
    pub fn compile(&self, engine: &Engine, key: &Key, component: &[u8], note: &[u8]) -> Result<Code, CodeError> {
        let compiled =
            Component::from_binary(engine.wasmtime(), component).map_err(|source| CodeError::Compile { source })?;
        let serialized = compiled.serialize().map_err(|error| io::Error::other(error.to_string()));
        let is_written = self.store(key, serialized, note);
        // The code is used from the written file rather than from the compiler's memory: only the pages in use then
        // occupy memory, and the operating system can reclaim them.
        let mapped = if is_written { self.load(engine, key) } else { None };
        Ok(mapped.unwrap_or_else(|| self.loaded.add(engine, key, compiled.into())))
    }

    /// Compiles `component`, stores the code under `key`, and returns it as bytes. If the code cannot be stored, it is still
    /// returned.
    ///
    /// # Errors
    /// If the component does not compile.
    pub fn compile_to_bytes(
        &self,
        engine: &Engine,
        key: &Key,
        component: &[u8],
        note: &[u8],
    ) -> Result<Vec<u8>, CodeError> {
        let code = precompile(engine, component)?;
        self.store(key, Ok(code.clone()), note);
        Ok(code)
    }

    /// Compiles `component` like [`CodeCache::compile`], but on the calling thread only, and does not map the code. If the
    /// code cannot be stored, it is lost.
    ///
    /// # Errors
    /// If the component does not compile.
    pub fn compile_on_this_thread(
        &self,
        engine: &Engine,
        key: &Key,
        component: &[u8],
        note: &[u8],
    ) -> Result<(), CodeError> {
        let compile = |compiler: wasmtime::Engine| compiler.precompile_component(component);
        let code = engine.single_threaded_compiler().and_then(compile);
        self.store(key, Ok(code.map_err(|source| CodeError::Compile { source })?), note);
        Ok(())
    }

    /// Stores code and its note under `key`, and removes unused files. Returns whether the code was stored.
    fn store(&self, key: &Key, code: io::Result<Vec<u8>>, note: &[u8]) -> bool {
        let stored = code.and_then(|code| {
            self.write(key, "code", &code)?;
            self.write(key, "note", note)
        });
        if let Err(error) = &stored {
            isomer_telemetry::warn!(folder = %self.folder.display(), %error, "cannot store compiled code");
        }
        if !self.is_kept
            && let Err(error) = self.remove_unused(SystemTime::now(), BYTES_MAX)
        {
            isomer_telemetry::warn!(folder = %self.folder.display(), %error, "cannot clean up compiled code");
        }
        stored.is_ok()
    }

    /// Removes files that have not been used for [`UNUSED_MAX`]. Then removes the least recently used files until at
    /// most `bytes_max` bytes are left.
    pub(super) fn remove_unused(&self, now: SystemTime, bytes_max: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // A file that no longer exists was removed by another process that cleans up the same folder.
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
}
