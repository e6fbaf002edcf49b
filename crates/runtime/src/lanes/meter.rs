//! Measures the processor time of guests.
//!
//! A guest runs only while its future is polled, so its processor time is the time that threads use during its polls.
//! Two techniques make the measurement cheap enough for every poll of every request:
//!
//! - Reading the thread's processor clock is a system call (about half a microsecond), but reading the monotonic clock
//!   is not (25 ns). A poll of less than [`SHORT`] was hardly interrupted, so its duration is taken as its processor
//!   time. Only a longer poll, during which the thread may have waited for a processor, is measured by the thread's
//!   processor clock.
//! - At the beginning of a poll, the processor clock is read only if the last reading is more than [`SHORT`] old.
//!   Otherwise, the poll is measured from the last reading, and the time of the short polls that were charged since then
//!   is subtracted.
//!
//! If a guest calls another guest on its own thread, the callee is polled within the caller's poll. Both guests belong
//! to one account (no call leaves its app), so the outer poll is charged for both guests, and the inner poll is not
//! measured.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::watch::PollSlot;
use crate::clock::processor_time;
use crate::pool::Account;

/// A poll of at most this duration is measured by the monotonic clock, a longer one by the thread's processor clock. So
/// there is at least this time between two readings of the processor clock: at half a microsecond each, the readings
/// take at most half a per cent of the time.
const SHORT: Duration = Duration::from_micros(100);

thread_local! {
    static THREAD: Cell<ThreadClock> = const {
        Cell::new(ThreadClock { read: None, charged: Duration::ZERO, polling: None })
    };
    /// The slot through which the engine's epoch clock observes the polls of this thread.
    static SLOT: OnceCell<Arc<PollSlot>> = const { OnceCell::new() };
}

/// What a thread has measured so far.
#[derive(Clone, Copy)]
struct ThreadClock {
    /// The time at which the thread's processor clock was last read, and the processor time that it showed.
    read: Option<(Instant, Duration)>,
    /// The processor time that was charged to accounts since the last reading.
    charged: Duration,
    /// The poll that is currently measured, if any.
    polling: Option<Poll>,
}

#[derive(Clone, Copy)]
struct Poll {
    began: Instant,
    slice: Duration,
}

/// The measurement of a poll. Charges the account when this value is dropped, even after a panic.
pub(crate) struct PollMeasurement<'a> {
    account: &'a Account,
    began: Instant,
}

impl<'a> PollMeasurement<'a> {
    /// Starts to measure a poll whose guest should yield when `slice` is over. Returns `None` if this thread is already
    /// measuring an outer poll.
    pub(crate) fn begin(account: &'a Account, slice: Duration) -> Option<Self> {
        let mut thread = THREAD.get();
        if thread.polling.is_some() {
            return None;
        }
        let began = Instant::now();
        if thread.read.is_none_or(|(when, _)| began.saturating_duration_since(when) > SHORT) {
            thread.read = Some((began, processor_time()));
            thread.charged = Duration::ZERO;
        }
        thread.polling = Some(Poll { began, slice });
        THREAD.set(thread);
        SLOT.with(|slot| slot.get_or_init(PollSlot::register).begin(began, slice));
        Some(Self { account, began })
    }

    /// Ends the measurement, charges the account, and returns the processor time of the poll.
    pub(crate) fn end(self) -> Duration {
        let used = self.charge();
        std::mem::forget(self);
        used
    }

    fn charge(&self) -> Duration {
        SLOT.with(|slot| slot.get().map(|slot| slot.end()));
        let now = Instant::now();
        let mut used = now.saturating_duration_since(self.began);
        let mut thread = THREAD.get();
        thread.polling = None;
        if used > SHORT {
            let clock = processor_time();
            if let Some((_, before)) = thread.read {
                used = used.min(clock.saturating_sub(before).saturating_sub(thread.charged));
            }
            thread.read = Some((now, clock));
            thread.charged = Duration::ZERO;
        } else {
            thread.charged += used;
        }
        THREAD.set(thread);
        self.account.charge_cpu(used);
        used
    }
}

impl Drop for PollMeasurement<'_> {
    fn drop(&mut self) {
        self.charge();
    }
}

/// Returns whether the guest that runs on this thread has used up its time slice. Returns true if no poll is measured.
pub(crate) fn slice_is_over() -> bool {
    THREAD.get().polling.is_none_or(|poll| poll.began.elapsed() >= poll.slice)
}
