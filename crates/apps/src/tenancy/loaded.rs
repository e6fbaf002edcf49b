//! What is in memory, and what goes first when there is no room for more.
//!
//! Each app in memory has a seat, and there are so many seats. Who needs one when none is left gets that of the app that was used
//! longest ago and does nothing now: an app that serves requests is never dropped in favour of another. When the system is short of memory,
//! apps are dropped though there are seats.
//!
//! Requests only note when they came; nothing is moved about for them. The order is found when it is needed: apps lie in a heap by the
//! time that was noted when they were put there. Whoever comes out first and was used since goes back with its new time; the
//! first that was not is the oldest, as times only grow.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::app::App;
use super::memory::MemoryBounds;
use crate::revision::Revision;

/// How often the system's memory is looked at.
const MEMORY_CHECK_EVERY: Duration = Duration::from_secs(1);

/// How long a load waits for a seat before it looks again: twice as long each time, as each look may be at all loaded apps.
const SEAT_PAUSE_FIRST: Duration = Duration::from_millis(5);

/// The last of these pauses; half a second and some in all.
const SEAT_PAUSE_LAST: Duration = Duration::from_millis(320);

/// One in so many of the loaded apps is dropped at once when memory is short.
const DROPPED_PART: usize = 8;

/// An app that can serve: its requests hold what they need of it.
pub(super) struct Loaded {
    pub(super) revision: Revision,
    pub(super) seat: ResidencyPermit,
}

/// A place among the apps in memory, until it is given back or dropped.
pub(super) struct ResidencyPermit {
    taken: Arc<AtomicUsize>,
    is_taken: AtomicBool,
}

impl ResidencyPermit {
    pub(super) fn give_back(&self) {
        if self.is_taken.swap(false, Ordering::AcqRel) {
            self.taken.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for ResidencyPermit {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// All apps in memory.
pub(super) struct LoadedApps {
    max: usize,
    memory: Option<MemoryBounds>,
    taken: Arc<AtomicUsize>,
    listed: Mutex<BinaryHeap<Reverse<Listed>>>,
    is_pressed: AtomicBool,
    drops: AtomicU64,
    runtime: tokio::runtime::Handle,
}

struct Listed {
    used_ns: u64,
    app: Arc<App>,
}

impl PartialEq for Listed {
    fn eq(&self, other: &Self) -> bool {
        self.used_ns == other.used_ns
    }
}

impl Eq for Listed {}

impl PartialOrd for Listed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Listed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.used_ns.cmp(&other.used_ns)
    }
}

impl LoadedApps {
    /// Needs tokio's runtime. With `memory`, watches the system's for as long as somebody holds the set.
    pub(super) fn new(max: usize, memory: Option<MemoryBounds>) -> Arc<Self> {
        let set = Arc::new(Self {
            max: max.max(1),
            memory,
            taken: Arc::default(),
            listed: Mutex::default(),
            is_pressed: AtomicBool::new(false),
            drops: AtomicU64::new(0),
            runtime: tokio::runtime::Handle::current(),
        });
        if memory.is_some() {
            let weak = Arc::downgrade(&set);
            tokio::spawn(async move {
                let mut tick = tokio::time::interval(MEMORY_CHECK_EVERY);
                loop {
                    tick.tick().await;
                    let Some(set) = weak.upgrade() else { return };
                    set.check_memory();
                }
            });
        }
        set
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How many seats are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// How many apps were dropped from memory in favour of others.
    pub(super) fn drops(&self) -> u64 {
        self.drops.load(Ordering::Relaxed)
    }

    /// A seat; none where all are taken by apps that serve requests.
    pub(super) fn seat(&self) -> Option<ResidencyPermit> {
        if self.is_pressed.load(Ordering::Relaxed) {
            self.drop_oldest();
        }
        loop {
            let add = |taken: usize| (taken < self.max).then_some(taken + 1);
            if self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok() {
                return Some(self.taken_seat());
            }
            if !self.drop_oldest() {
                return None;
            }
        }
    }

    /// As [`LoadedApps::seat`], waiting a while for an app to have served its requests: a guest may still be at work for a moment after its answer has
    /// been read.
    pub(super) async fn seat_soon(&self) -> Option<ResidencyPermit> {
        let mut pause = SEAT_PAUSE_FIRST;
        loop {
            let seat = self.seat();
            if seat.is_some() || pause > SEAT_PAUSE_LAST {
                return seat;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// A seat, even if there is none to be had: for what an admin wants to serve.
    pub(super) fn seat_in_any_case(&self) -> ResidencyPermit {
        self.seat().unwrap_or_else(|| {
            self.taken.fetch_add(1, Ordering::AcqRel);
            self.taken_seat()
        })
    }

    fn taken_seat(&self) -> ResidencyPermit {
        ResidencyPermit { taken: self.taken.clone(), is_taken: AtomicBool::new(true) }
    }

    /// `app` is in memory now.
    pub(super) fn list(&self, app: &Arc<App>) {
        let mut listed = self.listed();
        if !app.is_listed.swap(true, Ordering::AcqRel) {
            listed.push(Reverse(Listed { used_ns: app.used_ns(), app: app.clone() }));
        }
    }

    /// `app` is gone for good.
    pub(super) fn unlist(&self, app: &Arc<App>) {
        if app.is_listed.swap(false, Ordering::AcqRel) {
            self.listed().retain(|Reverse(listed)| !Arc::ptr_eq(&listed.app, app));
        }
    }

    /// Drops the app that was used longest ago, of those that do nothing.
    fn drop_oldest(&self) -> bool {
        let mut listed = self.listed();
        let mut passed = Vec::new();
        let mut dropped = false;
        // Times only grow, but may grow while this looks: nobody is looked at for ever.
        let mut looks = listed.len().saturating_mul(2);
        while looks > 0
            && let Some(Reverse(oldest)) = listed.pop()
        {
            looks -= 1;
            let Some(loaded) = oldest.app.serving.loaded() else {
                oldest.app.is_listed.store(false, Ordering::Release);
                continue;
            };
            let used_ns = oldest.app.used_ns();
            if used_ns > oldest.used_ns {
                listed.push(Reverse(Listed { used_ns, app: oldest.app }));
            } else if loaded.revision.is_busy() {
                passed.push(Reverse(oldest));
            } else if oldest.app.serving.evict(&loaded) {
                oldest.app.is_listed.store(false, Ordering::Release);
                self.drops.fetch_add(1, Ordering::Relaxed);
                self.discard(loaded);
                dropped = true;
                break;
            } else {
                // It was replaced just now.
                passed.push(Reverse(Listed { used_ns: oldest.app.used_ns(), app: oldest.app }));
            }
        }
        listed.extend(passed);
        dropped
    }

    /// Drops what serves no longer, on another thread, as that takes a while. Its seat is free at once.
    ///
    /// A task asks for that thread: one that the calling thread starts would inherit its priority, which may be that of the slow lane.
    pub(super) fn discard(&self, loaded: Arc<Loaded>) {
        loaded.seat.give_back();
        self.runtime.spawn(async { drop(tokio::task::spawn_blocking(move || drop(loaded))) });
    }

    fn check_memory(&self) {
        let Some(bounds) = &self.memory else { return };
        let pressed = bounds.are_exceeded();
        self.is_pressed.store(pressed, Ordering::Relaxed);
        if pressed {
            let most = self.listed().len().div_ceil(DROPPED_PART);
            for _ in 0..most {
                if !self.drop_oldest() {
                    return;
                }
            }
        }
    }

    fn listed(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Listed>>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
