//! The one thread that writes all apps' logs of a node.
//!
//! Waiting lines are written together, app by app. For each batch of lines, the log's file is opened and closed again,
//! so thousands of apps need no open descriptors. If a log cannot be written (no free space, or only reserved space
//! that logs may not use), its lines are dropped. Their number is reported when the log can be written again.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;

use isomer_api::{LogLevel, LogLine};
use isomer_display::count;

use super::follower::Follower;
use super::limits::AppLogLimits;
use super::line::node_line;
use super::log::AppLog;
use super::queue::{AppLogError, LineQueue, OpenLog, QUEUE_MAX, QueueMessage, WriterState};
use super::quota::LogQuota;
use super::segments::Position;

/// The maximum number of messages in one batch.
const BATCH_MAX: usize = 1024;

/// The logs of all apps of a node. The writer's thread ends when all clones of this value and all logs are dropped.
#[derive(Clone)]
pub struct AppLogs {
    queue: Arc<LineQueue>,
    open: Arc<Mutex<HashMap<PathBuf, Weak<OpenLog>>>>,
}

impl AppLogs {
    /// Starts the writer's thread.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(limits: AppLogLimits) -> io::Result<Self> {
        let (messages, received) = sync_channel(QUEUE_MAX);
        let (waiting_bytes, lossy) = (AtomicUsize::new(0), Mutex::default());
        let queue =
            Arc::new(LineQueue { messages, waiting_bytes, lossy, limits: limits.clone(), room: OnceLock::new() });
        let writer = Writer { queue: Arc::downgrade(&queue), limits, lossy: Vec::new() };
        std::thread::Builder::new().name("isomer-app-logs".into()).spawn(move || writer.run(&received))?;
        Ok(Self { queue, open: Arc::default() })
    }

    /// Sets the function that returns how many bytes logs may still write to the disk. Only the first call has an
    /// effect.
    pub fn leave_free(&self, room: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.queue.room.set(Box::new(room));
    }

    /// Opens the log in `folder`, which need not exist. While a handle of the log exists, further calls return the same
    /// log, and `quota` is ignored.
    #[must_use]
    pub fn open(&self, folder: PathBuf, quota: &Arc<LogQuota>) -> AppLog {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(app) = open.get(&folder).and_then(Weak::upgrade)
            && !app.closed.load(Ordering::Acquire)
        {
            return AppLog::new(app);
        }
        if open.len() == open.capacity() {
            open.retain(|_, app| app.strong_count() > 0);
        }
        let app = Arc::new(OpenLog {
            folder: folder.clone(),
            quota: quota.clone(),
            queue: self.queue.clone(),
            closed: false.into(),
            waiting_bytes: 0.into(),
            over_quota: 0.into(),
            too_fast: 0.into(),
            not_written: 0.into(),
            written: Mutex::default(),
        });
        open.insert(folder, Arc::downgrade(&app));
        AppLog::new(app)
    }
}

struct Writer {
    /// The queue. The reference is weak, so that the thread ends when all [`AppLogs`] and logs are dropped.
    queue: Weak<LineQueue>,
    limits: AppLogLimits,
    /// Logs with dropped lines that are not reported yet.
    lossy: Vec<Weak<OpenLog>>,
}

/// Lines of one app's log that are written together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

