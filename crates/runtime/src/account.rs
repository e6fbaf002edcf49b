//! What the guests of one tenant use together, and how much of it they may.
//!
//! Memory is charged when it grows and given back when its store goes, so instances that wait for their next request count. When an
//! account is full, as many of its own idle instances as it takes are evicted before anything is refused, the least recently used first:
//! its tenant's apps compete with each other, and with nobody else's. None is evicted for what would not fit anyway. Instances that
//! serve several requests are taken down by tasks of their own; until then, what they hold counts as free, up to a part of the limit
//! ([`ROOM_PART`]), and still as used.
//!
//! Processor time is charged after each poll of a guest (see `meter`) and paid out of a bucket which fills at the account's rate. Who
//! has an empty one begins nothing new; who owes more than a whole bucket is stopped at the next tick. So a short excess costs new
//! requests and not those that are nearly done, and in the long run nobody has more than its rate.
//!
//! long because a third of it are tests, and all that is counted of a tenant's guests is counted here.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use isomer_display::size;

use crate::engine::PoolSizes;
use crate::idle::{Idlers, now};
use crate::lanes::credit::FastLaneCredit;

/// The number of the next account.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// How much processor time can be saved up, or owed: what the account is paid in this time.
const BUCKET: Duration = Duration::from_secs(1);

/// Room is made for no more than this part of an account's memory, so that a small account keeps idle instances, too. By no more than this part
/// does an account go beyond its limit, for as long as evicted instances are being taken down.
const ROOM_PART: u64 = 8;

/// Limits over all groups that share an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountLimits {
    /// Bytes of linear memory and tables of all live instances.
    pub memory_bytes: u64,
    /// Processor time in a second of the clock, in the long run: more than a second is more than a core.
    pub cpu_per_second: Duration,
}

impl AccountLimits {
    /// None but those of each group.
    pub const UNLIMITED: Self = Self { memory_bytes: u64::MAX, cpu_per_second: Duration::MAX };
}

/// The guests of one tenant. All groups of all its apps hold the same one.
#[derive(Debug)]
pub struct Account {
    tenant: Arc<str>,
    memory_bytes_max: AtomicU64,
    /// [`u64::MAX`]: as much as there is.
    cpu_ns_per_second: AtomicU64,
    memory_bytes: AtomicU64,
    /// The part of `memory_bytes` that evicted instances hold until they have been taken down.
    leaving_bytes: AtomicU64,
    /// The part of `memory_bytes` that is guests' memories and tables. Counted rather than the host's part, which changes with each
    /// request.
    guest_bytes: AtomicU64,
    /// What its instances hold of the engine's pool.
    held: Mutex<PoolSizes>,
    cpu_ns: AtomicU64,
    /// Nanoseconds of processor time that are left; less than none where it owes some.
    bucket_ns: AtomicI64,
    /// When the bucket was filled last, by [`now`].
    filled_ns: AtomicU64,
    refused_memory: AtomicU64,
    refused_cpu: AtomicU64,
    /// Files and folders that its guests have open.
    open_files: AtomicUsize,
    /// The pools whose instances it pays for.
    idlers: Idlers,
    fast_lane: FastLaneCredit,
    id: u64,
}

/// What an account has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccountUse {
    /// Bytes of memory now: linear memories and tables, and what the host holds for the guests.
    pub memory_bytes: u64,
    /// The part of it that the host holds for the guests: handles, queued calls, values, bodies.
    pub host_bytes: u64,
    /// Processor time of its guests so far.
    pub cpu: Duration,
    /// Times that memory was refused.
    pub refused_memory: u64,
    /// Times that processor time was refused: requests that did not begin, and guests that were stopped.
    pub refused_cpu: u64,
}

/// Host memory that is charged to an account until this is dropped.
#[derive(Debug)]
pub struct HostMemory {
    account: Arc<Account>,
    bytes: u64,
}

/// An instance that was evicted and has not been taken down yet. Dropped when that has happened.
#[derive(Debug)]
pub(crate) struct Leaving {
    account: Arc<Account>,
    bytes: u64,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.account.leaving_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// An account's memory is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant's memory of {} is used up", size(.limit_bytes))]
pub struct OutOfMemory {
    /// The account's limit.
    pub limit_bytes: u64,
}

impl HostMemory {
    /// Charges `bytes` more.
    ///
    /// # Errors
    /// When the account's memory is used up; what was charged before stays charged.
    pub fn grow(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        if bytes == 0 {
            return Ok(());
        }
        let bytes = bytes as u64;
        if !self.account.take_memory(bytes) {
            return Err(OutOfMemory { limit_bytes: self.account.memory_bytes_max() });
        }
        self.note(bytes);
        Ok(())
    }

