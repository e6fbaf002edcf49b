//! An answer on its way: what it holds until its last byte is written, and how long that may take.
//!
//! HTTP/2 keeps an answer for as long as its reader opens no window or takes nothing off the network, so what an answer holds is kept
//! beside its bytes and is given back with them: written, or thrown away with their stream. Whoever reads nothing is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use h2::{Reason, SendStream};
use isomer_transport::Permit;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::payload::Payload;

/// A call's place, and its answer's room if it takes any.
pub(crate) type Held = (Permit, Option<Permit>);

/// What is known of an answer that is being written.
#[derive(Debug, Default)]
struct Progress {
    written_bytes: AtomicUsize,
    is_over: AtomicBool,
    over: Notify,
}

/// Goes with an answer's bytes.
#[derive(Debug)]
pub(crate) struct OnItsWay {
    progress: Arc<Progress>,
    held: Option<Held>,
}

impl OnItsWay {
    /// Keeps `held` until it is dropped.
    pub(crate) fn holding(held: Held) -> Self {
        Self { progress: Arc::default(), held: Some(held) }
    }

    /// So many more bytes were written.
    pub(crate) fn wrote(&self, count: usize) {
        self.progress.written_bytes.fetch_add(count, Ordering::Relaxed);
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        // Whoever is told finds it given back.
        drop(self.held.take());
        self.progress.is_over.store(true, Ordering::Release);
        self.progress.over.notify_one();
    }
}

/// An answer that was given to the connection.
pub(crate) struct Writing {
    stream: SendStream<Payload>,
    progress: Arc<Progress>,
    /// Nobody waits for the answer any more.
    end: Instant,
    /// How long nothing may be written.
    timeout: Duration,
}

impl Writing {
    /// Sends `payload` behind its head. The reader has until `deadline` and `timeout` more, and never stops for `timeout`.
    pub(crate) fn begin(
        mut stream: SendStream<Payload>,
        payload: Payload,
        held: Held,
        deadline: Instant,
        timeout: Duration,
    ) -> Option<Self> {
        let on_its_way = OnItsWay::holding(held);
        let progress = on_its_way.progress.clone();
        // Fails only when nobody is there any more.
        stream.send_data(payload.with(on_its_way), true).ok()?;
        Some(Self { stream, progress, end: deadline + timeout, timeout })
    }

    /// Was the last byte written, or all thrown away?
    pub(crate) fn is_over(&self) -> bool {
        self.progress.is_over.load(Ordering::Acquire)
    }

    /// Waits until it is over, and resets the stream if that takes too long, which throws away what was not written.
    pub(crate) async fn finish(mut self) {
        let mut written_bytes = 0;
        while !self.is_over() {
            let now = Instant::now();
            if timeout_at(self.end.min(now + self.timeout), self.progress.over.notified()).await.is_ok() {
                continue;
            }
            let before = std::mem::replace(&mut written_bytes, self.progress.written_bytes.load(Ordering::Relaxed));
            if before == written_bytes || Instant::now() >= self.end {
                isomer_telemetry::debug!("a peer does not read its answer");
                return self.stream.send_reset(Reason::CANCEL);
            }
        }
    }
}
