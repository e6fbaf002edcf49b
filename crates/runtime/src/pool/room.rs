//! The room in the engine's pool: how many slots for instances each account holds, and which requests wait for slots.
//!
//! wasmtime's pool refuses an instance when it is full. This module counts the room that is left, and evicts idle
//! instances before a request is refused, beginning with the least recently used. `shares` decides how much one account
//! may hold. An account that exceeds its guaranteed share cannot evict idle instances that another account keeps within
//! its own guaranteed share.
//!
//! A reservation that finds no room waits for a short time, in a queue of its account. Released room is granted to the
//! queues in round-robin order, and within a queue to the oldest reservation. The queues of other accounts do not delay
//! a new reservation that can be granted immediately: the waiting reservations could not use this room, or it would
//! have been granted to them.
//!
//! Idle instances are also evicted in advance: the sweeper, a thread for all groups, evicts them when little room is
//! left or when they have been idle for a long time. So a request that needs a new instance rarely waits until another
//! instance has been dropped.
//!
//! wasmtime's pool must never be full while this module counts free room in it. If it is, the count is wrong: see
//! [`RoomReservation::check`].
//!
//! The file is long because a quarter of it is tests, and one lock protects everything that is counted.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::account::Account;
use super::idle::{Eviction, IdlePools, oldest_kept};
use super::shares::{Shares, Shortage};
use super::sizes::{Dimension, PoolSizes};
use super::slots::Slots;

/// The maximum time that a request waits for room.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The maximum time to wait for room after an instance was evicted, if the instance has already been dropped. After
/// this time, another instance is evicted.
const DROP_MAX: Duration = Duration::from_millis(5);

/// The maximum time to wait for room after an instance was evicted, if the instance's own task drops the instance.
/// After this time, another instance is evicted.
const DROP_BY_TASK_MAX: Duration = Duration::from_millis(100);

/// The interval at which a pending reservation tries to evict an instance. An instance may have become idle between the
/// reservation's last attempt and the moment at which the reservation was queued.
const EVICT_AGAIN_EVERY: Duration = Duration::from_millis(50);

/// The interval at which the sweeper evicts instances that have been idle for too long.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// The size of the pool is divided by this number: a sixteenth of the pool is kept free of idle instances.
const KEPT_FREE: u32 = 16;

/// The size of the pool is divided by this number: one group may hold at most an eighth of the pool.
const GROUP_PART: u32 = 8;

/// The slots for instances in one engine's pool: which are in use, and which requests wait for them.
pub(crate) struct Room {
    state: Mutex<RoomState>,
    /// The number of pending reservations. Written under the lock of `state`, read without it.
    waiting: AtomicUsize,
    sweep: Condvar,
    /// All instance pools of the engine, each with the account of its instances.
    pub(crate) idle_pools: IdlePools<Weak<Account>>,
    /// The number of times that the engine's pool was full while `state` counted free room in it.
    miscounts: AtomicU64,
    miscount_logged: Once,
}

/// The limit that prevented the creation of another instance in the engine's pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomLimit {
    /// The maximum that one tenant may hold, even if no other tenant holds anything.
    #[error("the tenant's busy instances hold as much of the node's {of} as one tenant may have")]
    Account {
        /// The dimension in which the limit was reached.
        of: Dimension,
    },
    /// The tenant's share of the pool, which depends on how much other tenants currently hold.
    #[error("the tenant's busy instances hold the tenant's share of the node's {of}, which {accounts} tenants use")]
    Share {
        /// The dimension in which the limit was reached.
        of: Dimension,
        /// The number of tenants that currently hold instances.
        accounts: u32,
    },
    /// The size of the pool.
    #[error("the node has no {of} left for another instance, and all instances are busy")]
    Pool {
        /// The dimension in which the limit was reached.
        of: Dimension,
    },
    /// Earlier requests of the same tenant are waiting for room.
    #[error("all instances are busy, and earlier requests of the same tenant wait for them")]
    EarlierRequests,
    /// The engine's pool was full while the runtime counted free room in it. This is a defect of the runtime, which
    /// [`Engine::pool_miscounts`](crate::engine::Engine::pool_miscounts) counts.
    #[error("the engine's pool is full, but the node counts free room in it; this is a defect of the node")]
    Miscount,
}

