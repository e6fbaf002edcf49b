//! Places for work that tenants ask for, shared fairly.
//!
//! There are so many places. Whoever finds one free takes it; the others wait, and places that become free go round the tenants that wait,
//! one each, whatever each of them has waiting. A tenant that holds a place already gets another only while more than half of all are free, so
//! a few busy tenants always leave some to a tenant that has none.
//!
//! Work that turns out to be slow can be moved off its place ([`Place::hold`]): it goes on, and the place is free for others. What is slow
//! still counts against its tenant, and there is a bound for all of it.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isomer_api::TenantName;
use tokio::sync::oneshot;

/// How many places there are, and how many may wait for one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlaceLimits {
    /// Places.
    pub(crate) places: usize,
    /// Places that one tenant may hold, slow work included.
    pub(crate) of_tenant: usize,
    /// Requests for a place that wait.
    pub(crate) waiting: usize,
    /// Those of one tenant.
    pub(crate) waiting_of_tenant: usize,
    /// Work that was moved off its place because it is slow.
    pub(crate) slow: usize,
}

/// Too many wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} wait already")]
pub(crate) struct Full {
    /// How many may.
    pub(crate) waiting: usize,
}

/// See above. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: PlaceLimits,
    dealt: Mutex<Dealt>,
}

#[derive(Debug, Default)]
struct Dealt {
    free: usize,
    slow: usize,
    waiting: usize,
    tenants: HashMap<TenantName, Of>,
    /// The tenants that wait, in the order in which they get a place.
    turns: VecDeque<TenantName>,
}

/// What a tenant has.
#[derive(Debug, Default)]
struct Of {
    /// Places, and slow work.
    held: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    tenant: TenantName,
    is_slow: AtomicBool,
    /// Is it nobody's any more? Then dropping it changes nothing.
    is_void: AtomicBool,
}

/// A place, or the wait for one. Dropping it gives up either.
#[derive(Debug)]
pub(crate) struct Asked(oneshot::Receiver<Place>);

impl Asked {
    /// The place, when it is there.
    ///
    /// # Panics
    /// Never: whoever waits gets a place, or is gone.
    pub(crate) async fn place(self) -> Place {
        self.0.await.expect("the places outlive those that wait for them")
    }
}

impl Places {
    pub(crate) fn new(limits: PlaceLimits) -> Self {
        let limits = PlaceLimits { places: limits.places.max(1), of_tenant: limits.of_tenant.max(1), ..limits };
        let dealt = Dealt { free: limits.places, ..Dealt::default() };
        Self(Arc::new(Shared { limits, dealt: Mutex::new(dealt) }))
    }

    /// Asks for a place for a tenant.
    ///
    /// # Errors
    /// When it would have to wait, and too many do.
    pub(crate) fn ask(&self, tenant: &TenantName) -> Result<Asked, Full> {
        let shared = &self.0;
        let (sender, receiver) = oneshot::channel();
        let mut dealt = shared.dealt();
        let of = dealt.tenants.entry(tenant.clone()).or_default();
        of.waiting.push_back(sender);
        let is_first = of.waiting.len() == 1;
        dealt.waiting += 1;
        if is_first {
            dealt.turns.push_back(tenant.clone());
        }
        shared.deal(&mut dealt);
        // Whoever got its place waits no longer, and is not counted.
        if dealt.is_over(tenant, &shared.limits).is_some() {
            dealt.forget_gone();
        }
        match dealt.is_over(tenant, &shared.limits) {
            Some(waiting) => {
                dealt.give_up_last(tenant);
                Err(Full { waiting })
            }
            None => Ok(Asked(receiver)),
        }
    }
}

