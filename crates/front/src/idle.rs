//! The end of a connection that nobody uses.
//!
//! Over HTTP/1.1 hyper closes a connection whose next request does not come. Over HTTP/2 it only asks whether the peer is alive, so a
//! peer that answers could keep its place among the connections for ever without a request, or with one whose head never ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::tls::Secured;

/// What goes on in a connection. Each request in progress holds a clone.
pub(crate) struct Traffic {
    /// Requests that have begun.
    requests: AtomicU64,
    /// What its handshake has settled, if it had one.
    pub(crate) secured: Option<Secured>,
}

impl Traffic {
    pub(crate) fn new(secured: Option<Secured>) -> Arc<Self> {
        Arc::new(Self { requests: AtomicU64::new(0), secured })
    }

    /// A request begins; it is in progress for as long as the result lives.
    pub(crate) fn begin(traffic: &Arc<Self>) -> Arc<Self> {
        traffic.requests.fetch_add(1, Ordering::Relaxed);
        traffic.clone()
    }
}

/// Resolves when there has been no request for `idle_max`, and before twice that. `holders` of `traffic` are no requests.
pub(crate) async fn idle(traffic: Arc<Traffic>, holders: usize, idle_max: Duration) {
    let mut seen = None;
    loop {
        let now = traffic.requests.load(Ordering::Relaxed);
        if Arc::strong_count(&traffic) <= holders {
            if seen == Some(now) {
                return;
            }
            seen = Some(now);
        } else {
            seen = None;
        }
        tokio::time::sleep(idle_max).await;
    }
}