impl Writer {
    fn run(mut self, messages: &Receiver<QueueMessage>) {
        loop {
            let first = match self.next_report() {
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => messages.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(first) => {
                    let rest = std::iter::from_fn(|| messages.try_recv().ok()).take(BATCH_MAX - 1);
                    self.take(std::iter::once(first).chain(rest));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(queue) = self.queue.upgrade() {
                self.lossy.append(&mut queue.lossy.lock().unwrap_or_else(PoisonError::into_inner));
            }
            self.report_losses();
        }
    }

    fn take(&self, messages: impl Iterator<Item = QueueMessage>) {
        let mut batches: Vec<(Arc<OpenLog>, Batch)> = Vec::new();
        for message in messages {
            match message {
                QueueMessage::Line(app, line, bytes) => {
                    app.queue.end_waiting(&app, bytes);
                    self.add(&mut batches, &app, &line);
                }
                QueueMessage::Loss => {}
                QueueMessage::End(app, follower, reply) => {
                    if let Some(at) = batches.iter().position(|(other, _)| Arc::ptr_eq(other, &app)) {
                        let (_, batch) = batches.swap_remove(at);
                        self.write(&app, &mut lock(&app), &batch);
                    }
                    let _ = reply.send(self.end(&app, follower));
                }
            }
        }
        for (app, batch) in batches {
            self.write(&app, &mut lock(&app), &batch);
        }
    }

    /// Adds a line to the batch of its app. If the line does not fit into a file together with the batch, writes the
    /// batch first.
    fn add(&self, batches: &mut Vec<(Arc<OpenLog>, Batch)>, app: &Arc<OpenLog>, line: &LogLine) {
        let at = batches.iter().position(|(other, _)| Arc::ptr_eq(other, app)).unwrap_or_else(|| {
            batches.push((app.clone(), Batch::default()));
            batches.len() - 1
        });
        let batch = &mut batches[at].1;
        let before = batch.bytes.len();
        append_json(&mut batch.bytes, line);
        if before > 0 && batch.bytes.len() as u64 > self.limits.segment_bytes {
            let rest = Batch { bytes: batch.bytes.split_off(before), lines: 1 };
            let full = std::mem::replace(batch, rest);
            self.write(app, &mut lock(app), &full);
        } else {
            batch.lines += 1;
        }
        for follower in &lock(app).followers {
            follower.send(line);
        }
    }

    /// Writes a batch. If this fails, adds the number of its lines to the dropped lines and returns `false`.
    fn write(&self, app: &Arc<OpenLog>, written: &mut WriterState, batch: &Batch) -> bool {
        if app.closed.load(Ordering::Acquire) {
            return true;
        }
        let (bytes, segments) = (self.limits.segment_bytes, self.limits.segments);
        let mut append = || written.segments.append(&app.folder, &batch.bytes, bytes, segments);
        let Err(error) = app.queue.check_room(batch.bytes.len()).and_then(|()| append()) else { return true };
        // A batch with `lines == 0` contains only a report of dropped lines. If writing it fails, the log need not be
        // added to the list of lossy logs: it is in the list until a report is written.
        if batch.lines > 0 && app.not_written.fetch_add(batch.lines, Ordering::Relaxed) == 0 {
            tracing::warn!(folder = %app.folder.display(), %error, "cannot write an app's log");
            app.queue.record_loss(app);
        }
        false
    }

    fn end(&self, app: &Arc<OpenLog>, follower: Option<Follower>) -> Result<Position, AppLogError> {
        if app.closed.load(Ordering::Acquire) {
            return Err(AppLogError::Closed);
        }
        let mut written = lock(app);
        let failed = |source| AppLogError::Read { folder: app.folder.clone(), source };
        let end = written.segments.end(&app.folder).map_err(failed)?;
        if let Some(follower) = follower {
            written.followers.retain(Follower::is_connected);
            if written.followers.len() >= self.limits.followers {
                return Err(AppLogError::Followers { most: self.limits.followers });
            }
            written.followers.push(follower);
        }
        Ok(end)
    }

    /// Returns the time of the next report of dropped lines, if any log has dropped lines.
    fn next_report(&self) -> Option<Instant> {
        let apps = self.lossy.iter().filter_map(Weak::upgrade);
        apps.map(|app| {
            lock(&app).losses_reported_at.map_or_else(Instant::now, |at| at + self.limits.loss_report_interval)
        })
        .min()
    }

    fn report_losses(&mut self) {
        let now = Instant::now();
        let mut lossy = std::mem::take(&mut self.lossy);
        lossy.retain(|app| {
            let Some(app) = app.upgrade() else { return false };
            let mut written = lock(&app);
            if written.losses_reported_at.is_some_and(|at| now < at + self.limits.loss_report_interval) {
                return true;
            }
            let counters = [
                (&app.over_quota, "the tenant's log quota for this hour is used up"),
                (&app.too_fast, "lines were logged faster than they could be written"),
                (&app.not_written, "the disk was full or failed"),
            ];
            for (counter, why) in counters {
                let lines = counter.swap(0, Ordering::Relaxed);
                if lines == 0 {
                    continue;
                }
                written.losses_reported_at = Some(now);
                let text = format!("dropped {}: {why}", count(lines, "line"));
                let line = node_line(LogLevel::Warning, text);
                let mut batch = Batch::default();
                append_json(&mut batch.bytes, &line);
                if self.write(&app, &mut written, &batch) {
                    written.followers.iter().for_each(|follower| follower.send(&line));
                } else {
                    counter.fetch_add(lines, Ordering::Relaxed);
                    return true;
                }
            }
            false
        });
        self.lossy.append(&mut lossy);
    }
}

fn append_json(bytes: &mut Vec<u8>, line: &LogLine) {
    serde_json::to_writer(&mut *bytes, line).expect("a line is plain data");
    bytes.push(b'\n');
}

fn lock(app: &OpenLog) -> std::sync::MutexGuard<'_, WriterState> {
    app.written.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::queue::LINES_OF_TENANT_MAX;
    use super::*;

    #[test]
    fn lines_of_one_tenant_leave_room_in_the_queue() {
        let folder = tempfile::tempdir().unwrap();
        let (messages, received) = sync_channel(QUEUE_MAX);
        let (waiting_bytes, lossy, room) = (AtomicUsize::new(0), Mutex::default(), OnceLock::new());
        let queue = Arc::new(LineQueue { messages, waiting_bytes, lossy, limits: AppLogLimits::default(), room });
        let logs = AppLogs { queue: queue.clone(), open: Arc::default() };
        let of = |name: &str| logs.open(folder.path().join(name), &LogQuota::new(u64::MAX)).open;
        let (loud, other) = (of("loud"), of("other"));
        let push = |app: &Arc<OpenLog>| queue.push(app, node_line(LogLevel::Info, String::new()), 1);
        assert_eq!((0..QUEUE_MAX).filter(|_| push(&loud)).count(), LINES_OF_TENANT_MAX);
        assert!(push(&other));
        let Ok(QueueMessage::Line(app, _, bytes)) = received.recv() else { panic!("the first message is a line") };
        queue.end_waiting(&app, bytes);
        assert!(push(&loud) && !push(&loud));
    }

    #[test]
    fn a_log_that_cannot_report_its_losses_is_listed_once() {
        let folder = tempfile::tempdir().unwrap();
        let limits = AppLogLimits { loss_report_interval: Duration::ZERO, ..AppLogLimits::default() };
        let (messages, _received) = sync_channel(QUEUE_MAX);
        let (waiting_bytes, lossy, room) = (AtomicUsize::new(0), Mutex::default(), OnceLock::new());
        let queue = Arc::new(LineQueue { messages, waiting_bytes, lossy, limits: limits.clone(), room });
        let logs = AppLogs { queue: queue.clone(), open: Arc::default() };
        // In this test, there is no disk space for logs.
        logs.leave_free(|| 0);
        let app = logs.open(folder.path().join("log"), &LogQuota::new(u64::MAX)).open;
        let mut writer = Writer { queue: Arc::downgrade(&queue), limits, lossy: Vec::new() };
        let line = Batch { bytes: b"{}\n".to_vec(), lines: 1 };
        for _ in 0..3 {
            assert!(!writer.write(&app, &mut lock(&app), &line));
        }
        for _ in 0..5 {
            writer.lossy.append(&mut queue.lossy.lock().unwrap());
            writer.report_losses();
        }
        writer.lossy.append(&mut queue.lossy.lock().unwrap());
        assert_eq!((writer.lossy.len(), app.not_written.load(Ordering::Relaxed)), (1, 3));
    }
}
