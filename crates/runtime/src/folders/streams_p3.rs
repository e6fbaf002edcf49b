//! File streams of WASI 0.3. A stream holds at most one chunk. Space is reserved before bytes are copied out of the
//! guest, so a guest whose storage or memory is used up causes no work for the host.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{Destination, Source, StreamConsumer, StreamProducer, StreamResult};
use wasmtime_wasi::p3::bindings::filesystem::types::ErrorCode;

use super::chunk::{self, CHUNK_BYTES, Chunk, WriteOutcome};
use super::open_files::OpenFile;
use super::storage::{FolderStorage, SpaceReservation, cost};
use crate::pool::Account;

/// Sends the outcome of a stream to the guest's future. Dropping this value reports success: the stream reached its
/// end, or the guest dropped the stream.
struct OutcomeSender(Option<oneshot::Sender<Result<(), ErrorCode>>>);

impl OutcomeSender {
    fn say(&mut self, result: Result<(), ErrorCode>) {
        if let Some(done) = self.0.take() {
            // Sending fails if the guest has dropped the future that would receive the outcome.
            let _ = done.send(result);
        }
    }
}

impl Drop for OutcomeSender {
    fn drop(&mut self) {
        self.say(Ok(()));
    }
}

/// A stream that reads a file from an offset.
pub(crate) struct FileReader {
    account: Arc<Account>,
    file: Arc<File>,
    offset: u64,
    state: ReadState,
    done: OutcomeSender,
    _open: OpenFile,
}

enum ReadState {
    Idle,
    Reads(BoxFuture<'static, io::Result<Chunk>>),
    Has(Chunk),
    Over,
}

impl FileReader {
    pub(crate) fn new(
        account: Arc<Account>,
        file: Arc<File>,
        offset: u64,
        done: oneshot::Sender<Result<(), ErrorCode>>,
        open: OpenFile,
    ) -> Self {
        Self { account, file, offset, state: ReadState::Idle, done: OutcomeSender(Some(done)), _open: open }
    }
}

impl<D> StreamProducer<D> for FileReader {
    type Item = u8;
    type Buffer = BytesMut;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        destination: Destination<'a, u8, BytesMut>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let me = &mut *self;
        let wanted = destination.remaining(&mut store).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        if wanted == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        loop {
            match &mut me.state {
                ReadState::Idle if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                ReadState::Idle => {
                    let read = chunk::read(me.account.clone(), me.file.clone(), me.offset, wanted);
                    me.state = ReadState::Reads(Box::pin(read));
                }
                // If the guest cancels the read before the bytes arrive, the bytes are kept for the next read.
                ReadState::Reads(read) => match read.as_mut().poll(cx) {
                    Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                    polled => match ready!(polled) {
                        Ok(chunk) if chunk.is_empty() => {
                            me.state = ReadState::Over;
                            me.done.say(Ok(()));
                        }
                        Ok(chunk) => me.state = ReadState::Has(chunk),
                        Err(error) => {
                            me.state = ReadState::Over;
                            me.done.say(Err(error.into()));
                        }
                    },
                },
                ReadState::Has(chunk) => {
                    let mut destination = destination.as_direct(store, chunk.bytes().len());
                    let place = destination.remaining();
                    let length = place.len().min(chunk.bytes().len());
                    place[..length].copy_from_slice(&chunk.bytes()[..length]);
                    destination.mark_written(length);
                    chunk.advance(length);
                    me.offset = me.offset.saturating_add(length as u64);
                    if chunk.is_empty() {
                        me.state = ReadState::Idle;
                    }
                    return Poll::Ready(Ok(StreamResult::Completed));
                }
                ReadState::Over => return Poll::Ready(Ok(StreamResult::Dropped)),
            }
        }
    }
}

/// A stream that writes to a file from an offset, or at the end of the file.
pub(crate) struct FileWriter {
    account: Arc<Account>,
    file: Arc<File>,
    /// The offset of the next write; `None` for writes at the end of the file.
    offset: Option<u64>,
    /// The storage in which space is reserved; `None` if the tenant's storage has no limit.
    storage: Option<Arc<dyn FolderStorage>>,
    state: WriteState,
    done: OutcomeSender,
    _open: OpenFile,
}

