//! A semaphore that shares its permits fairly among tenants.
//!
//! A request takes a free permit, or waits for one. When a permit becomes free, it goes to the next waiting tenant in
//! round-robin order, no matter how many requests each tenant has. A tenant that already holds a permit gets another
//! permit only while more than half of all permits are free. So a few busy tenants always leave permits for tenants
//! that hold none.
//!
//! Slow work can continue without its permit ([`SemaphorePermit::run`]), so that another request gets the permit. The
//! slow work still counts towards its tenant's limit, and the total number of slow operations is limited.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isomer_ids::TenantName;
use tokio::sync::oneshot;

/// The limits of a [`FairSemaphore`].
#[derive(Debug, Clone, Copy)]
pub struct FairSemaphoreLimits {
    /// The number of permits.
    pub permits: usize,
    /// The maximum number of one tenant's operations that run at the same time: those that hold a permit, and slow ones
    /// that continue without a permit.
    pub of_tenant: usize,
    /// The maximum number of requests that wait for a permit.
    pub waiting: usize,
    /// The maximum number of one tenant's requests that wait for a permit.
    pub waiting_of_tenant: usize,
    /// The maximum number of slow operations that continue without a permit.
    pub slow: usize,
}

/// The error if too many requests already wait for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} requests are already waiting")]
pub struct QueueFull {
    /// The limit that was reached: the maximum number of waiting requests.
    pub waiting: usize,
}

/// A semaphore that shares its permits fairly among tenants. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FairSemaphore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: FairSemaphoreLimits,
    state: Mutex<SemaphoreState>,
}

#[derive(Debug, Default)]
struct SemaphoreState {
    free: usize,
    slow: usize,
    waiting: usize,
    tenants: HashMap<TenantName, TenantPermits>,
    /// The tenants with waiting requests, in the order in which they get permits.
    queue: VecDeque<TenantName>,
}

/// The permits that one tenant holds, and its waiting requests.
#[derive(Debug, Default)]
struct TenantPermits {
    /// The number of permits that the tenant holds, plus the number of its slow operations without a permit.
    held: usize,
    waiting: VecDeque<oneshot::Sender<SemaphorePermit>>,
}

/// A permit of a tenant. It is released when this value is dropped.
#[derive(Debug)]
pub struct SemaphorePermit {
    shared: Arc<Shared>,
    tenant: TenantName,
    is_slow: AtomicBool,
    /// Whether the request was dropped before it received this permit. Dropping such a permit releases nothing.
    is_void: AtomicBool,
}

/// A request for a permit, which may already be granted. Dropping this value cancels a waiting request, or releases a
/// granted permit.
#[derive(Debug)]
pub struct PermitRequest(oneshot::Receiver<SemaphorePermit>);

impl PermitRequest {
    /// Waits until the permit is granted.
    ///
    /// # Panics
    /// Never, because the semaphore removes a request from the queue only to grant it, or after the request was
    /// dropped.
    pub async fn granted(self) -> SemaphorePermit {
        self.0.await.expect("the semaphore exists while a request waits")
    }
}

impl FairSemaphore {
    /// Creates a semaphore whose permits are all free.
    #[must_use]
    pub fn new(limits: FairSemaphoreLimits) -> Self {
        let limits =
            FairSemaphoreLimits { permits: limits.permits.max(1), of_tenant: limits.of_tenant.max(1), ..limits };
        let state = SemaphoreState { free: limits.permits, ..SemaphoreState::default() };
        Self(Arc::new(Shared { limits, state: Mutex::new(state) }))
    }

