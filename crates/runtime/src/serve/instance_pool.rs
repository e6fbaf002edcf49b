//! The pool of a group's instances, which decides which instance serves a request.
//!
//! Each live instance of the group needs a permit. When all permits are in use, a bounded number of requests waits for
//! a bounded time, and further requests are refused immediately. Returned instances are kept and reused, the most
//! recently used first. An instance is dropped when it has served enough requests, is too old, holds too many handles,
//! has been idle for a long time, or occupies room that another request needs (see `room`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use isomer_telemetry::SpanContext;
use isomer_telemetry::metrics::InstanceMetrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::replacement::ReplacementLimit;
use super::waiting::WaitingRequest;
use crate::clock::now;
use crate::failure::Failure;
use crate::instance::Instance;
use crate::pool::idle::{Eviction, IdlePool, IdleSince, oldest_kept};
use crate::spans::record_wait;

/// The limits of an instance pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolLimits {
    /// The maximum number of live instances in the pool.
    pub(crate) instances_max: usize,
    /// The maximum number of requests that wait for an instance at the same time.
    pub(crate) waiting_max: usize,
    /// The maximum time that a request waits for an instance.
    pub(crate) wait_max: Duration,
    /// The number of requests after which an instance is dropped.
    pub(crate) requests_max: u32,
    /// The age at which an instance is dropped.
    pub(crate) age_max: Duration,
}

/// The numbers of a group's instances, and of the requests and calls that wait for one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstanceCounts {
    /// The number of live instances, including those that are being created.
    pub live: usize,
    /// The number of live instances that serve no request.
    pub idle: usize,
    /// The number of requests and calls that wait.
    pub waiting: usize,
}

/// The properties of an instance that its pool needs.
pub(crate) trait PooledInstance: Send {
    /// Returns whether the instance runs probed code.
    fn is_probed(&self) -> bool;

    /// Returns the number of requests that the instance has served.
    fn served(&self) -> u32;

    /// Returns the time since the instance was created.
    fn age(&self) -> Duration;

    /// Returns whether the instance holds so many handles that another request might not find enough free ones.
    fn is_cluttered(&self) -> bool;

    /// Returns whether a request that waits for room in the engine's pool could start if this instance were dropped
    /// now.
    fn is_room_wanted(&self) -> bool;

    /// Returns the number of bytes that the account is charged for the instance's memory.
    fn memory_bytes(&self) -> u64;
}

impl PooledInstance for Instance {
    fn is_probed(&self) -> bool {
        Instance::is_probed(self)
    }

    fn served(&self) -> u32 {
        Instance::served(self)
    }

    fn age(&self) -> Duration {
        Instance::age(self)
    }

    fn is_cluttered(&self) -> bool {
        Instance::is_cluttered(self)
    }

    fn is_room_wanted(&self) -> bool {
        Instance::is_room_wanted(self)
    }

    fn memory_bytes(&self) -> u64 {
        Instance::memory_bytes(self)
    }
}

/// A pool of instances that each serve one request or call at a time.
pub(crate) struct InstancePool<I> {
    limits: PoolLimits,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// The idle instances, with the most recently used instance at the end.
    idle: Mutex<VecDeque<IdleInstance<I>>>,
    since: Arc<IdleSince>,
    replacements: ReplacementLimit,
    metrics: Arc<InstanceMetrics>,
}

struct IdleInstance<I> {
    instance: I,
    /// The time at which the instance became idle, as a value of [`now`].
    since: u64,
}

/// The permit for one live instance.
#[derive(Debug)]
pub(crate) struct InstancePermit {
    _permit: OwnedSemaphorePermit,
}

impl<I: PooledInstance> InstancePool<I> {
    pub(crate) fn new(limits: PoolLimits, metrics: Arc<InstanceMetrics>) -> Self {
        let permits = Arc::new(Semaphore::new(limits.instances_max));
        let (waiting, idle, since) = (AtomicUsize::new(0), Mutex::default(), Arc::default());
        Self { limits, permits, waiting, idle, since, replacements: ReplacementLimit::default(), metrics }
    }

    /// Returns the numbers of instances and of waiting requests.
    pub(crate) fn counts(&self) -> InstanceCounts {
        let busy = self.limits.instances_max.saturating_sub(self.permits.available_permits());
        let idle = self.idle().len();
        InstanceCounts { live: busy + idle, idle, waiting: self.waiting.load(Ordering::Relaxed) }
    }