enum WriteState {
    Idle,
    /// The stream waits until space for a write of the given number of bytes is reserved.
    Claims(BoxFuture<'static, Option<SpaceReservation>>, usize),
    /// The stream can copy the given number of bytes from the guest, because space for them is reserved. There is no
    /// reservation if the storage has no limit.
    May(Option<SpaceReservation>, usize),
    Writes(BoxFuture<'static, io::Result<WriteOutcome>>),
    Over,
}

impl FileWriter {
    pub(crate) fn new(
        account: Arc<Account>,
        file: Arc<File>,
        offset: Option<u64>,
        storage: Option<Arc<dyn FolderStorage>>,
        done: oneshot::Sender<Result<(), ErrorCode>>,
        open: OpenFile,
    ) -> Self {
        Self { account, file, offset, storage, state: WriteState::Idle, done: OutcomeSender(Some(done)), _open: open }
    }

    fn fail(&mut self, error: ErrorCode) {
        self.state = WriteState::Over;
        self.done.say(Err(error));
    }

    /// Returns the first state of a write of `length` bytes: `May` if the space could be reserved at once, or `Claims`
    /// if the stream must wait for space.
    fn claim(&self, length: usize) -> WriteState {
        let Some(storage) = &self.storage else { return WriteState::May(None, length) };
        let bytes = cost(self.offset, length);
        match SpaceReservation::now(storage, bytes) {
            Some(claim) => WriteState::May(Some(claim), length),
            None => {
                let storage = storage.clone();
                WriteState::Claims(Box::pin(async move { SpaceReservation::wait(&storage, bytes).await }), length)
            }
        }
    }
}

impl<D> StreamConsumer<D> for FileWriter {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let me = &mut *self;
        loop {
            match std::mem::replace(&mut me.state, WriteState::Over) {
                WriteState::Idle if finish => {
                    me.state = WriteState::Idle;
                    return Poll::Ready(Ok(StreamResult::Cancelled));
                }
                WriteState::Idle => {
                    let length = source.remaining().len().min(CHUNK_BYTES);
                    if length == 0 {
                        me.state = WriteState::Idle;
                        return Poll::Ready(Ok(StreamResult::Completed));
                    }
                    me.state = me.claim(length);
                }
                WriteState::Claims(mut claim, length) => match claim.as_mut().poll(cx) {
                    Poll::Ready(Some(claim)) => me.state = WriteState::May(Some(claim), length),
                    Poll::Ready(None) => me.fail(ErrorCode::InsufficientSpace),
                    Poll::Pending if finish => {
                        me.state = WriteState::Idle;
                        return Poll::Ready(Ok(StreamResult::Cancelled));
                    }
                    Poll::Pending => {
                        me.state = WriteState::Claims(claim, length);
                        return Poll::Pending;
                    }
                },
                WriteState::May(claim, length) => {
                    let bytes = source.remaining();
                    match Chunk::copy(&me.account, &bytes[..length.min(bytes.len())]) {
                        Ok(chunk) => {
                            let write = chunk::write(me.account.clone(), me.file.clone(), me.offset, chunk, claim);
                            me.state = WriteState::Writes(Box::pin(write));
                        }
                        Err(error) => me.fail(error.into()),
                    }
                }
                // A running write cannot be undone, so the stream waits for its end even if the guest has cancelled the
                // write.
                WriteState::Writes(mut write) => match write.as_mut().poll(cx) {
                    Poll::Ready(Ok(written)) => {
                        source.mark_read(written.bytes);
                        me.offset = me.offset.map(|offset| offset.saturating_add(written.bytes as u64));
                        me.state = WriteState::Idle;
                        return Poll::Ready(Ok(StreamResult::Completed));
                    }
                    Poll::Ready(Err(error)) => me.fail(error.into()),
                    Poll::Pending => {
                        me.state = WriteState::Writes(write);
                        return Poll::Pending;
                    }
                },
                WriteState::Over => return Poll::Ready(Ok(StreamResult::Dropped)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use bytes::Bytes;
    use wasmtime::component::StreamReader;
    use wasmtime::{Config, Engine, Store};

    use super::super::fake::FakeStorage;
    use super::*;

    const LENGTH: usize = 3 * CHUNK_BYTES + 100;

    /// Writes a stream of [`LENGTH`] bytes to a file. Returns the outcome and the length of the file.
    async fn write(storage: &Arc<FakeStorage>) -> (Result<(), ErrorCode>, usize) {
        let mut config = Config::new();
        config.wasm_component_model_async(true).concurrency_support(true);
        let mut store = Store::new(&Engine::new(&config).unwrap(), ());
        let file = tempfile::NamedTempFile::new().unwrap();
        let (done, result) = oneshot::channel();
        let open = OpenFile::new(&storage.account).unwrap();
        let (account, limit) = (storage.account.clone(), storage.clone() as Arc<dyn FolderStorage>);
        let consumer = FileWriter::new(account, Arc::new(file.reopen().unwrap()), Some(0), Some(limit), done, open);
        let data = StreamReader::new(&mut store, Bytes::from(vec![7; LENGTH])).unwrap();
        data.pipe(&mut store, consumer).unwrap();
        let result = store.run_concurrent(async |_| result.await).await.unwrap().unwrap();
        drop(store);
        (result, std::fs::read(file.path()).unwrap().len())
    }

    #[tokio::test]
    async fn space_is_reserved_before_bytes_are_copied_and_copies_are_charged() {
        let storage = FakeStorage::new(1 << 20, 1 << 20);
        assert_eq!(write(&storage).await.1, LENGTH);
        let (claimed, written) = std::mem::take(&mut *storage.charged.lock().unwrap());
        assert_eq!(claimed, [0; 4], "bytes are copied before space is reserved");
        assert_eq!(written, [CHUNK_BYTES as u64, CHUNK_BYTES as u64, CHUNK_BYTES as u64, 100]);
        assert_eq!((storage.pending.load(Ordering::SeqCst), storage.account.used().host_bytes), (0, 0));
    }

    #[tokio::test]
    async fn a_guest_without_space_or_memory_gets_the_matching_error() {
        let storage = FakeStorage::new(CHUNK_BYTES as u64 + 4096, 1 << 20);
        let (result, length) = write(&storage).await;
        assert!(matches!(result, Err(ErrorCode::InsufficientSpace)), "{result:?}");
        assert_eq!((length, storage.refused.load(Ordering::SeqCst)), (CHUNK_BYTES, 1));
        assert_eq!(
            storage.counts.load(Ordering::SeqCst),
            1,
            "the folders are not measured exactly once before a write is refused"
        );
        let storage = FakeStorage::new(1 << 20, CHUNK_BYTES as u64 - 1);
        let (result, length) = write(&storage).await;
        assert!(matches!(result, Err(ErrorCode::InsufficientMemory)), "{result:?}");
        assert_eq!((length, storage.pending.load(Ordering::SeqCst)), (0, 0));
    }
}
