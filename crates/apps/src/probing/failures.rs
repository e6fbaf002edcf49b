//! The groups whose probed code could not be made or started, so that the attempt is not repeated at each load of the app.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time after a failure before which the group's probed code is not made again.
const PAUSE: Duration = Duration::from_secs(600);

/// The maximum number of stored failures. The oldest failure is removed if there are more.
const FAILURES_MAX: usize = 1024;

/// The failures of groups that are identified by `K`.
pub(super) struct Failures<K>(Mutex<BTreeMap<K, Instant>>);

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone> Failures<K> {
    /// Stores that the group's probed code could not be made at the time `now`.
    pub(super) fn add(&self, group: K, now: Instant) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.insert(group, now);
        if failures.len() > FAILURES_MAX {
            let oldest = failures.iter().min_by_key(|(_, failed)| **failed).map(|(group, _)| group.clone());
            oldest.and_then(|oldest| failures.remove(&oldest));
        }
    }

    /// Returns whether the group's probed code failed so recently that it must not be made at the time `now`.
    pub(super) fn is_paused(&self, group: &K, now: Instant) -> bool {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failed) = failures.get(group) else { return false };
        let is_paused = now.saturating_duration_since(*failed) < PAUSE;
        if !is_paused {
            failures.remove(group);
        }
        is_paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_paused_for_some_time_after_a_failure() {
        let (failures, start) = (Failures::default(), Instant::now());
        failures.add("a", start);
        let paused = |group, seconds| failures.is_paused(&group, start + Duration::from_secs(seconds));
        assert_eq!([paused("b", 0), paused("a", 0), paused("a", 599), paused("a", 600)], [false, true, true, false]);
    }

    #[test]
    fn the_oldest_failure_is_removed_if_there_are_too_many() {
        let (failures, start) = (Failures::default(), Instant::now());
        for (failed, group) in (0..=FAILURES_MAX).rev().enumerate() {
            failures.add(group, start + Duration::from_millis(failed as u64));
        }
        let paused = |group| failures.is_paused(&group, start);
        assert_eq!([paused(FAILURES_MAX), paused(FAILURES_MAX - 1), paused(0)], [false, true, true]);
    }
}
