//! How many refused requests get a line in the audit log. Every client that reaches the listener can send requests
//! without the node's token, so a line for each would let it fill the disk. The others are counted, and the next line
//! has the count.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The number of requests that get a line in [`PERIOD`].
pub(crate) const TOLD_MAX: u32 = 30;

const PERIOD: Duration = Duration::from_secs(60);

/// Counts refused requests.
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

    /// Counts a request. Returns `Some` if it gets a line, with the number of requests without a line since the last
    /// one.
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
