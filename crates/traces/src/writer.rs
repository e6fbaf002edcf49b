//! The one thread that writes the traces of all apps.
//!
//! Waiting fragments are encoded and written together, app by app. For each batch, the store's file is opened and
//! closed again, so thousands of apps need no open descriptors. If a store cannot be written, its fragments are dropped
//! and counted. This also happens if the disk has only free space that is reserved for other purposes.
//!
//! After each batch, the thread sleeps for a moment. Otherwise, almost every request would have to wake it, which would
//! take longer than recording the request's traces.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use isomer_telemetry::{unix_ns, warn};

use crate::codec::Encoder;
use crate::error::TraceStoreError;
use crate::follower::Follower;
use crate::limits::TraceLimits;
use crate::queue::{FragmentQueue, OpenStore, QUEUE_MAX, QueueMessage, WaitingFragment};
use crate::segments::{Segment, SegmentFiles, nanoseconds};
use crate::summary::{is_listed, summary_of};

/// The size at which a batch of one store is written.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// The time that the thread sleeps after a batch.
const PAUSE: Duration = Duration::from_millis(5);

/// The interval at which old traces are deleted.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// The minimum time between two warnings in the log about traces that cannot be written.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// A clock that returns the present time. Tests replace it to simulate a long time.
pub(crate) type WriterClock = Box<dyn Fn() -> SystemTime + Send>;

/// The state of the writer's thread.
pub(crate) struct Writer {
    /// The queue. The reference is weak, so that the thread ends when all handles of stores are dropped.
    queue: Weak<FragmentQueue>,
    limits: TraceLimits,
    /// The clock that determines the age of traces.
    clock: WriterClock,
    encoder: Encoder,
    /// The files of all stores that were opened or exist on disk.
    files: HashMap<Arc<Path>, SegmentFiles>,
    /// The size of all files in bytes.
    bytes: u64,
    expired_at: Instant,
    warned_at: Option<Instant>,
}

/// Records of one store that are written together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    fragments: u64,
}

impl Writer {
    pub(crate) fn new(queue: &Arc<FragmentQueue>, clock: WriterClock) -> Self {
        let (encoder, files) = (Encoder::default(), HashMap::new());
        let (queue, limits) = (Arc::downgrade(queue), queue.limits.clone());
        Self { queue, limits, clock, encoder, files, bytes: 0, expired_at: Instant::now(), warned_at: None }
    }

