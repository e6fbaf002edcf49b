//! Limits for rates of requests, in tables of bounded size.
//!
//! Each key has a bucket of tokens that fills at a constant rate. A key whose bucket is full is not stored, because a
//! new bucket is also full. If the table is full of other keys, all further keys share one bucket. So a client with many
//! addresses can neither make the table grow nor replace the bucket of another client by a full one.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The number of parts that a token is divided into.
const PARTS: u64 = 1_000_000;

/// The minimum time between two searches for full buckets in a full table. A search visits all entries.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// A rate, and the number of tokens that can be taken at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The number of tokens that are added per second.
    pub per_second: u32,
    /// The maximum number of tokens.
    pub burst: u32,
}

/// The buckets of many keys.
#[derive(Debug)]
pub struct RateTable<K> {
    rate: Rate,
    keys_max: usize,
    buckets: HashMap<K, Bucket>,
    /// The bucket of all keys that have no room in the table.
    overflow: Bucket,
    swept: Option<Instant>,
}

/// The number of tokens, in parts, at a time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    parts: u64,
    at: Instant,
}

impl Rate {
    fn full(self, now: Instant) -> Bucket {
        Bucket { parts: u64::from(self.burst) * PARTS, at: now }
    }
}

impl Bucket {
    /// Adds the tokens for the time since the last change.
    fn fill(&mut self, rate: Rate, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_micros();
        // A token has as many parts as a second has microseconds.
        let added = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_mul(u64::from(rate.per_second));
        self.parts = self.parts.saturating_add(added).min(u64::from(rate.burst) * PARTS);
        self.at = self.at.max(now);
    }

    /// Takes `tokens`, or returns the time after which they are available.
    fn take(&mut self, tokens: u32, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.fill(rate, now);
        let wanted = u64::from(tokens) * PARTS;
        match self.parts.checked_sub(wanted) {
            Some(left) => {
                self.parts = left;
                Ok(())
            }
            None => Err(Duration::from_micros((wanted - self.parts).div_ceil(u64::from(rate.per_second.max(1))))),
        }
    }

    fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        self.parts == u64::from(rate.burst) * PARTS
    }
}

impl<K: Eq + Hash> RateTable<K> {
    /// Creates an empty table of at most `keys_max` keys.
    #[must_use]
    pub fn new(rate: Rate, keys_max: usize, now: Instant) -> Self {
        Self { rate, keys_max, buckets: HashMap::new(), overflow: rate.full(now), swept: None }
    }

    /// Takes `tokens` from the bucket of `key`.
    ///
    /// # Errors
    /// If the bucket has fewer tokens: the time after which it has enough.
    pub fn take(&mut self, key: K, tokens: u32, now: Instant) -> Result<(), Duration> {
        if let Some(bucket) = self.buckets.get_mut(&key) {
            return bucket.take(tokens, self.rate, now);
        }
        if self.buckets.len() >= self.keys_max {
            self.sweep(now);
        }
        if self.buckets.len() >= self.keys_max {
            return self.overflow.take(tokens, self.rate, now);
        }
        let mut bucket = self.rate.full(now);
        let taken = bucket.take(tokens, self.rate, now);
        self.buckets.insert(key, bucket);
        taken
    }

    /// Removes full buckets, unless a search was made a short time ago.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_INTERVAL) {
            return;
        }
        self.swept = Some(now);
        let rate = self.rate;
        self.buckets.retain(|_, bucket| !bucket.is_full(rate, now));
    }

    /// Returns the number of keys in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Returns whether the table has no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 5 };

    #[test]
    fn a_key_gets_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut table = RateTable::new(RATE, 10, start);
        for _ in 0..5 {
            assert_eq!(table.take("a", 1, start), Ok(()));
        }
        assert_eq!(table.take("a", 1, start), Err(Duration::from_millis(100)));
        assert_eq!(table.take("b", 5, start), Ok(()), "keys have separate buckets");
        assert_eq!(table.take("a", 2, start + Duration::from_millis(100)), Err(Duration::from_millis(100)));
        assert_eq!(table.take("a", 1, start + Duration::from_millis(100)), Ok(()));
    }

    #[test]
    fn a_full_table_does_not_grow_and_resets_no_bucket() {
        let start = Instant::now();
        let mut table = RateTable::new(RATE, 2, start);
        assert_eq!(table.take(0, 5, start), Ok(()));
        assert_eq!(table.take(1, 5, start), Ok(()));
        // All other keys share one bucket.
        assert_eq!(table.take(2, 3, start), Ok(()));
        assert_eq!(table.take(3, 2, start), Ok(()));
        assert!(table.take(4, 1, start).is_err());
        assert!(table.take(0, 1, start).is_err());
        assert_eq!(table.len(), 2);
        // Full buckets make room.
        let later = start + Duration::from_secs(1);
        assert_eq!(table.take(5, 5, later), Ok(()));
        assert_eq!(table.len(), 1);
    }

    proptest! {
        /// Whatever the keys and times, a key never gets more tokens than its burst and its rate allow.
        #[test]
        fn no_key_exceeds_its_rate(steps in proptest::collection::vec((0_u8..6, 1_u32..4, 0_u64..200), 1..200)) {
            let start = Instant::now();
            let mut table = RateTable::new(RATE, 3, start);
            let (mut now, mut taken) = (start, [0_u64; 6]);
            for (key, tokens, pause_ms) in steps {
                now += Duration::from_millis(pause_ms);
                if table.take(key, tokens, now).is_ok() {
                    taken[usize::from(key)] += u64::from(tokens);
                }
                prop_assert!(table.len() <= 3);
            }
            // A key can have a bucket of its own and use the shared bucket at another time.
            let most = 2 * (u64::from(RATE.burst) + now.duration_since(start).as_millis() as u64 / 100 + 1);
            prop_assert!(taken.iter().all(|taken| *taken <= most), "{:?} {}", taken, most);
        }
    }
}
