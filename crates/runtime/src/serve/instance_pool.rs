//! Which instance serves a request.
//!
//! A slot is the right to one live instance of the group. When all are taken, a bounded number of requests waits a bounded time, and
//! the others are refused at once. Instances that are given back are kept and reused, the warmest first, until they have served enough
//! requests, are old or nearly out of handles, have been idle for long, or another request needs their room (see `room`).

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::waiting::WaitingRequest;
use crate::clock::now;
use crate::failure::Failure;
use crate::instance::Instance;
use crate::pool::idle::{Evicted, IdlePool, IdleSince, oldest_kept};

/// How a pool is bounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolLimits {
    /// Live instances.
    pub(crate) instances_max: usize,
    /// Requests that may wait for one.
    pub(crate) waiting_max: usize,
    /// How long they may wait.
    pub(crate) wait_max: Duration,
    /// Requests that one instance may serve.
    pub(crate) requests_max: u32,
    /// How long an instance may live.
    pub(crate) age_max: Duration,
}

pub(crate) struct InstancePool {
    limits: PoolLimits,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// IdleInstance instances, the one used last on top.
    idle: Mutex<VecDeque<IdleInstance>>,
    since: Arc<IdleSince>,
}

struct IdleInstance {
    instance: Instance,
    /// By [`now`].
    since: u64,
}

/// The right to one live instance.
pub(crate) struct InstancePermit {
    _permit: OwnedSemaphorePermit,
}

impl InstancePool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.instances_max));
        Self { limits, permits, waiting: AtomicUsize::new(0), idle: Mutex::default(), since: Arc::default() }
    }

    /// A slot, and an idle instance if there is one. Waits no longer than to `deadline`.
    pub(crate) async fn take(&self, deadline: Instant) -> Result<(InstancePermit, Option<Instance>), Failure> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait(deadline).await?,
        };
        Ok((InstancePermit { _permit: permit }, self.pop_idle()))
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

    fn pop_idle(&self) -> Option<Instance> {
        let mut idle = self.idle();
        let popped = idle.pop_back();
        if popped.is_some() && idle.is_empty() {
            self.since.set(None);
        }
        popped.map(|idle| idle.instance)
    }

    /// What it says about itself, for [`IdlePools`](crate::pool::idle::IdlePools).
    pub(crate) fn since(&self) -> &Arc<IdleSince> {
        &self.since
    }

    /// Gives back an instance whose request ended cleanly. Worn-out ones are dropped here, those in which handles pile up, and those whose
    /// room a waiting request can have.
    pub(crate) fn give_back(&self, slot: InstancePermit, instance: Instance) {
        let is_fresh = instance.served() < self.limits.requests_max && instance.age() < self.limits.age_max;
        if is_fresh && !instance.is_cluttered() && !instance.is_room_wanted() {
            let since = now();
            let mut idle = self.idle();
            if idle.is_empty() {
                self.since.set(Some(since));
            }
            idle.push_back(IdleInstance { instance, since });
        } else {
            // Before its slot is free: whoever gets the slot makes an instance in its place.
            drop(instance);
        }
        drop(slot);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, VecDeque<IdleInstance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdlePool for InstancePool {
    fn evict_oldest(&self) -> Option<Evicted> {
        let oldest = {
            let mut idle = self.idle();
            let oldest = idle.pop_front();
            self.since.set(idle.front().map(|idle| idle.since));
            oldest
        };
        // Not under the lock: taking an instance down takes some time.
        oldest.map(|idle| Evicted { bytes: idle.instance.memory_bytes(), is_gone: true })
    }

    fn idle_bytes(&self) -> u64 {
        self.idle().iter().map(|idle| idle.instance.memory_bytes()).sum()
    }

    fn evict_old(&self) {
        let before = oldest_kept();
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
