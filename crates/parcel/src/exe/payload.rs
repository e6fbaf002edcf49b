//! Reading the payload of a shipped program. Every part is verified whenever it is read.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use isomer_ids::Digest;
use sha2::{Digest as _, Sha256};

use super::index::{ExeIndex, InvalidIndex, PartPlace};
use super::locator::Locator;

/// The number of bytes that are read and verified in one step.
const CHUNK_BYTES: usize = 128 << 10;

/// The maximum length in bytes of a part that is read into memory: components, files and notes.
const PART_BYTES_MAX: u64 = 1 << 30;

/// The payload of a program, with its verified index.
#[derive(Debug)]
pub struct Payload {
    source: Source,
    locator: Locator,
    index: ExeIndex,
}

/// Where the bytes of a program are read from.
#[derive(Debug)]
pub(super) enum Source {
    File(File),
    Memory(Bytes),
}

impl Source {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(into, offset),
            Self::Memory(bytes) => {
                let found = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)?.get(..into.len()));
                into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
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
    /// The index does not list the part.
    #[error("the app has no part `{digest}`")]
    Missing {
        /// The digest of the part.
        digest: Digest,
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

impl Payload {
    /// Opens the payload of the program in `file`, and verifies its index.
    ///
    /// # Errors
    /// If the payload is not there, is incomplete, or was changed.
    pub fn open(file: File, locator: Locator) -> Result<Self, PayloadError> {
        Self::of(Source::File(file), locator)
    }

    pub(super) fn of(source: Source, locator: Locator) -> Result<Self, PayloadError> {
        let length = source.len().map_err(|source| PayloadError::Read { source })?;
        if length <= locator.offset {
            return Err(PayloadError::Lost);
        }
        if length < locator.end() {
            return Err(PayloadError::Truncated { missing: locator.end() - length });
        }
        let bytes = read(&source, locator.offset + locator.parts_bytes(), locator.index_bytes)?;
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != locator.index_digest {
            return Err(PayloadError::Altered { what: "the index of the app".to_owned() });
        }
        let index: ExeIndex = serde_json::from_slice(&bytes).map_err(|source| PayloadError::Unreadable { source })?;
        index.check(locator.parts_bytes())?;
        Ok(Self { source, locator, index })
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
        let content = read(&self.source, self.locator.offset + offset, bytes)?;
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
            self.source.read_exact_at(read, at).map_err(|source| PayloadError::Read { source })?;
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
        self.index.parts.get(digest).copied().ok_or_else(|| PayloadError::Missing { digest: digest.clone() })
    }
}

fn altered(digest: &Digest) -> PayloadError {
    PayloadError::Altered { what: format!("the part `{digest}` of the app") }
}

fn digest_of(hasher: Sha256) -> Digest {
    Digest::from(<[u8; 32]>::from(hasher.finalize()))
}

fn read(from: &Source, offset: u64, bytes: u64) -> Result<Vec<u8>, PayloadError> {
    let too_large = || io::Error::new(io::ErrorKind::InvalidData, "a part is too large to be read into memory");
    let length = usize::try_from(bytes).ok().filter(|_| bytes <= PART_BYTES_MAX);
    let mut content = vec![0; length.ok_or_else(|| PayloadError::Read { source: too_large() })?];
    from.read_exact_at(&mut content, offset).map_err(|source| PayloadError::Read { source })?;
    Ok(content)
}
