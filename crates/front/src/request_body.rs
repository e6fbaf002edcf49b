//! The body of a request on its way to a handler, with a maximum size and a timeout for each piece.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::problem::{BODY_TOO_LARGE, BODY_TOO_SLOW, Problem};

/// The outcome of reading a request's body. The code that responds to the request needs the reason for a failure, which
/// the handler does not receive.
#[derive(Clone, Default)]
pub(crate) struct BodyOutcome(Arc<AtomicU8>);

/// The state of a body from which the handler has not read. For such a body, hyper has not sent `100 (Continue)` to a
/// client that waits for it.
const UNREAD: u8 = 0;
const READ: u8 = 1;
const TOO_LARGE: u8 = 2;
const TOO_SLOW: u8 = 3;
const BROKEN_OFF: u8 = 4;

impl BodyOutcome {
    /// Returns the problem for the client if reading the body failed.
    pub(crate) fn problem(&self) -> Option<Problem> {
        match self.0.load(Ordering::Acquire) {
            TOO_LARGE => Some(BODY_TOO_LARGE),
            TOO_SLOW => Some(BODY_TOO_SLOW),
            _ => None,
        }
    }

    /// Returns whether nothing has been read from the body.
    pub(crate) fn is_unread(&self) -> bool {
        self.0.load(Ordering::Acquire) == UNREAD
    }

    /// Returns whether the body was too large, arrived too slowly or arrived only in part. If so, a response that is
    /// cut off is the client's fault and not the guest's.
    pub(crate) fn is_clients_fault(&self) -> bool {
        self.0.load(Ordering::Acquire) > READ
    }

    fn set(&self, outcome: u8) {
        self.0.store(outcome, Ordering::Release);
    }
}

/// The source of a request's body.
pub(crate) enum BodySource {
    /// The client's connection.
    Connection(Incoming),
    /// Bytes in memory, for requests of the platform itself.
    Memory(Full<Bytes>),
}

/// A request's body with a maximum size and a timeout for each piece.
pub struct RequestBody {
    source: BodySource,
    left_bytes: u64,
    /// The maximum time to wait for the next piece.
    timeout: Duration,
    /// The timer for the next piece, or `None` if the handler does not wait for one.
    timer: Option<Pin<Box<Sleep>>>,
    outcome: BodyOutcome,
}

/// The reason why reading a request's body failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// The body is larger than the component's maximum.
    #[error("the request's body is too large")]
    TooLarge,
    /// The next piece of the body did not arrive in time.
    #[error("the request's body did not arrive in time")]
    TooSlow,
    /// The connection failed, or the client violated HTTP.
    #[error("the request's body arrived only in part")]
    Connection(#[source] hyper::Error),
}

impl BodySource {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::Connection(body) => Pin::new(body).poll_frame(cx),
            Self::Memory(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Connection(body) => body.is_end_stream(),
            Self::Memory(body) => body.is_end_stream(),
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Connection(body) => body.size_hint(),
            Self::Memory(body) => body.size_hint(),
        }
    }
}

impl RequestBody {
    /// Creates a body that reads from `source`. Reading fails if `source` has more than `bytes_max` bytes, or if a
    /// piece does not arrive within `timeout`.
    pub(crate) fn new(source: BodySource, bytes_max: u64, timeout: Duration, outcome: BodyOutcome) -> Self {
        Self { source, left_bytes: bytes_max, timeout, timer: None, outcome }
    }

    /// Creates an empty body.
    pub(crate) fn empty() -> Self {
        Self::new(BodySource::Memory(Full::default()), 0, Duration::MAX, BodyOutcome::default())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if self.outcome.is_unread() {
            self.outcome.set(READ);
        }
        let frame = match self.source.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let until = Instant::now() + self.timeout;
                let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                std::task::ready!(timer.as_mut().poll(cx));
                self.outcome.set(TOO_SLOW);
                return Poll::Ready(Some(Err(RequestBodyError::TooSlow)));
            }
        };
        self.timer = None;
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                match self.left_bytes.checked_sub(bytes) {
                    Some(left) => {
                        self.left_bytes = left;
                        Some(Ok(frame))
                    }
                    None => {
                        self.outcome.set(TOO_LARGE);
                        Some(Err(RequestBodyError::TooLarge))
                    }
                }
            }
            Some(Err(error)) => {
                self.outcome.set(BROKEN_OFF);
                Some(Err(RequestBodyError::Connection(error)))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll(body: &mut RequestBody) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    fn body(bytes: &'static [u8], max: u64) -> (RequestBody, BodyOutcome) {
        let outcome = BodyOutcome::default();
        let source = BodySource::Memory(Full::new(Bytes::from_static(bytes)));
        (RequestBody::new(source, max, Duration::from_secs(1), outcome.clone()), outcome)
    }

    #[test]
    fn a_body_within_its_limit_is_read_whole() {
        let (mut body, outcome) = body(b"12345", 5);
        assert!(outcome.is_unread());
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some()));
        assert!(matches!(poll(&mut body), Poll::Ready(None)));
        assert!(!outcome.is_unread() && !outcome.is_clients_fault() && outcome.problem().is_none());
    }

    #[test]
    fn a_body_beyond_its_limit_fails_and_says_why() {
        let (mut body, outcome) = body(b"123456", 5);
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(RequestBodyError::TooLarge)))));
        assert!(outcome.is_clients_fault());
        assert_eq!(outcome.problem(), Some(BODY_TOO_LARGE));
    }
}
