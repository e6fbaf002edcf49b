//! Streams of a store's new traces for followers. A follower that reads too slowly loses traces, which are counted.
//! Neither the app nor the writer's thread waits for a follower.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::Stream;
use isomer_api::TraceSummary;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The maximum number of traces that wait for one follower. A summary has at most about three kibibytes.
const WAITING_MAX: usize = 256;

/// A stream of the traces that are recorded from now on. It yields one summary for each request whose first span this
/// process or one of its members has recorded, and one for each call from another machine. If the follower reads too
/// slowly, it loses traces. The stream ends when the store is closed.
pub struct FollowedTraces {
    summaries: Receiver<TraceSummary>,
    lost: Arc<AtomicU64>,
    /// A handle of the store, which keeps the store open. While the stream exists, opening the store again returns the
    /// same store.
    _store: Arc<dyn Any + Send + Sync>,
}

/// The writer's end of [`FollowedTraces`].
pub(crate) struct Follower {
    summaries: Sender<TraceSummary>,
    lost: Arc<AtomicU64>,
}

pub(crate) fn pair(store: Arc<dyn Any + Send + Sync>) -> (Follower, FollowedTraces) {
    let (sender, receiver) = channel(WAITING_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    (Follower { summaries: sender, lost: lost.clone() }, FollowedTraces { summaries: receiver, lost, _store: store })
}

impl Follower {
    /// Returns whether the [`FollowedTraces`] stream still exists.
    pub(crate) fn is_connected(&self) -> bool {
        !self.summaries.is_closed()
    }

    pub(crate) fn send(&self, summary: &TraceSummary) {
        match self.summaries.try_reserve() {
            Ok(permit) => permit.send(summary.clone()),
            Err(_) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl FollowedTraces {
    /// Returns the number of traces that this follower has lost, because it read too slowly.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Stream for FollowedTraces {
    type Item = TraceSummary;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TraceSummary>> {
        self.summaries.poll_recv(cx)
    }
}