impl Shared {
    fn dealt(&self) -> MutexGuard<'_, Dealt> {
        self.dealt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives free places to those that wait, as far as they may have them.
    fn deal(self: &Arc<Self>, dealt: &mut Dealt) {
        let mut passed = 0;
        while dealt.free > 0
            && passed < dealt.turns.len()
            && let Some(tenant) = dealt.turns.pop_front()
        {
            let (free, limits) = (dealt.free, self.limits);
            let Some(of) = dealt.tenants.get_mut(&tenant) else { continue };
            let may = of.held < limits.of_tenant && (of.held == 0 || free > limits.places / 2);
            if !may {
                dealt.turns.push_back(tenant);
                passed += 1;
                continue;
            }
            let Some(sender) = of.waiting.pop_front() else { continue };
            dealt.waiting -= 1;
            let place = Place {
                shared: self.clone(),
                tenant: tenant.clone(),
                is_slow: AtomicBool::new(false),
                is_void: AtomicBool::new(false),
            };
            match sender.send(place) {
                Ok(()) => {
                    of.held += 1;
                    dealt.free -= 1;
                    passed = 0;
                }
                // It has gone; its place was never taken, and is not to be given back, which would need the lock.
                Err(place) => place.is_void.store(true, Ordering::Relaxed),
            }
            dealt.put_back(tenant);
        }
    }
}

impl Dealt {
    /// A tenant that still waits comes last; one that has nothing is forgotten.
    fn put_back(&mut self, tenant: TenantName) {
        match self.tenants.get(&tenant) {
            Some(of) if !of.waiting.is_empty() => self.turns.push_back(tenant),
            Some(of) if of.held == 0 => drop(self.tenants.remove(&tenant)),
            _ => {}
        }
    }

    /// The bound that is exceeded, if this tenant still waits and more do than may.
    fn is_over(&self, tenant: &TenantName, limits: &PlaceLimits) -> Option<usize> {
        let of_tenant = self.tenants.get(tenant).map_or(0, |of| of.waiting.len());
        let of_tenant_is_over = of_tenant > limits.waiting_of_tenant;
        let is_over = of_tenant > 0 && self.waiting > limits.waiting;
        of_tenant_is_over.then_some(limits.waiting_of_tenant).or(is_over.then_some(limits.waiting))
    }

    /// Those that wait no longer take no room in the queue.
    fn forget_gone(&mut self) {
        for of in self.tenants.values_mut() {
            let before = of.waiting.len();
            of.waiting.retain(|sender| !sender.is_closed());
            self.waiting -= before - of.waiting.len();
        }
        self.forget_idle();
    }

    fn give_up_last(&mut self, tenant: &TenantName) {
        if let Some(of) = self.tenants.get_mut(tenant)
            && of.waiting.pop_back().is_some()
        {
            self.waiting -= 1;
            if of.waiting.is_empty() {
                self.forget_idle();
            }
        }
    }

    /// Tenants that wait for nothing have no turn, and those that hold nothing either are forgotten.
    fn forget_idle(&mut self) {
        self.turns.retain(|tenant| self.tenants.get(tenant).is_some_and(|of| !of.waiting.is_empty()));
        self.tenants.retain(|_, of| of.held > 0 || !of.waiting.is_empty());
    }
}

