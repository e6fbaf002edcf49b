//! File streams of WASI 0.2. A stream holds at most one chunk, and an output stream reserves space before each write.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};

use super::chunk::{self, CHUNK_BYTES, Chunk, WriteOutcome};
use super::open_files::OpenFile;
use super::storage::{BLOCK_BYTES, FolderStorage, SpaceReservation, affordable, cost, full};
use crate::pool::Account;

/// The number of bytes that are read when a guest waits for a stream, before the guest states how many bytes it wants.
const READ_AHEAD_BYTES: usize = 4096;

fn failed(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}

/// An input stream that reads a file from an offset.
pub(crate) struct FileInput {
    account: Arc<Account>,
    file: Arc<File>,
    offset: u64,
    state: ReadState,
    _open: OpenFile,
}

enum ReadState {
    Idle,
    Reads(AbortOnDropJoinHandle<io::Result<Chunk>>),
    Has(Chunk),
    Failed(io::Error),
    Closed,
}

impl FileInput {
    pub(crate) fn new(account: Arc<Account>, file: Arc<File>, offset: u64, open: OpenFile) -> Self {
        Self { account, file, offset, state: ReadState::Idle, _open: open }
    }

    fn start(&mut self, size: usize) {
        let read = chunk::read(self.account.clone(), self.file.clone(), self.offset, size);
        self.state = ReadState::Reads(spawn(read));
    }

    fn has_read(&mut self, read: io::Result<Chunk>) {
        self.state = match read {
            Ok(chunk) if chunk.is_empty() => ReadState::Closed,
            Ok(chunk) => ReadState::Has(chunk),
            Err(error) => ReadState::Failed(error),
        };
    }

    /// Waits until the current read, if any, has ended.
    async fn wait(&mut self) {
        if let ReadState::Reads(read) = &mut self.state {
            let read = read.await;
            self.has_read(read);
        }
    }
}

#[async_trait]
impl InputStream for FileInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match &mut self.state {
            ReadState::Idle => {
                if size > 0 {
                    self.start(size);
                }
                Ok(Bytes::new())
            }
            ReadState::Reads(_) => Ok(Bytes::new()),
            ReadState::Has(chunk) => {
                let bytes = chunk.take(size);
                if chunk.is_empty() {
                    self.state = ReadState::Idle;
                }
                self.offset = self.offset.saturating_add(bytes.len() as u64);
                Ok(bytes)
            }
            ReadState::Failed(_) => match std::mem::replace(&mut self.state, ReadState::Closed) {
                ReadState::Failed(error) => Err(failed(error)),
                _ => Err(StreamError::Closed),
            },
            ReadState::Closed => Err(StreamError::Closed),
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.wait().await;
        if matches!(self.state, ReadState::Idle) && size > 0 {
            let read = chunk::read(self.account.clone(), self.file.clone(), self.offset, size).await;
            self.has_read(read);
        }
        self.read(size)
    }

    async fn cancel(&mut self) {
        // A running read need not be stopped: its thread owns the file and the buffer, and its result is discarded.
        self.state = ReadState::Closed;
    }
}

#[async_trait]
impl Pollable for FileInput {
    async fn ready(&mut self) {
        if matches!(self.state, ReadState::Idle) {
            self.start(READ_AHEAD_BYTES);
        }
        self.wait().await;
    }
}

/// An output stream that writes to a file from an offset, or at the end of the file.
pub(crate) struct FileOutput {
    account: Arc<Account>,
    file: Arc<File>,
    /// The offset of the next write; `None` for writes at the end of the file.
    offset: Option<u64>,
    /// The length of the file after this stream's last write at the end of the file.
    end: Option<u64>,
    /// The storage in which space is reserved; `None` if the tenant's storage has no limit.
    storage: Option<Arc<dyn FolderStorage>>,
    state: WriteState,
    /// Whether the sizes of the granted folders were measured again after a write found no free space. The recorded sizes
    /// can be outdated, so the storage is full only if the write finds no space after the measurement either.
    has_counted: bool,
    _open: OpenFile,
}

