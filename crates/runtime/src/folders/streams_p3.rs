//! Streams of WASI 0.3 into and out of files. A stream holds one chunk at most. Space is reserved first, then bytes are
//! copied: a guest whose storage or memory is used up costs the host nothing.

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

use super::chunk::{self, CHUNK_BYTES, Chunk, Written};
use super::open_files::OpenFile;
use super::storage::{FolderStorage, SpaceReservation, cost};
use crate::pool::Account;

/// Sends the outcome of a stream. Dropping it reports success: all went well, or as far as the guest wanted.
struct Done(Option<oneshot::Sender<Result<(), ErrorCode>>>);

impl Done {
    fn say(&mut self, result: Result<(), ErrorCode>) {
        if let Some(done) = self.0.take() {
            // The guest may have dropped the future.
            let _ = done.send(result);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        self.say(Ok(()));
    }
}

/// Reads a file from an offset on.
pub(crate) struct Read {
    account: Arc<Account>,
    file: Arc<File>,
    offset: u64,
    state: Reading,
    done: Done,
    _open: OpenFile,
}

enum Reading {
    Idle,
    Reads(BoxFuture<'static, io::Result<Chunk>>),
    Has(Chunk),
    Over,
}

impl Read {
    pub(crate) fn new(
        account: Arc<Account>,
        file: Arc<File>,
        offset: u64,
        done: oneshot::Sender<Result<(), ErrorCode>>,
        open: OpenFile,
    ) -> Self {
        Self { account, file, offset, state: Reading::Idle, done: Done(Some(done)), _open: open }
    }
}

impl<D> StreamProducer<D> for Read {
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
                Reading::Idle if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Reading::Idle => {
                    let read = chunk::read(me.account.clone(), me.file.clone(), me.offset, wanted);
                    me.state = Reading::Reads(Box::pin(read));
                }
                // Bytes that are too late for this read are kept for the next one.
                Reading::Reads(read) => match read.as_mut().poll(cx) {
                    Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                    polled => match ready!(polled) {
                        Ok(chunk) if chunk.is_empty() => {
                            me.state = Reading::Over;
                            me.done.say(Ok(()));
                        }
                        Ok(chunk) => me.state = Reading::Has(chunk),
                        Err(error) => {
                            me.state = Reading::Over;
                            me.done.say(Err(error.into()));
                        }
                    },
                },
                Reading::Has(chunk) => {
                    let mut destination = destination.as_direct(store, chunk.bytes().len());
                    let place = destination.remaining();
                    let length = place.len().min(chunk.bytes().len());
                    place[..length].copy_from_slice(&chunk.bytes()[..length]);
                    destination.mark_written(length);
                    chunk.advance(length);
                    me.offset = me.offset.saturating_add(length as u64);
                    if chunk.is_empty() {
                        me.state = Reading::Idle;
                    }
                    return Poll::Ready(Ok(StreamResult::Completed));
                }
                Reading::Over => return Poll::Ready(Ok(StreamResult::Dropped)),
            }
        }
    }
}

/// Writes a file from an offset on, or at its end.
pub(crate) struct Write {
    account: Arc<Account>,
    file: Arc<File>,
    /// `None` means the end of the file.
    offset: Option<u64>,
    /// `None` if there is no limit.
    storage: Option<Arc<dyn FolderStorage>>,
    state: Writing,
    done: Done,
    _open: OpenFile,
}

