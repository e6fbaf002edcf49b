//! Numbers for jitter and for choosing replicas: spread, not secret.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A generator that many tasks share (splitmix64).
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(RandomState::new().hash_one(())))
    }

    pub(crate) fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Between half of `pause` and all of it, so that those who failed together do not come back together.
    pub(crate) fn jitter(&self, pause: Duration) -> Duration {
        let half = pause / 2;
        half + half.mul_f64((self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// `first`, doubled for each of `failures` after the first, and at most `max`.
pub(crate) fn doubled(first: Duration, failures: u32, max: Duration) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(max)
}