    /// As [`HostMemory::grow`], without evicting idle instances in favour of it: for callers that must not do so where they are.
    /// They call [`Account::make_room`] before.
    ///
    /// # Errors
    /// When the account's memory is used up.
    pub fn try_grow(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        if !self.account.try_memory(bytes as u64) {
            self.account.refused_memory.fetch_add(1, Ordering::Relaxed);
            return Err(OutOfMemory { limit_bytes: self.account.memory_bytes_max() });
        }
        self.note(bytes as u64);
        Ok(())
    }

    /// Charges `bytes` more, whatever the limit: for what must be done, as rolling back.
    pub fn grow_anyway(&mut self, bytes: usize) {
        self.account.memory_bytes.fetch_add(bytes as u64, Ordering::AcqRel);
        self.note(bytes as u64);
    }

    fn note(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Releases what is charged beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let released = self.bytes.saturating_sub(bytes as u64);
        self.bytes -= released;
        self.account.give_memory(released);
    }

    /// Bytes that are charged.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

impl Account {
    /// An account of `tenant`.
    #[must_use]
    pub fn new(tenant: Arc<str>, limits: AccountLimits) -> Arc<Self> {
        let account = Self {
            tenant,
            memory_bytes_max: AtomicU64::new(0),
            cpu_ns_per_second: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            leaving_bytes: AtomicU64::new(0),
            guest_bytes: AtomicU64::new(0),
            held: Mutex::default(),
            cpu_ns: AtomicU64::new(0),
            bucket_ns: AtomicI64::new(0),
            filled_ns: AtomicU64::new(0),
            refused_memory: AtomicU64::new(0),
            refused_cpu: AtomicU64::new(0),
            open_files: AtomicUsize::new(0),
            idlers: Idlers::default(),
            fast_lane: FastLaneCredit::new(now()),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        };
        account.set_limits(limits);
        account.bucket_ns.store(account.bucket_max(), Ordering::Relaxed);
        account.filled_ns.store(now(), Ordering::Relaxed);
        Arc::new(account)
    }

    /// One that nothing limits, for guests that belong to nobody in particular.
    #[must_use]
    pub fn unlimited() -> Arc<Self> {
        Self::new("".into(), AccountLimits::UNLIMITED)
    }

    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// Other limits from now on.
    pub fn set_limits(&self, limits: AccountLimits) {
        self.memory_bytes_max.store(limits.memory_bytes, Ordering::Relaxed);
        let cpu = u64::try_from(limits.cpu_per_second.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_ns_per_second.store(cpu, Ordering::Relaxed);
        // What was saved or owed under the old rate is no more than a bucket of the new one.
        let most = self.bucket_max();
        let _ = self
            .bucket_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.clamp(most.saturating_neg(), most)));
    }

