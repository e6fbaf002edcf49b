//! How many bytes of a response have been written. The bytes themselves and the task that waits for them share this
//! state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use isomer_transport::Permit;
use tokio::sync::Notify;

/// The permit of a call, and the permit for the bytes of its response if they need one.
pub(crate) type ResponsePermits = (Permit, Option<Permit>);

/// The progress of a response. Clones are the same response.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResponseProgress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    written_bytes: AtomicUsize,
    is_finished: AtomicBool,
    finished: Notify,
}

/// Travels with the bytes of a response, and is dropped with them: written, or discarded with their stream. Returns the permits then.
#[derive(Debug)]
pub(crate) struct ResponseGuard {
    progress: ResponseProgress,
    permits: Option<ResponsePermits>,
}

impl ResponseProgress {
    /// Returns a guard for the bytes of the response, which holds `permits`.
    pub(crate) fn guard(&self, permits: ResponsePermits) -> ResponseGuard {
        ResponseGuard { progress: self.clone(), permits: Some(permits) }
    }

    pub(crate) fn written_bytes(&self) -> usize {
        self.0.written_bytes.load(Ordering::Relaxed)
    }

    /// Returns whether the last byte was written, or all were discarded.
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished.load(Ordering::Acquire)
    }

    /// Resolves when the last byte is written, or all are discarded.
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
        // Before the notification: a task that is notified finds the permits returned.
        drop(self.permits.take());
        self.progress.0.is_finished.store(true, Ordering::Release);
        self.progress.0.finished.notify_one();
    }
}
