//! The queue of lines before the writer's thread, and what each app's log counts.

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

/// Messages that may wait; lines are bounded by their bytes too.
pub(super) const QUEUE_MAX: usize = 16 << 10;

/// Lines of one tenant that may wait: short ones have few bytes, and must not take all places of the queue.
pub(super) const LINES_OF_TENANT_MAX: usize = QUEUE_MAX / 4;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AppLogError {
    /// The files.
    #[error("cannot read the log in `{}`", folder.display())]
    Read {
        /// Where it lies.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Too many follow it already.
    #[error("{most} follow this log already, and no more can")]
    Followers {
        /// How many may.
        most: usize,
    },
    /// It was closed: its app is gone, or the node ends.
    #[error("the log is closed")]
    Closed,
}

pub(super) struct OpenLog {
    pub(super) folder: PathBuf,
    pub(super) quota: Arc<LogQuota>,
    pub(super) queue: Arc<LineQueue>,
    /// Nothing is written any more.
    pub(super) closed: AtomicBool,
    /// Bytes of lines that wait to be written.
    pub(super) waiting_bytes: AtomicUsize,
    /// Lines that the quota did not allow, since this was said last.
    pub(super) over_quota: AtomicU64,
    /// Lines that came too fast, since this was said last.
    pub(super) too_fast: AtomicU64,
    /// Lines that could not be written, since this was said last.
    pub(super) not_written: AtomicU64,
    /// Touched by the writer's thread alone.
    pub(super) written: Mutex<WriterState>,
}

/// What the writer knows of a log.
#[derive(Default)]
pub(super) struct WriterState {
    pub(super) segments: Segments,
    pub(super) followers: Vec<Follower>,
    pub(super) losses_said_at: Option<Instant>,
}

pub(super) struct LineQueue {
    pub(super) messages: SyncSender<QueueMessage>,
    pub(super) waiting_bytes: AtomicUsize,
    /// Logs that have lost lines and not said so.
    pub(super) lossy: Mutex<Vec<Weak<OpenLog>>>,
    pub(super) limits: AppLogLimits,
    /// Bytes that logs may take of the disk now.
    pub(super) room: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
}

pub(super) enum QueueMessage {
    Line(Arc<OpenLog>, LogLine, usize),
    /// Somebody lost a line: see [`LineQueue::lossy`].
    Loss,
    /// Where the log ends when all before this has been written; who follows from there on.
    End(Arc<OpenLog>, Option<Follower>, SyncSender<Result<Position, AppLogError>>),
}

impl LineQueue {
    /// Has the line written, unless too much waits already.
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
            self.no_longer_waits(app, bytes);
        }
        sent
    }

    /// Fails where `bytes` would not fit into what logs may take.
    pub(super) fn check_room(&self, bytes: usize) -> io::Result<()> {
        match self.room.get() {
            Some(room) if room() < bytes as u64 => {
                Err(io::Error::new(io::ErrorKind::StorageFull, "the disk has no room left that apps may use"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn no_longer_waits(&self, app: &OpenLog, bytes: usize) {
        app.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        app.quota.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        app.quota.waiting_lines.fetch_sub(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A log has lost its first line since it said so last.
    pub(super) fn note_loss(&self, app: &Arc<OpenLog>) {
        self.lossy.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(app));
        match self.messages.try_send(QueueMessage::Loss) {
            // With a full queue the writer is awake, and looks when it has emptied it.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Where the log ends when everything that was said before has been written.
    pub(super) fn end(&self, app: &Arc<OpenLog>, follower: Option<Follower>) -> Result<Position, AppLogError> {
        let (answer, answered) = sync_channel(1);
        let sent = self.messages.send(QueueMessage::End(app.clone(), follower, answer));
        sent.map_err(|_| AppLogError::Closed)?;
        answered.recv().map_err(|_| AppLogError::Closed)?
    }
}
