//! Guards that count running work.
//!
//! The count is explicit, and not the reference count of a value that the work happens to hold: the code that takes the guard shows what
//! is counted, and a further reference to such a value changes nothing. Nothing is notified when the count drops to 0, because
//! that would take a lock for each request; users ask for the count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts running work. Clones count the same work.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<AtomicUsize>);

/// One unit of running work. Dropping the guard ends it.
#[derive(Debug)]
pub struct InFlightGuard(Arc<AtomicUsize>);

impl InFlight {
    /// Counts one more unit of work until the guard is dropped.
    #[must_use]
    pub fn begin(&self) -> InFlightGuard {
        self.0.fetch_add(1, Ordering::AcqRel);
        InFlightGuard(self.0.clone())
    }

    /// Returns how many units of work are running.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Returns whether nothing is running. If so, the effects of all finished work are visible to the caller.
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