    /// Acquires a permit, and waits for it until `deadline` at the latest. Also returns an idle instance, if possible of
    /// the requested code; without an instance, the caller creates one. Records the time that it waits, if any, as a
    /// span that `current` causes.
    ///
    /// # Errors
    /// If all instances are busy and no instance became free in time, or if too many requests are already waiting.
    pub(crate) async fn take(
        &self,
        is_probed: bool,
        deadline: Instant,
        current: Option<&SpanContext>,
    ) -> Result<(InstancePermit, Option<I>), Failure> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => record_wait(current, &self.metrics, self.wait(deadline)).await?,
        };
        Ok((InstancePermit { _permit: permit }, self.pop_idle(is_probed)))
    }

    async fn wait(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        let waiting = WaitingRequest::enter(&self.waiting);
        let overloaded = || Failure::Overloaded {
            instances: self.limits.instances_max,
            waiting: waiting.earlier().min(self.limits.waiting_max),
        };
        if waiting.earlier() >= self.limits.waiting_max {
            return Err(overloaded());
        }
        let until = deadline.min(Instant::now() + self.limits.wait_max);
        match tokio::time::timeout_at(until.into(), self.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(overloaded()),
        }
    }

    /// Removes the most recently used idle instance of the requested code and returns it. If there is none, the caller
    /// creates an instance.
    ///
    /// If there would be too many instances otherwise, returns an idle instance of the other code, which can serve the
    /// request too. But a sampled request may cause the least recently used plain instance to be dropped, as often as
    /// [`ReplacementLimit`] allows.
    fn pop_idle(&self, is_probed: bool) -> Option<I> {
        let mut idle = self.idle();
        let position = idle.iter().rposition(|idle| idle.instance.is_probed() == is_probed);
        let (removed, is_usable) = match position {
            Some(position) => (idle.remove(position), true),
            None if !self.is_over_maximum(idle.len()) => (None, false),
            None if is_probed && self.replacements.allows(now()) => (idle.pop_front(), false),
            None => (idle.pop_back(), true),
        };
        if removed.is_some() {
            self.since.set(idle.front().map(|idle| idle.since));
        }
        // An instance that is not returned is dropped after the lock is released.
        drop(idle);
        removed.filter(|_| is_usable).map(|idle| idle.instance)
    }

    /// Removes the most recently used idle instance of any code and returns it. The caller must hold a permit without
    /// an instance.
    pub(crate) fn pop_any_idle(&self) -> Option<I> {
        let mut idle = self.idle();
        let removed = idle.pop_back();
        self.since.set(idle.front().map(|idle| idle.since));
        removed.map(|idle| idle.instance)
    }

    /// Adds an instance that was created without a permit. Drops it instead if there are as many instances as allowed.
    pub(crate) fn add(&self, instance: I) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else { return };
        let is_over_maximum = self.is_over_maximum(self.idle().len());
        if !is_over_maximum {
            self.give_back(InstancePermit { _permit: permit }, instance);
        }
    }

    /// Returns whether `idle` idle instances and one instance for each permit in use are too many instances.
    fn is_over_maximum(&self, idle: usize) -> bool {
        let busy = self.limits.instances_max.saturating_sub(self.permits.available_permits());
        busy + idle > self.limits.instances_max
    }

    /// Returns the time at which the pool's least recently used instance became idle, for
    /// [`IdlePools`](crate::pool::idle::IdlePools).
    pub(crate) fn since(&self) -> &Arc<IdleSince> {
        &self.since
    }

    /// Returns an instance to the pool after its request ended cleanly. Drops the instance instead if it has reached a
    /// limit of the pool, if it holds too many handles, or if a waiting request can use its room.
    pub(crate) fn give_back(&self, permit: InstancePermit, instance: I) {
        let is_fresh = instance.served() < self.limits.requests_max && instance.age() < self.limits.age_max;
        if is_fresh && !instance.is_cluttered() && !instance.is_room_wanted() {
            let since = now();
            let mut idle = self.idle();
            if idle.is_empty() {
                self.since.set(Some(since));
            }
            idle.push_back(IdleInstance { instance, since });
        } else {
            // The instance is dropped before the permit, because the next holder of the permit creates an instance in
            // its place.
            drop(instance);
        }
        drop(permit);
    }
}

