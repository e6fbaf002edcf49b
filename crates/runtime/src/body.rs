//! The body of a guest's response.
//!
//! Reading it drives the guest: the future that runs the rest of the request lives inside the body, so a request is served
//! by the one task that owns its connection, and no other thread has to be woken for a frame. Dropping a body that has not ended
//! drops that future, and with it the store: a client that goes away cancels its guest.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

/// What is left of a request's work once the head of its response is there.
pub(crate) type Run = BoxFuture<'static, ()>;

/// Shared by a response's body and the run that feeds it: has the run failed? Set before the store goes, so that a body that
/// ends because its guest is gone is not taken for one that is complete.
pub(crate) type Failed = Arc<AtomicBool>;

/// A response's body. Frames are those of the guest; a guest that fails midway ends it in an error.
pub struct ResponseBody {
    inner: WasiBody,
    run: Option<Run>,
    failed: Failed,
    /// Told when the last frame has been read.
    ended: Option<oneshot::Sender<()>>,
    /// Nobody will read it (an answer to HEAD, or one that has no body by its status), and that is fine.
    unread: bool,
}

impl ResponseBody {
    pub(crate) fn new(
        inner: WasiBody,
        run: Option<Run>,
        failed: Failed,
        ended: oneshot::Sender<()>,
        unread: bool,
    ) -> Self {
        Self { inner, run, failed, ended: Some(ended), unread }
    }

    /// The guest's last frame was read: lets the run finish, elsewhere if it is not quick about it.
    fn end(&mut self, cx: &mut Context<'_>) {
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(());
        }
        if let Some(mut run) = self.run.take()
            && run.as_mut().poll(cx).is_pending()
        {
            tokio::spawn(run);
        }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(frame) => Some(frame),
            None if self.failed.load(Ordering::Acquire) => {
                self.run = None;
                Some(Err(HttpError::HttpResponseIncomplete))
            }
            None => {
                self.end(cx);
                None
            }
        })
    }

    fn is_complete(&self) -> bool {
        self.ended.is_none() || self.inner.is_end_stream() || self.inner.size_hint().exact() == Some(0)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = this.poll_inner(cx) {
            return Poll::Ready(frame);
        }
        if let Some(run) = &mut this.run {
            if run.as_mut().poll(cx).is_ready() {
                this.run = None;
            }
            return this.poll_inner(cx);
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.ended.is_none() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ResponseBody {
    /// A body that was read to its last byte, or that nobody was going to read, lets its guest finish; any other is cancelled.
    fn drop(&mut self) {
        let complete = self.is_complete();
        if !complete && !self.unread {
            return;
        }
        let (Some(run), Ok(runtime)) = (self.run.take(), tokio::runtime::Handle::try_current()) else { return };
        let ended = self.ended.take();
        let inner = std::mem::take(&mut self.inner);
        runtime.spawn(async move {
            let read = async move {
                if !complete {
                    let mut inner = inner;
                    while let Some(Ok(_)) = inner.frame().await {}
                }
                if let Some(ended) = ended {
                    let _ = ended.send(());
                }
            };
            futures::future::join(run, read).await;
        });
    }
}
