//! Guards that count running work.
//!
//! A count of its own, and not the reference count of something that the work happens to hold: what counts is written where the guard is
//! taken, and a further reference to the same thing changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts running work. Clones count the same work.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    /// Notified when nothing runs any more.
    idle: Notify,
}

/// One unit of running work, until it is dropped.
#[derive(Debug)]
pub struct InFlightGuard(Arc<Shared>);

impl InFlight {
    /// Counts one more unit of work until the guard is dropped.
    #[must_use]
    pub fn begin(&self) -> InFlightGuard {
        self.0.running.fetch_add(1, Ordering::AcqRel);
        InFlightGuard(self.0.clone())
    }

    /// Returns how much work is running.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.running.load(Ordering::Acquire)
    }

    /// Returns whether nothing is running. All that finished work did is visible to the caller then.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.count() == 0
    }

    /// Resolves when nothing is running.
    pub async fn idle(&self) {
        loop {
            // From its creation on, no notification of all waiters is missed.
            let idle = self.0.idle.notified();
            if self.is_idle() {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn idle_resolves_with_the_last_guard() {
        let in_flight = InFlight::default();
        let (first, second) = (in_flight.begin(), in_flight.clone().begin());
        let mut idle = pin!(in_flight.idle());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(idle.as_mut().poll(&mut cx).is_pending());
        drop(first);
        assert!(idle.as_mut().poll(&mut cx).is_pending());
        assert_eq!(in_flight.count(), 1);
        drop(second);
        assert!(idle.as_mut().poll(&mut cx).is_ready());
        assert!(in_flight.is_idle());
    }

    #[test]
    fn work_that_began_meanwhile_is_waited_for() {
        let in_flight = InFlight::default();
        let first = in_flight.begin();
        let mut idle = pin!(in_flight.idle());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(idle.as_mut().poll(&mut cx).is_pending());
        drop(first);
        let second = in_flight.begin();
        assert!(idle.as_mut().poll(&mut cx).is_pending());
        drop(second);
        assert!(idle.as_mut().poll(&mut cx).is_ready());
    }
}
