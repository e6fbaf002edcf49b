//! A request's body on its way to a guest: never larger than its limit, never slower than its pace.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use isomer_runtime::HttpError;
use tokio::time::{Instant, Sleep};

use crate::problem::{BODY_TOO_LARGE, BODY_TOO_SLOW, Problem};

/// How a body ended, for the code that answers the request: the guest only sees that reading failed.
#[derive(Clone, Default)]
pub(crate) struct Verdict(Arc<AtomicU8>);

/// The guest has not read from it so far: a client that waits for `100 (Continue)` has not been told to send it.
const UNREAD: u8 = 0;
const READ: u8 = 1;
const TOO_LARGE: u8 = 2;
const TOO_SLOW: u8 = 3;
const BROKEN_OFF: u8 = 4;

impl Verdict {
    pub(crate) fn problem(&self) -> Option<Problem> {
        match self.0.load(Ordering::Acquire) {
            TOO_LARGE => Some(BODY_TOO_LARGE),
            TOO_SLOW => Some(BODY_TOO_SLOW),
            _ => None,
        }
    }

    /// Returns whether nothing has read from the body so far.
    pub(crate) fn is_unread(&self) -> bool {
        self.0.load(Ordering::Acquire) == UNREAD
    }

    /// Returns whether the client failed to send it. A response that needs it is cut off for that, and not by the guest.
    pub(crate) fn is_clients_fault(&self) -> bool {
        self.0.load(Ordering::Acquire) > READ
    }

    fn set(&self, what: u8) {
        self.0.store(what, Ordering::Release);
    }
}

/// A body with its limits.
pub(crate) struct LimitedBody {
    inner: hyper::body::Incoming,
    left_bytes: u64,
    pace: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    verdict: Verdict,
}

impl LimitedBody {
    pub(crate) fn new(inner: hyper::body::Incoming, bytes_max: u64, pace: Duration, verdict: Verdict) -> Self {
        Self { inner, left_bytes: bytes_max, pace, waiting: None, verdict }
    }
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if self.verdict.is_unread() {
            self.verdict.set(READ);
        }
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let until = Instant::now() + self.pace;
                let sleep = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                std::task::ready!(sleep.as_mut().poll(cx));
                self.verdict.set(TOO_SLOW);
                return Poll::Ready(Some(Err(HttpError::ConnectionReadTimeout)));
            }
        };
        self.waiting = None;
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                match self.left_bytes.checked_sub(bytes) {
                    Some(left) => {
                        self.left_bytes = left;
                        Some(Ok(frame))
                    }
                    None => {
                        self.verdict.set(TOO_LARGE);
                        Some(Err(HttpError::HttpRequestBodySize(None)))
                    }
                }
            }
            Some(Err(error)) => {
                self.verdict.set(BROKEN_OFF);
                Some(Err(HttpError::from(error)))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
