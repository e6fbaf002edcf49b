//! Streams of a log's new lines for followers. A follower that reads too slowly loses lines, and gets a line that says
//! how many were lost. Neither the app nor the writer's thread waits for a follower.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::Stream;
use isomer_api::{LogLevel, LogLine};
use isomer_display::count;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::line::node_line;

/// The maximum number of lines that wait for one follower.
const WAITING_LINES_MAX: usize = 1024;

/// The maximum number of bytes in the lines that wait for one follower. It limits the memory if a follower stops
/// reading.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// A stream of the lines that are written to a log after a given position. The stream ends when the log is closed.
pub struct Followed {
    lines: Receiver<LogLine>,
    waiting: Arc<FollowerQueue>,
    /// A handle of the log, which keeps the log open. While the stream exists, opening the log again returns the same
    /// log.
    _log: Arc<dyn Any + Send + Sync>,
}

/// The writer's end of [`Followed`].
pub(super) struct Follower {
    lines: Sender<LogLine>,
    waiting: Arc<FollowerQueue>,
}

/// The counters that [`Follower`] and [`Followed`] share.
#[derive(Default)]
struct FollowerQueue {
    /// The number of bytes in the lines that wait for the follower.
    bytes: AtomicUsize,
    /// The number of lines that were dropped since the last report of dropped lines.
    lost: AtomicU64,
}

pub(super) fn pair(log: Arc<dyn Any + Send + Sync>) -> (Follower, Followed) {
    let (sender, receiver) = channel(WAITING_LINES_MAX);
    let waiting = Arc::new(FollowerQueue::default());
    (Follower { lines: sender, waiting: waiting.clone() }, Followed { lines: receiver, waiting, _log: log })
}

impl Follower {
    /// Returns whether the [`Followed`] stream still exists.
    pub(super) fn is_connected(&self) -> bool {
        !self.lines.is_closed()
    }

    pub(super) fn send(&self, line: &LogLine) {
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
        // The number of dropped lines is returned when no line waits, so that it comes after the lines that were logged
        // before the dropped ones.
        if self.lines.is_empty() {
            let lost = self.waiting.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let lines = count(lost, "line");
                let text = format!("left out {lines}: lines were logged faster than they were read");
                return Poll::Ready(Some(node_line(LogLevel::Warning, text)));
            }
        }
        let line = std::task::ready!(self.lines.poll_recv(cx));
        if let Some(line) = &line {
            self.waiting.bytes.fetch_sub(bytes_of(line), Ordering::Relaxed);
        }
        Poll::Ready(line)
    }
}
