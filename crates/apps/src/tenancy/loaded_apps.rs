//! The apps in memory, and the choice of the apps that are evicted to make room.
//!
//! Each app in memory has a permit, and the number of permits is limited. When no permit is free, the least recently
//! used idle app is evicted. An app that serves requests is never evicted for another app. When the system is short of
//! memory, idle apps are evicted even if permits are free.
//!
//! A request only stores its time in the app, and does not reorder the apps. The apps are in a heap, ordered by the
//! time of use that each app had when it was inserted. To evict an app, the first app is taken from the heap. If it was
//! used after its insertion, it is inserted again with its new time. The first app that was not used after its
//! insertion is the least recently used one, because times only grow.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::app::App;
use super::loaded_revision::{LoadedRevision, ResidencyPermit};
use super::memory::MemoryBounds;

/// The interval between two checks of the limits on memory.
const MEMORY_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The first pause between two attempts of a load to get a permit. Each pause is twice as long as the previous one,
/// because each attempt may look at all apps in memory.
const PERMIT_PAUSE_MIN: Duration = Duration::from_millis(5);

/// The last pause between two attempts of a load to get a permit. All pauses together take a little more than half a
/// second.
const PERMIT_PAUSE_MAX: Duration = Duration::from_millis(320);

/// When memory is short, one check evicts at most one app in this number of apps in memory, rounded up.
const EVICTED_FRACTION: usize = 8;

/// All apps in memory, and the limits on their number and memory.
pub(super) struct LoadedApps {
    max: usize,
    memory: Option<MemoryBounds>,
    permits_in_use: Arc<AtomicUsize>,
    listed: Mutex<BinaryHeap<Reverse<ListedApp>>>,
    is_memory_short: AtomicBool,
    evictions: AtomicU64,
    runtime: tokio::runtime::Handle,
}

/// An entry of the priority queue of the apps in memory. It is ordered by `used_ns`, the time at which the app had last
/// been used when the entry was inserted.
struct ListedApp {
    used_ns: u64,
    app: Arc<App>,
}

impl PartialEq for ListedApp {
    fn eq(&self, other: &Self) -> bool {
        self.used_ns == other.used_ns
    }
}

impl Eq for ListedApp {}

impl PartialOrd for ListedApp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ListedApp {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.used_ns.cmp(&other.used_ns)
    }
}

