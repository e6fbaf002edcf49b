//! The lane that an account's requests begin in: a credit of time for long polls in the fast lane.
//!
//! Whether a request computes for long is only known after it has done so, and finding out costs the fast lane up to a
//! time slice. So each account has a credit for such slices, which fills slowly. While the credit is used up, all
//! requests of the account begin in the slow lane, whose threads the kernel preempts for those of the fast one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The maximum credit.
const CREDIT_MAX: Duration = Duration::from_millis(4);

/// The credit that is added each second. Twenty hostile accounts use up a twenty-fifth of one thread's time.
const CREDIT_PER_SECOND: Duration = Duration::from_millis(2);

/// The maximum debt, so that an account returns to the fast lane soon after it has stopped computing for long.
const DEBT_MAX: Duration = Duration::from_millis(4);

/// The credit of one account.
#[derive(Debug)]
pub(crate) struct FastLaneCredit {
    left_ns: AtomicI64,
    filled_ns: AtomicU64,
}

impl FastLaneCredit {
    /// Returns a full credit at `now`, in nanoseconds as of [`crate::clock::now`].
    pub(crate) fn new(now: u64) -> Self {
        Self { left_ns: AtomicI64::new(nanoseconds(CREDIT_MAX)), filled_ns: AtomicU64::new(now) }
    }

    /// Returns whether a request may begin in the fast lane at `now`.
    pub(crate) fn permits(&self, now: impl FnOnce() -> u64) -> bool {
        // The common case costs one load.
        if self.left_ns.load(Ordering::Relaxed) == nanoseconds(CREDIT_MAX) {
            return true;
        }
        self.fill(now()) > 0
    }

    /// Charges the time that a request spent in the fast lane before it was moved to the slow lane at `now`.
    pub(crate) fn charge(&self, used: Duration, now: u64) {
        self.fill(now);
        let used = nanoseconds(used);
        let take = |left: i64| Some(left.saturating_sub(used).max(-nanoseconds(DEBT_MAX)));
        let _ = self.left_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
    }

    /// Adds the credit that is due and returns the sum.
    fn fill(&self, now: u64) -> i64 {
        let last = self.filled_ns.load(Ordering::Relaxed);
        let passed = now.saturating_sub(last);
        let due = u128::from(passed) * CREDIT_PER_SECOND.as_nanos() / 1_000_000_000;
        let due = i64::try_from(due).unwrap_or(i64::MAX);
        // Only one of several threads adds the credit that is due. Rounding loses at most a thousandth.
        if due < 1_000 || self.filled_ns.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return self.left_ns.load(Ordering::Relaxed);
        }
        let pay = |left: i64| Some(left.saturating_add(due).min(nanoseconds(CREDIT_MAX)));
        let before = self.left_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).unwrap_or_else(|left| left);
        pay(before).unwrap_or(before)
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
        assert!(credit.permits(|| SECOND / 10), "a fifth of a millisecond was paid in");
        credit.charge(Duration::from_secs(10), SECOND / 10);
        assert!(!credit.permits(|| 2 * SECOND), "4 ms are owed, 2 a second paid");
        assert!(credit.permits(|| 3 * SECOND), "no debt is larger than that");
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
