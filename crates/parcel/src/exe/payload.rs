//! Reading the payload of a shipped program. Every part is verified whenever it is read.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use isomer_ids::Digest;
use sha2::{Digest as _, Sha256};

use super::base::{Base, BaseError};
use super::index::{ExeIndex, InvalidIndex, PartPlace};
use super::locator::Locator;

/// The number of bytes that are read and verified in one step.
const CHUNK_BYTES: usize = 128 << 10;

/// The maximum length in bytes of a part that is read into memory: components, files and notes.
const PART_BYTES_MAX: u64 = 1 << 30;

/// The payload of a program, with its verified index.
#[derive(Debug)]
pub struct Payload {
    file: File,
    locator: Locator,
    index: ExeIndex,
}

/// The reason why a payload, or a part of it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The file ends before the payload.
    #[error("the file ends before the app: the program was stripped or truncated after it was made")]
    Lost,
    /// The file ends within the payload.
    #[error("the file ends {missing} bytes before the end of the app: it was truncated")]
    Truncated {
        /// The number of missing bytes.
        missing: u64,
    },
    /// The bytes do not have the recorded digest.
    #[error("{what} was changed after the file was made")]
    Altered {
        /// The changed part.
        what: String,
    },
    /// The index cannot be parsed.
    #[error("the index of the app cannot be read")]
    Unreadable {
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// The index contradicts itself.
    #[error(transparent)]
    Invalid(#[from] InvalidIndex),
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read {
        /// The error of the operating system.
        source: io::Error,
    },
    /// The bytes cannot be written to their destination.
    #[error("cannot copy a part of the app")]
    Write {
        /// The error of the operating system.
        source: io::Error,
    },
}

/// The reason why a file is not a usable shipped program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The file is not a runtime of Isomer.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The file is a runtime without an app.
    #[error("it is a runtime without an app")]
    NoPayload,
    /// The payload cannot be used.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

impl Payload {
    /// Opens the payload of the program in `file`, and verifies its index.
    ///
    /// # Errors
    /// If the payload is not there, is incomplete, or was changed.
    pub fn open(file: File, locator: Locator) -> Result<Self, PayloadError> {
        let length = file.metadata().map_err(|source| PayloadError::Read { source })?.len();
        if length <= locator.offset {
            return Err(PayloadError::Lost);
        }
        if length < locator.end() {
            return Err(PayloadError::Truncated { missing: locator.end() - length });
        }
        let bytes = read(&file, locator.offset + locator.parts_bytes(), locator.index_bytes)?;
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != locator.index_digest {
            return Err(PayloadError::Altered { what: "the index of the app".to_owned() });
        }
        let index: ExeIndex = serde_json::from_slice(&bytes).map_err(|source| PayloadError::Unreadable { source })?;
        index.check(locator.parts_bytes())?;
        Ok(Self { file, locator, index })
    }

    /// Opens the payload of the program in the file at `path`, and verifies its index. Returns the payload, and the program
    /// without it.
    ///
    /// # Errors
    /// If the file is not a shipped program, or if its payload is incomplete or was changed.
    pub fn of_program(path: &Path) -> Result<(Self, Base), ProgramError> {
        let bytes = std::fs::read(path).map_err(|source| PayloadError::Read { source })?;
        let base = Base::parse(bytes)?;
        let locator = base.payload().ok_or(ProgramError::NoPayload)?;
        let file = File::open(path).map_err(|source| PayloadError::Read { source })?;
        Ok((Self::open(file, locator)?, base))
    }

    /// Returns the index.
    #[must_use]
    pub fn index(&self) -> &ExeIndex {
        &self.index
    }

    /// Returns the bytes of a part.
    ///
    /// # Errors
    /// If the part does not exist, cannot be read, or was changed.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, PayloadError> {
        let PartPlace { offset, bytes } = self.place(digest)?;
        let content = read(&self.file, self.locator.offset + offset, bytes)?;
        if digest_of(Sha256::new_with_prefix(&content)) != *digest {
            return Err(altered(digest));
        }
        Ok(content)
    }

    /// Writes the bytes of a part to `sink`. After an error, the written bytes must not be used.
    ///
    /// # Errors
    /// If the part does not exist, cannot be read or written, or was changed.
    pub fn copy(&self, digest: &Digest, sink: &mut dyn Write) -> Result<(), PayloadError> {
        let PartPlace { offset, bytes } = self.place(digest)?;
        let (mut at, end) = (self.locator.offset + offset, self.locator.offset + offset + bytes);
        let (mut hasher, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let read = &mut chunk[..wanted];
            self.file.read_exact_at(read, at).map_err(|source| PayloadError::Read { source })?;
            hasher.update(&*read);
            sink.write_all(read).map_err(|source| PayloadError::Write { source })?;
            at += wanted as u64;
        }
        if digest_of(hasher) == *digest { Ok(()) } else { Err(altered(digest)) }
    }

    /// Verifies all parts.
    ///
    /// # Errors
    /// If a part cannot be read, or was changed.
    pub fn verify(&self) -> Result<(), PayloadError> {
        self.index.parts.keys().try_for_each(|digest| self.copy(digest, &mut io::sink()))
    }

    fn place(&self, digest: &Digest) -> Result<PartPlace, PayloadError> {
        self.index.parts.get(digest).copied().ok_or_else(|| altered(digest))
    }
}

fn altered(digest: &Digest) -> PayloadError {
    PayloadError::Altered { what: format!("the part `{digest}` of the app") }
}

fn digest_of(hasher: Sha256) -> Digest {
    Digest::from(<[u8; 32]>::from(hasher.finalize()))
}

fn read(file: &File, offset: u64, bytes: u64) -> Result<Vec<u8>, PayloadError> {
    let too_large = || io::Error::new(io::ErrorKind::InvalidData, "a part is too large to be read into memory");
    let length = usize::try_from(bytes).ok().filter(|_| bytes <= PART_BYTES_MAX);
    let mut content = vec![0; length.ok_or_else(|| PayloadError::Read { source: too_large() })?];
    file.read_exact_at(&mut content, offset).map_err(|source| PayloadError::Read { source })?;
    Ok(content)
}
