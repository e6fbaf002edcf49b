//! Chunks of bytes that are transferred between a guest and a file. A chunk has at most [`CHUNK_BYTES`]. It is charged
//! to the account before it is allocated, and released when it is dropped. The threads for file work read and write the
//! chunks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};

use super::storage::{SpaceReservation, no_memory};
use super::threads;
use crate::pool::{Account, HostMemory};

/// The maximum length of a chunk in bytes: the same as in wasmtime's implementation.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// Bytes that were read from a file, or will be written to a file.
pub(crate) struct Chunk {
    bytes: Bytes,
    /// The account's charge for the chunk's allocation.
    _memory: HostMemory,
}

impl Chunk {
    /// Returns a chunk that owns `bytes`, which the guest passed. Copies nothing.
    ///
    /// # Errors
    /// If the account has no memory left.
    pub(crate) fn of(account: &Arc<Account>, bytes: Bytes) -> io::Result<Self> {
        let memory = account.charge_host_memory(bytes.len()).map_err(|_| no_memory())?;
        Ok(Self { bytes, _memory: memory })
    }

    /// Returns a chunk with a copy of `bytes`.
    ///
    /// # Errors
    /// If the account has no memory left.
    pub(crate) fn copy(account: &Arc<Account>, bytes: &[u8]) -> io::Result<Self> {
        let memory = account.charge_host_memory(bytes.len()).map_err(|_| no_memory())?;
        Ok(Self { bytes: Bytes::copy_from_slice(bytes), _memory: memory })
    }

    /// Returns the bytes that are left in the chunk.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Removes the first `length` bytes from the chunk and returns them; all bytes if the chunk has fewer.
    pub(crate) fn take(&mut self, length: usize) -> Bytes {
        self.bytes.split_to(length.min(self.bytes.len()))
    }

    /// Removes the first `length` bytes from the chunk.
    pub(crate) fn advance(&mut self, length: usize) {
        self.bytes.advance(length.min(self.bytes.len()));
    }
}

/// Reads up to `length` bytes of `file` at `offset`. Returns an empty chunk at the end of the file.
///
/// # Errors
/// If the file cannot be read, or the account has no memory left.
pub(crate) async fn read(account: Arc<Account>, file: Arc<File>, offset: u64, length: usize) -> io::Result<Chunk> {
    let length = length.min(CHUNK_BYTES);
    let memory = account.charge_host_memory(length).map_err(|_| no_memory())?;
    let read = move || {
        let mut bytes = vec![0; length];
        let length = loop {
            match file.read_at(&mut bytes, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        bytes.truncate(length);
        Ok(Chunk { bytes: bytes.into(), _memory: memory })
    };
    threads::run(&account, read).await.flatten()
}

/// The result of writing a chunk.
pub(crate) struct WriteOutcome {
    pub(crate) bytes: usize,
    /// The new length of the file, if the chunk was written at the end of the file.
    pub(crate) end: Option<u64>,
}

/// Writes all of `chunk` at `offset`, or at the end of the file if there is no offset. Releases the space reservation
/// after the write.
///
/// # Errors
/// If the file cannot be written. A part of the chunk may have been written before the error.
pub(crate) async fn write(
    account: Arc<Account>,
    file: Arc<File>,
    offset: Option<u64>,
    mut chunk: Chunk,
    claim: Option<SpaceReservation>,
) -> io::Result<WriteOutcome> {
    let write = move || {
        let _claim = claim;
        let length = chunk.bytes.len();
        while !chunk.is_empty() {
            let at = offset.map(|offset| offset.saturating_add((length - chunk.bytes.len()) as u64));
            let written = match at {
                Some(offset) => file.write_at(&chunk.bytes, offset),
                None => append(&file, &chunk.bytes),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => chunk.advance(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let end = if offset.is_none() { file.metadata().ok().map(|file| file.len()) } else { None };
        Ok(WriteOutcome { bytes: length, end })
    };
    threads::run(&account, write).await.flatten()
}

#[cfg(target_os = "linux")]
fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};
    match pwritev2(file, &[io::IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND) {
        Err(Errno::NOSYS | Errno::OPNOTSUPP) => append_by_length(file, bytes),
        result => Ok(result?),
    }
}

#[cfg(not(target_os = "linux"))]
use append_by_length as append;

/// Appends `bytes` by reading the file's length and then writing at this offset. These are separate steps, so two
/// concurrent writers of the same file can overwrite each other's bytes.
fn append_by_length(file: &File, bytes: &[u8]) -> io::Result<usize> {
    file.write_at(bytes, file.metadata()?.len())
}