    /// Requests a permit for a tenant.
    ///
    /// # Errors
    /// If no permit is free for the tenant, and too many requests already wait.
    pub fn request(&self, tenant: &TenantName) -> Result<PermitRequest, QueueFull> {
        let shared = &self.0;
        let (sender, receiver) = oneshot::channel();
        let mut state = shared.state();
        let permits = state.tenants.entry(tenant.clone()).or_default();
        permits.waiting.push_back(sender);
        let is_first = permits.waiting.len() == 1;
        state.waiting += 1;
        if is_first {
            state.queue.push_back(tenant.clone());
        }
        shared.grant(&mut state);
        // If a limit seems to be exceeded, remove waiting requests that were dropped, because they do not count, and
        // check again.
        if state.exceeded_limit(tenant, &shared.limits).is_some() {
            state.remove_cancelled();
        }
        match state.exceeded_limit(tenant, &shared.limits) {
            Some(waiting) => {
                state.cancel_last(tenant);
                Err(QueueFull { waiting })
            }
            None => Ok(PermitRequest(receiver)),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, SemaphoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants free permits to waiting requests, within the limits of their tenants.
    fn grant(self: &Arc<Self>, state: &mut SemaphoreState) {
        let mut passed = 0;
        while state.free > 0
            && passed < state.queue.len()
            && let Some(tenant) = state.queue.pop_front()
        {
            let (free, limits) = (state.free, self.limits);
            let Some(permits) = state.tenants.get_mut(&tenant) else { continue };
            let may = permits.held < limits.of_tenant && (permits.held == 0 || free > limits.permits / 2);
            if !may {
                state.queue.push_back(tenant);
                passed += 1;
                continue;
            }
            let Some(sender) = permits.waiting.pop_front() else { continue };
            state.waiting -= 1;
            let permit = SemaphorePermit {
                shared: self.clone(),
                tenant: tenant.clone(),
                is_slow: AtomicBool::new(false),
                is_void: AtomicBool::new(false),
            };
            match sender.send(permit) {
                Ok(()) => {
                    permits.held += 1;
                    state.free -= 1;
                    passed = 0;
                }
                // The request was dropped, so no permit is counted for it. Dropping this permit without marking it as
                // void would deadlock, because `drop` acquires the lock that is held here.
                Err(permit) => permit.is_void.store(true, Ordering::Relaxed),
            }
            state.requeue(tenant);
        }
    }
}

impl SemaphoreState {
    /// Moves a tenant with waiting requests to the end of the queue. Forgets a tenant that neither holds a permit nor
    /// waits for one.
    fn requeue(&mut self, tenant: TenantName) {
        match self.tenants.get(&tenant) {
            Some(permits) if !permits.waiting.is_empty() => self.queue.push_back(tenant),
            Some(permits) if permits.held == 0 => drop(self.tenants.remove(&tenant)),
            _ => {}
        }
    }

    /// Returns the limit on waiting requests that is exceeded: the limit of the tenant, or the limit of all tenants
    /// together. Returns `None` if no limit is exceeded. Also returns `None` if this tenant has no waiting requests,
    /// because then none of them can be refused.
    fn exceeded_limit(&self, tenant: &TenantName, limits: &FairSemaphoreLimits) -> Option<usize> {
        let of_tenant = self.tenants.get(tenant).map_or(0, |permits| permits.waiting.len());
        let of_tenant_is_over = of_tenant > limits.waiting_of_tenant;
        let is_over = of_tenant > 0 && self.waiting > limits.waiting;
        of_tenant_is_over.then_some(limits.waiting_of_tenant).or(is_over.then_some(limits.waiting))
    }

    /// Removes waiting requests that were dropped.
    fn remove_cancelled(&mut self) {
        for permits in self.tenants.values_mut() {
            let before = permits.waiting.len();
            permits.waiting.retain(|sender| !sender.is_closed());
            self.waiting -= before - permits.waiting.len();
        }
        self.remove_idle();
    }

    fn cancel_last(&mut self, tenant: &TenantName) {
        if let Some(permits) = self.tenants.get_mut(tenant)
            && permits.waiting.pop_back().is_some()
        {
            self.waiting -= 1;
            if permits.waiting.is_empty() {
                self.remove_idle();
            }
        }
    }

    /// Removes tenants without waiting requests from the queue, and forgets tenants that also hold no permit.
    fn remove_idle(&mut self) {
        self.queue.retain(|tenant| self.tenants.get(tenant).is_some_and(|permits| !permits.waiting.is_empty()));
        self.tenants.retain(|_, permits| permits.held > 0 || !permits.waiting.is_empty());
    }
}

impl SemaphorePermit {
    /// Runs `work` with the permit. If `slow` resolves before `work`, releases the permit and continues `work` without
    /// it, unless too many slow operations already run without a permit.
    pub async fn run<T>(self, slow: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => done,
            () = slow => {
                self.release_slot();
                work.await
            }
        }
    }

    /// Counts the work of this permit as a slow operation, and releases the permit for other work. Does neither if the
    /// maximum number of slow operations is already running.
    fn release_slot(&self) {
        let mut state = self.shared.state();
        if state.slow < self.shared.limits.slow && !self.is_slow.swap(true, Ordering::Relaxed) {
            state.slow += 1;
            state.free += 1;
            self.shared.grant(&mut state);
        }
    }
}

impl Drop for SemaphorePermit {
    fn drop(&mut self) {
        if self.is_void.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.shared.state();
        if self.is_slow.load(Ordering::Relaxed) {
            state.slow -= 1;
        } else {
            state.free += 1;
        }
        let is_idle = state.tenants.get_mut(&self.tenant).is_some_and(|permits| {
            permits.held -= 1;
            permits.held == 0 && permits.waiting.is_empty()
        });
        if is_idle {
            state.tenants.remove(&self.tenant);
        }
        self.shared.grant(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const LIMITS: FairSemaphoreLimits =
        FairSemaphoreLimits { permits: 8, of_tenant: 4, waiting: 100, waiting_of_tenant: 20, slow: 10 };

    fn tenant(name: &str) -> TenantName {
        name.parse().unwrap()
    }

    fn request(permits: &FairSemaphore, name: &str) -> Option<SemaphorePermit> {
        permits.request(&tenant(name)).unwrap().granted().now_or_never()
    }

    /// Requests ten permits for a tenant, and returns the permits that are granted immediately.
    fn take_all(permits: &FairSemaphore, name: &str) -> Vec<SemaphorePermit> {
        (0..10).filter_map(|_| request(permits, name)).collect()
    }

    #[test]
    fn busy_tenants_leave_permits_to_others() {
        let permits = FairSemaphore::new(LIMITS);
        let held = ["a", "b", "c", "d"].map(|name| take_all(&permits, name));
        assert_eq!(held.each_ref().map(Vec::len), [4, 1, 1, 1]);
        let last = request(&permits, "e");
        assert!(last.is_some(), "the fifth tenant gets a permit immediately");
        assert!(request(&permits, "f").is_none());
        drop((held, last));
        assert_eq!(take_all(&permits, "f").len(), 4, "all permits are free again");
        assert!(permits.0.state().tenants.is_empty() && permits.0.state().queue.is_empty());
    }

    #[test]
    fn waiting_tenants_are_served_round_robin() {
        let permits = FairSemaphore::new(FairSemaphoreLimits { permits: 1, of_tenant: 1, ..LIMITS });
        let first = request(&permits, "a").unwrap();
        let queue = |name: &str| permits.request(&tenant(name)).unwrap();
        let mut waiting =
            [("a", queue("a")), ("a", queue("a")), ("b", queue("b")), ("c", queue("c")), ("b", queue("b"))]
                .map(|(name, pending)| (name, Some(Box::pin(pending.granted()))));
        let mut permit = Some(first);
        let mut order = Vec::new();
        while permit.take().is_some() {
            for (name, pending) in &mut waiting {
                if let Some(future) = pending
                    && let Some(got) = future.now_or_never()
                {
                    (permit, *pending) = (Some(got), None);
                    order.push(*name);
                    break;
                }
            }
        }
        assert_eq!(order, ["a", "b", "c", "a", "b"]);
    }

    #[test]
    fn queues_are_limited_and_dropped_requests_do_not_count() {
        let permits =
            FairSemaphore::new(FairSemaphoreLimits { permits: 1, waiting: 3, waiting_of_tenant: 2, ..LIMITS });
        let held = request(&permits, "a");
        let request = |name: &str| permits.request(&tenant(name));
        let mut waiting = vec![request("a").unwrap(), request("a").unwrap()];
        assert_eq!(request("a").unwrap_err(), QueueFull { waiting: 2 });
        waiting.push(request("b").unwrap());
        assert_eq!(request("b").unwrap_err(), QueueFull { waiting: 3 });
        waiting.remove(0);
        waiting.push(request("b").unwrap());
        drop(waiting);
        drop(held);
        assert!(request("c").unwrap().granted().now_or_never().is_some(), "no request waits");
    }

    #[test]
    fn slow_work_releases_its_permit_and_still_counts() {
        let permits = FairSemaphore::new(FairSemaphoreLimits { permits: 2, of_tenant: 2, slow: 3, ..LIMITS });
        // Starts work that is slow from the start and never ends.
        let slow = |name: &str| {
            let permit = request(&permits, name).unwrap_or_else(|| panic!("{name} gets a permit"));
            let mut work = Box::pin(permit.run(std::future::ready(()), std::future::pending::<()>()));
            assert!((&mut work).now_or_never().is_none());
            work
        };
        let first = [slow("a"), slow("a")];
        assert!(request(&permits, "a").is_none(), "the tenant has two slow operations");
        let third = slow("b");
        // The maximum number of slow operations is reached after the first of these two, so the second keeps its
        // permit.
        let rest = [slow("c"), slow("d")];
        assert!(request(&permits, "e").is_none());
        drop((first, third, rest));
        assert_eq!(take_all(&permits, "a").len(), 1, "one of the two permits is kept for other tenants");
    }

    #[test]
    fn fast_work_keeps_its_permit() {
        let permits = FairSemaphore::new(FairSemaphoreLimits { permits: 1, ..LIMITS });
        let permit = request(&permits, "a").unwrap();
        let done = permit.run(std::future::pending(), async { request(&permits, "b").is_none() }).now_or_never();
        assert_eq!(done, Some(true));
        assert!(request(&permits, "b").is_some());
    }
}