enum WriteState {
    Idle,
    Writes(AbortOnDropJoinHandle<io::Result<WriteOutcome>>),
    /// The stream waits for a new measurement of the folders.
    Counts(BoxFuture<'static, ()>),
    Failed(io::Error),
    Closed,
}

impl FileOutput {
    pub(crate) fn new(
        account: Arc<Account>,
        file: Arc<File>,
        offset: Option<u64>,
        storage: Option<Arc<dyn FolderStorage>>,
        open: OpenFile,
    ) -> Self {
        Self { account, file, offset, end: None, storage, state: WriteState::Idle, has_counted: false, _open: open }
    }

    /// Returns the offset of the next write, if it is known.
    fn place(&self) -> Option<u64> {
        self.offset.or(self.end)
    }

    fn has_written(&mut self, written: io::Result<WriteOutcome>) {
        self.state = match written {
            Ok(WriteOutcome { bytes, end }) => {
                self.offset = self.offset.map(|offset| offset.saturating_add(bytes as u64));
                self.end = end;
                WriteState::Idle
            }
            Err(error) => WriteState::Failed(error),
        };
    }

    /// Returns an error if the stream is closed or an earlier write failed.
    fn check(&mut self) -> StreamResult<()> {
        match std::mem::replace(&mut self.state, WriteState::Closed) {
            WriteState::Failed(error) => Err(failed(error)),
            WriteState::Closed => Err(StreamError::Closed),
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    /// Returns a future that writes `bytes`. The caller has reserved space for them in `claim`. Closes the stream if
    /// the account has no memory left for the chunk.
    fn begin(
        &mut self,
        bytes: Bytes,
        claim: Option<SpaceReservation>,
    ) -> StreamResult<impl Future<Output = io::Result<WriteOutcome>> + Send + use<>> {
        let chunk = Chunk::of(&self.account, bytes).map_err(|error| self.refuse(error))?;
        Ok(chunk::write(self.account.clone(), self.file.clone(), self.offset, chunk, claim))
    }

    /// Closes the stream, and converts `error` into the error that the guest gets.
    fn refuse(&mut self, error: io::Error) -> StreamError {
        self.state = WriteState::Closed;
        failed(error)
    }
}

#[async_trait]
impl Pollable for FileOutput {
    async fn ready(&mut self) {
        match &mut self.state {
            WriteState::Writes(write) => {
                let written = write.await;
                self.has_written(written);
            }
            WriteState::Counts(count) => {
                count.await;
                self.state = WriteState::Idle;
            }
            WriteState::Idle | WriteState::Failed(_) | WriteState::Closed => {}
        }
    }
}

#[async_trait]
impl OutputStream for FileOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.check()?;
        if !matches!(self.state, WriteState::Idle) || bytes.len() > CHUNK_BYTES {
            return Err(StreamError::trap("the guest writes more bytes than `check-write` permitted"));
        }
        // Another stream may have reserved the space that was free at the time of `check_write`.
        let claim = match &self.storage {
            Some(storage) => match SpaceReservation::now(storage, cost(self.place(), bytes.len())) {
                Some(claim) => Some(claim),
                None => return Err(self.refuse(full())),
            },
            None => None,
        };
        let write = self.begin(bytes, claim)?;
        self.state = WriteState::Writes(spawn(write));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.check()?;
        if !matches!(self.state, WriteState::Idle) {
            return Ok(0);
        }
        let Some(storage) = &self.storage else { return Ok(CHUNK_BYTES) };
        let permitted = affordable(self.place(), storage.room()).min(CHUNK_BYTES);
        if permitted > 0 {
            self.has_counted = false;
            return Ok(permitted);
        }
        if std::mem::replace(&mut self.has_counted, true) {
            storage.refused();
            return Err(self.refuse(full()));
        }
        self.state = WriteState::Counts(storage.count());
        Ok(0)
    }

