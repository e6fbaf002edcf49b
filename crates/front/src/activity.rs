//! The activity of a connection: whether a request is in progress, how long the connection has been idle, and whether
//! bytes still arrive.
//!
//! Over HTTP/1.1, hyper closes a connection on which no next request arrives. Over HTTP/2, hyper only checks whether
//! the peer is alive. So a peer that responds to pings could keep a connection open forever without a request, or with
//! a request whose head never ends. [`wait_idle`] detects such connections. A draining front door closes a connection
//! only after the client has been silent for a while ([`wait_silent`]).

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::forwarded::Endpoints;
use crate::tls::TlsSession;

/// The activity of a connection. The connection's task, its requests and the registry of connections share it.
pub(crate) struct Activity {
    /// The number of requests in progress.
    requests: AtomicUsize,
    /// The time at which the last request ended, or at which the connection was accepted, in milliseconds of
    /// [`now_ms`].
    idle_since_ms: AtomicU64,
    /// The number of reads that returned bytes.
    reads: AtomicU64,
    /// The addresses of the client and of the listener.
    endpoints: OnceLock<Endpoints>,
    /// The connection's TLS session, if the connection uses TLS.
    tls: OnceLock<TlsSession>,
    /// Notified when the registry closes the connection to make room for another one.
    evicted: Notify,
}

/// A guard for a request in progress. Dropping the guard ends the request.
pub(crate) struct ActiveRequest(Arc<Activity>);

impl Activity {
    /// Creates the activity of a connection that has just been accepted.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            requests: AtomicUsize::new(0),
            idle_since_ms: AtomicU64::new(now_ms()),
            reads: AtomicU64::new(0),
            endpoints: OnceLock::new(),
            tls: OnceLock::new(),
            evicted: Notify::new(),
        })
    }

    /// Records the start of a request.
    pub(crate) fn begin(activity: &Arc<Self>) -> ActiveRequest {
        activity.requests.fetch_add(1, Ordering::AcqRel);
        ActiveRequest(activity.clone())
    }

    /// Records that bytes arrived.
    pub(crate) fn note_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the time since which no request has been in progress, in milliseconds of [`now_ms`], or `None` while a
    /// request is in progress.
    pub(crate) fn idle_since_ms(&self) -> Option<u64> {
        (self.requests.load(Ordering::Acquire) == 0).then(|| self.idle_since_ms.load(Ordering::Acquire))
    }

    /// Returns the addresses of client and listener. They are set before the first request.
    pub(crate) fn endpoints(&self) -> Option<&Endpoints> {
        self.endpoints.get()
    }

    /// Sets the addresses of client and listener. Later calls have no effect.
    pub(crate) fn set_endpoints(&self, endpoints: Endpoints) {
        let _ = self.endpoints.set(endpoints);
    }

    /// Returns the TLS session, or `None` if the connection does not use TLS.
    pub(crate) fn tls(&self) -> Option<&TlsSession> {
        self.tls.get()
    }

    /// Sets the TLS session. Later calls have no effect.
    pub(crate) fn set_tls(&self, session: TlsSession) {
        let _ = self.tls.set(session);
    }

    /// Notifies the connection's task that the connection must close to make room for another one.
    pub(crate) fn evict(&self) {
        self.evicted.notify_one();
    }

    /// Waits until [`Activity::evict`] is called.
    pub(crate) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Deref for ActiveRequest {
    type Target = Activity;

    fn deref(&self) -> &Activity {
        &self.0
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        // The time is stored before the count becomes 0. Otherwise a reader could see a count of 0 together with the
        // time at which an earlier request ended.
        self.0.idle_since_ms.store(now_ms(), Ordering::Release);
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Returns the milliseconds since the first call of this function.
pub(crate) fn now_ms() -> u64 {
    #[cfg(test)]
    if let Some(now_ms) = test_clock::now_ms() {
        return now_ms;
    }
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Waits until no request has been in progress for `idle_max`. Idle time before this call is not counted.
pub(crate) async fn wait_idle(activity: &Activity, idle_max: Duration) {
    let (start_ms, idle_max_ms) = (now_ms(), u64::try_from(idle_max.as_millis()).unwrap_or(u64::MAX));
    loop {
        let left_ms = match activity.idle_since_ms() {
            Some(since_ms) => since_ms.max(start_ms).saturating_add(idle_max_ms).saturating_sub(now_ms()),
            None => idle_max_ms.max(1),
        };
        if left_ms == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(left_ms)).await;
    }
}

/// Waits until no request has been in progress and no byte has arrived for a time between `silence_min` and twice
/// `silence_min`.
pub(crate) async fn wait_silent(activity: &Activity, silence_min: Duration) {
    let mut seen = None;
    loop {
        let now = activity.idle_since_ms().map(|since_ms| (since_ms, activity.reads.load(Ordering::Relaxed)));
        if now.is_some() && now == seen {
            return;
        }
        seen = now;
        tokio::time::sleep(silence_min).await;
    }
}

/// A clock that tests advance by hand. Each thread has its own clock.
#[cfg(test)]
pub(crate) mod test_clock {
    use std::cell::Cell;

    thread_local! {
        static NOW_MS: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// Returns the time of this thread's clock, or `None` if the test has not advanced it.
    pub(super) fn now_ms() -> Option<u64> {
        NOW_MS.get()
    }

    /// Advances the clock of this thread.
    pub(crate) fn advance(ms: u64) {
        NOW_MS.set(Some(NOW_MS.get().unwrap_or(0) + ms));
    }
}
