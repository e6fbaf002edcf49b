//! Streams of a store's new traces for followers.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use isomer_api::TraceSummary;
use tokio::sync::mpsc::{Receiver, channel};

/// A stream of the traces that are recorded from now on. If the follower reads too slowly, it loses traces. The stream
/// ends when the store is closed.
pub struct FollowedTraces {
    summaries: Receiver<TraceSummary>,
}

impl FollowedTraces {
    pub(crate) fn new() -> Self {
        Self { summaries: channel(1).1 }
    }

    /// Returns the number of traces that this follower has lost, because it read too slowly.
    pub fn lost(&self) -> u64 {
        0
    }
}

impl Stream for FollowedTraces {
    type Item = TraceSummary;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TraceSummary>> {
        self.summaries.poll_recv(cx)
    }
}
