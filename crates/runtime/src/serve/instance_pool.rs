//! The pool of a group's instances, which decides which instance serves a request.
//!
//! A permit is the right to one live instance of the group. When all are taken, a bounded number of requests waits a
//! bounded time, and the others are refused at once. Returned instances are kept and reused, the most recently used
//! first, until they have served enough requests, are old or nearly out of handles, have been idle for long, or another
//! request needs their room (see `room`).

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

/// The limits of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolLimits {
    /// The maximum number of live instances.
    pub(crate) instances_max: usize,
    /// The number of requests that may wait for an instance.
    pub(crate) waiting_max: usize,
    /// How long a request may wait.
    pub(crate) wait_max: Duration,
    /// The number of requests that one instance may serve.
    pub(crate) requests_max: u32,
    /// The age at which an instance is dropped.
    pub(crate) age_max: Duration,
}

pub(crate) struct InstancePool {
    limits: PoolLimits,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Idle instances, the most recently used one last.
    idle: Mutex<VecDeque<IdleInstance>>,
    since: Arc<IdleSince>,
}

struct IdleInstance {
    instance: Instance,
    /// The time since which it has been idle, as of [`now`].
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

    /// Takes a permit, and an idle instance if there is one. Waits until `deadline` at the latest.
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

    /// Returns the time since which its oldest idle instance has been idle, for
    /// [`IdlePools`](crate::pool::idle::IdlePools).
    pub(crate) fn since(&self) -> &Arc<IdleSince> {
        &self.since
    }

    /// Returns an instance whose request ended cleanly. Drops it if it is worn out, if too many handles are left in it,
    /// or if a pending request can have its room.
    pub(crate) fn give_back(&self, permit: InstancePermit, instance: Instance) {
        let is_fresh = instance.served() < self.limits.requests_max && instance.age() < self.limits.age_max;
        if is_fresh && !instance.is_cluttered() && !instance.is_room_wanted() {
            let since = now();
            let mut idle = self.idle();
            if idle.is_empty() {
                self.since.set(Some(since));
            }
            idle.push_back(IdleInstance { instance, since });
        } else {
            // Before the permit is free: its next holder makes an instance in this one's place.
            drop(instance);
        }
        drop(permit);
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
        // Dropped without the lock, because dropping an instance takes some time.
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
