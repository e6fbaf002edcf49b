//! Instances that do nothing, and in which order they go when something else needs their room.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::account::Account;

/// What instants of this file are counted from.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the process began to count.
pub(crate) fn now() -> u64 {
    since_beginning(Instant::now())
}

/// `instant` as [`now`] would have said it then.
pub(crate) fn since_beginning(instant: Instant) -> u64 {
    u64::try_from(instant.saturating_duration_since(*BEGINNING).as_nanos()).unwrap_or(u64::MAX)
}

/// Since when the instance has been idle that was used longest ago, of one pool. Kept by the pool, and read without asking it.
#[derive(Debug)]
pub(crate) struct IdleSince(AtomicU64);

impl IdleSince {
    /// None is idle.
    const NONE: u64 = u64::MAX;

    pub(crate) fn set(&self, since: Option<u64>) {
        self.0.store(since.unwrap_or(Self::NONE), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for IdleSince {
    fn default() -> Self {
        Self(AtomicU64::new(Self::NONE))
    }
}

/// An idle instance that was evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evicted {
    /// Memory of its account that it held.
    pub(crate) bytes: u64,
    /// Whether it is gone already. Otherwise a task of its own takes it down soon, and its memory and its room are free then.
    pub(crate) is_gone: bool,
}

/// A pool that keeps idle instances.
pub(crate) trait Idle: Send + Sync {
    /// Evicts the instance that was used longest ago, if there is one.
    fn drop_oldest(&self) -> Option<Evicted>;

    /// Memory of the account that idle instances hold.
    fn idle_bytes(&self) -> u64;

    /// Drops those that have been idle for too long.
    fn drop_old(&self);
}

/// Pools, each with what it says about itself and who pays for it. They are forgotten some time after they are gone.
#[derive(Default)]
pub(crate) struct Idlers(Mutex<List>);

#[derive(Default)]
struct List {
    pools: Vec<Entry>,
    /// As many were left when the list was last cleaned up.
    cleaned: usize,
}

struct Entry {
    since: Arc<IdleSince>,
    pool: Weak<dyn Idle>,
    account: Weak<Account>,
}

impl Idlers {
    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, since: Arc<IdleSince>, pool: Weak<dyn Idle>, account: &Arc<Account>) {
        let mut list = self.list();
        if list.pools.len() >= 2 * list.cleaned + 16 {
            list.pools.retain(|entry| entry.pool.strong_count() > 0);
            list.cleaned = list.pools.len();
        }
        list.pools.push(Entry { since, pool, account: Arc::downgrade(account) });
    }

    /// Evicts the instance of all pools that was used longest ago, if any is idle.
    pub(crate) fn drop_oldest(&self) -> Option<Evicted> {
        self.drop_oldest_of(|_| true)
    }

    /// The same of the pools of those accounts that `of` selects.
    pub(crate) fn drop_oldest_of(&self, of: impl Fn(&Account) -> bool) -> Option<Evicted> {
        // What was the oldest may have been taken or dropped since it was looked up.
        while let Some(pool) = self.oldest(&of) {
            let evicted = pool.drop_oldest();
            if evicted.is_some() {
                return evicted;
            }
        }
        None
    }

    /// Memory that the idle instances of all pools hold.
    pub(crate) fn idle_bytes(&self) -> u64 {
        let idle: Vec<_> = {
            let list = self.list();
            let idle = list.pools.iter().filter(|entry| entry.since.get() != IdleSince::NONE);
            idle.filter_map(|entry| entry.pool.upgrade()).collect()
        };
        // Not under the lock of the list: the last handle of a pool may be dropped here.
        idle.iter().map(|pool| pool.idle_bytes()).sum()
    }

    fn oldest(&self, of: impl Fn(&Account) -> bool) -> Option<Arc<dyn Idle>> {
        let list = self.list();
        let idle = list.pools.iter().map(|entry| (entry.since.get(), entry));
        let idle = idle.filter(|(since, entry)| {
            *since != IdleSince::NONE && entry.account.upgrade().is_some_and(|account| of(&account))
        });
        let mut idle = idle.collect::<Vec<_>>();
        // Seldom more than one has to be looked at: a pool that is gone drops its instances, and with them what it said.
        while let Some((position, _)) = idle.iter().enumerate().min_by_key(|(_, (since, _))| *since) {
            let (_, entry) = idle.swap_remove(position);
            if let Some(pool) = entry.pool.upgrade() {
                return Some(pool);
            }
        }
        None
    }

    /// Has every pool drop what has been idle since before `before`, and for longer than the pool keeps it.
    pub(crate) fn drop_old(&self, before: u64) {
        let old: Vec<_> = {
            let list = self.list();
            let old = list.pools.iter().filter(|entry| entry.since.get() < before);
            old.filter_map(|entry| entry.pool.upgrade()).collect()
        };
        for pool in old {
            pool.drop_old();
        }
    }
}

impl fmt::Debug for Idlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idlers").field("pools", &self.list().pools.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountLimits;

