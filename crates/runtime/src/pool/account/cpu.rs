//! The processor time of an account: a token bucket that fills at the account's rate, and from which the processor time
//! of its guests is subtracted.
//!
//! No new request starts while the bucket is empty. Guests are stopped when the content is below zero by more than the
//! size of the bucket. So a short excess delays new requests instead of stopping requests that are nearly done, and in
//! the long run no account uses more than its rate.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The time in which an empty bucket fills up at the account's rate. It determines the size of the bucket.
const BUCKET: Duration = Duration::from_secs(1);

/// The time after which a request may be retried if the account's rate is zero.
const NO_RATE_RETRY: Duration = Duration::from_secs(3600);

const SECOND_NS: u128 = 1_000_000_000;

/// The processor time of one account. All points in time are values of [`now`](crate::clock::now).
#[derive(Debug)]
pub(super) struct CpuBucket {
    /// The nanoseconds of processor time that are added per second of real time. [`u64::MAX`] means no limit.
    rate: AtomicU64,
    used_ns: AtomicU64,
    /// The content of the bucket in nanoseconds. Negative if guests have used more than the bucket contained.
    left_ns: AtomicI64,
    /// The time of the last addition to the bucket.
    filled_at: AtomicU64,
    /// The number of requests that were refused and of guests that were stopped.
    refusals: AtomicU64,
}

impl CpuBucket {
    /// Returns a full bucket with a rate of `per_second`.
    pub(super) fn new(per_second: Duration, now: u64) -> Self {
        let bucket = Self {
            rate: AtomicU64::new(0),
            used_ns: AtomicU64::new(0),
            left_ns: AtomicI64::new(0),
            filled_at: AtomicU64::new(now),
            refusals: AtomicU64::new(0),
        };
        bucket.set_rate(per_second);
        bucket.left_ns.store(bucket.capacity(), Ordering::Relaxed);
        bucket
    }

    /// Changes the rate. The content of the bucket, whether positive or negative, is limited to the new size of the
    /// bucket.
    pub(super) fn set_rate(&self, per_second: Duration) {
        self.rate.store(u64::try_from(per_second.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let most = self.capacity();
        let _ = self
            .left_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.clamp(most.saturating_neg(), most)));
    }

    /// Returns whether the processor time is limited.
    pub(super) fn is_limited(&self) -> bool {
        self.rate().is_some()
    }

    /// Returns the total processor time that was charged so far.
    pub(super) fn used(&self) -> Duration {
        Duration::from_nanos(self.used_ns.load(Ordering::Relaxed))
    }

    /// Returns the number of requests that were refused and of guests that were stopped.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// Subtracts the processor time `used` from the bucket.
    pub(super) fn charge(&self, used: Duration) {
        let ns = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        self.used_ns.fetch_add(ns, Ordering::Relaxed);
        if self.is_limited() {
            self.left_ns.fetch_sub(i64::try_from(ns).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// Returns the time until a new request may start, or `None` if it may start now. Reads the clock only if the
    /// processor time is limited.
    pub(super) fn retry_after(&self, now: impl FnOnce() -> u64) -> Option<Duration> {
        let rate = self.rate()?;
        let left = self.fill(rate, now());
        if left > 0 {
            return None;
        }
        if rate == 0 {
            return Some(NO_RATE_RETRY);
        }
        let owed = u128::from(left.unsigned_abs()) + 1;
        Some(Duration::from_nanos(u64::try_from(owed * SECOND_NS / u128::from(rate)).unwrap_or(u64::MAX)))
    }

    /// Returns whether the content of the bucket is below zero by more than the bucket's size. Reads the clock only if
    /// the processor time is limited.
    pub(super) fn is_overdrawn(&self, now: impl FnOnce() -> u64) -> bool {
        self.rate().is_some_and(|rate| self.fill(rate, now()) < self.capacity().saturating_neg())
    }

    fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Ordering::Relaxed)).filter(|rate| *rate != u64::MAX)
    }

    fn capacity(&self) -> i64 {
        let rate = self.rate.load(Ordering::Relaxed);
        i64::try_from(u128::from(rate) * BUCKET.as_nanos() / SECOND_NS).unwrap_or(i64::MAX)
    }

    /// Adds the processor time for the period since the last addition, and returns the content of the bucket.
    fn fill(&self, rate: u64, now: u64) -> i64 {
        let last = self.filled_at.load(Ordering::Relaxed);
        // If another thread has already added time for a period that ends later than `now`, nothing is added: the
        // period is clamped to 0, because a plain subtraction would wrap to a huge value.
        let passed = u64::try_from(now.wrapping_sub(last).cast_signed()).unwrap_or(0);
        let due = i64::try_from(u128::from(passed) * u128::from(rate) / SECOND_NS).unwrap_or(i64::MAX);
        // If less than a microsecond is due, it is added later, together with the next period, because rounding would
        // otherwise lose much time. If several threads try to add the same period, only one succeeds.
        if due < 1_000 || self.filled_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return self.left_ns.load(Ordering::Relaxed);
        }
        let most = self.capacity();
        let add = |left: i64| Some(left.saturating_add(due).min(most));
        let before = self.left_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).unwrap_or_else(|left| left);
        before.saturating_add(due).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_empty_bucket_has_new_requests_wait_and_a_large_debt_stops_guests() {
        let bucket = CpuBucket::new(ms(500), 0);
        assert_eq!(bucket.retry_after(|| 0), None);
        bucket.charge(ms(700));
        let wait = bucket.retry_after(|| 0).expect("requests wait while the content of the bucket is negative");
        assert_eq!(wait.as_millis(), 400);
        assert!(
            !bucket.is_overdrawn(|| 0),
            "guests are stopped although the content is below zero by less than a bucket"
        );
        assert_eq!(bucket.retry_after(|| SECOND / 2), None);
        bucket.charge(ms(600));
        assert!(bucket.is_overdrawn(|| SECOND / 2));
        assert!(!bucket.is_overdrawn(|| SECOND));
        assert_eq!(bucket.used(), ms(1300));
    }

    #[test]
    fn a_bucket_holds_no_more_than_its_capacity() {
        let bucket = CpuBucket::new(ms(1000), 0);
        let hour = 3600 * SECOND;
        assert_eq!(bucket.retry_after(|| hour), None);
        bucket.charge(ms(1000));
        assert!(bucket.retry_after(|| hour).is_some(), "an hour without use adds more than one bucket");
    }

    #[test]
    fn time_that_was_used_without_a_limit_is_not_owed_afterwards() {
        let bucket = CpuBucket::new(Duration::MAX, 0);
        bucket.charge(Duration::from_secs(100));
        assert_eq!(bucket.retry_after(|| 0), None);
        bucket.set_rate(ms(10));
        assert!(!bucket.is_overdrawn(|| 0));
        assert_eq!(bucket.used(), Duration::from_secs(100));
    }

    #[test]
    fn an_earlier_time_than_the_last_one_pays_nothing() {
        let bucket = CpuBucket::new(ms(1000), 2 * SECOND);
        bucket.charge(ms(1500));
        assert!(bucket.retry_after(|| SECOND).is_some_and(|wait| wait >= ms(500)));
    }

    #[test]
    fn a_rate_of_zero_never_pays() {
        let bucket = CpuBucket::new(Duration::ZERO, 0);
        assert!(bucket.retry_after(|| 1000 * SECOND).is_some());
    }
}
