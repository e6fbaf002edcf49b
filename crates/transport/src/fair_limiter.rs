//! Permits for a bounded resource that several tenants share. A rule ([`Share`]) limits the units of each tenant.
//!
//! Waiters are not queued: each returned permit wakes all of them, and each tries again. The semaphore in
//! `apps/src/fair_semaphore.rs` has a queue and serves tenants in round-robin order. Use that semaphore if requests
//! wait for long.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A function that decides whether a tenant that holds `own` units may have one more while `free` units are left.
pub type Share = fn(own: usize, free: usize) -> bool;

/// Counts the units of a resource that each tenant holds. Clones share the counts.
#[derive(Debug)]
pub struct FairLimiter<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    max: usize,
    share: Share,
    units: Mutex<Units<T>>,
    /// Notified of each permit that is returned.
    returned: Notify,
}

#[derive(Debug)]
struct Units<T> {
    in_use: usize,
    /// The number of units that each tenant holds; tenants that hold none are absent.
    by_tenant: HashMap<T, usize>,
}

/// The right to use one unit of a resource. Dropping the permit returns the unit.
#[derive(Debug)]
pub struct FairPermit<T: Eq + Hash> {
    shared: Arc<Shared<T>>,
    tenant: T,
}

impl<T> Clone for FairLimiter<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Eq + Hash + Clone> FairLimiter<T> {
    /// Creates a limiter of `max` units. `share` decides how many of them a tenant may have.
    #[must_use]
    pub fn new(max: usize, share: Share) -> Self {
        let units = Mutex::new(Units { in_use: 0, by_tenant: HashMap::new() });
        Self(Arc::new(Shared { max, share, units, returned: Notify::new() }))
    }

    /// Takes one unit for `tenant`, or returns `None` if the tenant may not have one more.
    #[must_use]
    pub fn try_acquire(&self, tenant: &T) -> Option<FairPermit<T>> {
        let mut units = self.0.lock();
        let free = self.0.max.saturating_sub(units.in_use);
        let own = units.by_tenant.get(tenant).copied().unwrap_or(0);
        if free == 0 || !(self.0.share)(own, free) {
            return None;
        }
        units.in_use += 1;
        units.by_tenant.insert(tenant.clone(), own + 1);
        Some(FairPermit { shared: self.0.clone(), tenant: tenant.clone() })
    }

    /// Waits until `tenant` may have one more unit, and takes it.
    pub async fn acquire(&self, tenant: &T) -> FairPermit<T> {
        loop {
            let mut returned = pin!(self.0.returned.notified());
            // Registers for notifications before `try_acquire`, so that a permit that is returned after a failed
            // attempt is not missed.
            returned.as_mut().enable();
            if let Some(permit) = self.try_acquire(tenant) {
                return permit;
            }
            returned.await;
        }
    }

    /// Returns the number of units in use.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.0.lock().in_use
    }

    /// Returns the number of tenants that hold at least one unit.
    #[must_use]
    pub fn tenants(&self) -> usize {
        self.0.lock().by_tenant.len()
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Units<T>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Eq + Hash> Drop for FairPermit<T> {
    fn drop(&mut self) {
        {
            let mut units = self.shared.lock();
            units.in_use -= 1;
            if let Some(own) = units.by_tenant.get_mut(&self.tenant) {
                *own -= 1;
                if *own == 0 {
                    units.by_tenant.remove(&self.tenant);
                }
            }
        }
        self.shared.returned.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Returns a limiter of `max` units, which gives a tenant another unit only while the tenant has fewer units than
    /// are free.
    fn limiter(max: usize) -> FairLimiter<&'static str> {
        FairLimiter::new(max, |own, free| own < free)
    }

    fn take_all(limiter: &FairLimiter<&'static str>, tenant: &'static str) -> Vec<FairPermit<&'static str>> {
        std::iter::from_fn(|| limiter.try_acquire(&tenant)).collect()
    }

    #[test]
    fn each_tenant_leaves_something_to_the_next() {
        let limiter = limiter(256);
        let (greedy, second) = (take_all(&limiter, "greedy"), take_all(&limiter, "second"));
        assert_eq!((greedy.len(), second.len()), (128, 64));
        let third = take_all(&limiter, "third");
        assert!(!third.is_empty());
        drop((greedy, second, third));
        assert_eq!((limiter.in_use(), limiter.tenants()), (0, 0));
        assert_eq!(take_all(&limiter, "greedy").len(), 128, "all were returned");
    }

    #[test]
    fn a_tenant_waits_until_it_may_have_one_more() {
        let limiter = limiter(4);
        let mut held = take_all(&limiter, "greedy");
        assert_eq!(held.len(), 2);
        let mut waiting = pin!(limiter.acquire(&"greedy"));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        held.pop();
        assert!(matches!(waiting.as_mut().poll(&mut cx), Poll::Ready(_)));
    }
}