struct RoomState {
    shares: Shares,
    queues: VecDeque<AccountQueue>,
    /// The id that the next pending reservation gets.
    next: u64,
    /// Whether the sweeper should run now instead of after its interval.
    wanted: bool,
    /// Whether the engine was dropped, which ends the sweeper.
    ended: bool,
}

/// The pending reservations of one account, oldest first.
struct AccountQueue {
    account: Arc<Account>,
    waiters: VecDeque<Waiter>,
}

struct Waiter {
    id: u64,
    slots: Slots,
    granted: oneshot::Sender<()>,
}

/// The reserved room of one instance: the slots that it takes in the pool. Dropping this value releases the room, so it
/// must be dropped after the instance's wasmtime store.
pub(crate) struct RoomReservation {
    room: Arc<Room>,
    account: Arc<Account>,
    slots: Slots,
}

/// A reservation that waits for room. Dropping it removes it from its queue, or, if room was already granted to it but
/// not used, releases the room.
struct PendingReservation<'a> {
    room: &'a Arc<Room>,
    account: &'a Arc<Account>,
    slots: Slots,
    id: u64,
    granted: oneshot::Receiver<()>,
    is_taken: bool,
}

impl Room {
    pub(crate) fn new(sizes: PoolSizes) -> Arc<Self> {
        let state =
            RoomState { shares: Shares::new(sizes), queues: VecDeque::new(), next: 0, wanted: false, ended: false };
        Arc::new(Self {
            state: Mutex::new(state),
            waiting: AtomicUsize::new(0),
            sweep: Condvar::new(),
            idle_pools: IdlePools::default(),
            miscounts: AtomicU64::new(0),
            miscount_logged: Once::new(),
        })
    }

    /// Returns the maximum number of instances with `slots` each that one group of `account` may have; 0 if not even
    /// one instance fits.
    pub(crate) fn instances_of_group(&self, slots: Slots, account: &Account) -> u32 {
        let shares = self.state().shares;
        if account.has_all_memory() {
            return shares.sizes().holds(trusted(slots));
        }
        let part = shares.sizes().part(GROUP_PART).holds(slots);
        if part > 0 { part } else { shares.most().holds(slots).min(1) }
    }

    /// Returns the number of instances that currently hold room.
    pub(crate) fn instances(&self) -> u32 {
        self.state().shares.held().instances()
    }

    /// Returns the number of times that the engine's pool was full while the runtime counted free room in it.
    pub(crate) fn miscounts(&self) -> u64 {
        self.miscounts.load(Ordering::Relaxed)
    }

    /// Returns whether a pending reservation could be granted if an instance of `account` with these `slots` were
    /// dropped. If so, the caller drops an idle instance instead of keeping it.
    pub(crate) fn is_wanted(&self, slots: Slots, account: &Arc<Account>) -> bool {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let state = self.state();
        let mut shares = state.shares;
        let left = shares.give_back(*account.held(), counted(slots, account));
        state.queues.iter().any(|queue| {
            let has = if Arc::ptr_eq(&queue.account, account) { left } else { *queue.account.held() };
            queue.waiters.front().is_some_and(|first| admits(&shares, has, first.slots, &queue.account).is_ok())
        })
    }