    struct Fake {
        name: &'static str,
        idle: Mutex<Vec<u64>>,
        since: Arc<IdleSince>,
        dropped: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Idle for Fake {
        fn drop_oldest(&self) -> Option<Evicted> {
            let mut idle = self.idle.lock().unwrap();
            if idle.is_empty() {
                return None;
            }
            idle.remove(0);
            self.since.set(idle.first().copied());
            self.dropped.lock().unwrap().push(self.name);
            Some(Evicted { bytes: 1, is_gone: true })
        }

        fn idle_bytes(&self) -> u64 {
            self.idle.lock().unwrap().len() as u64
        }

        fn drop_old(&self) {
            while self.drop_oldest().is_some() {}
        }
    }

    #[test]
    fn the_one_that_was_used_longest_ago_goes_first() {
        let idlers = Idlers::default();
        let dropped = Arc::new(Mutex::new(Vec::new()));
        let accounts = ["a", "b", "c"].map(|name| Account::new(name.into(), AccountLimits::UNLIMITED));
        let account = |name: &str| accounts.iter().find(|account| **account.tenant() == *name).unwrap();
        let pools = [("a", vec![3, 5]), ("b", vec![4]), ("c", vec![])].map(|(name, idle)| {
            let since = Arc::new(IdleSince::default());
            since.set(idle.first().copied());
            let pool = Arc::new(Fake { name, idle: Mutex::new(idle), since: since.clone(), dropped: dropped.clone() });
            let weak: Weak<Fake> = Arc::downgrade(&pool);
            idlers.add(since, weak, account(name));
            pool
        });
        assert_eq!(idlers.idle_bytes(), 3);
        assert!(idlers.drop_oldest().is_some() && idlers.drop_oldest().is_some());
        assert_eq!(idlers.idle_bytes(), 1);
        assert_eq!(*dropped.lock().unwrap(), ["a", "b"]);
        assert!(
            idlers.drop_oldest_of(|account| &**account.tenant() != "a").is_none(),
            "what is left belongs to another account"
        );
        idlers.drop_old(5);
        assert_eq!(dropped.lock().unwrap().len(), 2, "none is as old as that");
        idlers.drop_old(6);
        assert_eq!(*dropped.lock().unwrap(), ["a", "b", "a"]);
        assert!(idlers.drop_oldest().is_none());
        drop(pools);
        assert!(idlers.drop_oldest().is_none());
    }

    #[test]
    fn pools_that_are_gone_are_forgotten() {
        let idlers = Idlers::default();
        let account = Account::unlimited();
        for _ in 0..1000 {
            let pool: Arc<Fake> =
                Arc::new(Fake { name: "", idle: Mutex::default(), since: Arc::default(), dropped: Arc::default() });
            let weak: Weak<Fake> = Arc::downgrade(&pool);
            idlers.add(pool.since.clone(), weak, &account);
        }
        assert!(idlers.list().pools.len() < 100);
    }
}
