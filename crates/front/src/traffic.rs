//! What goes on in a connection: whether a request is in progress, since when there is none, and whether bytes still come.
//!
//! Over HTTP/1.1 hyper closes a connection whose next request does not come. Over HTTP/2 it only asks whether the peer is alive, so a
//! peer that answers could keep its place among the connections for ever without a request, or with one whose head never ends
//! ([`idle`]). A front door that stops closes a connection only after its client has been silent for a while ([`quiet`]).

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::forwarded::Ends;
use crate::tls::Secured;

/// What goes on in a connection. Shared by its task, its requests and the registry of places.
pub(crate) struct Traffic {
    /// Requests in progress.
    running: AtomicUsize,
    /// When the last request ended, or the connection was made: milliseconds of [`now_ms`].
    waiting_since_ms: AtomicU64,
    /// How often bytes came.
    reads: AtomicU64,
    /// Between whom it is.
    ends: OnceLock<Ends>,
    /// What its handshake has settled, if it had one.
    secured: OnceLock<Secured>,
    evicted: Notify,
}

/// A request in progress. Over when dropped.
pub(crate) struct InProgress(Arc<Traffic>);

impl Traffic {
    /// A connection that is made now.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            running: AtomicUsize::new(0),
            waiting_since_ms: AtomicU64::new(now_ms()),
            reads: AtomicU64::new(0),
            ends: OnceLock::new(),
            secured: OnceLock::new(),
            evicted: Notify::new(),
        })
    }

    /// A request begins.
    pub(crate) fn begin(traffic: &Arc<Self>) -> InProgress {
        traffic.running.fetch_add(1, Ordering::AcqRel);
        InProgress(traffic.clone())
    }

    /// Notes that bytes came.
    pub(crate) fn heard(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Since when there is no request in progress (milliseconds of [`now_ms`]); `None` while there is one.
    pub(crate) fn waiting_since_ms(&self) -> Option<u64> {
        (self.running.load(Ordering::Acquire) == 0).then(|| self.waiting_since_ms.load(Ordering::Acquire))
    }

    /// Between whom it is, once that is known: before the first request.
    pub(crate) fn ends(&self) -> Option<&Ends> {
        self.ends.get()
    }

    /// Notes between whom it is. The first call counts.
    pub(crate) fn set_ends(&self, ends: Ends) {
        let _ = self.ends.set(ends);
    }

    /// What the handshake has settled; `None` without TLS.
    pub(crate) fn secured(&self) -> Option<&Secured> {
        self.secured.get()
    }

    /// Notes what the handshake has settled. The first call counts.
    pub(crate) fn set_secured(&self, secured: Secured) {
        let _ = self.secured.set(secured);
    }

    /// Has the connection closed, for another one to have its place.
    pub(crate) fn evict(&self) {
        self.evicted.notify_one();
    }

    /// Resolves when the connection is to be closed for another one.
    pub(crate) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Deref for InProgress {
    type Target = Traffic;

    fn deref(&self) -> &Traffic {
        &self.0
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        // Before the count says that nothing runs: a reader must not see the end of an earlier request.
        self.0.waiting_since_ms.store(now_ms(), Ordering::Release);
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Milliseconds since some moment before the first connection.
pub(crate) fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Resolves when no request has been in progress for `idle_max`, counted from now at the earliest.
pub(crate) async fn idle(traffic: &Traffic, idle_max: Duration) {
    let (begun_ms, idle_max_ms) = (now_ms(), u64::try_from(idle_max.as_millis()).unwrap_or(u64::MAX));
    loop {
        let left_ms = match traffic.waiting_since_ms() {
            Some(since_ms) => since_ms.max(begun_ms).saturating_add(idle_max_ms).saturating_sub(now_ms()),
            None => idle_max_ms.max(1),
        };
        if left_ms == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(left_ms)).await;
    }
}

/// Resolves when no request has been in progress and no byte has come for `quiet_min`, and before twice that.
pub(crate) async fn quiet(traffic: &Traffic, quiet_min: Duration) {
    let mut seen = None;
    loop {
        let now = traffic.waiting_since_ms().map(|since_ms| (since_ms, traffic.reads.load(Ordering::Relaxed)));
        if now.is_some() && now == seen {
            return;
        }
        seen = now;
        tokio::time::sleep(quiet_min).await;
    }
}