impl Place {
    /// Does `work` on the place. If `slow` is over before that, it goes on without the place, where there is room for that.
    pub(crate) async fn hold<T>(self, slow: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => done,
            () = slow => {
                self.leave();
                work.await
            }
        }
    }

    /// From now on the work is slow, and its place is free for others.
    fn leave(&self) {
        let mut dealt = self.shared.dealt();
        if dealt.slow < self.shared.limits.slow && !self.is_slow.swap(true, Ordering::Relaxed) {
            dealt.slow += 1;
            dealt.free += 1;
            self.shared.deal(&mut dealt);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_void.load(Ordering::Relaxed) {
            return;
        }
        let mut dealt = self.shared.dealt();
        if self.is_slow.load(Ordering::Relaxed) {
            dealt.slow -= 1;
        } else {
            dealt.free += 1;
        }
        let is_over = dealt.tenants.get_mut(&self.tenant).is_some_and(|of| {
            of.held -= 1;
            of.held == 0 && of.waiting.is_empty()
        });
        if is_over {
            dealt.tenants.remove(&self.tenant);
        }
        self.shared.deal(&mut dealt);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const LIMITS: PlaceLimits = PlaceLimits { places: 8, of_tenant: 4, waiting: 100, waiting_of_tenant: 20, slow: 10 };

    fn tenant(name: &str) -> TenantName {
        name.parse().unwrap()
    }

    fn ask(places: &Places, name: &str) -> Option<Place> {
        places.ask(&tenant(name)).unwrap().place().now_or_never()
    }

    /// How many places a tenant gets that asks for as many as it can.
    fn take_all(places: &Places, name: &str) -> Vec<Place> {
        (0..10).filter_map(|_| ask(places, name)).collect()
    }

    #[test]
    fn greedy_tenants_leave_places_to_the_others() {
        let places = Places::new(LIMITS);
        let held = ["a", "b", "c", "d"].map(|name| take_all(&places, name));
        assert_eq!(held.each_ref().map(Vec::len), [4, 1, 1, 1]);
        let last = ask(&places, "e");
        assert!(last.is_some(), "the fifth has one at once");
        assert!(ask(&places, "f").is_none());
        drop((held, last));
        assert_eq!(take_all(&places, "f").len(), 4, "all are free again");
        assert!(places.0.dealt().tenants.is_empty() && places.0.dealt().turns.is_empty());
    }

    #[test]
    fn those_that_wait_take_turns() {
        let places = Places::new(PlaceLimits { places: 1, of_tenant: 1, ..LIMITS });
        let first = ask(&places, "a").unwrap();
        let queue = |name: &str| places.ask(&tenant(name)).unwrap();
        let mut waiting =
            [("a", queue("a")), ("a", queue("a")), ("b", queue("b")), ("c", queue("c")), ("b", queue("b"))]
                .map(|(name, asked)| (name, Some(Box::pin(asked.place()))));
        let mut place = Some(first);
        let mut order = Vec::new();
        while place.take().is_some() {
            for (name, asked) in &mut waiting {
                if let Some(future) = asked
                    && let Some(got) = future.now_or_never()
                {
                    (place, *asked) = (Some(got), None);
                    order.push(*name);
                    break;
                }
            }
        }
        assert_eq!(order, ["a", "b", "c", "a", "b"]);
    }

    #[test]
    fn queues_are_bounded_and_those_that_are_gone_do_not_count() {
        let places = Places::new(PlaceLimits { places: 1, waiting: 3, waiting_of_tenant: 2, ..LIMITS });
        let held = ask(&places, "a");
        let ask = |name: &str| places.ask(&tenant(name));
        let mut waiting = vec![ask("a").unwrap(), ask("a").unwrap()];
        assert_eq!(ask("a").unwrap_err(), Full { waiting: 2 });
        waiting.push(ask("b").unwrap());
        assert_eq!(ask("b").unwrap_err(), Full { waiting: 3 });
        waiting.remove(0);
        waiting.push(ask("b").unwrap());
        drop(waiting);
        drop(held);
        assert!(ask("c").unwrap().place().now_or_never().is_some(), "nobody waits any more");
    }

    #[test]
    fn slow_work_leaves_its_place_and_still_counts() {
        let places = Places::new(PlaceLimits { places: 2, of_tenant: 2, slow: 3, ..LIMITS });
        // Slow from the beginning, and never over.
        let slow = |name: &str| {
            let place = ask(&places, name).unwrap_or_else(|| panic!("{name} gets a place"));
            let mut work = Box::pin(place.hold(std::future::ready(()), std::future::pending::<()>()));
            assert!((&mut work).now_or_never().is_none());
            work
        };
        let first = [slow("a"), slow("a")];
        assert!(ask(&places, "a").is_none(), "it has two that are slow");
        let third = slow("b");
        // There is no room for more that is slow: these stay on their places.
        let rest = [slow("c"), slow("d")];
        assert!(ask(&places, "e").is_none());
        drop((first, third, rest));
        assert_eq!(take_all(&places, "a").len(), 1, "all are free: one, and half is kept for others");
    }

    #[test]
    fn work_that_is_quick_keeps_its_place() {
        let places = Places::new(PlaceLimits { places: 1, ..LIMITS });
        let place = ask(&places, "a").unwrap();
        let done = place.hold(std::future::pending(), async { ask(&places, "b").is_none() }).now_or_never();
        assert_eq!(done, Some(true));
        assert!(ask(&places, "b").is_some());
    }
}
