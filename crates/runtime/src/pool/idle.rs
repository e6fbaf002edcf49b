//! Instance pools with idle instances, and the order in which idle instances are evicted when room is needed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::clock::now;

/// The time after which an idle instance is evicted.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(30);

/// Returns the time that is [`IDLE_MAX`] before [`now`]. Instances that were last used before this time are evicted.
pub(crate) fn oldest_kept() -> u64 {
    now().saturating_sub(u64::try_from(IDLE_MAX.as_nanos()).unwrap_or(u64::MAX))
}

/// The time at which the least recently used idle instance of one instance pool became idle. The pool writes the time,
/// and other threads read it without a lock.
#[derive(Debug)]
pub(crate) struct IdleSince(AtomicU64);

impl IdleSince {
    /// The value for a pool without idle instances.
    const NONE: u64 = u64::MAX;

    /// Sets the time at which the least recently used idle instance became idle, as a value of [`now`]. `None` means
    /// that no instance is idle.
    pub(crate) fn set(&self, since: Option<u64>) {
        self.0.store(since.unwrap_or(Self::NONE), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for IdleSince {
    fn default() -> Self {
        Self(AtomicU64::new(Self::NONE))
    }
}

/// The result of evicting one idle instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Eviction {
    /// The bytes that the account was charged for the instance.
    pub(crate) bytes: u64,
    /// Whether the instance has already been dropped. If false, the instance's own task drops it soon, which frees its
    /// memory and its room.
    pub(crate) is_gone: bool,
}

/// An instance pool that may hold idle instances.
pub(crate) trait IdlePool: Send + Sync {
    /// Evicts the least recently used idle instance, if the pool has an idle instance.
    fn evict_oldest(&self) -> Option<Eviction>;

    /// Returns the bytes that the account is charged for the idle instances of the pool.
    fn idle_bytes(&self) -> u64;

    /// Evicts the instances that have been idle for [`IDLE_MAX`] or longer.
    fn evict_old(&self);
}

/// A list of instance pools, each with a tag by which callers select pools. A pool that no longer exists is removed
/// from the list some time later.
pub(crate) struct IdlePools<T>(Mutex<List<T>>);

struct List<T> {
    pools: Vec<RegisteredPool<T>>,
    /// The number of pools after the last clean-up, which removed the pools that no longer existed.
    cleaned: usize,
}

struct RegisteredPool<T> {
    since: Arc<IdleSince>,
    pool: Weak<dyn IdlePool>,
    tag: T,
}

impl<T> Default for IdlePools<T> {
    fn default() -> Self {
        Self(Mutex::new(List { pools: Vec::new(), cleaned: 0 }))
    }
}

impl<T> IdlePools<T> {
    fn list(&self) -> MutexGuard<'_, List<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `pool` to the list. The pool must keep `since` up to date.
    pub(crate) fn add(&self, since: Arc<IdleSince>, pool: Weak<dyn IdlePool>, tag: T) {
        let mut list = self.list();
        if list.pools.len() >= 2 * list.cleaned + 16 {
            list.pools.retain(|registered| registered.pool.strong_count() > 0);
            list.cleaned = list.pools.len();
        }
        list.pools.push(RegisteredPool { since, pool, tag });
    }

    /// Evicts the least recently used idle instance of all pools. Returns `None` if no instance is idle.
    pub(crate) fn evict_oldest(&self) -> Option<Eviction> {
        self.evict_oldest_of(|_| true)
    }

    /// Evicts the least recently used idle instance of the pools whose tag `selects` accepts. Returns `None` if none of
    /// these pools has an idle instance.
    pub(crate) fn evict_oldest_of(&self, selects: impl Fn(&T) -> bool) -> Option<Eviction> {
        // Tries again, because the oldest instance may have been used or evicted since its pool was found.
        while let Some(pool) = self.oldest(&selects) {
            let evicted = pool.evict_oldest();
            if evicted.is_some() {
                return evicted;
            }
        }
        None
    }

    /// Returns the bytes that are charged for the idle instances of all pools.
    pub(crate) fn idle_bytes(&self) -> u64 {
        let idle: Vec<_> = {
            let list = self.list();
            let idle = list.pools.iter().filter(|registered| registered.since.get() != IdleSince::NONE);
            idle.filter_map(|registered| registered.pool.upgrade()).collect()
        };
        // The list is not locked here, because dropping `idle` may drop the last reference to a pool.
        idle.iter().map(|pool| pool.idle_bytes()).sum()
    }

    fn oldest(&self, selects: impl Fn(&T) -> bool) -> Option<Arc<dyn IdlePool>> {
        let list = self.list();
        let idle = list.pools.iter().map(|registered| (registered.since.get(), registered));
        let idle = idle.filter(|(since, registered)| *since != IdleSince::NONE && selects(&registered.tag));
        let mut idle = idle.collect::<Vec<_>>();
        // This loop rarely examines more than one pool, because a pool that is dropped sets its `IdleSince` to `NONE`.
        while let Some((position, _)) = idle.iter().enumerate().min_by_key(|(_, (since, _))| *since) {
            let (_, registered) = idle.swap_remove(position);
            if let Some(pool) = registered.pool.upgrade() {
                return Some(pool);
            }
        }
        None
    }

    /// Calls [`IdlePool::evict_old`] for each pool whose least recently used idle instance became idle before the time
    /// `before`.
    pub(crate) fn evict_old(&self, before: u64) {
        let old: Vec<_> = {
            let list = self.list();
            let old = list.pools.iter().filter(|registered| registered.since.get() < before);
            old.filter_map(|registered| registered.pool.upgrade()).collect()
        };
        for pool in old {
            pool.evict_old();
        }
    }
}

impl<T> fmt::Debug for IdlePools<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdlePools").field("pools", &self.list().pools.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct FakePool {
        name: &'static str,
        idle: Mutex<Vec<u64>>,
        since: Arc<IdleSince>,
        evicted: Arc<Mutex<Vec<&'static str>>>,
    }