    fn state(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves room for one instance. Waits for room until `deadline` at the latest.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        slots: Slots,
        account: &Arc<Account>,
        deadline: Instant,
    ) -> Result<RoomReservation, RoomLimit> {
        let slots = counted(slots, account);
        let last = deadline.min(Instant::now() + WAIT_MAX);
        let mut waiting = match self.enter(slots, account) {
            Ok(claim) => return Ok(claim),
            Err(waiting) => waiting,
        };
        let mut has_waited = false;
        loop {
            let (shortage, accounts) = self.shortage(slots, account);
            // The time limit is checked before another instance is evicted, because a reservation that has timed out
            // can no longer use the room.
            if has_waited && Instant::now() >= last {
                return Err(limit(shortage, accounts));
            }
            let evicted = shortage.and_then(|shortage| self.evict(shortage, account));
            // Waits even if an instance was evicted, because the evicted instance may have been too small, or its room
            // may be granted to another queue.
            let pause = match evicted {
                None => EVICT_AGAIN_EVERY,
                Some(Eviction { is_gone: true, .. }) => DROP_MAX,
                Some(Eviction { is_gone: false, .. }) => DROP_BY_TASK_MAX,
            };
            let until = last.min(Instant::now() + pause);
            if tokio::time::timeout_at(until.into(), &mut waiting.granted).await.is_ok() {
                waiting.is_taken = true;
                return Ok(RoomReservation { room: self.clone(), account: account.clone(), slots });
            }
            has_waited = true;
        }
    }

    /// Reserves room if it is free and no other reservation of the account waits. Otherwise adds a pending reservation
    /// to the queue of the account.
    fn enter<'a>(
        self: &'a Arc<Self>,
        slots: Slots,
        account: &'a Arc<Account>,
    ) -> Result<RoomReservation, PendingReservation<'a>> {
        let mut state = self.state();
        let queue = state.queues.iter().position(|queue| Arc::ptr_eq(&queue.account, account));
        if queue.is_none() && state.take(slots, account).is_ok() {
            self.wake_sweeper(&mut state);
            return Ok(RoomReservation { room: self.clone(), account: account.clone(), slots });
        }
        let (sender, granted) = oneshot::channel();
        let id = state.next;
        state.next += 1;
        let index = queue.unwrap_or_else(|| {
            state.queues.push_back(AccountQueue { account: account.clone(), waiters: VecDeque::new() });
            state.queues.len() - 1
        });
        state.queues[index].waiters.push_back(Waiter { id, slots, granted: sender });
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Err(PendingReservation { room: self, account, slots, id, granted, is_taken: false })
    }

    fn shortage(&self, slots: Slots, account: &Account) -> (Option<Shortage>, u32) {
        let state = self.state();
        (admits(&state.shares, *account.held(), slots, account).err(), state.shares.accounts())
    }

    /// Evicts an idle instance, if there is one whose part of the pool `account` may use afterwards.
    fn evict(&self, shortage: Shortage, account: &Arc<Account>) -> Option<Eviction> {
        let own = self.state().shares.own();
        match shortage {
            Shortage::Account(_) => account.idle_pools().evict_oldest(),
            Shortage::Share(dimension) | Shortage::Pool { dimension, is_beyond: true } => {
                let beyond = self.idle_pools.evict_oldest_of(|other| {
                    other.upgrade().is_some_and(|other| other.held().get(dimension) > own.get(dimension))
                });
                // If no account that exceeds its guaranteed share has an idle instance, only the account's own
                // instances can be evicted: an idle instance of another app of the account, or one that became idle
                // after this reservation was made.
                beyond.or_else(|| account.idle_pools().evict_oldest())
            }
            Shortage::Pool { is_beyond: false, .. } => self.idle_pools.evict_oldest(),
        }
    }

    /// Releases the room of an instance, and grants it to pending reservations.
    fn give_back(&self, slots: Slots, account: &Account) {
        let mut state = self.state();
        {
            let mut has = account.held();
            *has = state.shares.give_back(*has, slots);
        }
        let granted = state.grant();
        self.waiting.fetch_sub(granted, Ordering::Relaxed);
    }

    /// Evicts idle instances, one after another, until the pool has enough free room ([`KEPT_FREE`]). If an evicted
    /// instance is dropped by its own task, waits until its room is released, so that no more instances are evicted
    /// than necessary.
    fn keep_headroom(&self) {
        while !self.state().has_headroom() {
            let before = self.instances();
            let Some(evicted) = self.idle_pools.evict_oldest() else { return };
            let until = Instant::now() + DROP_BY_TASK_MAX;
            while !evicted.is_gone && self.instances() >= before && Instant::now() < until {
                std::thread::sleep(DROP_MAX);
            }
        }
    }

    fn wake_sweeper(&self, state: &mut RoomState) {
        if !state.wanted && !state.has_headroom() {
            state.wanted = true;
            self.sweep.notify_one();
        }
    }

    /// Stops the sweeper.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.sweep.notify_one();
    }

    /// Runs the sweeper until [`Self::end`] is called.
    pub(crate) fn sweep(&self) {
        loop {
            let state = self.state();
            let sleeps = |state: &mut RoomState| !state.wanted && !state.ended;
            let waited = self.sweep.wait_timeout_while(state, SWEEP_EVERY, sleeps);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.ended {
                return;
            }
            state.wanted = false;
            drop(state);
            self.keep_headroom();
            self.idle_pools.evict_old(oldest_kept());
        }
    }
}

