//! The body of a guest's response.
//!
//! Reading it drives the guest: the future that runs the rest of the request lives inside the body, so a request is served
//! by the one task that owns its connection, and no other thread has to be woken for a frame. Dropping a body that has not ended
//! drops that future, and with it the store: a client that goes away cancels its guest.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::Either;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use crate::account::{HostMemory, OutOfMemory};
use crate::lanes::Metered;

/// What is left of a request's work once the head of its response is there.
pub(crate) type Run = Metered<()>;

/// What a response's body and the run that feeds it tell one another.
#[derive(Default)]
pub(crate) struct Signals {
    /// The run has failed. Set before the store goes, so that a body that ends because its guest is gone is not taken for one
    /// that is complete.
    failed: AtomicBool,
    /// A frame has been handed out and the next one has not been asked for: it is the client that is slow, not the guest.
    unasked: AtomicBool,
}

impl Signals {
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(crate) fn waits_for_client(&self) -> bool {
        self.unasked.load(Ordering::Relaxed)
    }
}

/// Who does the rest of a request's work.
pub(crate) enum Rest {
    /// The reader of the body, by polling this.
    Reader(Run),
    /// The instance's own task.
    Elsewhere,
    /// Nobody: the run has ended.
    Over,
}

/// A response's body. Frames are those of the guest; a guest that fails midway ends it in an error.
pub struct ResponseBody {
    inner: WasiBody,
    rest: Rest,
    signals: Arc<Signals>,
    /// Told when the last frame has been read.
    ended: Option<oneshot::Sender<()>>,
    /// Bytes that are missing to the announced length. A server that has sent that many does not ask for the end.
    missing_bytes: Option<u64>,
    /// Nobody will read it (an answer to HEAD, or one that has no body by its status), and that is fine.
    unread: bool,
    /// What the host holds for the request and for this.
    _memory: Option<HostMemory>,
}

/// Pieces of a response that wait between the guest and its client: one that the guest has handed over, one that is on its way, and what the
/// server holds (`front/src/server.rs`) while the client does not read.
const RESPONSE_BUFFER_BYTES: usize = 160 << 10;

/// A body or head up to this size is part of what each request is charged.
const SMALL_RESPONSE_BYTES: usize = 2 << 10;

impl ResponseBody {
    /// The body of `response`, to whose method the server sends a body unless `unread`.
    pub(crate) fn of(
        response: http::Response<WasiBody>,
        rest: Rest,
        signals: Arc<Signals>,
        ended: oneshot::Sender<()>,
        unread: bool,
    ) -> http::Response<Self> {
        let length = response.headers().get(http::header::CONTENT_LENGTH);
        let missing_bytes = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let unread = unread || has_no_body(response.status());
        response.map(|inner| Self { inner, rest, signals, ended: Some(ended), missing_bytes, unread, _memory: None })
    }

