//! Decides in which lane an account's requests start, by a credit of processor time for long polls in the fast lane.
//!
//! Whether a request computes for a long time is found out only by running it, which may take a complete time slice of
//! the fast lane. So each account has a credit for such slices, which fills slowly. While the credit is used up, all
//! requests of the account start in the slow lane, whose threads are preempted by the threads of the fast lane.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The maximum credit of an account: the processor time that it may use for long polls in the fast lane.
const CREDIT_MAX: Duration = Duration::from_millis(4);

/// The credit that is added per second. Twenty hostile accounts can thus use a twenty-fifth of one thread's time.
const CREDIT_PER_SECOND: Duration = Duration::from_millis(2);

/// The maximum amount by which the credit can be below zero. So if the requests of an account have computed for a long
/// time and then stop doing so, the account can use the fast lane again after two seconds.
const DEBT_MAX: Duration = Duration::from_millis(4);

/// The credit of one account for long polls in the fast lane.
#[derive(Debug)]
pub(crate) struct FastLaneCredit {
    left_ns: AtomicI64,
    filled_ns: AtomicU64,
}

impl FastLaneCredit {
    /// Returns a full credit. `now` is a value of [`crate::clock::now`].
    pub(crate) fn new(now: u64) -> Self {
        Self { left_ns: AtomicI64::new(nanoseconds(CREDIT_MAX)), filled_ns: AtomicU64::new(now) }
    }

    /// Returns whether a request may start in the fast lane at the time `now`.
    pub(crate) fn permits(&self, now: impl FnOnce() -> u64) -> bool {
        // In the common case of a full credit, this check costs one load.
        if self.left_ns.load(Ordering::Relaxed) == nanoseconds(CREDIT_MAX) {
            return true;
        }
        self.fill(now()) > 0
    }

    /// Subtracts `used` from the credit: the time that a request spent in the fast lane before it moved to the slow
    /// lane. `now` is the time of the move.
    pub(crate) fn charge(&self, used: Duration, now: u64) {
        self.fill(now);
        let used = nanoseconds(used);
        let take = |left: i64| Some(left.saturating_sub(used).max(-nanoseconds(DEBT_MAX)));
        let _ = self.left_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
    }

    /// Adds the credit for the period since the last addition, and returns the new credit.
    fn fill(&self, now: u64) -> i64 {
        let last = self.filled_ns.load(Ordering::Relaxed);
        let passed = now.saturating_sub(last);
        let due = u128::from(passed) * CREDIT_PER_SECOND.as_nanos() / 1_000_000_000;
        let due = i64::try_from(due).unwrap_or(i64::MAX);
        // If several threads try to add the same period, only one succeeds. Rounding loses at most a thousandth of the
        // added credit.
        if due < 1_000 || self.filled_ns.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return self.left_ns.load(Ordering::Relaxed);
        }
        let add = |left: i64| Some(left.saturating_add(due).min(nanoseconds(CREDIT_MAX)));
        let before = self.left_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).unwrap_or_else(|left| left);
        add(before).unwrap_or(before)
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn long_polls_use_up_the_credit_and_time_restores_it() {
        let credit = FastLaneCredit::new(0);
        assert!(credit.permits(|| 0));
        for _ in 0..4 {
            credit.charge(Duration::from_millis(1), 0);
        }
        assert!(!credit.permits(|| 0));
        assert!(
            credit.permits(|| SECOND / 10),
            "a fifth of a millisecond was added, but requests start in the slow lane"
        );
        credit.charge(Duration::from_secs(10), SECOND / 10);
        assert!(!credit.permits(|| 2 * SECOND), "requests start in the fast lane before the missing 4 ms are added");
        assert!(credit.permits(|| 3 * SECOND), "the credit is below zero by more than `DEBT_MAX`");
    }

    #[test]
    fn no_more_credit_is_saved_than_a_burst() {
        let credit = FastLaneCredit::new(0);
        credit.charge(Duration::from_millis(1), 0);
        assert!(credit.permits(|| 3600 * SECOND));
        credit.charge(Duration::from_millis(9), 3600 * SECOND);
        assert!(!credit.permits(|| 3600 * SECOND));
    }
}