impl LoadedApps {
    /// Creates an empty set of at most `max` apps. Must be called in a tokio runtime. If there are limits on memory,
    /// starts a task that checks them until the set is dropped.
    pub(super) fn new(max: usize, memory: Option<MemoryBounds>) -> Arc<Self> {
        let apps = Arc::new(Self {
            max: max.max(1),
            memory,
            permits_in_use: Arc::default(),
            listed: Mutex::default(),
            is_memory_short: AtomicBool::new(false),
            evictions: AtomicU64::new(0),
            runtime: tokio::runtime::Handle::current(),
        });
        if memory.is_some() {
            let weak = Arc::downgrade(&apps);
            tokio::spawn(async move {
                let mut tick = tokio::time::interval(MEMORY_CHECK_INTERVAL);
                loop {
                    tick.tick().await;
                    let Some(apps) = weak.upgrade() else { return };
                    apps.check_memory();
                }
            });
        }
        apps
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Returns the number of apps that are in memory or being loaded.
    pub(super) fn permits_in_use(&self) -> usize {
        self.permits_in_use.load(Ordering::Acquire)
    }

    /// Returns the number of evictions since this value was created.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Takes a permit. If no permit is free, evicts an idle app. Returns `None` if no app is idle.
    fn try_acquire(&self) -> Option<ResidencyPermit> {
        if self.is_memory_short.load(Ordering::Relaxed) {
            self.evict_least_recently_used();
        }
        loop {
            let add = |in_use: usize| (in_use < self.max).then_some(in_use + 1);
            if self.permits_in_use.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok() {
                return Some(self.new_permit());
            }
            if !self.evict_least_recently_used() {
                return None;
            }
        }
    }

    /// Takes a permit. If no permit is free and no app is idle, waits a short time for an app to become idle. This
    /// helps if a guest still runs for a moment after the client has received the whole response.
    pub(super) async fn acquire(&self) -> Option<ResidencyPermit> {
        let mut pause = PERMIT_PAUSE_MIN;
        loop {
            let permit = self.try_acquire();
            if permit.is_some() || pause > PERMIT_PAUSE_MAX {
                return permit;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Takes a permit, even beyond the maximum if no permit is free. Used for revisions that an admin starts.
    pub(super) fn acquire_beyond_max(&self) -> ResidencyPermit {
        self.try_acquire().unwrap_or_else(|| {
            self.permits_in_use.fetch_add(1, Ordering::AcqRel);
            self.new_permit()
        })
    }

    fn new_permit(&self) -> ResidencyPermit {
        ResidencyPermit::new(self.permits_in_use.clone())
    }

    /// Adds an app to the apps that may be evicted. Called after the app was loaded.
    pub(super) fn list(&self, app: &Arc<App>) {
        let mut listed = self.listed();
        if !app.is_listed.swap(true, Ordering::AcqRel) {
            listed.push(Reverse(ListedApp { used_ns: app.used_ns(), app: app.clone() }));
        }
    }

    /// Removes an app from the apps that may be evicted. Called when the app is removed from the tenancy.
    pub(super) fn unlist(&self, app: &Arc<App>) {
        if app.is_listed.swap(false, Ordering::AcqRel) {
            self.listed().retain(|Reverse(listed)| !Arc::ptr_eq(&listed.app, app));
        }
    }

    /// Evicts the least recently used idle app. Returns whether an app was evicted.
    fn evict_least_recently_used(&self) -> bool {
        let mut listed = self.listed();
        let mut passed = Vec::new();
        let mut is_evicted = false;
        // Apps may be used while this loop runs and are then inserted again, so the number of attempts is limited.
        let mut attempts = listed.len().saturating_mul(2);
        while attempts > 0
            && let Some(Reverse(oldest)) = listed.pop()
        {
            attempts -= 1;
            let Some(loaded) = oldest.app.lifecycle.loaded() else {
                oldest.app.is_listed.store(false, Ordering::Release);
                continue;
            };
            let used_ns = oldest.app.used_ns();
            if used_ns > oldest.used_ns {
                listed.push(Reverse(ListedApp { used_ns, app: oldest.app }));
            } else if loaded.revision.is_busy() {
                passed.push(Reverse(oldest));
            } else if oldest.app.lifecycle.evict(&loaded) {
                oldest.app.is_listed.store(false, Ordering::Release);
                self.evictions.fetch_add(1, Ordering::Relaxed);
                self.unload(loaded);
                is_evicted = true;
                break;
            } else {
                // The app was not evicted, because another revision took over in the meantime.
                passed.push(Reverse(ListedApp { used_ns: oldest.app.used_ns(), app: oldest.app }));
            }
        }
        listed.extend(passed);
        is_evicted
    }

    /// Drops a revision that left service. Releases its permit immediately, and drops its other resources on another
    /// thread, because dropping them takes a while.
    ///
    /// The other thread is spawned by a task of the runtime. If it were spawned by the calling thread, which may be a
    /// thread of the slow lane, it would inherit that thread's low priority.
    pub(super) fn unload(&self, loaded: Arc<LoadedRevision>) {
        loaded.permit.release();
        self.runtime.spawn(async { drop(tokio::task::spawn_blocking(move || drop(loaded))) });
    }

    fn check_memory(&self) {
        let Some(bounds) = &self.memory else { return };
        let is_short = bounds.are_exceeded();
        self.is_memory_short.store(is_short, Ordering::Relaxed);
        if is_short {
            let most = self.listed().len().div_ceil(EVICTED_FRACTION);
            for _ in 0..most {
                if !self.evict_least_recently_used() {
                    return;
                }
            }
        }
    }

    fn listed(&self) -> MutexGuard<'_, BinaryHeap<Reverse<ListedApp>>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