impl<I: PooledInstance> IdlePool for InstancePool<I> {
    fn evict_oldest(&self) -> Option<Eviction> {
        let oldest = {
            let mut idle = self.idle();
            let oldest = idle.pop_front();
            self.since.set(idle.front().map(|idle| idle.since));
            oldest
        };
        // The instance is dropped after the lock is released, because dropping an instance takes some time.
        oldest.map(|idle| Eviction { bytes: idle.instance.memory_bytes(), is_gone: true })
    }

    fn idle_bytes(&self) -> u64 {
        self.idle().iter().map(|idle| idle.instance.memory_bytes()).sum()
    }

    fn evict_old(&self) {
        self.evict_before(oldest_kept());
    }
}

impl<I> InstancePool<I> {
    fn idle(&self) -> MutexGuard<'_, VecDeque<IdleInstance<I>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evicts the instances that became idle before the time `before`.
    fn evict_before(&self, before: u64) {
        let old = {
            let mut idle = self.idle();
            let old = idle.partition_point(|idle| idle.since < before);
            let old = idle.drain(..old).collect::<Vec<_>>();
            self.since.set(idle.front().map(|idle| idle.since));
            old
        };
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    struct FakeInstance {
        name: &'static str,
        served: u32,
        age: Duration,
        is_cluttered: bool,
        is_room_wanted: bool,
        is_probed: bool,
    }

    impl PooledInstance for FakeInstance {
        fn is_probed(&self) -> bool {
            self.is_probed
        }

        fn served(&self) -> u32 {
            self.served
        }

        fn age(&self) -> Duration {
            self.age
        }

        fn is_cluttered(&self) -> bool {
            self.is_cluttered
        }

        fn is_room_wanted(&self) -> bool {
            self.is_room_wanted
        }

        fn memory_bytes(&self) -> u64 {
            100
        }
    }

    fn named(name: &'static str) -> FakeInstance {
        FakeInstance { name, ..FakeInstance::default() }
    }

    fn pool(instances_max: usize) -> InstancePool<FakeInstance> {
        let limits = PoolLimits {
            instances_max,
            waiting_max: 1,
            wait_max: Duration::from_secs(60),
            requests_max: 10,
            age_max: Duration::from_secs(60),
        };
        InstancePool::new(limits, Arc::default())
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn take(pool: &InstancePool<FakeInstance>) -> (InstancePermit, Option<FakeInstance>) {
        pool.take(false, later(), None).now_or_never().expect("a permit is free").unwrap()
    }

    #[test]
    fn the_most_recently_used_instance_serves_next_and_the_least_recently_used_is_evicted_first() {
        let pool = pool(3);
        let permits = [take(&pool).0, take(&pool).0, take(&pool).0];
        for (permit, name) in permits.into_iter().zip(["a", "b", "c"]) {
            pool.give_back(permit, named(name));
        }
        assert_eq!(pool.idle_bytes(), 300);
        assert_eq!(pool.counts(), InstanceCounts { live: 3, idle: 3, waiting: 0 });
        assert_eq!(take(&pool).1, Some(named("c")));
        assert_eq!(pool.evict_oldest(), Some(Eviction { bytes: 100, is_gone: true }));
        assert_eq!(take(&pool).1, Some(named("b")));
        assert_eq!((pool.evict_oldest(), take(&pool).1), (None, None));
    }

    #[test]
    fn plain_and_probed_instances_count_against_the_same_maximum() {
        let pool = pool(2);
        let probed = |name| FakeInstance { is_probed: true, ..named(name) };
        let take_probed = || pool.take(true, later(), None).now_or_never().expect("a permit is free").unwrap();
        let permits = [take(&pool).0, take_probed().0];
        for (permit, instance) in permits.into_iter().zip([named("plain"), probed("probed")]) {
            pool.give_back(permit, instance);
        }
        let (first, taken) = take_probed();
        assert_eq!(taken, Some(probed("probed")));
        // A second probed instance takes the place of the plain one.
        let (second, taken) = take_probed();
        assert_eq!((taken, pool.counts()), (None, InstanceCounts { live: 2, idle: 0, waiting: 0 }));
        assert_eq!(pool.since.get(), IdleSince::default().get());
        pool.give_back(first, probed("a"));
        pool.give_back(second, probed("b"));
        // Only two instances may exist, so a probed one serves a request that is not sampled.
        let (permit, taken) = take(&pool);
        assert_eq!((taken, pool.counts()), (Some(probed("b")), InstanceCounts { live: 2, idle: 1, waiting: 0 }));
        drop(permit);
        // Below the maximum, a plain instance is created next to the idle probed one.
        let (_permit, taken) = take(&pool);
        assert_eq!((taken, pool.counts()), (None, InstanceCounts { live: 2, idle: 1, waiting: 0 }));
        assert_eq!(take_probed().1, Some(probed("a")));
    }

    #[test]
    fn plain_instances_are_replaced_at_a_limited_rate() {
        let mut pool = pool(1);
        let take_probed =
            |pool: &InstancePool<_>| pool.take(true, later(), None).now_or_never().expect("a permit is free").unwrap();
        // The limit allows no replacement in the near future.
        assert!(pool.replacements.allows(u64::MAX / 2));
        pool.give_back(take(&pool).0, named("plain"));
        let (permit, taken) = take_probed(&pool);
        assert_eq!(taken, Some(named("plain")));
        pool.give_back(permit, named("plain"));
        // Now it allows one.
        pool.replacements = ReplacementLimit::default();
        assert_eq!(take_probed(&pool).1, None);
        assert_eq!(pool.counts(), InstanceCounts::default());
    }

    #[test]
    fn instances_that_were_created_without_a_permit_respect_the_maximum() {
        let pool = pool(1);
        pool.add(named("a"));
        pool.add(named("b"));
        assert_eq!(pool.idle_bytes(), 100);
        let (permit, taken) = take(&pool);
        assert_eq!(taken, Some(named("a")));
        pool.add(named("c"));
        assert_eq!(pool.pop_any_idle(), None);
        pool.give_back(permit, named("a"));
        assert_eq!(pool.pop_any_idle(), Some(named("a")));
        assert_eq!(pool.since.get(), IdleSince::default().get());
    }

    #[test]
    fn an_instance_that_is_used_up_or_whose_room_is_wanted_is_not_kept() {
        let pool = pool(1);
        for instance in [
            FakeInstance { served: 10, ..named("worn out") },
            FakeInstance { age: Duration::from_secs(60), ..named("old") },
            FakeInstance { is_cluttered: true, ..named("cluttered") },
            FakeInstance { is_room_wanted: true, ..named("wanted") },
        ] {
            let (permit, idle) = take(&pool);
            assert_eq!(idle, None);
            pool.give_back(permit, instance);
        }
        pool.give_back(take(&pool).0, FakeInstance { served: 9, ..named("fresh") });
        assert!(take(&pool).1.is_some());
    }

    #[test]
    fn a_bounded_number_of_requests_waits_and_gets_what_is_returned() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let pool = pool(1);
            let (permit, _) = take(&pool);
            let mut waiting = Box::pin(pool.take(false, later(), None));
            assert!(waiting.as_mut().now_or_never().is_none());
            assert_eq!(pool.counts(), InstanceCounts { live: 1, idle: 0, waiting: 1 });
            let refused = pool.take(false, later(), None).await.map(|_| ());
            assert!(matches!(refused, Err(Failure::Overloaded { instances: 1, waiting: 1 })), "{refused:?}");
            pool.give_back(permit, named("a"));
            assert_eq!(waiting.await.unwrap().1, Some(named("a")));
            let (_permit, _) = take(&pool);
            let late = pool.take(false, Instant::now(), None).await.map(|_| ());
            assert!(matches!(late, Err(Failure::Overloaded { waiting: 0, .. })), "{late:?}");
        });
    }

    #[test]
    fn only_instances_that_have_been_idle_for_long_are_evicted_for_their_age() {
        let pool = pool(1);
        pool.give_back(take(&pool).0, named("a"));
        let since = pool.idle()[0].since;
        pool.evict_before(since);
        assert_eq!(pool.idle_bytes(), 100);
        pool.evict_before(since + 1);
        assert_eq!((pool.idle_bytes(), take(&pool).1), (0, None));
    }
}
