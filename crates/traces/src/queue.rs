//! The queue of fragments for the writer's thread, and the counters of each store.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;

use isomer_telemetry::TraceFragment;
use isomer_telemetry::metrics::{MetricSource, MetricValue, Snapshot, catalog};

use crate::budget::RecordBudget;
use crate::error::TraceStoreError;
use crate::follower::Follower;
use crate::limits::TraceLimits;
use crate::segments::Segment;

/// The maximum number of messages in the queue. The total size of waiting fragments is limited separately.
pub(crate) const QUEUE_MAX: usize = 4096;

/// The maximum number of waiting fragments of one tenant. Many small fragments could fill the queue without reaching
/// the limit of waiting bytes.
pub(crate) const FRAGMENTS_OF_TENANT_MAX: usize = QUEUE_MAX / 4;

/// What the apps of one tenant use of the queue: their budget for records, and the size and number of their waiting
/// fragments.
#[derive(Debug, Default)]
pub struct TenantTraces {
    budget: RecordBudget,
    waiting_bytes: AtomicUsize,
    waiting_fragments: AtomicUsize,
}

/// The numbers of fragments that were dropped since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceDrops {
    /// The number of fragments that were dropped because too many were waiting to be written, or because the apps of
    /// their tenant recorded too many.
    pub too_fast: u64,
    /// The number of fragments that were dropped because the disk was full or failed.
    pub not_written: u64,
}

/// The counters behind [`TraceDrops`].
#[derive(Debug, Default)]
pub(crate) struct DropCounters {
    pub(crate) too_fast: AtomicU64,
    pub(crate) not_written: AtomicU64,
}

impl DropCounters {
    pub(crate) fn get(&self) -> TraceDrops {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TraceDrops { too_fast: of(&self.too_fast), not_written: of(&self.not_written) }
    }
}

pub(crate) struct OpenStore {
    pub(crate) folder: Arc<Path>,
    pub(crate) tenant: Arc<TenantTraces>,
    pub(crate) queue: Arc<FragmentQueue>,
    /// Whether the store is closed. Nothing is written to a closed store.
    pub(crate) is_closed: AtomicBool,
    /// The number of bytes in the store's fragments that wait to be written.
    pub(crate) waiting_bytes: AtomicUsize,
    pub(crate) drops: DropCounters,
    pub(crate) followers: Mutex<Vec<Follower>>,
}

/// The stores that are open, by their folders.
pub(crate) type OpenStores = Mutex<HashMap<PathBuf, Weak<OpenStore>>>;

pub(crate) struct FragmentQueue {
    pub(crate) messages: SyncSender<QueueMessage>,
    pub(crate) waiting_bytes: AtomicUsize,
    pub(crate) drops: DropCounters,
    pub(crate) limits: TraceLimits,
    /// The size of all stores in bytes, as the writer's thread last computed it.
    pub(crate) stored_bytes: AtomicU64,
    /// The function that returns how many bytes stores may still write to the disk.
    pub(crate) room: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
}

impl MetricSource for FragmentQueue {
    fn collect(&self, snapshot: &mut Snapshot) {
        let TraceDrops { too_fast, not_written } = self.drops.get();
        for (reason, number) in [("queue full", too_fast), ("disk full", not_written)] {
            let labels = vec!["traces".into(), reason.into()];
            snapshot.push(&catalog::TELEMETRY_DROPPED, labels, MetricValue::integer(number));
        }
    }
}

/// A fragment that waits to be written.
pub(crate) struct WaitingFragment {
    pub(crate) store: Arc<OpenStore>,
    pub(crate) fragment: TraceFragment,
    /// The process that recorded the fragment, if it is not this process.
    pub(crate) process: Option<Arc<str>>,
    pub(crate) bytes: usize,
}

pub(crate) enum QueueMessage {
    Fragment(Box<WaitingFragment>),
    /// Requests a list of the store's files, the oldest first. The writer's thread sends the list after it has written
    /// all earlier fragments.
    Files(Arc<OpenStore>, SyncSender<Result<Vec<Segment>, TraceStoreError>>),
    /// The folders of stores that exist on disk but are not open. The writer's thread adds their sizes to
    /// `stored_bytes` and deletes their old traces.
    Existing(Vec<PathBuf>),
    /// Makes the writer's thread forget the stores with these folders, which are closed. Does not delete the folders.
    /// The thread sends the reply after it has processed all earlier messages.
    Forget(Vec<PathBuf>, SyncSender<()>),
}

impl FragmentQueue {
    /// Adds a fragment to the queue, unless a limit would be exceeded. Returns whether it was added.
    pub(crate) fn push(&self, store: &Arc<OpenStore>, fragment: TraceFragment, process: Option<Arc<str>>) -> bool {
        let spans: usize = fragment.spans.iter().map(isomer_telemetry::Span::bytes).sum();
        let bytes = spans + size_of::<WaitingFragment>();
        let of_app = store.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let of_tenant = store.tenant.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let of_all = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fragments = store.tenant.waiting_fragments.fetch_add(1, Ordering::Relaxed) + 1;
        let fits = fragments <= FRAGMENTS_OF_TENANT_MAX
            && of_app <= self.limits.waiting_bytes_of_app
            && of_tenant <= self.limits.waiting_bytes_of_tenant
            && of_all <= self.limits.waiting_bytes
            && store.tenant.budget.take(bytes, self.limits.bytes_per_second_of_tenant, Instant::now());
        let message = || Box::new(WaitingFragment { store: store.clone(), fragment, process, bytes });
        let is_sent = fits && self.messages.try_send(QueueMessage::Fragment(message())).is_ok();
        if !is_sent {
            self.end_waiting(store, bytes);
        }
        is_sent
    }

