//! Output streams of WASI 0.2 into files: each asks the storage for what it is to write.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::{FolderStorage, Store, claim, cost, full, storage};

type Answer = (Result<Resource<DynOutputStream>, ErrorCode>,);

/// Lets the stream of an answer ask the storage, if that has a limit.
pub(super) fn charged(store: &mut Store<'_>, answer: Answer) -> wasmtime::Result<Answer> {
    if let (Ok(stream), Some(storage)) = (&answer.0, storage(store)) {
        let slot = store.data_mut().table().get_mut(stream)?;
        let inner = std::mem::replace(slot, Box::new(Nothing));
        *slot = Box::new(Charged { inner, storage, counting: None, has_counted: false });
    }
    Ok(answer)
}

struct Charged {
    inner: DynOutputStream,
    storage: Arc<dyn FolderStorage>,
    /// The folders are being counted, as nothing was left.
    counting: Option<BoxFuture<'static, ()>>,
    /// They were: if nothing is left now, nothing is.
    has_counted: bool,
}

fn refused() -> StreamError {
    StreamError::LastOperationFailed(full().into())
}

#[async_trait]
impl Pollable for Charged {
    async fn ready(&mut self) {
        if let Some(counting) = &mut self.counting {
            counting.await;
            self.counting = None;
        }
        self.inner.ready().await;
    }
}

#[async_trait]
impl OutputStream for Charged {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // What `check_write` saw may be somebody else's by now.
        if self.storage.claim(cost(bytes.len())) { self.inner.write(bytes) } else { Err(refused()) }
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let permitted = self.inner.check_write()?;
        if permitted == 0 || self.counting.is_some() {
            return Ok(0);
        }
        if self.storage.has_room(cost(permitted)) {
            self.has_counted = false;
            return Ok(permitted);
        }
        if std::mem::replace(&mut self.has_counted, true) {
            self.has_counted = false;
            return Err(refused());
        }
        self.counting = Some(self.storage.count());
        Ok(0)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        if !claim(&*self.storage, cost(bytes.len())).await {
            return Err(refused());
        }
        self.inner.blocking_write_and_flush(bytes).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// Stands where a stream was for as long as it is moved.
struct Nothing;

#[async_trait]
impl Pollable for Nothing {
    async fn ready(&mut self) {}
}

impl OutputStream for Nothing {
    fn write(&mut self, _: Bytes) -> StreamResult<()> {
        Err(StreamError::Closed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Err(StreamError::Closed)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Err(StreamError::Closed)
    }
}
