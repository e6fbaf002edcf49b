//! A limit on the lines about refused requests in the audit log. Any client that reaches the listener can send requests
//! without a token. If each of these requests had a line, the client could fill the disk. Refused requests beyond the
//! limit have no line; the next line states how many there were.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The maximum number of refused requests that get a line in each [`PERIOD`].
pub(crate) const RECORDED_MAX: u32 = 30;

const PERIOD: Duration = Duration::from_secs(60);

/// A counter of refused requests.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    since: Instant,
    recorded: u32,
    unrecorded: u64,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Counts { since: Instant::now(), recorded: 0, unrecorded: 0 }))
    }

    /// Counts a refused request. If the audit log gets a line about the request, returns the number that the line
    /// states: how many refused requests got no line since the previous line. Otherwise returns `None`.
    pub(crate) fn count(&self) -> Option<u64> {
        self.count_at(Instant::now())
    }

    fn count_at(&self, now: Instant) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(counts.since) >= PERIOD {
            (counts.since, counts.recorded) = (now, 0);
        }
        if counts.recorded >= RECORDED_MAX {
            counts.unrecorded += 1;
            return None;
        }
        counts.recorded += 1;
        Some(std::mem::take(&mut counts.unrecorded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_beyond_the_maximum_are_counted() {
        let refusals = Refusals::new();
        let now = Instant::now();
        assert!((0..RECORDED_MAX).all(|_| refusals.count_at(now) == Some(0)));
        assert!((0..7).all(|_| refusals.count_at(now).is_none()));
        assert_eq!(refusals.count_at(now + PERIOD), Some(7));
        assert_eq!(refusals.count_at(now + PERIOD), Some(0));
    }
}
