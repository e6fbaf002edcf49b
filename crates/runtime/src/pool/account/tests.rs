//! Tests of an account: which idle instances are evicted for a charge, and what is charged and counted.

use std::sync::Weak;

use super::super::idle::{Eviction, IdlePool, IdleSince};
use super::*;

fn account(memory_bytes: u64, cpu_ms: u64) -> Arc<Account> {
    Account::new("t".into(), AccountLimits { memory_bytes, cpu_per_second: Duration::from_millis(cpu_ms) })
}

/// An instance pool whose idle instances hold 100 bytes each.
struct FakePool {
    account: Weak<Account>,
    idle: Mutex<Vec<u64>>,
    since: Arc<IdleSince>,
    /// The memory of evicted instances; `None` if evicted instances are dropped immediately.
    evicted: Option<Mutex<Vec<EvictedMemory>>>,
}

impl FakePool {
    fn new(account: &Arc<Account>, idle: std::ops::Range<u64>, is_dropped_later: bool) -> Arc<Self> {
        for _ in idle.clone() {
            assert!(account.charge_memory(100));
        }
        let since = Arc::<IdleSince>::default();
        since.set(Some(idle.start));
        let evicted = is_dropped_later.then(Mutex::default);
        let (idle, weak_account) = (Mutex::new(idle.collect()), Arc::downgrade(account));
        let pool = Arc::new(Self { account: weak_account, idle, since: since.clone(), evicted });
        let weak: Weak<Self> = Arc::downgrade(&pool);
        account.idle_pools().add(since, weak, ());
        pool
    }

    fn idle(&self) -> usize {
        self.idle.lock().unwrap().len()
    }

    fn drop_evicted(&self) {
        let evicted = std::mem::take(&mut *self.evicted.as_ref().unwrap().lock().unwrap());
        self.account.upgrade().unwrap().memory.release(100 * evicted.len() as u64);
    }
}

impl IdlePool for FakePool {
    fn evict_oldest(&self) -> Option<Eviction> {
        let account = self.account.upgrade()?;
        let mut idle = self.idle.lock().unwrap();
        if idle.is_empty() {
            return None;
        }
        idle.remove(0);
        self.since.set(idle.first().copied());
        match &self.evicted {
            Some(evicted) => evicted.lock().unwrap().push(account.evicted(100)),
            None => account.memory.release(100),
        }
        Some(Eviction { bytes: 100, is_gone: self.evicted.is_none() })
    }

    fn idle_bytes(&self) -> u64 {
        100 * self.idle() as u64
    }

    fn evict_old(&self) {}
}

#[test]
fn no_more_idle_instances_are_evicted_than_a_request_needs() {
    let account = account(1000, 1000);
    assert!(account.charge_memory(200));
    let pools = [FakePool::new(&account, 1..6, false), FakePool::new(&account, 3..6, false)];
    assert!(account.charge_memory(250));
    assert_eq!(
        [pools[0].idle(), pools[1].idle()],
        [2, 3],
        "not exactly the three oldest instances of all apps are evicted"
    );
    assert!(!account.charge_memory(551), "a charge succeeds that exceeds the memory of all idle instances");
    assert_eq!([pools[0].idle(), pools[1].idle()], [2, 3], "instances are evicted for a charge that cannot succeed");
    account.make_room(1 << 30);
    assert_eq!([pools[0].idle(), pools[1].idle()], [2, 2], "more than a part of the limit is freed in advance");
    assert!(account.charge_memory(550));
    assert_eq!([pools[0].idle(), pools[1].idle()], [0, 0]);
    assert_eq!((account.used().memory_bytes, account.used().refused_memory), (1000, 1));
}

#[test]
fn instances_that_are_dropped_later_are_not_all_evicted_for_one_request() {
    let account = account(1000, 1000);
    let pool = FakePool::new(&account, 0..10, true);
    assert!(account.charge_memory(80));
    assert_eq!(
        (pool.idle(), account.used().memory_bytes),
        (9, 1080),
        "not exactly one instance is evicted, or its charge is released before it is dropped"
    );
    assert!(account.charge_memory(20), "the memory of the evicted instance does not count as free");
    assert_eq!(pool.idle(), 9);
    // New charges may use evicted memory only up to a part of the limit. The rest is free only after the evicted
    // instances are dropped.
    assert!(!account.charge_memory(100));
    assert_eq!(pool.idle(), 8);
    pool.drop_evicted();
    assert_eq!(account.used().memory_bytes, 900);
    assert!(account.charge_memory(100));
    assert_eq!(pool.idle(), 8);
}

#[test]
fn host_memory_is_charged_until_it_is_dropped() {
    let account = account(100, 1000);
    let mut first = account.charge_host_memory(40).unwrap();
    let second = account.charge_host_memory(60).unwrap();
    assert_eq!(first.grow(1), Err(OutOfMemory { limit_bytes: 100 }));
    assert_eq!((account.used().memory_bytes, account.used().host_bytes), (100, 100));
    first.shrink_to(10);
    assert_eq!(first.bytes(), 10);
    drop(second);
    assert_eq!((account.used().memory_bytes, account.used().host_bytes), (10, 10));
    drop(first);
    assert_eq!((account.used().memory_bytes, account.used().host_bytes), (0, 0));
}

#[test]
fn refusals_of_processor_time_are_counted() {
    let account = account(0, 500);
    assert_eq!(account.begin(), Ok(()));
    account.charge_cpu(Duration::from_secs(60));
    assert!(account.begin().is_err() && account.must_stop());
    assert_eq!((account.used().cpu, account.used().refused_cpu), (Duration::from_secs(60), 2));
    assert!(account.cpu_retry_after().is_some());
    assert_eq!(account.used().refused_cpu, 2, "asking for the waiting time counts as a refusal");
}
