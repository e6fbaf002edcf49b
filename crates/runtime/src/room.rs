//! The room of the engine's pool, and who has it.
//!
//! wasmtime's pool refuses when it is full. Here is counted what it has left, so that nobody has to be refused for the sake of
//! instances that do nothing: those go first, the one that was used longest ago before the others, whosever it is. What one account
//! may hold is bounded, so that a tenant with all its instances at work leaves room for the others.
//!
//! Idle instances also go ahead of need: a thread (one for all groups) drops them when little room is left, or when they have
//! been idle for long. So a request that needs a new instance rarely waits until another one has been taken down.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::account::Account;
use crate::engine::PoolSizes;
use crate::failure::Failure;
use crate::idle::{Idlers, now};
use crate::slots::Slots;

/// How long a request waits for room when there is none.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How long an instance that was dropped may take until its room is free.
const TAKING_DOWN: Duration = Duration::from_millis(5);

/// How often idle instances are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// What part of the pool is kept free of idle instances: one in so many.
const KEPT_FREE: u32 = 16;

/// What part of the pool one account may hold: one in so many.
const ACCOUNT_PART: u32 = 4;

/// What part of the pool one group may hold: one in so many.
const GROUP_PART: u32 = 8;

/// The room of one engine.
pub(crate) struct Room {
    sizes: PoolSizes,
    held: Mutex<Held>,
    freed: Notify,
    sweep: Condvar,
    /// All pools of the engine.
    pub(crate) idlers: Idlers,
}

#[derive(Default)]
struct Held {
    sizes: PoolSizes,
    /// The sweeper has something to do.
    wanted: bool,
    /// The engine is gone.
    ended: bool,
}

/// The room that one instance takes. Given back when it is dropped, which must be after the instance's store.
pub(crate) struct Claim {
    room: Arc<Room>,
    account: Arc<Account>,
    slots: Slots,
}

/// Why there is no room.
enum Lack {
    /// The account has all that it may have.
    Account,
    /// The pool is full.
    Pool,
}

impl Room {
    pub(crate) fn new(sizes: PoolSizes) -> Arc<Self> {
        let held = Mutex::default();
        Arc::new(Self { sizes, held, freed: Notify::new(), sweep: Condvar::new(), idlers: Idlers::default() })
    }

    /// How many instances that take `slots` each one group of `account` may have. 0 where not even one fits.
    pub(crate) fn instances_of_group(&self, slots: Slots, account: &Account) -> u32 {
        if account.has_all_memory() {
            return self.sizes.holds(trusted(slots));
        }
        let part = self.sizes.part(GROUP_PART).holds(slots);
        if part > 0 { part } else { self.sizes.part(ACCOUNT_PART).holds(slots).min(1) }
    }