enum Writing {
    Idle,
    /// Waits for space for so many bytes.
    Claims(BoxFuture<'static, Option<SpaceReservation>>, usize),
    /// Has reserved space for so many bytes.
    May(Option<SpaceReservation>, usize),
    Writes(BoxFuture<'static, io::Result<Written>>),
    Over,
}

impl Write {
    pub(crate) fn new(
        account: Arc<Account>,
        file: Arc<File>,
        offset: Option<u64>,
        storage: Option<Arc<dyn FolderStorage>>,
        done: oneshot::Sender<Result<(), ErrorCode>>,
        open: OpenFile,
    ) -> Self {
        Self { account, file, offset, storage, state: Writing::Idle, done: Done(Some(done)), _open: open }
    }

    fn fail(&mut self, error: ErrorCode) {
        self.state = Writing::Over;
        self.done.say(Err(error));
    }

    /// Returns the first step of a write of `length` bytes.
    fn claim(&self, length: usize) -> Writing {
        let Some(storage) = &self.storage else { return Writing::May(None, length) };
        let bytes = cost(self.offset, length);
        match SpaceReservation::now(storage, bytes) {
            Some(claim) => Writing::May(Some(claim), length),
            None => {
                let storage = storage.clone();
                Writing::Claims(Box::pin(async move { SpaceReservation::wait(&storage, bytes).await }), length)
            }
        }
    }
}

impl<D> StreamConsumer<D> for Write {
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
            match std::mem::replace(&mut me.state, Writing::Over) {
                Writing::Idle if finish => {
                    me.state = Writing::Idle;
                    return Poll::Ready(Ok(StreamResult::Cancelled));
                }
                Writing::Idle => {
                    let length = source.remaining().len().min(CHUNK_BYTES);
                    if length == 0 {
                        me.state = Writing::Idle;
                        return Poll::Ready(Ok(StreamResult::Completed));
                    }
                    me.state = me.claim(length);
                }
                Writing::Claims(mut claim, length) => match claim.as_mut().poll(cx) {
                    Poll::Ready(Some(claim)) => me.state = Writing::May(Some(claim), length),
                    Poll::Ready(None) => me.fail(ErrorCode::InsufficientSpace),
                    Poll::Pending if finish => {
                        me.state = Writing::Idle;
                        return Poll::Ready(Ok(StreamResult::Cancelled));
                    }
                    Poll::Pending => {
                        me.state = Writing::Claims(claim, length);
                        return Poll::Pending;
                    }
                },
                Writing::May(claim, length) => {
                    let bytes = source.remaining();
                    match Chunk::copy(&me.account, &bytes[..length.min(bytes.len())]) {
                        Ok(chunk) => {
                            let write = chunk::write(me.account.clone(), me.file.clone(), me.offset, chunk, claim);
                            me.state = Writing::Writes(Box::pin(write));
                        }
                        Err(error) => me.fail(error.into()),
                    }
                }
                // A write cannot be undone, so it is waited for even if the guest no longer wants it.
                Writing::Writes(mut write) => match write.as_mut().poll(cx) {
                    Poll::Ready(Ok(written)) => {
                        source.mark_read(written.bytes);
                        me.offset = me.offset.map(|offset| offset.saturating_add(written.bytes as u64));
                        me.state = Writing::Idle;
                        return Poll::Ready(Ok(StreamResult::Completed));
                    }
                    Poll::Ready(Err(error)) => me.fail(error.into()),
                    Poll::Pending => {
                        me.state = Writing::Writes(write);
                        return Poll::Pending;
                    }
                },
                Writing::Over => return Poll::Ready(Ok(StreamResult::Dropped)),
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

    use super::super::fake::Fake;
    use super::*;

    const LENGTH: usize = 3 * CHUNK_BYTES + 100;

    /// Writes a stream of [`LENGTH`] bytes into a file. Returns the outcome, and the length of the file.
    async fn write(storage: &Arc<Fake>) -> (Result<(), ErrorCode>, usize) {
        let mut config = Config::new();
        config.wasm_component_model_async(true).concurrency_support(true);
        let mut store = Store::new(&Engine::new(&config).unwrap(), ());
        let file = tempfile::NamedTempFile::new().unwrap();
        let (done, result) = oneshot::channel();
        let open = OpenFile::new(&storage.account).unwrap();
        let (account, limit) = (storage.account.clone(), storage.clone() as Arc<dyn FolderStorage>);
        let consumer = Write::new(account, Arc::new(file.reopen().unwrap()), Some(0), Some(limit), done, open);
        let data = StreamReader::new(&mut store, Bytes::from(vec![7; LENGTH])).unwrap();
        data.pipe(&mut store, consumer).unwrap();
        let result = store.run_concurrent(async |_| result.await).await.unwrap().unwrap();
        drop(store);
        (result, std::fs::read(file.path()).unwrap().len())
    }

    #[tokio::test]
    async fn what_is_written_is_claimed_before_it_is_copied_and_charged_while_it_is_there() {
        let storage = Fake::new(1 << 20, 1 << 20);
        assert_eq!(write(&storage).await.1, LENGTH);
        let (claimed, written) = std::mem::take(&mut *storage.charged.lock().unwrap());
        assert_eq!(claimed, [0; 4], "nothing is copied yet");
        assert_eq!(written, [CHUNK_BYTES as u64, CHUNK_BYTES as u64, CHUNK_BYTES as u64, 100]);
        assert_eq!((storage.pending.load(Ordering::SeqCst), storage.account.used().host_bytes), (0, 0));
    }

    #[tokio::test]
    async fn a_guest_without_space_or_memory_is_told_which() {
        let storage = Fake::new(CHUNK_BYTES as u64 + 4096, 1 << 20);
        let (result, length) = write(&storage).await;
        assert!(matches!(result, Err(ErrorCode::InsufficientSpace)), "{result:?}");
        assert_eq!((length, storage.refused.load(Ordering::SeqCst)), (CHUNK_BYTES, 1));
        assert_eq!(storage.counts.load(Ordering::SeqCst), 1, "the folders are counted before anything is refused");
        let storage = Fake::new(1 << 20, CHUNK_BYTES as u64 - 1);
        let (result, length) = write(&storage).await;
        assert!(matches!(result, Err(ErrorCode::InsufficientMemory)), "{result:?}");
        assert_eq!((length, storage.pending.load(Ordering::SeqCst)), (0, 0));
    }
}
