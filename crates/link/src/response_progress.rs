//! The number of bytes of a response that have been written. The buffer of the response updates the number, and the
//! task that waits for the response reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use isomer_transport::Permit;
use tokio::sync::Notify;

/// The permit of a call, and the permit for the bytes of its response. The second permit is `None` if no permit for the
/// bytes of the result was available: the response is then a short failure instead of the result.
pub(crate) type ResponsePermits = (Permit, Option<Permit>);

/// The progress of writing a response. Clones refer to the same response.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResponseProgress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    written_bytes: AtomicUsize,
    is_finished: AtomicBool,
    finished: Notify,
}

/// A guard inside the buffer of a response, which holds the response's permits. When all bytes are written or the
/// stream discards them, the buffer and the guard are dropped. Dropping the guard returns the permits.
#[derive(Debug)]
pub(crate) struct ResponseGuard {
    progress: ResponseProgress,
    permits: Option<ResponsePermits>,
}

impl ResponseProgress {
    /// Returns a guard for the buffer of the response. The guard holds `permits`.
    pub(crate) fn guard(&self, permits: ResponsePermits) -> ResponseGuard {
        ResponseGuard { progress: self.clone(), permits: Some(permits) }
    }

    pub(crate) fn written_bytes(&self) -> usize {
        self.0.written_bytes.load(Ordering::Relaxed)
    }

    /// Returns whether all bytes of the response are written or discarded.
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished.load(Ordering::Acquire)
    }

    /// Waits until all bytes of the response are written or discarded.
    pub(crate) async fn finished(&self) {
        self.0.finished.notified().await;
    }
}

impl ResponseGuard {
    /// Records that `count` more bytes were written.
    pub(crate) fn add_written(&self, count: usize) {
        self.progress.0.written_bytes.fetch_add(count, Ordering::Relaxed);
    }
}

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        // The permits are returned before the notification, so that a notified task finds them available.
        drop(self.permits.take());
        self.progress.0.is_finished.store(true, Ordering::Release);
        self.progress.0.finished.notify_one();
    }
}