impl RoomState {
    fn take(&mut self, slots: Slots, account: &Account) -> Result<(), Shortage> {
        let mut has = account.held();
        admits(&self.shares, *has, slots, account)?;
        *has = self.shares.take(*has, slots);
        Ok(())
    }

    /// Grants all reservations that can be granted, one of each queue in round-robin order. Returns the number of
    /// granted reservations.
    fn grant(&mut self) -> usize {
        let (mut granted, mut refused) = (0, 0);
        while refused < self.queues.len() {
            let Some(mut queue) = self.queues.pop_front() else { break };
            let first = queue.waiters.front().map(|first| first.slots);
            if first.is_some_and(|slots| self.take(slots, &queue.account).is_ok()) {
                if let Some(first) = queue.waiters.pop_front() {
                    // Sending cannot fail, because a reservation leaves its queue before its receiver is dropped.
                    let _ = first.granted.send(());
                }
                (granted, refused) = (granted + 1, 0);
            } else {
                refused += 1;
            }
            if !queue.waiters.is_empty() {
                self.queues.push_back(queue);
            }
        }
        granted
    }

    /// Removes a reservation from its queue. Returns whether the reservation was still queued, which means that it was
    /// not granted.
    fn leave(&mut self, id: u64, account: &Arc<Account>) -> bool {
        let Some(index) = self.queues.iter().position(|queue| Arc::ptr_eq(&queue.account, account)) else {
            return false;
        };
        let waiters = &mut self.queues[index].waiters;
        let Ok(position) = waiters.binary_search_by_key(&id, |waiter| waiter.id) else { return false };
        waiters.remove(position);
        if waiters.is_empty() {
            self.queues.remove(index);
        }
        true
    }

    fn has_headroom(&self) -> bool {
        let sizes = self.shares.sizes();
        self.shares.held().fits(sizes.minus(sizes.part(KEPT_FREE)))
    }
}

impl Drop for PendingReservation<'_> {
    fn drop(&mut self) {
        if self.is_taken {
            return;
        }
        let mut state = self.room.state();
        if state.leave(self.id, self.account) {
            // Later reservations in the queue may be smaller than the removed one, and may fit now.
            let granted = state.grant();
            self.room.waiting.fetch_sub(1 + granted, Ordering::Relaxed);
        } else {
            drop(state);
            self.room.give_back(self.slots, self.account);
        }
    }
}

impl RoomReservation {
    /// Returns whether a pending reservation could be granted if this reservation were dropped.
    pub(crate) fn is_wanted(&self) -> bool {
        self.room.is_wanted(self.slots, &self.account)
    }

