//! Pauses between attempts. Each pause is twice as long as the previous one, and varies at random, so that clients that
//! failed together do not retry together.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The bounds of the pauses between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// The maximum pause.
    pub max: Duration,
}

impl Backoff {
    /// Returns the pause after this number of consecutive failures: `first`, doubled for each failure after the first
    /// one, and at most `max`.
    #[must_use]
    pub fn pause(&self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.max)
    }
}

/// A generator of uniformly distributed pseudo-random numbers (splitmix64), which must not be used for secrets. Tasks
/// share one generator.
#[derive(Debug)]
pub struct Jitter(AtomicU64);

impl Default for Jitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Jitter {
    /// Creates a generator whose seed differs between processes.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU64::new(RandomState::new().hash_one(())))
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a random number that is less than `end`. `end` must not be 0.
    #[must_use]
    pub fn below(&self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Returns a random duration between half of `pause` and `pause`.
    #[must_use]
    pub fn spread(&self, pause: Duration) -> Duration {
        let half = pause / 2;
        half + half.mul_f64((self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(70) };
        let pauses = [0, 1, 2, 3, 4, u32::MAX].map(|failures| backoff.pause(failures).as_millis());
        assert_eq!(pauses, [10, 10, 20, 40, 70, 70]);
    }

    #[test]
    fn a_spread_pause_is_at_least_half_as_long() {
        let (jitter, pause) = (Jitter::new(), Duration::from_millis(100));
        let spread: Vec<_> = (0..100).map(|_| jitter.spread(pause)).collect();
        assert!(spread.iter().all(|it| (pause / 2..=pause).contains(it)), "{spread:?}");
        assert!(spread.iter().any(|it| *it != spread[0]));
        assert!((0..100).all(|_| jitter.below(3) < 3));
    }
}
