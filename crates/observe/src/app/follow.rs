//! Lines of a log as they come. Whoever reads too slowly loses lines and is told how many: neither the app nor the writer waits for him.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::Stream;
use isomer_api::LogLine;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::app_log::{AppLog, node_line};

/// Lines that may wait for one who follows.
const WAITING_LINES_MAX: usize = 1024;

/// The lines of a log from some moment on. Ends when the log is closed.
pub struct Followed {
    lines: Receiver<LogLine>,
    lost: Arc<AtomicU64>,
    /// Whoever opens the log meanwhile gets the one that is followed.
    _log: AppLog,
}

/// The other end.
pub(super) struct Follower {
    lines: Sender<LogLine>,
    lost: Arc<AtomicU64>,
}

pub(super) fn pair(log: &AppLog) -> (Follower, Followed) {
    let (sender, receiver) = channel(WAITING_LINES_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    (Follower { lines: sender, lost: lost.clone() }, Followed { lines: receiver, lost, _log: log.clone() })
}

impl Follower {
    /// Is anybody there?
    pub(super) fn is_there(&self) -> bool {
        !self.lines.is_closed()
    }

    pub(super) fn tell(&self, line: &LogLine) {
        match self.lines.try_send(line.clone()) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Stream for Followed {
    type Item = LogLine;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LogLine>> {
        // Those that were there before the loss come first.
        if self.lines.is_empty() {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let text = format!("{lost} lines were not shown: they came faster than they were read");
                return Poll::Ready(Some(node_line(text)));
            }
        }
        self.lines.poll_recv(cx)
    }
}
