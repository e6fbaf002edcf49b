//! How many requests without the node's token the audit log tells of. Anybody who reaches the listener can send them, so
//! telling of each would let a stranger fill the disk; the rest is counted, and the count told.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many are told of in [`PERIOD`].
pub(crate) const TOLD_MAX: u32 = 30;

const PERIOD: Duration = Duration::from_secs(60);

/// Counts requests that were refused.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    since: Instant,
    told: u32,
    untold: u64,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Counts { since: Instant::now(), told: 0, untold: 0 }))
    }

    /// Is this one told of? Then also, how many were not since the last one that was.
    pub(crate) fn tell(&self) -> Option<u64> {
        self.tell_at(Instant::now())
    }

    fn tell_at(&self, now: Instant) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(counts.since) >= PERIOD {
            (counts.since, counts.told) = (now, 0);
        }
        if counts.told >= TOLD_MAX {
            counts.untold += 1;
            return None;
        }
        counts.told += 1;
        Some(std::mem::take(&mut counts.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_counted() {
        let refusals = Refusals::new();
        let now = Instant::now();
        assert!((0..TOLD_MAX).all(|_| refusals.tell_at(now) == Some(0)));
        assert!((0..7).all(|_| refusals.tell_at(now).is_none()));
        assert_eq!(refusals.tell_at(now + PERIOD), Some(7));
        assert_eq!(refusals.tell_at(now + PERIOD), Some(0));
    }
}