    pub(crate) fn run(mut self, messages: &Receiver<QueueMessage>) {
        loop {
            match messages.recv_timeout(EXPIRY_INTERVAL.saturating_sub(self.expired_at.elapsed())) {
                Ok(first) => {
                    let rest = std::iter::from_fn(|| messages.try_recv().ok()).take(QUEUE_MAX);
                    self.take(std::iter::once(first).chain(rest));
                    std::thread::sleep(PAUSE);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.expired_at.elapsed() >= EXPIRY_INTERVAL {
                self.expire();
                self.expired_at = Instant::now();
            }
        }
    }

    fn take(&mut self, messages: impl Iterator<Item = QueueMessage>) {
        let Some(queue) = self.queue.upgrade() else { return };
        let mut batches: Vec<(Arc<OpenStore>, Batch)> = Vec::new();
        for message in messages {
            match message {
                QueueMessage::Fragment(waiting) => self.add(&queue, &mut batches, *waiting),
                QueueMessage::Files(store, reply) => {
                    self.write_batch_of(&queue, &store, &mut batches);
                    let _ = reply.send(self.files_of(&store));
                }
                QueueMessage::Forget(folders, reply) => {
                    for files in folders.iter().filter_map(|folder| self.files.remove(folder.as_path())) {
                        self.bytes -= files.bytes();
                    }
                    let _ = reply.send(());
                }
                QueueMessage::Existing(folders) => {
                    for folder in folders.into_iter().map(Arc::from) {
                        // An error is ignored, because the folder is read again when its store is used.
                        if self.open(&folder).is_ok_and(|files| files.bytes() == 0) {
                            self.files.remove(&folder);
                        }
                    }
                    self.make_room();
                }
            }
        }
        for (store, batch) in batches {
            self.write(&queue, &store, &batch);
        }
        queue.stored_bytes.store(self.bytes, Ordering::Relaxed);
    }

    /// Adds a fragment to the batch of its store, and sends its summary to the followers.
    fn add(&mut self, queue: &FragmentQueue, batches: &mut Vec<(Arc<OpenStore>, Batch)>, waiting: WaitingFragment) {
        let WaitingFragment { store, fragment, process, bytes } = waiting;
        queue.end_waiting(&store, bytes);
        let at = batches.iter().position(|(other, _)| Arc::ptr_eq(other, &store)).unwrap_or_else(|| {
            batches.push((store.clone(), Batch::default()));
            batches.len() - 1
        });
        let batch = &mut batches[at].1;
        self.encoder.append(&mut batch.bytes, &fragment, process.as_deref());
        batch.fragments += 1;
        if is_listed(&fragment, process.is_some()) {
            let mut followers = store.lock_followers();
            if !followers.is_empty() {
                let summary = summary_of(&fragment);
                followers.retain(Follower::is_connected);
                followers.iter().for_each(|follower| follower.send(&summary));
            }
        }
        if batch.bytes.len() >= BATCH_BYTES_MAX {
            let full = std::mem::take(batch);
            self.write(queue, &store, &full);
        }
    }

    fn write_batch_of(
        &mut self,
        queue: &FragmentQueue,
        store: &Arc<OpenStore>,
        batches: &mut Vec<(Arc<OpenStore>, Batch)>,
    ) {
        if let Some(at) = batches.iter().position(|(other, _)| Arc::ptr_eq(other, store)) {
            let (_, batch) = batches.swap_remove(at);
            self.write(queue, store, &batch);
        }
    }

    /// Writes a batch. If this fails, counts its fragments as dropped.
    fn write(&mut self, queue: &FragmentQueue, store: &OpenStore, batch: &Batch) {
        if batch.fragments == 0 || store.is_closed.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.append(queue, &store.folder, &batch.bytes) {
            for drops in [&store.drops, &queue.drops] {
                drops.not_written.fetch_add(batch.fragments, Ordering::Relaxed);
            }
            if self.warned_at.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
                self.warned_at = Some(Instant::now());
                warn!(folder = %store.folder.display(), %error, "cannot write an app's traces");
            }
        }
        self.make_room();
    }

    fn append(&mut self, queue: &FragmentQueue, folder: &Arc<Path>, records: &[u8]) -> io::Result<()> {
        if queue.room.get().is_some_and(|room| room() < records.len() as u64) {
            let reason = "the remaining free space of the disk is reserved";
            return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
        }
        let (limits, now_ns) = (self.limits.clone(), unix_ns((self.clock)()));
        let files = self.open(folder)?;
        let before = files.bytes();
        let appended = files.append(folder, records, now_ns, &limits);
        let after = files.bytes();
        self.bytes = self.bytes - before + after;
        appended
    }

    /// Returns the files of a store. If they are not known, reads which files are on the disk, and deletes old ones.
    fn open(&mut self, folder: &Arc<Path>) -> io::Result<&mut SegmentFiles> {
        if !self.files.contains_key(folder) {
            let mut files = SegmentFiles::read(folder)?;
            files.expire(folder, self.oldest_ns())?;
            self.bytes += files.bytes();
            self.files.insert(folder.clone(), files);
        }
        Ok(self.files.get_mut(folder).expect("it was inserted"))
    }

    fn files_of(&mut self, store: &OpenStore) -> Result<Vec<Segment>, TraceStoreError> {
        if store.is_closed.load(Ordering::Acquire) {
            return Err(TraceStoreError::Closed);
        }
        let failed = |source| TraceStoreError::Read { folder: store.folder.to_path_buf(), source };
        Ok(self.open(&store.folder).map_err(failed)?.segments().collect())
    }

    /// While all stores together are too large, deletes the oldest file of the largest store. So a store that grows fast
    /// does not displace the traces of the others.
    fn make_room(&mut self) {
        while self.bytes > self.limits.bytes {
            let Some((folder, files)) = self.files.iter_mut().max_by_key(|(_, files)| files.bytes()) else { return };
            match files.remove_oldest(folder) {
                Ok(bytes) if bytes > 0 => self.bytes -= bytes,
                // If a file cannot be deleted, the next write tries again.
                _ => return,
            }
        }
    }

    /// Deletes the traces that are too old, in all stores.
    fn expire(&mut self) {
        let oldest_ns = self.oldest_ns();
        for (folder, files) in &mut self.files {
            // If a file cannot be deleted, the next call tries again.
            let _ = files.expire(folder, oldest_ns);
        }
        self.bytes = self.files.values().map(SegmentFiles::bytes).sum();
        if let Some(queue) = self.queue.upgrade() {
            queue.stored_bytes.store(self.bytes, Ordering::Relaxed);
        }
    }

    /// Returns the Unix time in nanoseconds before which traces are too old to be kept.
    fn oldest_ns(&self) -> u64 {
        unix_ns((self.clock)()).saturating_sub(nanoseconds(self.limits.age))
    }
}