    /// Holds the charge of its request, with what the response and its head of `head_bytes` add to it.
    ///
    /// # Errors
    /// When the account's memory is used up.
    pub(crate) fn charged(mut self, head_bytes: usize, mut memory: HostMemory) -> Result<Self, OutOfMemory> {
        let longest = usize::try_from(self.inner.size_hint().upper().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        // A small one is part of what each request is charged.
        if longest > SMALL_RESPONSE_BYTES || head_bytes > SMALL_RESPONSE_BYTES {
            memory.grow(longest.min(RESPONSE_BUFFER_BYTES) + head_bytes)?;
        }
        self._memory = Some(memory);
        Ok(self)
    }

    /// The guest's last frame was read: lets the run finish, elsewhere if it is not quick about it.
    fn end(&mut self, cx: &mut Context<'_>) {
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(());
        }
        if let Rest::Reader(mut run) = std::mem::replace(&mut self.rest, Rest::Over)
            && Pin::new(&mut run).poll(cx).is_pending()
        {
            tokio::spawn(run);
        }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let (Some(missing), Some(Ok(frame))) = (&mut self.missing_bytes, &frame) {
            *missing = missing.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(match frame {
            Some(frame) => Some(frame),
            None if self.signals.failed.load(Ordering::Acquire) => {
                self.rest = Rest::Over;
                Some(Err(HttpError::HttpResponseIncomplete))
            }
            None => {
                self.end(cx);
                None
            }
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = self.poll_inner(cx) {
            return Poll::Ready(frame);
        }
        if let Rest::Reader(run) = &mut self.rest {
            if Pin::new(run).poll(cx).is_pending() {
                return self.poll_inner(cx);
            }
            self.rest = Rest::Over;
            if let Poll::Ready(frame) = self.poll_inner(cx) {
                return Poll::Ready(frame);
            }
        }
        match self.rest {
            // A handler of 0.2 that returned and kept the body open in a forgotten handle: nobody is left to end it.
            Rest::Over => Poll::Ready(Some(Err(HttpError::HttpResponseIncomplete))),
            Rest::Reader(_) | Rest::Elsewhere => Poll::Pending,
        }
    }

    fn is_complete(&self) -> bool {
        self.is_end_stream() || self.missing_bytes == Some(0) || self.inner.size_hint().exact() == Some(0)
    }
}

/// Responses that have no body by their status (RFC 9110, section 6.4.1).
fn has_no_body(status: http::StatusCode) -> bool {
    status.is_informational() || status == http::StatusCode::NO_CONTENT || status == http::StatusCode::NOT_MODIFIED
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        let frame = this.poll(cx);
        this.signals.unasked.store(frame.is_ready(), Ordering::Relaxed);
        frame
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
        if !self.is_complete() && !self.unread {
            return;
        }
        let Rest::Reader(run) = std::mem::replace(&mut self.rest, Rest::Over) else { return };
        let (Some(ended), Ok(runtime)) = (self.ended.take(), tokio::runtime::Handle::try_current()) else { return };
        let mut inner = std::mem::take(&mut self.inner);
        runtime.spawn(async move {
            // What is left of it, if only its end: a guest that writes into a closed body would take that for an error.
            let read = pin!(async move {
                while let Some(Ok(_)) = inner.frame().await {}
                let _ = ended.send(());
            });
            // The run ends by its deadline, whatever the guest does with the body.
            if let Either::Right(((), run)) = futures::future::select(run, read).await {
                run.await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use http_body_util::StreamBody;

    use super::*;
    use crate::account::Account;

    type Pieces = Vec<Result<Frame<Bytes>, HttpError>>;

    /// A body of one piece, which says that it is `length` bytes long and ends only if `closed`.
    fn body(closed: bool, length: &'static str, rest: Rest) -> (ResponseBody, oneshot::Receiver<()>) {
        let pieces: Pieces = vec![Ok(Frame::data(Bytes::from_static(b"hello")))];
        let pieces = futures::stream::iter(pieces);
        let inner = if closed {
            StreamBody::new(pieces).boxed_unsync()
        } else {
            StreamBody::new(futures::StreamExt::chain(pieces, futures::stream::pending())).boxed_unsync()
        };
        let response = http::Response::builder().header("content-length", length).body(inner).unwrap();
        let (ended, end) = oneshot::channel();
        (ResponseBody::of(response, rest, Arc::default(), ended, false).into_body(), end)
    }

    #[test]
    fn a_body_that_nobody_is_left_to_end_is_incomplete() {
        let (mut body, _) = body(false, "9", Rest::Over);
        assert!(body.frame().now_or_never().unwrap().unwrap().is_ok());
        assert!(body.frame().now_or_never().expect("an end").expect("an error").is_err());
    }

    #[test]
    fn a_guest_whose_response_has_its_announced_length_is_not_cancelled() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for (length, finishes) in [("5", true), ("9", false)] {
                let (finished, end_of_run) = oneshot::channel();
                let (go_on, told) = oneshot::channel();
                let run = async move {
                    if told.await.is_ok() {
                        let _ = finished.send(());
                    }
                };
                let (mut body, end) =
                    body(true, length, Rest::Reader(Metered::new(&Account::unlimited(), Box::pin(run))));
                body.frame().await.unwrap().unwrap();
                drop(body);
                let _ = go_on.send(end.await);
                assert_eq!(end_of_run.await.is_ok(), finishes, "{length}");
            }
        });
    }
}
