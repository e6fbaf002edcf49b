//! Guards that count running work.
//!
//! The counter is explicit. Counting the references to a value that the work holds was rejected: any further reference
//! to the value would change the count, and the code would not show what is counted. No task is notified when the count
//! drops to 0, because that would need a lock for each request; callers poll the count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A counter of running work. Clones share the counter.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<AtomicUsize>);

/// A guard for one unit of running work. Dropping the guard records that this work has ended.
#[derive(Debug)]
pub struct InFlightGuard(Arc<AtomicUsize>);

impl InFlight {
    /// Counts one more unit of work until the guard is dropped.
    #[must_use]
    pub fn begin(&self) -> InFlightGuard {
        self.0.fetch_add(1, Ordering::AcqRel);
        InFlightGuard(self.0.clone())
    }

    /// Returns the number of units of work that are running.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Returns whether no work is running. If so, the effects of all finished work are visible to the caller.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.count() == 0
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_count_the_same_work() {
        let in_flight = InFlight::default();
        let (first, second) = (in_flight.begin(), in_flight.clone().begin());
        assert_eq!(in_flight.count(), 2);
        drop(first);
        assert!(!in_flight.is_idle());
        drop(second);
        assert!(in_flight.is_idle());
    }
}