    pub(crate) fn end_waiting(&self, store: &OpenStore, bytes: usize) {
        store.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        store.tenant.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        store.tenant.waiting_fragments.fetch_sub(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Waits until all earlier messages are written, and returns the store's files, the oldest first.
    pub(crate) fn files(&self, store: &Arc<OpenStore>) -> Result<Vec<Segment>, TraceStoreError> {
        self.ask(|reply| QueueMessage::Files(store.clone(), reply)).ok_or(TraceStoreError::Closed)?
    }

    /// Makes the writer remove `folders`, the folders of closed stores, from its state. Waits until the writer has done
    /// this and has processed all earlier messages.
    pub(crate) fn forget(&self, folders: Vec<PathBuf>) {
        self.ask(|reply| QueueMessage::Forget(folders, reply));
    }

    /// Sends a message and waits for the reply. Returns `None` if the writer's thread has ended.
    fn ask<T>(&self, message: impl FnOnce(SyncSender<T>) -> QueueMessage) -> Option<T> {
        let (reply, replied) = sync_channel(1);
        self.messages.send(message(reply)).ok()?;
        replied.recv().ok()
    }
}

impl OpenStore {
    pub(crate) fn new(folder: &Path, tenant: &Arc<TenantTraces>, queue: &Arc<FragmentQueue>) -> Self {
        Self {
            folder: folder.into(),
            tenant: tenant.clone(),
            queue: queue.clone(),
            is_closed: AtomicBool::new(false),
            waiting_bytes: AtomicUsize::new(0),
            drops: DropCounters::default(),
            followers: Mutex::default(),
        }
    }

    /// Closes the store: later fragments are dropped, and the streams of followers end.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.lock_followers().clear();
    }

    pub(crate) fn lock_followers(&self) -> std::sync::MutexGuard<'_, Vec<Follower>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use isomer_telemetry::TraceSink as _;

    use super::*;
    use crate::samples::fragment;
    use crate::store::TraceStore;

    /// Returns a queue that no thread reads.
    fn queue(limits: TraceLimits) -> (Arc<FragmentQueue>, Receiver<QueueMessage>) {
        let (messages, received) = sync_channel(QUEUE_MAX);
        let (waiting_bytes, drops, stored_bytes, room) = Default::default();
        (Arc::new(FragmentQueue { messages, waiting_bytes, drops, limits, stored_bytes, room }), received)
    }

    fn open(queue: &Arc<FragmentQueue>, tenant: &Arc<TenantTraces>) -> TraceStore {
        TraceStore(Arc::new(OpenStore::new(Path::new("unused"), tenant, queue)))
    }

    /// Records `count` fragments. Returns how many were dropped.
    fn dropped(store: &TraceStore, count: usize) -> usize {
        let before = store.drops().too_fast;
        (0..count).for_each(|_| store.record(fragment(1)));
        usize::try_from(store.drops().too_fast - before).unwrap()
    }

    #[test]
    fn fragments_of_one_tenant_leave_room_in_the_queue() {
        let (queue, received) = queue(TraceLimits { waiting_bytes_of_app: 4 << 20, ..TraceLimits::NODE });
        let tenant = Arc::default();
        let (loud, same, other) = (open(&queue, &tenant), open(&queue, &tenant), open(&queue, &Arc::default()));
        assert_eq!(dropped(&loud, QUEUE_MAX), QUEUE_MAX - FRAGMENTS_OF_TENANT_MAX);
        assert_eq!((dropped(&same, 1), dropped(&other, 1)), (1, 0));
        let Ok(QueueMessage::Fragment(waiting)) = received.recv() else { panic!("a fragment waits") };
        queue.end_waiting(&waiting.store, waiting.bytes);
        assert_eq!((dropped(&same, 1), dropped(&same, 1)), (0, 1));
        let expected = (QUEUE_MAX - FRAGMENTS_OF_TENANT_MAX + 2) as u64;
        assert_eq!(queue.drops.get(), TraceDrops { too_fast: expected, not_written: 0 });
    }

    #[test]
    fn waiting_bytes_are_bounded_for_an_app_a_tenant_and_all() {
        let (waiting_bytes_of_app, waiting_bytes_of_tenant, waiting_bytes) = (8_000, 12_000, 16_000);
        let limits = TraceLimits { waiting_bytes_of_app, waiting_bytes_of_tenant, waiting_bytes, ..TraceLimits::NODE };
        let (queue, _received) = queue(limits);
        let tenant = Arc::default();
        let (app, same, other) = (open(&queue, &tenant), open(&queue, &tenant), open(&queue, &Arc::default()));
        for (store, waiting_max) in [(&app, 8_000), (&same, 12_000), (&other, 16_000)] {
            assert!(dropped(store, 100) > 0);
            let waiting = queue.waiting_bytes.load(Ordering::Relaxed);
            assert!(waiting <= waiting_max && waiting > waiting_max - 1_000, "{waiting}");
        }
    }
}
