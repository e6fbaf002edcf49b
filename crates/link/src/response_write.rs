//! Writing a response, with time limits.
//!
//! HTTP/2 keeps a response in memory while the peer does not open the window or does not read from the network. So the
//! permits of a response are stored with its bytes and are returned when the bytes are written or discarded
//! ([`ResponseProgress`]). If a peer does not read, its stream is reset.

use std::time::Duration;

use h2::{Reason, SendStream};
use tokio::time::{Instant, timeout_at};

use crate::payload::Payload;
use crate::response_progress::{ResponsePermits, ResponseProgress};

/// A response that was passed to the connection and may not be fully written yet.
pub(crate) struct ResponseWrite {
    stream: SendStream<Payload>,
    progress: ResponseProgress,
    /// The time at which the stream is reset even if the peer still reads.
    end: Instant,
    /// The maximum time without a written byte.
    timeout: Duration,
}

impl ResponseWrite {
    /// Sends `payload` after the HTTP head. [`ResponseWrite::finish`] resets the stream if the peer has not read the
    /// whole payload within `timeout` after `deadline`, or if the peer reads nothing for `timeout`. Returns `None` if
    /// the stream is closed.
    pub(crate) fn begin(
        mut stream: SendStream<Payload>,
        payload: Payload,
        permits: ResponsePermits,
        deadline: Instant,
        timeout: Duration,
    ) -> Option<Self> {
        let progress = ResponseProgress::default();
        // Sending fails only if the stream is closed.
        stream.send_data(payload.with(progress.guard(permits)), true).ok()?;
        Some(Self { stream, progress, end: deadline + timeout, timeout })
    }

    /// Returns whether all bytes of the response are written or discarded.
    pub(crate) fn is_finished(&self) -> bool {
        self.progress.is_finished()
    }

    /// Waits until the response is written. If a time limit is exceeded, resets the stream, which discards the
    /// unwritten bytes.
    pub(crate) async fn finish(mut self) {
        let mut written_bytes = 0;
        while !self.is_finished() {
            let now = Instant::now();
            if timeout_at(self.end.min(now + self.timeout), self.progress.finished()).await.is_ok() {
                continue;
            }
            let before = std::mem::replace(&mut written_bytes, self.progress.written_bytes());
            if before == written_bytes || Instant::now() >= self.end {
                isomer_telemetry::debug!("a peer does not read a response");
                return self.stream.send_reset(Reason::CANCEL);
            }
        }
    }
}
