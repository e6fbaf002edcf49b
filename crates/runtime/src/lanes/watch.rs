//! The state of the threads that poll guests, for the engine's epoch clock: when a poll began, and how long its guest
//! may run before it should yield.
//!
//! When the epoch advances, every running guest of the engine is interrupted to check its time limits. To interrupt
//! guests no more often than necessary, the epoch clock checks this state every millisecond while guests run. Between
//! two regular ticks ([`EPOCH_TICK`](crate::engine::EPOCH_TICK)), it advances the epoch only if a guest has used up its
//! time slice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::{nanoseconds_at, now};

/// The time without any poll of a guest after which the epoch clock no longer checks at short intervals.
const ACTIVE: Duration = Duration::from_millis(100);

static SLOTS: Mutex<Vec<Arc<PollSlot>>> = Mutex::new(Vec::new());

/// The current or last poll of one thread, as the epoch clock sees it.
#[derive(Debug, Default)]
pub(crate) struct PollSlot {
    /// The time at which the last poll began, in nanoseconds as returned by [`now`].
    began_ns: AtomicU64,
    slice_ns: AtomicU64,
    is_polling: AtomicBool,
}

/// The combined state of all threads that poll guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Whether any guest has used up its time slice.
    pub(crate) slice_is_over: bool,
    /// Whether any guest was polled within the last [`ACTIVE`].
    pub(crate) is_active: bool,
    /// The time until the first of the running guests has used up its time slice; `None` if no guest runs, or all have
    /// used up their slices.
    pub(crate) next: Option<Duration>,
}

impl Activity {
    const NONE: Self = Self { slice_is_over: false, is_active: false, next: None };

    fn and(self, other: Self) -> Self {
        Self {
            slice_is_over: self.slice_is_over || other.slice_is_over,
            is_active: self.is_active || other.is_active,
            next: [self.next, other.next].into_iter().flatten().min(),
        }
    }
}

impl PollSlot {
    /// Adds a slot for the calling thread. The slot is removed some time after the thread has dropped it.
    pub(crate) fn register() -> Arc<Self> {
        let slot = Arc::new(Self::default());
        let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| Arc::strong_count(slot) > 1);
        slots.push(slot.clone());
        slot
    }

    /// Records that a poll began at `began` and may run for `slice`. Both values are not stored at once, so the epoch
    /// clock may read this `began` together with the slice of the previous poll. The only consequence is an unnecessary
    /// interruption, or one that is a millisecond late.
    pub(crate) fn begin(&self, began: Instant, slice: Duration) {
        self.began_ns.store(nanoseconds_at(began), Ordering::Relaxed);
        self.slice_ns.store(u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.is_polling.store(true, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.is_polling.store(false, Ordering::Relaxed);
    }

    fn activity(&self, now: u64) -> Activity {
        let ran_ns = now.saturating_sub(self.began_ns.load(Ordering::Relaxed));
        let is_polling = self.is_polling.load(Ordering::Relaxed);
        let left_ns = self.slice_ns.load(Ordering::Relaxed).saturating_sub(ran_ns);
        Activity {
            slice_is_over: is_polling && left_ns == 0,
            is_active: is_polling || Duration::from_nanos(ran_ns) < ACTIVE,
            next: (is_polling && left_ns > 0).then(|| Duration::from_nanos(left_ns)),
        }
    }
}

/// Returns the activity of the threads of this process.
pub(crate) fn activity() -> Activity {
    let now = now();
    let slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    slots.iter().map(|slot| slot.activity(now)).fold(Activity::NONE, Activity::and)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_over_only_while_its_poll_runs() {
        let slot = PollSlot::default();
        let began = Instant::now();
        let at = |ms: u64| nanoseconds_at(began) + ms * 1_000_000;
        slot.begin(began, Duration::from_millis(1));
        let running = Activity { is_active: true, ..Activity::NONE };
        assert_eq!(slot.activity(at(0)), Activity { next: Some(Duration::from_millis(1)), ..running });
        assert_eq!(slot.activity(at(500)), Activity { slice_is_over: true, ..running });
        slot.end();
        assert_eq!(slot.activity(at(5)), running);
        assert_eq!(slot.activity(at(500)), Activity::NONE);
    }

    #[test]
    fn of_several_slices_the_one_that_ends_first_counts() {
        let (first, second) = (Duration::from_micros(200), Duration::from_micros(300));
        let one = |next| Activity { next, ..Activity::NONE };
        assert_eq!(one(Some(second)).and(one(Some(first))), one(Some(first)));
        assert_eq!(one(None).and(one(Some(second))), one(Some(second)));
    }
}
