//! How much of the API the holders of tenants' tokens may take, so that one tenant leaves the others and the node's own admins their part: of
//! connections, of actions, and of lines of the audit log.
//!
//! The holder of the node's token is not bounded here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use isomer_api::{Problem, ProblemKind, TenantName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusals::Refusals;

/// Requests of one tenant at once, logs that are followed included.
pub(crate) const REQUESTS_OF_TENANT_MAX: u32 = 16;

/// Actions of one tenant in [`PERIOD`]: two lines of the audit log each. A release of as many parts as there may be is one deployment.
pub(crate) const ACTIONS_OF_TENANT_MAX: u32 = 20_000;

/// What actions are counted over.
const PERIOD: Duration = Duration::from_secs(3600);

/// What tenants take of the API now.
#[derive(Debug, Default)]
pub(crate) struct Allowances(Arc<Mutex<HashMap<TenantName, Taken>>>);

/// What one tenant takes.
#[derive(Debug)]
struct Taken {
    requests: u32,
    since: Instant,
    actions: u32,
    refusals: Refusals,
    /// One permit: for the largest bodies, of which a tenant has one in memory at a time.
    largest: Arc<Semaphore>,
}

/// One of a tenant's requests. Over when dropped.
#[derive(Debug)]
pub(crate) struct RequestPlace {
    all: Arc<Mutex<HashMap<TenantName, Taken>>>,
    tenant: TenantName,
    largest: Arc<Semaphore>,
}

impl RequestPlace {
    /// Waits until the tenant reads no other of the largest bodies.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.largest.clone().acquire_owned().await.ok()
    }
}

impl Allowances {
    /// Counts a request of a tenant, which is an action or not.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn enter(&self, tenant: &TenantName, is_action: bool) -> Result<RequestPlace, Problem> {
        self.enter_at(tenant, is_action, Instant::now())
    }

    fn enter_at(&self, tenant: &TenantName, is_action: bool, now: Instant) -> Result<RequestPlace, Problem> {
        let mut all = lock(&self.0);
        let taken = Self::of(&mut all, tenant, now);
        if taken.requests >= REQUESTS_OF_TENANT_MAX {
            let title =
                format!("tenant `{tenant}` has {REQUESTS_OF_TENANT_MAX} requests at the node's admin API already");
            return Err(Problem::new(ProblemKind::Quota, title).hint("ask again when one of them is over"));
        }
        if now.saturating_duration_since(taken.since) >= PERIOD {
            (taken.since, taken.actions) = (now, 0);
        }
        if is_action {
            if taken.actions >= ACTIONS_OF_TENANT_MAX {
                let title = format!("tenant `{tenant}` has changed {ACTIONS_OF_TENANT_MAX} things in this hour");
                return Err(Problem::new(ProblemKind::Quota, title).hint("ask again in an hour"));
            }
            taken.actions += 1;
        }
        taken.requests += 1;
        Ok(RequestPlace { all: self.0.clone(), tenant: tenant.clone(), largest: taken.largest.clone() })
    }

    /// Says whether the audit log tells of a request of the tenant that was refused, and how many it did not tell of since the last one.
    pub(crate) fn tell(&self, tenant: &TenantName) -> Option<u64> {
        Self::of(&mut lock(&self.0), tenant, Instant::now()).refusals.tell()
    }

    fn of<'a>(all: &'a mut HashMap<TenantName, Taken>, tenant: &TenantName, now: Instant) -> &'a mut Taken {
        if !all.contains_key(tenant) {
            // Those of tenants that asked for nothing in the last hour say nothing any more.
            all.retain(|_, taken| taken.requests > 0 || now.saturating_duration_since(taken.since) < PERIOD);
        }
        all.entry(tenant.clone()).or_insert_with(|| Taken {
            requests: 0,
            since: now,
            actions: 0,
            refusals: Refusals::new(),
            largest: Arc::new(Semaphore::new(1)),
        })
    }
}

impl Drop for RequestPlace {
    fn drop(&mut self) {
        if let Some(taken) = lock(&self.all).get_mut(&self.tenant) {
            taken.requests = taken.requests.saturating_sub(1);
        }
    }
}

fn lock(all: &Mutex<HashMap<TenantName, Taken>>) -> MutexGuard<'_, HashMap<TenantName, Taken>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_so_many_requests_at_once() {
        let (all, acme, other) = (Allowances::default(), "acme".parse().unwrap(), "other".parse().unwrap());
        let mut places: Vec<_> = (0..REQUESTS_OF_TENANT_MAX).map(|_| all.enter(&acme, false).unwrap()).collect();
        assert_eq!(all.enter(&acme, true).unwrap_err().kind, ProblemKind::Quota);
        all.enter(&other, true).unwrap();
        places.pop();
        all.enter(&acme, false).unwrap();
    }

    #[test]
    fn a_tenant_has_so_many_actions_in_an_hour() {
        let (all, acme, now) = (Allowances::default(), "acme".parse().unwrap(), Instant::now());
        for _ in 0..ACTIONS_OF_TENANT_MAX {
            drop(all.enter_at(&acme, true, now).unwrap());
        }
        assert_eq!(all.enter_at(&acme, true, now).unwrap_err().kind, ProblemKind::Quota);
        all.enter_at(&acme, false, now).unwrap();
        all.enter_at(&acme, true, now + PERIOD).unwrap();
    }

    #[test]
    fn what_no_tenant_takes_is_forgotten() {
        let (all, now) = (Allowances::default(), Instant::now());
        for number in 0..100 {
            drop(all.enter_at(&format!("t{number}").parse().unwrap(), true, now).unwrap());
        }
        let held = all.enter_at(&"held".parse().unwrap(), true, now).unwrap();
        drop(all.enter_at(&"new".parse().unwrap(), true, now + PERIOD).unwrap());
        assert_eq!(lock(&all.0).len(), 2);
        drop(held);
    }
}