    /// If the storage is full, does not fail, but permits the write of one block, which then fails with the proper
    /// error. The reason is that `blocking-flush` calls this function last and must succeed even if the storage is
    /// full. `blocking-splice` writes the permitted number of bytes with [`Self::blocking_write_and_flush`] and returns
    /// the error of that write.
    async fn write_ready(&mut self) -> StreamResult<usize> {
        self.ready().await;
        self.check()?;
        let Some(storage) = &self.storage else { return Ok(CHUNK_BYTES) };
        Ok(match affordable(self.place(), storage.room()) {
            0 => BLOCK_BYTES as usize,
            bytes => bytes.min(CHUNK_BYTES),
        })
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.check()?;
        let claim = match &self.storage {
            Some(storage) => match SpaceReservation::wait(storage, cost(self.place(), bytes.len())).await {
                Some(claim) => Some(claim),
                None => return Err(self.refuse(full())),
            },
            None => None,
        };
        let written = self.begin(bytes, claim)?.await;
        self.has_written(written);
        self.check()
    }

    /// Waits for a running write, because the stream has already accepted the write's bytes from the guest.
    async fn cancel(&mut self) {
        if matches!(self.state, WriteState::Writes(_)) {
            self.ready().await;
        }
        self.state = WriteState::Closed;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::fake::FakeStorage;
    use super::*;

    fn output(storage: &Arc<FakeStorage>, file: &tempfile::NamedTempFile) -> FileOutput {
        let open = OpenFile::new(&storage.account).unwrap();
        let limit = storage.clone() as Arc<dyn FolderStorage>;
        FileOutput::new(storage.account.clone(), Arc::new(file.reopen().unwrap()), Some(0), Some(limit), open)
    }

    /// Polls the stream, as a guest does, until it permits a write. Returns the number of bytes that it permits.
    async fn permitted(stream: &mut FileOutput) -> StreamResult<usize> {
        loop {
            stream.ready().await;
            let permitted = stream.check_write()?;
            if permitted > 0 {
                return Ok(permitted);
            }
        }
    }

    #[tokio::test]
    async fn a_flush_is_no_error_when_what_was_written_has_used_up_the_quota() {
        let (storage, file) = (FakeStorage::new(CHUNK_BYTES as u64, 1 << 20), tempfile::NamedTempFile::new().unwrap());
        let mut stream = output(&storage, &file);
        assert_eq!(permitted(&mut stream).await.unwrap(), CHUNK_BYTES);
        stream.write(Bytes::from(vec![1; CHUNK_BYTES])).unwrap();
        // wasmtime implements `blocking-flush` with these two calls. They must succeed although the quota is used up.
        stream.flush().unwrap();
        stream.write_ready().await.unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap().len(), CHUNK_BYTES);
        assert_eq!((storage.counts.load(Ordering::SeqCst), storage.refused.load(Ordering::SeqCst)), (0, 0));
        // wasmtime implements `blocking-splice` with these two calls. The write fails because the quota is used up.
        assert_eq!(stream.write_ready().await.unwrap(), BLOCK_BYTES as usize);
        let refused = stream.blocking_write_and_flush(Bytes::from(vec![1; BLOCK_BYTES as usize])).await.unwrap_err();
        let StreamError::LastOperationFailed(refused) = refused else { panic!("{refused:?}") };
        assert_eq!(refused.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[tokio::test]
    async fn the_rest_of_a_quota_can_be_written() {
        let (storage, file) = (FakeStorage::new(10 << 10, 1 << 20), tempfile::NamedTempFile::new().unwrap());
        let mut stream = output(&storage, &file);
        assert_eq!(permitted(&mut stream).await.unwrap(), 8 << 10, "the two free blocks are not permitted");
        stream.write(Bytes::from(vec![1; 1 << 10])).unwrap();
        assert_eq!(stream.check_write().unwrap(), 0, "a write is permitted while another write runs");
        assert_eq!(
            permitted(&mut stream).await.unwrap(),
            3 << 10,
            "the rest of the second block is not permitted while the first block is reserved"
        );
        stream.write(Bytes::from(vec![2; 3 << 10])).unwrap();
        let refused = permitted(&mut stream).await.unwrap_err();
        let StreamError::LastOperationFailed(refused) = refused else { panic!("{refused:?}") };
        assert_eq!(refused.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::StorageFull);
        assert_eq!((storage.counts.load(Ordering::SeqCst), storage.refused.load(Ordering::SeqCst)), (1, 1));
        assert_eq!(std::fs::read(file.path()).unwrap(), [vec![1; 1 << 10], vec![2; 3 << 10]].concat());
        assert_eq!((storage.pending.load(Ordering::SeqCst), storage.account.used().host_bytes), (0, 0));
    }

    #[tokio::test]
    async fn the_end_of_a_quota_is_reached_in_few_steps_at_the_end_of_a_file() {
        let (storage, file) = (FakeStorage::new(100_000, 1 << 20), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(file.path(), vec![1; 4000]).unwrap();
        let mut stream = output(&storage, &file);
        stream.offset = None;
        let (mut written, mut steps) = (0, 0);
        while let Ok(permitted) = permitted(&mut stream).await {
            stream.write(Bytes::from(vec![2; permitted])).unwrap();
            (written, steps) = (written + permitted, steps + 1);
        }
        assert!(written >= 100_000 - 3 * 4096 && steps <= 4, "{written} bytes in {steps} steps");
        assert_eq!(std::fs::read(file.path()).unwrap().len(), 4000 + written);
    }

    #[tokio::test]
    async fn a_write_without_a_permit_is_a_trap_and_costs_nothing() {
        let (storage, file) = (FakeStorage::new(1 << 30, 1 << 30), tempfile::NamedTempFile::new().unwrap());
        let mut stream = output(&storage, &file);
        assert!(matches!(stream.write(Bytes::from(vec![1; CHUNK_BYTES + 1])), Err(StreamError::Trap(_))));
        stream.write(Bytes::from(vec![1; CHUNK_BYTES])).unwrap();
        assert_eq!(storage.account.used().host_bytes, CHUNK_BYTES as u64, "the waiting chunk is not charged");
        assert!(
            matches!(stream.write(Bytes::from_static(b"x")), Err(StreamError::Trap(_))),
            "a second write is accepted while the first write runs"
        );
        // The guest drops the stream. Bytes that the stream has accepted are still written.
        stream.cancel().await;
        assert_eq!(std::fs::read(file.path()).unwrap().len(), CHUNK_BYTES);
    }

    #[tokio::test]
    async fn bytes_read_ahead_are_charged_until_they_are_taken() {
        let (storage, file) = (FakeStorage::new(0, 100_000), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(file.path(), vec![3; 100_000]).unwrap();
        let open = || OpenFile::new(&storage.account).unwrap();
        let input = || FileInput::new(storage.account.clone(), Arc::new(file.reopen().unwrap()), 0, open());
        let mut first = input();
        assert!(first.read(usize::MAX).unwrap().is_empty());
        first.ready().await;
        assert_eq!(storage.account.used().host_bytes, CHUNK_BYTES as u64);
        let mut second = input();
        let full = second.blocking_read(usize::MAX).await.unwrap_err();
        let StreamError::LastOperationFailed(full) = full else { panic!("{full:?}") };
        assert_eq!(full.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::OutOfMemory);
        let mut length = 0;
        loop {
            match first.blocking_read(10_000).await {
                Ok(bytes) => length += bytes.len(),
                Err(StreamError::Closed) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!((length, storage.account.used().host_bytes), (100_000, 0));
    }
}
