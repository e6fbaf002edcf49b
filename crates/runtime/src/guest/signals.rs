//! The state that the body of a response and the guest's execution share while the guest produces the body.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Context;
use std::time::Duration;

use futures::task::AtomicWaker;
use http::StatusCode;
use isomer_display::excerpt;
use tokio::time::timeout_at;

use super::scope::TimeLimit;
use crate::failure::Failure;

/// The state that the body of a response and the guest's execution share while the guest produces the body.
#[derive(Debug)]
pub(crate) struct ResponseSignals {
    /// The reason why the execution failed. It is set before the wasmtime store is dropped, because dropping the store
    /// ends the body, which would otherwise look complete.
    pub(crate) failed: OnceLock<String>,
    /// Whether the body has returned a frame to its reader, and the reader has not polled for the next one. If so, the
    /// guest waits for the client.
    pub(crate) unasked: AtomicBool,
    /// Whether the handler has returned and none of its work is still running. If the body is still open at that point,
    /// it will never be finished.
    returned: AtomicBool,
    /// Wakes the task that reads the body, which is often not the task that runs the guest.
    reader: AtomicWaker,
    /// The time limit of the request if its response is not an event stream.
    until: TimeLimit,
    /// The time limit of the request if its response is an event stream (server-sent events).
    until_of_stream: TimeLimit,
    is_stream: AtomicBool,
}

/// The time between the deadline at which the front door ends an event stream and the deadline at which the runtime
/// ends it. The front door's deadline comes first because the front door can end the response properly.
pub(crate) const STREAM_GRACE: Duration = Duration::from_secs(5);

impl ResponseSignals {
    /// Returns the signals of a request with the time limit `until`. If the response is an event stream, the limit is
    /// `stream_allowed` plus [`STREAM_GRACE`] after the start of the request, but not earlier than `until`.
    /// `stream_allowed` is `None` if the client reads no body; `until` then applies to event streams, too.
    pub(crate) fn new(until: TimeLimit, stream_allowed: Option<Duration>) -> Arc<Self> {
        let until_of_stream = stream_allowed.and_then(|stream_allowed| {
            let allowed = stream_allowed.saturating_add(STREAM_GRACE).max(until.allowed);
            let deadline = until.deadline.checked_add(allowed.saturating_sub(until.allowed))?;
            Some(TimeLimit { deadline, allowed })
        });
        let until_of_stream = until_of_stream.unwrap_or(until);
        Arc::new(Self {
            failed: OnceLock::new(),
            unasked: AtomicBool::new(false),
            returned: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            until,
            until_of_stream,
            is_stream: AtomicBool::new(false),
        })
    }

    pub(crate) fn fail(&self, why: &Failure) {
        // If a reason is already set, the first reason is kept.
        let _ = self.failed.set(excerpt::cut(why, excerpt::TEXT_BYTES_MAX));
    }

    pub(crate) fn waits_for_client(&self) -> bool {
        self.unasked.load(Ordering::Relaxed)
    }

    /// Records that the handler has returned while the body of its response is open.
    pub(crate) fn set_returned(&self) {
        self.returned.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Returns whether the handler has returned. If not, `cx` is woken when the handler returns.
    pub(crate) fn poll_returned(&self, cx: &Context<'_>) -> bool {
        if !self.returned.load(Ordering::Acquire) {
            self.reader.register(cx.waker());
        }
        self.returned.load(Ordering::Acquire)
    }

    /// Records the head of the response, which determines the time limit of the request.
    pub(crate) fn note_head<B>(&self, response: &http::Response<B>) {
        if is_event_stream(response.headers()) && !has_no_content(response.status()) {
            self.is_stream.store(true, Ordering::Release);
        }
    }

    /// Returns the time limit of the request. It may grow when the head of the response is recorded.
    pub(crate) fn until(&self) -> TimeLimit {
        if self.is_stream.load(Ordering::Acquire) { self.until_of_stream } else { self.until }
    }

    /// Polls `run` until it is ready, and returns its output. Returns `None` if the time limit of the request is
    /// reached first.
    pub(crate) async fn limit<T>(&self, run: impl Future<Output = T>) -> Option<T> {
        let mut run = pin!(run);
        loop {
            let deadline = self.until().deadline;
            match timeout_at(deadline.into(), run.as_mut()).await {
                Ok(output) => return Some(output),
                Err(_) if self.until().deadline > deadline => {}
                Err(_) => return None,
            }
        }
    }
}

/// Returns whether a response with the header fields `headers` is an event stream (server-sent events).
#[must_use]
pub fn is_event_stream(headers: &http::HeaderMap) -> bool {
    let Some(value) = headers.get(http::header::CONTENT_TYPE) else { return false };
    let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// Returns whether a response with the status code `status` has no content (RFC 9110, sections 6.4.1 and 15.3.6), even
/// if the guest sends a body.
#[must_use]
pub fn has_no_content(status: StatusCode) -> bool {
    let without = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    status.is_informational() || without.contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals() -> Arc<ResponseSignals> {
        let allowed = Duration::from_secs(30);
        ResponseSignals::new(
            TimeLimit { deadline: std::time::Instant::now() + allowed, allowed },
            Some(Duration::from_secs(3600)),
        )
    }

    #[test]
    fn only_an_event_stream_may_take_longer_than_its_request() {
        let signals = signals();
        let first = signals.until().deadline;
        signals.note_head(&http::Response::builder().header("content-type", "text/event-streams").body(()).unwrap());
        assert_eq!(signals.until().deadline, first);
        let events = http::Response::builder().header("content-type", "Text/Event-Stream; charset=utf-8");
        let events = events.body(()).unwrap();
        signals.note_head(&events);
        assert_eq!(signals.until().deadline, first + Duration::from_secs(3600 - 30) + STREAM_GRACE);
        // The client of a `HEAD` request reads no body, so the guest must not be kept running to produce one.
        let of_head = ResponseSignals::new(TimeLimit { deadline: first, allowed: Duration::from_secs(30) }, None);
        of_head.note_head(&events);
        assert_eq!(of_head.until().deadline, first);
        let empty = self::signals();
        let first = empty.until().deadline;
        let nothing = http::Response::builder().status(204).header("content-type", "text/event-stream");
        empty.note_head(&nothing.body(()).unwrap());
        assert_eq!(empty.until().deadline, first);
    }
}