    /// How many instances have room.
    pub(crate) fn instances(&self) -> u32 {
        self.held().sizes.instances()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one instance, at the latest by `deadline`.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        slots: Slots,
        account: &Arc<Account>,
        deadline: Instant,
    ) -> Result<Claim, Failure> {
        let until = deadline.min(Instant::now() + WAIT_MAX);
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            let lack = match self.try_claim(slots, account) {
                Ok(claim) => return Ok(claim),
                Err(lack) => lack,
            };
            let idlers = match lack {
                Lack::Account => account.idlers(),
                Lack::Pool => &self.idlers,
            };
            let dropped = idlers.drop_oldest();
            if dropped && let Ok(claim) = self.try_claim(slots, account) {
                return Ok(claim);
            }
            // What was dropped may be taken down by a task of its own, or was too small.
            let until = if dropped { until.min(Instant::now() + TAKING_DOWN) } else { until };
            if tokio::time::timeout_at(until.into(), freed).await.is_err() && !dropped {
                return Err(match lack {
                    Lack::Account => Failure::Full { part: ACCOUNT_PART },
                    Lack::Pool => Failure::Full { part: 1 },
                });
            }
        }
    }

    fn try_claim(self: &Arc<Self>, slots: Slots, account: &Arc<Account>) -> Result<Claim, Lack> {
        let slots = if account.has_all_memory() { trusted(slots) } else { slots };
        let most = (!account.has_all_memory()).then(|| self.sizes.part(ACCOUNT_PART));
        if !account.take_slots(slots, most.as_ref()) {
            return Err(Lack::Account);
        }
        let mut held = self.held();
        let Some(sizes) = held.sizes.plus(slots).filter(|sizes| sizes.fits(&self.sizes)) else {
            drop(held);
            account.give_slots(slots);
            return Err(Lack::Pool);
        };
        held.sizes = sizes;
        if !held.wanted && !self.has_headroom(&held) {
            held.wanted = true;
            self.sweep.notify_one();
        }
        Ok(Claim { room: self.clone(), account: account.clone(), slots })
    }

    fn has_headroom(&self, held: &Held) -> bool {
        self.sizes.without_part(KEPT_FREE).is_some_and(|most| held.sizes.fits(&most))
    }

    /// Has the sweeper end.
    pub(crate) fn end(&self) {
        self.held().ended = true;
        self.sweep.notify_one();
    }

    /// The sweeper's work, until [`Self::end`].
    pub(crate) fn sweep(&self) {
        loop {
            let held = self.held();
            let sleeps = |held: &mut Held| !held.wanted && !held.ended;
            let waited = self.sweep.wait_timeout_while(held, SWEEP_EVERY, sleeps);
            let (mut held, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if held.ended {
                return;
            }
            held.wanted = false;
            drop(held);
            while !self.has_headroom(&self.held()) && self.idlers.drop_oldest() {}
            let kept = u64::try_from(crate::pool::IDLE_MAX.as_nanos()).unwrap_or(u64::MAX);
            self.idlers.drop_old(now().saturating_sub(kept));
        }
    }
}

/// What an instance hardly ever exceeds, though it could: stacks that all its components wait on at once. Guests of an account without
/// limits have nobody else to take them from.
fn trusted(slots: Slots) -> Slots {
    Slots { stacks: slots.stacks.min(STACKS_TRUSTED), ..slots }
}

/// See [`trusted`].
const STACKS_TRUSTED: u32 = 2;

impl Drop for Claim {
    fn drop(&mut self) {
        self.account.give_slots(self.slots);
        self.room.held().sizes.subtract(self.slots);
        self.room.freed.notify_waiters();
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("sizes", &self.sizes).field("held", &self.held().sizes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountLimits;

    const ONE: Slots = Slots { memories: 1, tables: 1, stacks: 2 };

    fn tenant() -> Arc<Account> {
        Account::new("t".into(), AccountLimits { memory_bytes: 1 << 40, cpu_per_second: Duration::MAX })
    }

    #[test]
    fn an_account_leaves_room_for_others() {
        let room = Room::new(PoolSizes::new(16));
        let (first, second) = (tenant(), tenant());
        let held: Vec<_> = std::iter::from_fn(|| room.try_claim(ONE, &first).ok()).collect();
        assert_eq!(held.len(), 16 / ACCOUNT_PART as usize);
        assert!(room.try_claim(ONE, &second).is_ok(), "the rest is for others");
        drop(held);
        assert!(room.try_claim(ONE, &second).is_ok());
        assert_eq!(room.held().sizes, PoolSizes::default(), "all of it was given back");
    }

    #[test]
    fn whoever_waits_gets_what_is_given_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let room = Room::new(PoolSizes::new(2));
            let account = Account::unlimited();
            let mut held: Vec<_> = std::iter::from_fn(|| room.try_claim(ONE, &account).ok()).collect();
            assert_eq!(held.len(), 2);
            let deadline = Instant::now() + Duration::from_secs(60);
            let waiting = room.claim(ONE, &account, deadline);
            let freeing = async {
                tokio::task::yield_now().await;
                held.pop();
            };
            let (claim, ()) = futures::future::join(waiting, freeing).await;
            assert!(claim.is_ok());
            let refused = room.claim(ONE, &account, Instant::now()).await;
            assert!(matches!(refused, Err(Failure::Full { part: 1 })));
        });
    }
}
