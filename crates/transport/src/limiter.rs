//! Permits for a bounded resource: requests, calls, bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the units of a resource that are in use, and refuses units beyond a maximum. No method waits. Clones share
/// the count.
#[derive(Debug, Clone)]
pub struct Limiter(Arc<Units>);

#[derive(Debug)]
struct Units {
    in_use: AtomicUsize,
    max: AtomicUsize,
}

/// The right to use some units of a resource. Dropping the permit returns the units.
#[derive(Debug)]
pub struct Permit {
    resource: Arc<Units>,
    units: usize,
}

impl Limiter {
    /// Creates a limiter of `max` units. `usize::MAX` means no limit.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Units { in_use: AtomicUsize::new(0), max: AtomicUsize::new(max) }))
    }

    /// Takes one unit, or returns `None` if no unit is left.
    #[must_use]
    pub fn try_acquire(&self) -> Option<Permit> {
        self.try_acquire_many(1)
    }

    /// Takes `units`, or returns `None` if fewer are left.
    #[must_use]
    pub fn try_acquire_many(&self, units: usize) -> Option<Permit> {
        self.try_acquire_within(units, self.max())
    }

    /// Takes `units` if at most `max` units are in use afterwards. Uses `max` instead of the limiter's own maximum.
    ///
    /// Refused units are never counted, not even temporarily, because a large refused request could otherwise cause the
    /// refusal of small requests at the same time.
    #[must_use]
    pub fn try_acquire_within(&self, units: usize, max: usize) -> Option<Permit> {
        let add = |in_use: usize| in_use.checked_add(units).filter(|sum| *sum <= max);
        self.0.in_use.fetch_update(Ordering::AcqRel, Ordering::Relaxed, add).ok()?;
        Some(Permit { resource: self.0.clone(), units })
    }

    /// Returns the number of units in use.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.0.in_use.load(Ordering::Acquire)
    }

    /// Returns the maximum number of units.
    #[must_use]
    pub fn max(&self) -> usize {
        self.0.max.load(Ordering::Relaxed)
    }

    /// Sets the maximum number of units. Permits that were already taken stay valid.
    pub fn set_max(&self, max: usize) {
        self.0.max.store(max, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.resource.in_use.fetch_sub(self.units, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_return_their_units_and_refused_requests_take_none() {
        let limiter = Limiter::new(10);
        let permit = limiter.try_acquire_many(6).expect("10 are left");
        assert!(limiter.try_acquire_many(5).is_none());
        assert!(limiter.try_acquire_many(usize::MAX).is_none(), "the sum overflows");
        let rest = limiter.try_acquire_many(4).expect("4 are left");
        assert!(limiter.try_acquire().is_none());
        assert_eq!(limiter.in_use(), 10);
        drop((permit, rest));
        assert_eq!(limiter.in_use(), 0);
    }

    #[test]
    fn the_maximum_can_be_changed_and_lowered_for_one_request() {
        let limiter = Limiter::new(2);
        let _first = limiter.try_acquire().expect("2 are left");
        assert!(limiter.try_acquire_within(1, 1).is_none());
        limiter.set_max(1);
        assert!(limiter.try_acquire().is_none());
        limiter.set_max(3);
        assert!(limiter.try_acquire_many(2).is_some());
    }

    #[test]
    fn a_refused_request_never_has_another_one_refused() {
        let limiter = Limiter::new(10);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100_000).for_each(|_| assert!(limiter.try_acquire_many(11).is_none())));
            for _ in 0..100_000 {
                assert!(limiter.try_acquire().is_some(), "no unit is in use");
            }
        });
    }
}
