//! Permits for a bounded resource that several tenants share by a rule ([`Share`]).
//!
//! Waiters have no order: each returned permit wakes them all, and each tries again. `apps/src/fair_semaphore.rs` has a queue and serves tenants in
//! round-robin order; use that where requests wait for long.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Decides whether a tenant that has `own` units may have one more while `free` are left.
pub type Share = fn(own: usize, free: usize) -> bool;

/// Counts the units of a resource by the tenant that uses them. Clones count the same units.
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
    /// The units in use, by tenant; tenants that use none are absent.
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
    /// Creates a resource of `max` units. `share` decides how many of them a tenant may have.
    #[must_use]
    pub fn new(max: usize, share: Share) -> Self {
        let units = Mutex::new(Units { in_use: 0, by_tenant: HashMap::new() });
        Self(Arc::new(Shared { max, share, units, returned: Notify::new() }))
    }

    /// Takes a unit for `tenant`, if the tenant may have one more.
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
            // Registers for notifications first, so that a permit that is returned before `try_acquire` is not missed.
            returned.as_mut().enable();
            if let Some(permit) = self.try_acquire(tenant) {
                return permit;
            }
            returned.await;
        }
    }

    /// Returns how many units are in use.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.0.lock().in_use
    }

    /// Returns how many tenants use at least one unit.
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

    /// Returns a limiter that gives no tenant more units than it leaves free.
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