    impl IdlePool for FakePool {
        fn evict_oldest(&self) -> Option<Eviction> {
            let mut idle = self.idle.lock().unwrap();
            if idle.is_empty() {
                return None;
            }
            idle.remove(0);
            self.since.set(idle.first().copied());
            self.evicted.lock().unwrap().push(self.name);
            Some(Eviction { bytes: 1, is_gone: true })
        }

        fn idle_bytes(&self) -> u64 {
            self.idle.lock().unwrap().len() as u64
        }

        fn evict_old(&self) {
            while self.evict_oldest().is_some() {}
        }
    }

    #[test]
    fn the_least_recently_used_instance_is_evicted_first() {
        let pools = IdlePools::default();
        let evicted = Arc::new(Mutex::new(Vec::new()));
        let live = [("a", vec![3, 5]), ("b", vec![4]), ("c", vec![])].map(|(name, idle)| {
            let since = Arc::new(IdleSince::default());
            since.set(idle.first().copied());
            let pool =
                Arc::new(FakePool { name, idle: Mutex::new(idle), since: since.clone(), evicted: evicted.clone() });
            let weak: Weak<FakePool> = Arc::downgrade(&pool);
            pools.add(since, weak, name);
            pool
        });
        assert_eq!(pools.idle_bytes(), 3);
        assert!(pools.evict_oldest().is_some() && pools.evict_oldest().is_some());
        assert_eq!(pools.idle_bytes(), 1);
        assert_eq!(*evicted.lock().unwrap(), ["a", "b"]);
        assert!(pools.evict_oldest_of(|tag| *tag != "a").is_none(), "only the pool `a` has an idle instance");
        pools.evict_old(5);
        assert_eq!(evicted.lock().unwrap().len(), 2, "an instance is evicted before it has been idle long enough");
        pools.evict_old(6);
        assert_eq!(*evicted.lock().unwrap(), ["a", "b", "a"]);
        assert!(pools.evict_oldest().is_none());
        drop(live);
        assert!(pools.evict_oldest().is_none());
    }

    #[test]
    fn dropped_pools_are_removed_from_the_list() {
        let pools = IdlePools::default();
        for _ in 0..1000 {
            let pool: Arc<FakePool> =
                Arc::new(FakePool { name: "", idle: Mutex::default(), since: Arc::default(), evicted: Arc::default() });
            let weak: Weak<FakePool> = Arc::downgrade(&pool);
            pools.add(pool.since.clone(), weak, ());
        }
        assert!(pools.list().pools.len() < 100);
    }
}