    /// Checks whether `error` states that wasmtime's pool is full. Every instance has a reservation, so the pool can
    /// only be full if the count of free slots is wrong. Each occurrence is counted, and the first one is logged with
    /// the available details.
    pub(crate) fn check(&self, error: &wasmtime::Error, pool: &wasmtime::Engine) {
        if !error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return;
        }
        self.room.miscounts.fetch_add(1, Ordering::Relaxed);
        self.room.miscount_logged.call_once(|| {
            let counted = self.room.state().shares.held();
            let taken = pool.pooling_allocator_metrics().map(|pool| {
                let (instances, memories) = (pool.component_instances(), pool.memories());
                format!(
                    "{instances} instances, {memories} memories, {} tables, {} stacks",
                    pool.tables(),
                    pool.stacks()
                )
            });
            isomer_telemetry::error!(
                %error, tenant = %self.account.tenant(), slots = ?self.slots, ?counted, ?taken,
                "the engine's pool is full, but the node counts free room in it"
            );
        });
    }
}

impl Drop for RoomReservation {
    fn drop(&mut self) {
        self.room.give_back(self.slots, &self.account);
    }
}

fn admits(shares: &Shares, has: PoolSizes, slots: Slots, account: &Account) -> Result<(), Shortage> {
    shares.admit(has, slots, !account.has_all_memory())
}

/// Returns the slots to reserve for one instance of `account`. `slots` is the maximum that the instance takes. If the
/// account has no limits, fewer stacks than that may be reserved.
fn counted(slots: Slots, account: &Account) -> Slots {
    if account.has_all_memory() { trusted(slots) } else { slots }
}

/// Returns `slots` with at most [`STACKS_TRUSTED`] stacks. An instance may use more stacks, but it is rare that all its
/// components wait on their stacks at the same time. Used only for an account without limits, because no other account
/// shares the pool with it.
fn trusted(slots: Slots) -> Slots {
    Slots { stacks: slots.stacks.min(STACKS_TRUSTED), ..slots }
}

/// The maximum number of stacks that [`trusted`] returns for one instance.
const STACKS_TRUSTED: u32 = 2;

