//! The queue of lines for the writer's thread, and the counters of each app's log.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;

use isomer_api::LogLine;

use super::follower::Follower;
use super::limits::AppLogLimits;
use super::quota::LogQuota;
use super::segments::{Position, Segments};

/// The maximum number of messages in the queue. The total size of waiting lines is limited separately.
pub(super) const QUEUE_MAX: usize = 16 << 10;

/// The maximum number of waiting lines of one tenant. Many short lines could fill the queue without reaching the limit
/// of waiting bytes.
pub(super) const LINES_OF_TENANT_MAX: usize = QUEUE_MAX / 4;

/// Why lines of a log cannot be read or followed.
#[derive(Debug, thiserror::Error)]
pub enum AppLogError {
    /// The log's files cannot be read.
    #[error("cannot read the log in `{}`", folder.display())]
    Read {
        /// The log's folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The log has the maximum number of followers.
    #[error("the app's log already has {most} followers, which is the maximum")]
    Followers {
        /// The maximum number of followers of one log.
        most: usize,
    },
    /// The log is closed, because its app was removed or the node shuts down.
    #[error("the app's log is closed")]
    Closed,
}

pub(super) struct OpenLog {
    pub(super) folder: PathBuf,
    pub(super) quota: Arc<LogQuota>,
    pub(super) queue: Arc<LineQueue>,
    /// Whether the log is closed. Nothing is written to a closed log.
    pub(super) closed: AtomicBool,
    /// The number of bytes in the log's lines that wait to be written.
    pub(super) waiting_bytes: AtomicUsize,
    /// The number of lines that were dropped because of the tenant's quota since the last report of dropped lines.
    pub(super) over_quota: AtomicU64,
    /// The number of lines that were dropped because too many were waiting, since the last report of dropped lines.
    pub(super) too_fast: AtomicU64,
    /// The number of lines that were dropped because writing them failed, since the last report of dropped lines.
    pub(super) not_written: AtomicU64,
    /// The state that the writer's thread needs for this log.
    pub(super) written: Mutex<WriterState>,
}

/// The state that the writer's thread needs for one log.
#[derive(Default)]
pub(super) struct WriterState {
    pub(super) segments: Segments,
    pub(super) followers: Vec<Follower>,
    pub(super) losses_reported_at: Option<Instant>,
}

pub(super) struct LineQueue {
    pub(super) messages: SyncSender<QueueMessage>,
    pub(super) waiting_bytes: AtomicUsize,
    /// Logs with dropped lines that are not reported yet.
    pub(super) lossy: Mutex<Vec<Weak<OpenLog>>>,
    pub(super) limits: AppLogLimits,
    /// The function that returns how many bytes logs may still write to the disk.
    pub(super) room: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
}

pub(super) enum QueueMessage {
    Line(Arc<OpenLog>, LogLine, usize),
    /// The signal that a log was added to [`LineQueue::lossy`].
    Loss,
    /// A request for the end position of the log. The writer's thread sends the position after it has written all
    /// earlier messages. If there is a follower, it receives all lines after this position.
    End(Arc<OpenLog>, Option<Follower>, SyncSender<Result<Position, AppLogError>>),
}

impl LineQueue {
    /// Adds the line to the queue, unless a limit would be exceeded. Returns whether the line was added.
    pub(super) fn push(&self, app: &Arc<OpenLog>, line: LogLine, bytes: usize) -> bool {
        let of_app = app.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let of_tenant = app.quota.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let of_all = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let lines = app.quota.waiting_lines.fetch_add(1, Ordering::Relaxed) + 1;
        let fits = lines <= LINES_OF_TENANT_MAX
            && of_app <= self.limits.waiting_bytes_of_app
            && of_tenant <= self.limits.waiting_bytes_of_tenant
            && of_all <= self.limits.waiting_bytes;
        let sent = fits && self.messages.try_send(QueueMessage::Line(app.clone(), line, bytes)).is_ok();
        if !sent {
            self.end_waiting(app, bytes);
        }
        sent
    }

    /// Returns an error if logs may not write `bytes` more bytes to the disk.
    pub(super) fn check_room(&self, bytes: usize) -> io::Result<()> {
        match self.room.get() {
            Some(room) if room() < bytes as u64 => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the remaining free space of the disk is reserved for the node",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn end_waiting(&self, app: &OpenLog, bytes: usize) {
        app.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        app.quota.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        app.quota.waiting_lines.fetch_sub(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds a log to the list of logs whose dropped lines must be reported. Called for the first line that the log
    /// drops after such a report.
    pub(super) fn record_loss(&self, app: &Arc<OpenLog>) {
        self.lossy.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(app));
        match self.messages.try_send(QueueMessage::Loss) {
            // A full queue is no error: the writer's thread is then running, and checks `lossy` after its next batch of
            // messages.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Waits until all earlier messages are written, and returns the end position of the log.
    pub(super) fn end(&self, app: &Arc<OpenLog>, follower: Option<Follower>) -> Result<Position, AppLogError> {
        let (reply, replied) = sync_channel(1);
        let sent = self.messages.send(QueueMessage::End(app.clone(), follower, reply));
        sent.map_err(|_| AppLogError::Closed)?;
        replied.recv().map_err(|_| AppLogError::Closed)?
    }
}