    /// What has been counted.
    #[must_use]
    pub fn used(&self) -> AccountUse {
        let memory_bytes = self.memory_bytes.load(Ordering::Relaxed);
        AccountUse {
            memory_bytes,
            host_bytes: memory_bytes.saturating_sub(self.guest_bytes.load(Ordering::Relaxed)),
            cpu: Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed)),
            refused_memory: self.refused_memory.load(Ordering::Relaxed),
            refused_cpu: self.refused_cpu.load(Ordering::Relaxed),
        }
    }

    /// The most bytes of memory.
    #[must_use]
    pub fn memory_bytes_max(&self) -> u64 {
        self.memory_bytes_max.load(Ordering::Relaxed)
    }

    /// Does nothing limit its memory? Then it may have all slots of the engine's pool, too.
    pub(crate) fn has_all_memory(&self) -> bool {
        self.memory_bytes_max() == u64::MAX
    }

    /// Files and folders that its guests have open. Changed by `open_files` alone.
    pub(crate) fn open_files(&self) -> &AtomicUsize {
        &self.open_files
    }

    /// The pools whose instances it pays for.
    pub(crate) fn idlers(&self) -> &Idlers {
        &self.idlers
    }

    /// A number that no other account of the process has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// May a request of its guests begin in the fast lane?
    pub(crate) fn may_begin_fast(&self) -> bool {
        !self.is_limited() || self.fast_lane.permits(now)
    }

    /// Charges processor time in the fast lane of a guest that turned out to compute for long.
    pub(crate) fn charge_fast_lane(&self, used: Duration) {
        self.fast_lane.charge(used, now());
    }

    /// Does its processor time have a limit?
    pub(crate) fn is_limited(&self) -> bool {
        self.rate().is_some()
    }

    /// Charges memory, after evicting as many idle instances as that takes.
    pub(crate) fn take_memory(&self, bytes: u64) -> bool {
        while !self.try_memory(bytes) {
            if !self.evict_for(bytes) {
                // Another thread may have evicted the last of them.
                let taken = self.try_memory(bytes);
                if !taken {
                    self.refused_memory.fetch_add(1, Ordering::Relaxed);
                }
                return taken;
            }
        }
        true
    }

    /// Evicts idle instances until `bytes` of memory are free, or a part of the account's where that is less. None is evicted where that
    /// would not be enough.
    pub fn make_room(&self, bytes: usize) {
        self.evict_for((bytes as u64).min(self.memory_bytes_max() / ROOM_PART));
    }

    /// Evicts idle instances that hold what `bytes` more lack, and no further ones. Returns whether one was evicted.
    fn evict_for(&self, bytes: u64) -> bool {
        let lack = self.lack(bytes);
        if lack == 0 || self.idlers.idle_bytes() < lack {
            return false;
        }
        let mut freed = 0_u64;
        while freed < lack
            && let Some(evicted) = self.idlers.drop_oldest()
        {
            freed = freed.saturating_add(evicted.bytes);
        }
        freed > 0
    }

    /// What is missing for `bytes` more, when all that was evicted has been taken down.
    fn lack(&self, bytes: u64) -> u64 {
        let (used, leaving) = (self.memory_bytes.load(Ordering::Acquire), self.leaving_bytes.load(Ordering::Acquire));
        used.saturating_add(bytes).saturating_sub(self.memory_bytes_max().saturating_add(leaving))
    }

    /// What counts as free although it is not yet.
    fn allowance(&self) -> u64 {
        self.leaving_bytes.load(Ordering::Acquire).min(self.memory_bytes_max() / ROOM_PART)
    }

    /// Notes that an instance which holds `bytes` was evicted, and is being taken down.
    pub(crate) fn leaving(self: &Arc<Self>, bytes: u64) -> Leaving {
        self.leaving_bytes.fetch_add(bytes, Ordering::AcqRel);
        Leaving { account: self.clone(), bytes }
    }

    fn try_memory(&self, bytes: u64) -> bool {
        let max = self.memory_bytes_max().saturating_add(self.allowance());
        let add = |used: u64| used.checked_add(bytes).filter(|used| *used <= max);
        self.memory_bytes.fetch_update(Ordering::AcqRel, Ordering::Relaxed, add).is_ok()
    }

    pub(crate) fn give_memory(&self, bytes: u64) {
        self.memory_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Host memory of which nothing is charged yet.
    #[must_use]
    pub fn host_memory(self: &Arc<Self>) -> HostMemory {
        HostMemory { account: self.clone(), bytes: 0 }
    }

    /// As [`Account::take_memory`], for memories and tables of a guest.
    pub(crate) fn take_guest_memory(&self, bytes: u64) -> bool {
        let taken = self.take_memory(bytes);
        if taken {
            self.guest_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    pub(crate) fn give_guest_memory(&self, bytes: u64) {
        self.guest_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.give_memory(bytes);
    }

    /// Charges `bytes` of host memory before they are allocated. They are released when the charge is dropped, so it belongs into
    /// the value that owns the allocation.
    ///
    /// # Errors
    /// When the account's memory is used up, and its idle instances do not hold enough. Each refusal counts.
    pub fn charge_host_memory(self: &Arc<Self>, bytes: usize) -> Result<HostMemory, OutOfMemory> {
        let mut charge = self.host_memory();
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// What its instances hold of the engine's pool. Changed by the engine's `room` alone, under the lock of that.
    pub(crate) fn held(&self) -> MutexGuard<'_, PoolSizes> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is there processor time left for something new? Else when there will be. Each refusal counts.
    ///
    /// # Errors
    /// How long the account has to wait.
    pub fn begin(&self) -> Result<(), Duration> {
        match self.cpu_retry_after() {
            None => Ok(()),
            Some(wait) => {
                self.refused_cpu.fetch_add(1, Ordering::Relaxed);
                Err(wait)
            }
        }
    }

    /// How long until there is processor time for something new; `None` where there is some now. Counts nothing.
    #[must_use]
    pub fn cpu_retry_after(&self) -> Option<Duration> {
        let rate = self.rate()?;
        let left = self.fill(rate);
        if left > 0 {
            return None;
        }
        if rate == 0 {
            return Some(Duration::from_secs(3600));
        }
        let owed = u128::from(left.unsigned_abs()) + 1;
        let wait = owed * 1_000_000_000 / u128::from(rate);
        Some(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
    }

    /// Must its guests, and what is done for them, stop where they are? Counts if so.
    pub fn must_stop(&self) -> bool {
        let Some(rate) = self.rate() else { return false };
        let stop = self.fill(rate) < self.bucket_max().saturating_neg();
        if stop {
            self.refused_cpu.fetch_add(1, Ordering::Relaxed);
        }
        stop
    }

    /// Charges processor time that was used.
    pub fn charge_cpu(&self, used: Duration) {
        let ns = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_ns.fetch_add(ns, Ordering::Relaxed);
        if self.rate().is_some() {
            self.bucket_ns.fetch_sub(i64::try_from(ns).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// Nanoseconds a second, where that is limited.
    fn rate(&self) -> Option<u64> {
        Some(self.cpu_ns_per_second.load(Ordering::Relaxed)).filter(|rate| *rate != u64::MAX)
    }

    fn bucket_max(&self) -> i64 {
        let rate = self.cpu_ns_per_second.load(Ordering::Relaxed);
        i64::try_from(u128::from(rate) * BUCKET.as_nanos() / 1_000_000_000).unwrap_or(i64::MAX)
    }

    /// Pays in what is due since the last time, and says what is in the bucket.
    fn fill(&self, rate: u64) -> i64 {
        let last = self.filled_ns.load(Ordering::Relaxed);
        let now = now();
        // Another thread may have paid at a later time than this one's: then nothing is due, and not nearly all time there is.
        let passed = u64::try_from(now.wrapping_sub(last).cast_signed()).unwrap_or(0);
        let due = u128::from(passed) * u128::from(rate) / 1_000_000_000;
        // Of several threads one pays. Less than a microsecond's worth waits, so that rounding loses nothing that matters.
        let due = i64::try_from(due).unwrap_or(i64::MAX);
        if due < 1_000 || self.filled_ns.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return self.bucket_ns.load(Ordering::Relaxed);
        }
        let most = self.bucket_max();
        let pay = |left: i64| Some(left.saturating_add(due).min(most));
        let before = self.bucket_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).unwrap_or_else(|left| left);
        before.saturating_add(due).min(most)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::idle::{Evicted, IdleSince};

    fn account(memory_bytes: u64, cpu_ms: u64) -> Arc<Account> {
        Account::new("t".into(), AccountLimits { memory_bytes, cpu_per_second: Duration::from_millis(cpu_ms) })
    }

    #[test]
    fn memory_is_exact_and_given_back() {
        let account = account(100, 1000);
        assert!(account.take_memory(60));
        assert!(account.take_memory(40));
        assert!(!account.take_memory(1));
        assert_eq!((account.used().memory_bytes, account.used().refused_memory), (100, 1));
        account.give_memory(40);
        assert!(account.take_memory(40));
    }

    /// A pool of idle instances of 100 bytes each.
    struct Idle {
        account: Weak<Account>,
        idle: Mutex<Vec<u64>>,
        since: Arc<IdleSince>,
        /// Where instances are taken down later, those that are to be.
        leaving: Option<Mutex<Vec<Leaving>>>,
    }

    impl Idle {
        fn of(account: &Arc<Account>, idle: std::ops::Range<u64>, is_taken_down_later: bool) -> Arc<Self> {
            for _ in idle.clone() {
                assert!(account.take_memory(100));
            }
            let since = Arc::<IdleSince>::default();
            since.set(Some(idle.start));
            let leaving = is_taken_down_later.then(Mutex::default);
            let (idle, account_of) = (Mutex::new(idle.collect()), Arc::downgrade(account));
            let pool = Arc::new(Self { account: account_of, idle, since: since.clone(), leaving });
            let weak: Weak<Self> = Arc::downgrade(&pool);
            account.idlers().add(since, weak, account);
            pool
        }

        fn left(&self) -> usize {
            self.idle.lock().unwrap().len()
        }

        fn take_down(&self) {
            let leaving = std::mem::take(&mut *self.leaving.as_ref().unwrap().lock().unwrap());
            self.account.upgrade().unwrap().give_memory(100 * leaving.len() as u64);
        }
    }

    impl crate::idle::Idle for Idle {
        fn drop_oldest(&self) -> Option<Evicted> {
            let account = self.account.upgrade()?;
            let mut idle = self.idle.lock().unwrap();
            if idle.is_empty() {
                return None;
            }
            idle.remove(0);
            self.since.set(idle.first().copied());
            match &self.leaving {
                Some(leaving) => leaving.lock().unwrap().push(account.leaving(100)),
                None => account.give_memory(100),
            }
            Some(Evicted { bytes: 100, is_gone: self.leaving.is_none() })
        }

        fn idle_bytes(&self) -> u64 {
            100 * self.left() as u64
        }

        fn drop_old(&self) {}
    }

    #[test]
    fn no_more_idle_instances_are_evicted_than_a_request_needs() {
        let account = account(1000, 1000);
        assert!(account.take_memory(200));
        let pools = [Idle::of(&account, 1..6, false), Idle::of(&account, 3..6, false)];
        assert!(account.take_memory(250));
        assert_eq!([pools[0].left(), pools[1].left()], [2, 3], "the oldest of all apps, and three are enough");
        assert!(!account.take_memory(551), "more than they hold");
        assert_eq!([pools[0].left(), pools[1].left()], [2, 3], "then none is evicted in vain");
        account.make_room(1 << 30);
        assert_eq!([pools[0].left(), pools[1].left()], [2, 2], "a part of all is all that is made room for");
        assert!(account.take_memory(550));
        assert_eq!([pools[0].left(), pools[1].left()], [0, 0]);
        assert_eq!(account.used().memory_bytes, 1000);
    }

    #[test]
    fn instances_that_are_taken_down_later_are_not_all_evicted_for_one_request() {
        let account = account(1000, 1000);
        let pool = Idle::of(&account, 0..10, true);
        assert!(account.take_memory(80));
        assert_eq!((pool.left(), account.used().memory_bytes), (9, 1080), "one is enough, and it is still there");
        assert!(account.take_memory(20), "what it holds counts as free");
        assert_eq!(pool.left(), 9);
        // Beyond a part of the limit, memory must really be free.
        assert!(!account.take_memory(100));
        assert_eq!(pool.left(), 8);
        pool.take_down();
        assert_eq!(account.used().memory_bytes, 900);
        assert!(account.take_memory(100));
        assert_eq!((pool.left(), account.allowance()), (8, 0));
    }

    #[test]
    fn host_memory_counts_until_its_charge_is_dropped() {
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
    fn a_bucket_can_be_emptied_owed_and_is_then_waited_for() {
        let account = account(0, 500);
        assert_eq!(account.begin(), Ok(()));
        account.charge_cpu(Duration::from_millis(700));
        let wait = account.begin().expect_err("more was used than was there");
        assert!((Duration::from_millis(300)..=Duration::from_millis(401)).contains(&wait), "{wait:?}");
        assert!(!account.must_stop(), "less than a bucket is owed");
        account.charge_cpu(Duration::from_millis(500));
        assert!(account.must_stop());
        assert_eq!(account.used().cpu, Duration::from_millis(1200));
        assert_eq!(account.used().refused_cpu, 2);
    }

    #[test]
    fn a_bucket_fills_no_higher_than_its_brim() {
        let account = account(0, 1000);
        // As if nothing had been paid in for an hour.
        account.filled_ns.store(now().wrapping_sub(3_600_000_000_000), Ordering::Relaxed);
        assert_eq!(account.cpu_retry_after(), None);
        assert!(account.bucket_ns.load(Ordering::Relaxed) <= 1_000_000_000);
        account.set_limits(AccountLimits::UNLIMITED);
        assert_eq!(account.cpu_retry_after(), None);
        account.charge_cpu(Duration::from_secs(100));
        account.set_limits(AccountLimits { memory_bytes: 0, cpu_per_second: Duration::from_millis(10) });
        assert!(!account.must_stop(), "what was free is not owed afterwards");
    }

    #[test]
    fn a_clock_that_another_thread_read_later_pays_nothing() {
        let account = account(0, 1000);
        account.charge_cpu(Duration::from_millis(1500));
        account.filled_ns.store(now() + 50_000_000, Ordering::Relaxed);
        assert!(account.cpu_retry_after().is_some(), "what is owed stays owed");
        assert!(account.bucket_ns.load(Ordering::Relaxed) <= -500_000_000);
    }

    #[test]
    fn nothing_a_second_is_never() {
        let account = account(0, 0);
        assert!(account.cpu_retry_after().is_some());
    }
}