/// Returns the limit that made a reservation time out. If `shortage` is `None`, there was room, and the reservation
/// only waited for earlier reservations of its account.
fn limit(shortage: Option<Shortage>, accounts: u32) -> RoomLimit {
    match shortage {
        Some(Shortage::Account(of)) => RoomLimit::Account { of },
        Some(Shortage::Share(of)) => RoomLimit::Share { of, accounts },
        Some(Shortage::Pool { dimension: of, .. }) => RoomLimit::Pool { of },
        None => RoomLimit::EarlierRequests,
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("shares", &self.state().shares).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::super::account::AccountLimits;
    use super::super::idle::{IdlePool, IdleSince};
    use super::*;
    use crate::clock::now;

    const ONE: Slots = Slots { memories: 1, tables: 1, stacks: 2 };

    fn tenant() -> Arc<Account> {
        Account::new("t".into(), AccountLimits { memory_bytes: 1 << 40, cpu_per_second: Duration::MAX })
    }

    /// Reserves room until `account` gets no more, and returns the reservations.
    fn all(room: &Arc<Room>, account: &Arc<Account>) -> Vec<RoomReservation> {
        std::iter::from_fn(|| room.enter(ONE, account).ok()).collect()
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn in_runtime(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(test);
    }

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_account_leaves_room_for_others() {
        let room = Room::new(PoolSizes::new(16));
        let (first, second) = (tenant(), tenant());
        let held = all(&room, &first);
        assert_eq!(held.len(), 1 + 12 / 2);
        let rest = all(&room, &second);
        assert_eq!(rest.len(), 1 + 12 / 4);
        assert!(!all(&room, &tenant()).is_empty(), "a new account finds no room");
        drop((held, rest));
        assert_eq!(room.state().shares.held(), PoolSizes::default(), "room is still held");
        assert_eq!((*first.held(), *second.held()), Default::default());
    }

    #[test]
    fn a_pending_reservation_gets_released_room() {
        in_runtime(async {
            let room = Room::new(PoolSizes::new(2));
            let account = Account::unlimited();
            let mut held = all(&room, &account);
            assert_eq!(held.len(), 2);
            let waiting = room.reserve(ONE, &account, later());
            let freeing = async {
                tokio::task::yield_now().await;
                held.pop();
            };
            let (claim, ()) = futures::future::join(waiting, freeing).await;
            assert!(claim.is_ok());
            let refused = room.reserve(ONE, &account, Instant::now()).await;
            let Err(RoomLimit::Pool { of: Dimension::Instances }) = refused else {
                panic!("a reservation in a full pool must fail with `RoomLimit::Pool`")
            };
        });
    }

    #[test]
    fn released_room_goes_to_the_accounts_in_round_robin_order() {
        in_runtime(async {
            let room = Room::new(PoolSizes::new(4));
            let (busy, other) = (Account::unlimited(), Account::unlimited());
            let mut held = all(&room, &busy);
            assert_eq!(held.len(), 4);
            let mut many = (0..3).map(|_| Box::pin(room.reserve(ONE, &busy, later()))).collect::<Vec<_>>();
            assert!(many.iter_mut().all(|claim| poll(claim.as_mut()).is_pending()));
            let mut one = pin!(room.reserve(ONE, &other, later()));
            assert!(poll(one.as_mut()).is_pending());
            held.truncate(2);
            let Poll::Ready(Ok(_first)) = poll(many[0].as_mut()) else {
                panic!("the account that waited first must get room")
            };
            let Poll::Ready(Ok(_second)) = poll(one.as_mut()) else { panic!("the other account must get room next") };
            assert!(poll(many[1].as_mut()).is_pending());
            assert_eq!(room.waiting.load(Ordering::Relaxed), 2);
            // A reservation that stops waiting releases its room, even if the room was already granted.
            held.pop();
            drop(many.remove(1));
            let Poll::Ready(Ok(_third)) = poll(many[1].as_mut()) else {
                panic!("room that was granted to a dropped reservation must be granted again")
            };
            assert_eq!((room.waiting.load(Ordering::Relaxed), room.state().queues.len()), (0, 0));
        });
    }

    #[test]
    fn an_idle_instance_is_not_kept_when_its_room_is_wanted() {
        in_runtime(async {
            let room = Room::new(PoolSizes::new(16));
            let greedy = tenant();
            let held = all(&room, &greedy);
            assert!(!room.is_wanted(ONE, &greedy));
            let mut waiting = pin!(room.reserve(ONE, &greedy, later()));
            assert!(poll(waiting.as_mut()).is_pending());
            assert!(room.is_wanted(ONE, &greedy), "the pending reservation could have the room");
            let modest = tenant();
            let _own = room.enter(ONE, &modest).ok().expect("the pool has room");
            assert!(!room.is_wanted(ONE, &modest), "dropping the instance would not help the pending reservation");
            drop(held);
            assert!(matches!(poll(waiting.as_mut()), Poll::Ready(Ok(_))));
        });
    }

    /// An instance pool with at most one instance, which becomes idle when it is returned.
    #[derive(Default)]
    struct OneIdle {
        claim: Mutex<Option<RoomReservation>>,
        since: Arc<IdleSince>,
    }

    impl OneIdle {
        fn give_back(&self, claim: RoomReservation) {
            *self.claim.lock().unwrap() = Some(claim);
            self.since.set(Some(now()));
        }
    }

    impl IdlePool for OneIdle {
        fn evict_oldest(&self) -> Option<Eviction> {
            self.since.set(None);
            let dropped = self.claim.lock().unwrap().take();
            dropped.map(|_| Eviction { bytes: 0, is_gone: true })
        }

        fn idle_bytes(&self) -> u64 {
            0
        }

        fn evict_old(&self) {}
    }

    #[test]
    fn an_account_at_its_guaranteed_share_evicts_its_own_idle_instance() {
        in_runtime(async {
            // Other accounts use the part of the pool that is not set aside for guaranteed shares, and this account
            // uses exactly its guaranteed share.
            let room = Room::new(PoolSizes::new(16));
            let others = [tenant(), tenant(), tenant(), tenant()];
            let _held: Vec<_> = others.iter().map(|other| all(&room, other)).collect();
            let account = tenant();
            let mut own = all(&room, &account);
            let pool = Arc::new(OneIdle::default());
            let weak: std::sync::Weak<OneIdle> = Arc::downgrade(&pool);
            room.idle_pools.add(pool.since.clone(), weak.clone(), Arc::downgrade(&account));
            account.idle_pools().add(pool.since.clone(), weak, ());
            // The instance becomes idle either before the reservation is made, or after the reservation has started to
            // wait.
            for is_late in [false, true] {
                let claim = own.pop().expect("the account has one instance");
                assert!(own.is_empty(), "the guaranteed share is more than one instance");
                if is_late {
                    let waiting = room.reserve(ONE, &account, later());
                    let freeing = async {
                        tokio::task::yield_now().await;
                        pool.give_back(claim);
                    };
                    let (granted, ()) = futures::future::join(waiting, freeing).await;
                    own.push(granted.expect("room of the account's idle instance"));
                } else {
                    pool.give_back(claim);
                    own.push(room.reserve(ONE, &account, later()).await.expect("room of the account's idle instance"));
                }
            }
        });
    }

    /// An instance pool with 100 idle instances, which are evicted but not dropped before the test ends.
    struct ManyIdle {
        evicted: AtomicUsize,
        since: Arc<IdleSince>,
    }

    impl IdlePool for ManyIdle {
        fn evict_oldest(&self) -> Option<Eviction> {
            let is_there = self.evicted.fetch_add(1, Ordering::Relaxed) < 100;
            is_there.then_some(Eviction { bytes: 0, is_gone: false })
        }

        fn idle_bytes(&self) -> u64 {
            0
        }

        fn evict_old(&self) {}
    }

    #[test]
    fn a_reservation_that_is_out_of_time_evicts_nothing_more() {
        in_runtime(async {
            let room = Room::new(PoolSizes::new(2));
            let account = Account::unlimited();
            let _held = all(&room, &account);
            let pool = Arc::new(ManyIdle { evicted: AtomicUsize::new(0), since: Arc::default() });
            pool.since.set(Some(now()));
            let weak: std::sync::Weak<ManyIdle> = Arc::downgrade(&pool);
            room.idle_pools.add(pool.since.clone(), weak, Arc::downgrade(&account));
            assert!(room.reserve(ONE, &account, Instant::now()).await.is_err());
            assert_eq!(pool.evicted.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn a_reservation_that_times_out_names_its_limit() {
        in_runtime(async {
            let room = Room::new(PoolSizes::new(16));
            let (first, second) = (tenant(), tenant());
            let _first = all(&room, &first);
            let _second = all(&room, &second);
            let refused = async |account| match room.reserve(ONE, account, Instant::now()).await {
                Err(limit) => limit.to_string(),
                _ => panic!("the account got more than its limit"),
            };
            assert_eq!(
                refused(&first).await,
                "the tenant's busy instances hold as much of the node's instances as one tenant may have"
            );
            assert_eq!(
                refused(&second).await,
                "the tenant's busy instances hold the tenant's share of the node's instances, which 2 tenants use"
            );
            assert_eq!(room.state().queues.len(), 0);
        });
    }
}
