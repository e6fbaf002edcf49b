//! Compiled code inside of another file: the code of an app that was shipped as one program.
//!
//! The engine maps code from a file of its own, so the code is first copied into sealed memory (`memfd_create`). A seal
//! excludes every later change, also by other processes, so the bytes that were verified are the bytes that run.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use wasmtime::component::Component;

use super::cache::CodeError;
use super::key::Key;
use super::loaded::{Code, LoadedCode};
use crate::engine::Engine;

/// Compiled code that was made on another machine, and the notes about it.
///
/// # Safety
/// [`ShippedCode::copy_code`] must write only bytes that [`precompile`](super::precompile) returned, because they are
/// run as they are. So an implementation verifies the bytes against a digest that only the author of this program can
/// have set.
#[expect(unsafe_code, reason = "compiled code is run as it is")]
pub unsafe trait ShippedCode: Send + Sync {
    /// Returns the note that was stored under `key`.
    ///
    /// # Errors
    /// If the note cannot be read, or was changed.
    fn note(&self, key: &Key) -> io::Result<Option<Vec<u8>>>;

    /// Writes the code that was stored under `key` to `sink`. Returns `false`, and writes nothing, if there is none.
    ///
    /// # Errors
    /// If the code cannot be read, or was changed. The written bytes must then not be used.
    fn copy_code(&self, key: &Key, sink: &mut dyn Write) -> io::Result<bool>;
}

/// The compiled code of a shipped app. Cheap to clone.
#[derive(Clone)]
pub struct CodeArchive {
    code: Arc<dyn ShippedCode>,
    loaded: Arc<LoadedCode>,
}

impl CodeArchive {
    /// Returns an archive of `code`.
    pub fn new(code: Arc<dyn ShippedCode>) -> Self {
        Self { code, loaded: Arc::default() }
    }

    /// Returns the note that is stored under `key`.
    ///
    /// # Errors
    /// If the note cannot be read, or was changed.
    pub(super) fn note(&self, key: &Key) -> Result<Option<Vec<u8>>, CodeError> {
        self.code.note(key).map_err(|source| CodeError::Shipped { source })
    }

    /// Maps the code that is stored under `key`. Returns `None` if there is no such code.
    ///
    /// # Errors
    /// If the code cannot be read, was changed, or is for another machine.
    pub(super) fn load(&self, engine: &Engine, key: &Key) -> Result<Option<Code>, CodeError> {
        if let Some(code) = self.loaded.get(engine, key) {
            return Ok(Some(code));
        }
        let Some(file) = self.sealed(key)? else { return Ok(None) };
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        #[expect(unsafe_code, reason = "compiled code is run as it is")]
        // SAFETY: `deserialize_file` must be given only bytes that `Engine::precompile_component` returned. The contract of
        // `ShippedCode` states that `copy_code` writes only such bytes, and `sealed` returns a file only if it succeeded. The
        // bytes do not change while they are mapped: the file is in memory, and its seals exclude writing and truncating.
        // wasmtime itself checks that the code was compiled by the same version with the same settings, and that this
        // processor has the instructions that the code uses.
        let component = unsafe { Component::deserialize_file(engine.wasmtime(), &path) };
        let component = component.map_err(|source| CodeError::Incompatible { source })?;
        Ok(Some(self.loaded.add(engine, key, component.into())))
    }

    /// Returns the code under `key` as a file in memory whose content can no longer change.
    fn sealed(&self, key: &Key) -> Result<Option<File>, CodeError> {
        let mut file = memory_file().map_err(|source| CodeError::Memory { source })?;
        if !self.code.copy_code(key, &mut file).map_err(|source| CodeError::Shipped { source })? {
            return Ok(None);
        }
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(|error| CodeError::Memory { source: error.into() })?;
        Ok(Some(file))
    }
}

/// Creates an empty file in memory that can be sealed. The file is never executed as a program, and says so: with the setting
/// `vm.memfd_noexec=2`, the kernel refuses any other file. Mapping its pages as executable remains possible.
fn memory_file() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(c"isomer-code", flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag.
        Err(Errno::INVAL) => Ok(rustix::fs::memfd_create(c"isomer-code", flags)?.into()),
        created => Ok(created?.into()),
    }
}

impl fmt::Debug for CodeArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeArchive").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The kernel removes the permission to execute the file, and prevents that it is added again. So a machine that refuses
    /// memory files that can be executed accepts this one.
    #[test]
    fn a_memory_file_is_not_a_program() {
        let file = memory_file().unwrap();
        let knows_flag = rustix::fs::memfd_create(c"test", MemfdFlags::NOEXEC_SEAL).is_ok();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o111 == 0, knows_flag, "{mode:o}");
        rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE).unwrap();
    }
}
