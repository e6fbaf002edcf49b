//! The stored traces of all apps of a process, one [`TraceStore`] for each app.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use isomer_telemetry::metrics::{MetricSource, Metrics};

use crate::limits::TraceLimits;
use crate::queue::{FragmentQueue, OpenStore, OpenStores, QUEUE_MAX, QueueMessage, TenantTraces, TraceDrops};
use crate::store::TraceStore;
use crate::writer::Writer;

/// The trace stores of all apps of a process. The writer's thread ends when all clones of this value and all trace
/// stores are dropped.
#[derive(Clone)]
pub struct TraceStores {
    queue: Arc<FragmentQueue>,
    open: Arc<OpenStores>,
}

impl TraceStores {
    /// Starts the writer's thread.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(limits: TraceLimits) -> io::Result<Self> {
        Self::start_with_clock(limits, SystemTime::now)
    }

    /// Does the same as [`start`](Self::start). The age of traces is determined by `clock`, so that a benchmark can
    /// simulate a long time.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start_with_clock(limits: TraceLimits, clock: impl Fn() -> SystemTime + Send + 'static) -> io::Result<Self> {
        let (messages, received) = sync_channel(QUEUE_MAX);
        let queue = Arc::new(FragmentQueue {
            messages,
            waiting_bytes: AtomicUsize::new(0),
            drops: Default::default(),
            limits,
            stored_bytes: Default::default(),
            room: OnceLock::new(),
        });
        let writer = Writer::new(&queue, Box::new(clock));
        std::thread::Builder::new().name("isomer-traces".into()).spawn(move || writer.run(&received))?;
        Ok(Self { queue, open: Arc::default() })
    }

    /// Sets the function that returns how many bytes stores may still write to the disk. Only the first call has an
    /// effect.
    pub fn leave_free(&self, room: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.queue.room.set(Box::new(room));
    }

    /// Adds the numbers of dropped fragments to all later snapshots of `metrics`.
    pub fn report_to(&self, metrics: &Metrics) {
        let queue: Arc<dyn MetricSource> = self.queue.clone();
        metrics.add_source(Arc::downgrade(&queue));
    }

    /// Opens the store in `folder`, which need not exist. While a handle of the store exists, further calls return the
    /// same store, and `tenant` is ignored.
    #[must_use]
    pub fn open(&self, folder: &Path, tenant: &Arc<TenantTraces>) -> TraceStore {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(folder).and_then(Weak::upgrade)
            && !store.is_closed.load(Ordering::Acquire)
        {
            return TraceStore(store);
        }
        if open.len() == open.capacity() {
            open.retain(|_, store| store.strong_count() > 0);
        }
        let store = Arc::new(OpenStore::new(folder, tenant, &self.queue));
        open.insert(folder.to_owned(), Arc::downgrade(&store));
        TraceStore(store)
    }

    /// Closes the stores in `folders`, like [`TraceStore::close`]. Blocks until the last write to the folders has ended.
    pub fn close(&self, folders: Vec<PathBuf>) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let stores = folders.iter().filter_map(|folder| open.get(folder)?.upgrade());
        stores.for_each(|store| store.close());
        drop(open);
        self.queue.forget(folders);
    }

    /// Adds the sizes of the stores in `folders`, which exist on disk, to [`stored_bytes`](Self::stored_bytes), and
    /// deletes their old traces. Without this call, this happens when a store is first used. Blocks while the queue is
    /// full.
    pub fn add_existing(&self, folders: Vec<PathBuf>) {
        // The receiving thread runs as long as this value exists, so the message is always received.
        let _ = self.queue.messages.send(QueueMessage::Existing(folders));
    }

    /// Returns the size of all stores on disk in bytes.
    pub fn stored_bytes(&self) -> u64 {
        self.queue.stored_bytes.load(Ordering::Relaxed)
    }

    /// Returns how many fragments were dropped since the start, for all apps together.
    pub fn drops(&self) -> TraceDrops {
        self.queue.drops.get()
    }
}
