//! Lines of a log as they come. Whoever reads too slowly loses lines and is told how many: neither the app nor the writer waits for him.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::Stream;
use isomer_api::LogLine;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::line::node_line;

/// Lines that may wait for one who follows.
const WAITING_LINES_MAX: usize = 1024;

/// Bytes of these lines. A reader that has stopped reading makes the node hold no more for it.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// The lines of a log from some moment on. Ends when the log is closed.
pub struct Followed {
    lines: Receiver<LogLine>,
    waiting: Arc<FollowerQueue>,
    /// Whoever opens the log meanwhile gets the one that is followed.
    _log: Arc<dyn Any + Send + Sync>,
}

/// The other end.
pub(super) struct Follower {
    lines: Sender<LogLine>,
    waiting: Arc<FollowerQueue>,
}

/// What both ends count.
#[derive(Default)]
struct FollowerQueue {
    /// Bytes of the lines that wait.
    bytes: AtomicUsize,
    /// Lines that were dropped, since this was told last.
    lost: AtomicU64,
}

pub(super) fn pair(log: Arc<dyn Any + Send + Sync>) -> (Follower, Followed) {
    let (sender, receiver) = channel(WAITING_LINES_MAX);
    let waiting = Arc::new(FollowerQueue::default());
    (Follower { lines: sender, waiting: waiting.clone() }, Followed { lines: receiver, waiting, _log: log })
}

impl Follower {
    /// Is anybody there?
    pub(super) fn is_there(&self) -> bool {
        !self.lines.is_closed()
    }

    pub(super) fn tell(&self, line: &LogLine) {
        let bytes = bytes_of(line);
        let fits = self.waiting.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= WAITING_BYTES_MAX;
        if !fits || self.lines.try_send(line.clone()).is_err() {
            self.waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.waiting.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn bytes_of(line: &LogLine) -> usize {
    size_of::<LogLine>() + line.text.len() + line.backtrace.iter().map(String::len).sum::<usize>()
}

impl Stream for Followed {
    type Item = LogLine;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LogLine>> {
        // Those that were there before the loss come first.
        if self.lines.is_empty() {
            let lost = self.waiting.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let text = format!("{lost} lines were not shown: they came faster than they were read");
                return Poll::Ready(Some(node_line(text)));
            }
        }
        let line = std::task::ready!(self.lines.poll_recv(cx));
        if let Some(line) = &line {
            self.waiting.bytes.fetch_sub(bytes_of(line), Ordering::Relaxed);
        }
        Poll::Ready(line)
    }
}
