//! Reading a whole shipped program, to make another form of it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;

use super::base::{Base, BaseError};
use super::index::ExeIndex;
use super::payload::{Payload, PayloadError, Source};

/// The maximum length in bytes of a program.
const PROGRAM_BYTES_MAX: u64 = 4 << 30;

/// The reason why a file is not a usable shipped program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The file is not a runtime.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The file is a runtime without an app.
    #[error("it is a runtime without an app")]
    NoPayload,
    /// The file is a folder, a device, or another thing that is not a program.
    #[error("it is not a file")]
    NotAFile,
    /// The file is larger than any program.
    #[error("it has {bytes} bytes, and a program has at most {PROGRAM_BYTES_MAX}")]
    TooLarge {
        /// The length of the file.
        bytes: u64,
    },
    /// The payload cannot be used.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// A program that was read and verified.
#[derive(Debug)]
pub struct VerifiedProgram {
    /// The index of its payload.
    pub index: ExeIndex,
    /// The runtime.
    pub base: Base,
    /// The whole file.
    pub bytes: Bytes,
}

impl VerifiedProgram {
    /// Reads the program in the file at `path` once, and verifies its payload. The file may be replaced at the same time: the
    /// returned bytes are those that were verified.
    ///
    /// # Errors
    /// If the file is not a shipped program, or if its payload is incomplete or was changed.
    pub fn read(path: &Path) -> Result<Self, ProgramError> {
        let read_error = |source| PayloadError::Read { source };
        // A named pipe is not opened, because that would wait for a writer.
        if !std::fs::metadata(path).map_err(read_error)?.is_file() {
            return Err(ProgramError::NotAFile);
        }
        let file = File::open(path).map_err(read_error)?;
        let length = file.metadata().map_err(read_error)?.len();
        if length > PROGRAM_BYTES_MAX {
            return Err(ProgramError::TooLarge { bytes: length });
        }
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes).map_err(read_error)?;
        Self::verify(bytes)
    }

    /// Verifies the payload of a program.
    ///
    /// # Errors
    /// If the bytes are not a shipped program, or if the payload is incomplete or was changed.
    pub fn verify(bytes: Vec<u8>) -> Result<Self, ProgramError> {
        let base = Base::parse(bytes.clone())?;
        let locator = base.payload().ok_or(ProgramError::NoPayload)?;
        let bytes = Bytes::from(bytes);
        let payload = Payload::of(Source::Memory(bytes.clone()), locator)?;
        payload.verify()?;
        Ok(Self { index: payload.index().clone(), base, bytes })
    }
}
