//! The rate at which a pool replaces plain instances with probed ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The minimum time between two replacements in one pool.
const REPLACEMENT_INTERVAL: Duration = Duration::from_secs(1);

/// Limits how often a pool with the maximum number of instances drops a plain instance to create a probed one.
///
/// Only sampled requests replace instances: a probed instance serves a request that is not sampled equally well, while
/// the spans of fused calls are missing if a plain instance serves a sampled request.
#[derive(Debug, Default)]
pub(super) struct ReplacementLimit {
    /// The time of the next allowed replacement, as a value of [`now`](crate::clock::now).
    next: AtomicU64,
}

impl ReplacementLimit {
    /// Returns whether an instance may be replaced at the time `now`. If so, the caller must replace it.
    pub(super) fn allows(&self, now: u64) -> bool {
        let interval = u64::try_from(REPLACEMENT_INTERVAL.as_nanos()).unwrap_or(u64::MAX);
        let next = |next| (now >= next).then(|| now.saturating_add(interval));
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_replacement_is_allowed_in_each_interval() {
        let limit = ReplacementLimit::default();
        let second = 1_000_000_000;
        assert_eq!(
            [5, 6, second + 4, second + 5, second + 6].map(|now| limit.allows(now)),
            [true, false, false, true, false]
        );
    }
}
