//! How much of the API the holders of tenants' tokens may use: connections, actions and lines of the audit log. The
//! limits reserve a share for each tenant and for the node's administrators, and leave a tenant whose token was stolen
//! a way to revoke it.
//!
//! The holder of the node's token has no limits here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use isomer_api::{ApiProblem, ProblemKind, TokenInfo};
use isomer_ids::{TenantName, TokenId};
use isomer_transport::{FairLimiter, FairPermit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusals::Refusals;

/// The maximum number of requests of one tenant at the same time, including those that follow a log.
pub(crate) const REQUESTS_OF_TENANT_MAX: usize = 16;

/// The maximum number of requests with one token at the same time. It is below the tenant's maximum, so that a request
/// with another token can revoke this one.
pub(crate) const REQUESTS_OF_TOKEN_MAX: usize = 12;

/// Requests of all tenants at the same time. The other connections are for the node's administrators. A tenant has no
/// more of them than [`is_fair`] allows.
pub(crate) const REQUESTS_OF_TENANTS_MAX: usize = 96;

/// The maximum number of actions of all tenants at the same time. Further actions wait, and so do those of a tenant
/// that has its share ([`is_fair`]). The other permits for actions are for the node's administrators.
pub(crate) const ACTIONS_OF_TENANTS_AT_ONCE_MAX: usize = 48;

/// Parts that a tenant uploads in [`PERIOD`], with two short lines of the audit log each. A release may have half as
/// many.
pub(crate) const UPLOADS_OF_TENANT_MAX: u32 = 20_000;

/// Other actions of a tenant in [`PERIOD`], with two lines of the audit log each, which contain arguments and problems.
pub(crate) const CHANGES_OF_TENANT_MAX: u32 = 2_000;

/// The period in which actions are counted.
const PERIOD: Duration = Duration::from_secs(3600);

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// The request changes nothing.
    Read,
    /// The request uploads a part of a release.
    Upload,
    /// The request is any other action.
    Change,
}

/// The use of the API by all tenants.
#[derive(Debug)]
pub(crate) struct TenantLimits {
    all: Arc<Mutex<All>>,
    /// The running actions.
    actions: FairLimiter<TenantName>,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self { all: Arc::default(), actions: FairLimiter::new(ACTIONS_OF_TENANTS_AT_ONCE_MAX, is_fair) }
    }
}

#[derive(Debug, Default)]
struct All {
    requests: usize,
    of_tenants: HashMap<TenantName, TenantUse>,
}

/// The use of the API by one tenant.
#[derive(Debug)]
struct TenantUse {
    /// Requests with each of the tenant's tokens.
    requests: HashMap<TokenId, usize>,
    since: Instant,
    uploads: u32,
    changes: u32,
    refusals: Refusals,
    exclusive: ExclusiveSemaphores,
}

/// Semaphores of a tenant with one permit each.
#[derive(Debug, Clone)]
struct ExclusiveSemaphores {
    /// For the largest bodies: a tenant has at most one in memory, from its first byte to the end of the operation.
    largest: Arc<Semaphore>,
    /// For reads about a release, which search all revisions of the tenant.
    release_reads: Arc<Semaphore>,
}

/// The right to have one of the largest bodies, and to read about a release. Dropping this gives the right back.
#[derive(Debug, Default)]
pub(crate) struct ExclusivePermits {
    _largest: Option<OwnedSemaphorePermit>,
    _release_read: Option<OwnedSemaphorePermit>,
}

/// One of a tenant's requests, until this is dropped.
#[derive(Debug)]
pub(crate) struct RequestPermit {
    all: Arc<Mutex<All>>,
    actions: FairLimiter<TenantName>,
    tenant: TenantName,
    token: TokenId,
    exclusive: ExclusiveSemaphores,
}

/// Returns whether a tenant that has `own` permits may have one more while `free` are left. A tenant always may have a
/// first one, and further ones up to half of those that are left then. So a permit is left for the next tenant, however
/// many the other tenants have taken.
fn is_fair(own: usize, free: usize) -> bool {
    free > 0 && (own == 0 || own.saturating_mul(2) < free)
}

impl RequestPermit {
    /// Waits until the tenant has no other large body, if `is_large`, and no other read about a release in progress, if
    /// `is_release_read`.
    pub(crate) async fn acquire_exclusive(&self, is_large: bool, is_release_read: bool) -> ExclusivePermits {
        let ExclusiveSemaphores { largest, release_reads } = self.exclusive.clone();
        // The semaphores are never closed.
        let release_read = if is_release_read { release_reads.acquire_owned().await.ok() } else { None };
        let largest = if is_large { largest.acquire_owned().await.ok() } else { None };
        ExclusivePermits { _largest: largest, _release_read: release_read }
    }

    /// Waits until the tenant may run one more action. The action ends when the permit is dropped.
    pub(crate) async fn action(&self) -> FairPermit<TenantName> {
        self.actions.acquire(&self.tenant).await
    }
}

impl TenantLimits {
    /// Counts a request with a tenant's token.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn enter(&self, token: &TokenInfo, kind: RequestKind) -> Result<RequestPermit, ApiProblem> {
        self.enter_at(token, kind, Instant::now())
    }

    fn enter_at(&self, token: &TokenInfo, kind: RequestKind, now: Instant) -> Result<RequestPermit, ApiProblem> {
        let TokenInfo { tenant, name, id, .. } = token;
        let too_many = |of: String, max: usize| {
            let title = format!("{of} {max} requests at the node's admin API already");
            Err(ApiProblem::new(ProblemKind::Quota, title).hint("retry when one of them has ended"))
        };
        let mut all = lock(&self.all);
        let free = REQUESTS_OF_TENANTS_MAX.saturating_sub(all.requests);
        if all.requests >= REQUESTS_OF_TENANTS_MAX {
            return too_many("all tenants together have".to_owned(), REQUESTS_OF_TENANTS_MAX);
        }
        let taken = all.of(tenant, now);
        if taken.requests() >= REQUESTS_OF_TENANT_MAX {
            return too_many(format!("tenant `{tenant}` has"), REQUESTS_OF_TENANT_MAX);
        }
        if taken.requests.get(id).is_some_and(|requests| *requests >= REQUESTS_OF_TOKEN_MAX) {
            return too_many(format!("token `{name}` of tenant `{tenant}` has"), REQUESTS_OF_TOKEN_MAX);
        }
        if !is_fair(taken.requests(), free) {
            let title = format!(
                "tenant `{tenant}` has its share of the requests at the node's admin API: others need the rest"
            );
            return Err(
                ApiProblem::new(ProblemKind::Quota, title).hint("retry when one of the tenant's requests has ended")
            );
        }
        if now.saturating_duration_since(taken.since) >= PERIOD {
            (taken.since, taken.uploads, taken.changes) = (now, 0, 0);
        }
        let (counted, max, what) = match kind {
            RequestKind::Read => (None, 0, ""),
            RequestKind::Upload => (Some(&mut taken.uploads), UPLOADS_OF_TENANT_MAX, "uploaded"),
            RequestKind::Change => (Some(&mut taken.changes), CHANGES_OF_TENANT_MAX, "changed"),
        };
        if let Some(counted) = counted {
            if *counted >= max {
                let title = format!("tenant `{tenant}` has {what} {max} things in this hour");
                return Err(ApiProblem::new(ProblemKind::Quota, title).hint("retry in an hour"));
            }
            *counted += 1;
        }
        *taken.requests.entry(id.clone()).or_default() += 1;
        let exclusive = taken.exclusive.clone();
        all.requests += 1;
        let (tenant, token) = (tenant.clone(), id.clone());
        Ok(RequestPermit { all: self.all.clone(), actions: self.actions.clone(), tenant, token, exclusive })
    }

    /// Counts a refused request of the tenant. Returns `Some` if the request gets a line in the audit log, with the
    /// number of requests without a line since the last line.
    pub(crate) fn count_refusal(&self, tenant: &TenantName) -> Option<u64> {
        lock(&self.all).of(tenant, Instant::now()).refusals.count()
    }
}

impl All {
    fn of(&mut self, tenant: &TenantName, now: Instant) -> &mut TenantUse {
        if !self.of_tenants.contains_key(tenant) {
            // Counts of tenants without a request in the last hour are of no use any more.
            let is_in_use =
                |taken: &TenantUse| taken.requests() > 0 || now.saturating_duration_since(taken.since) < PERIOD;
            self.of_tenants.retain(|_, taken| is_in_use(taken));
        }
        self.of_tenants.entry(tenant.clone()).or_insert_with(|| TenantUse {
            requests: HashMap::new(),
            since: now,
            uploads: 0,
            changes: 0,
            refusals: Refusals::new(),
            exclusive: ExclusiveSemaphores {
                largest: Arc::new(Semaphore::new(1)),
                release_reads: Arc::new(Semaphore::new(1)),
            },
        })
    }
}

impl TenantUse {
    fn requests(&self) -> usize {
        self.requests.values().sum()
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        let mut all = lock(&self.all);
        all.requests = all.requests.saturating_sub(1);
        let Some(taken) = all.of_tenants.get_mut(&self.tenant) else { return };
        if let Some(requests) = taken.requests.get_mut(&self.token) {
            *requests = requests.saturating_sub(1);
            if *requests == 0 {
                taken.requests.remove(&self.token);
            }
        }
    }
}

fn lock(all: &Mutex<All>) -> MutexGuard<'_, All> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt as _;

    use super::*;

    fn token(tenant: &str, number: u8) -> TokenInfo {
        TokenInfo {
            name: "ci".parse().unwrap(),
            id: [number; 8].into(),
            tenant: tenant.parse().unwrap(),
            role: isomer_api::TokenRole::Read,
            created_at: 1,
            expires_at: None,
        }
    }

    fn is_refused(entered: Result<RequestPermit, ApiProblem>, who: &str) -> bool {
        entered.is_err_and(|problem| problem.kind == ProblemKind::Quota && problem.title.contains(who))
    }

    #[test]
    fn requests_of_a_tenant_and_of_a_token_are_bounded() {
        let all = TenantLimits::default();
        let (acme, other_token, rival) = (token("acme", 1), token("acme", 2), token("rival", 3));
        let mut permits: Vec<_> =
            (0..REQUESTS_OF_TOKEN_MAX).map(|_| all.enter(&acme, RequestKind::Read).unwrap()).collect();
        assert!(is_refused(all.enter(&acme, RequestKind::Change), "token `ci`"));
        let left = REQUESTS_OF_TENANT_MAX - REQUESTS_OF_TOKEN_MAX;
        let others: Vec<_> = (0..left).map(|_| all.enter(&other_token, RequestKind::Change).unwrap()).collect();
        assert!(is_refused(all.enter(&other_token, RequestKind::Change), "tenant `acme`"));
        all.enter(&rival, RequestKind::Change).unwrap();
        drop(others);
        all.enter(&other_token, RequestKind::Change).unwrap();
        permits.pop();
        all.enter(&acme, RequestKind::Read).unwrap();
    }

    #[test]
    fn requests_of_all_tenants_are_bounded() {
        let all = TenantLimits::default();
        let names = (0..REQUESTS_OF_TENANTS_MAX).map(|number| format!("t{number}"));
        let mut permits: Vec<_> = names.map(|name| all.enter(&token(&name, 1), RequestKind::Read).unwrap()).collect();
        assert!(is_refused(all.enter(&token("late", 1), RequestKind::Read), "all tenants"));
        permits.pop();
        all.enter(&token("late", 1), RequestKind::Read).unwrap();
    }

    #[test]
    fn half_of_what_is_left_is_a_fair_share() {
        assert!(
            is_fair(0, 1) && !is_fair(0, 0) && is_fair(1, 3) && !is_fair(1, 2) && is_fair(15, 31) && !is_fair(15, 30)
        );
        assert!(!is_fair(usize::MAX, usize::MAX));
        // Each tenant in turn takes as many permits as it may.
        let mut free = 96;
        let takes = |free: &mut usize| {
            let mut own = 0;
            while own < REQUESTS_OF_TENANT_MAX && is_fair(own, *free) {
                (own, *free) = (own + 1, *free - 1);
            }
            own
        };
        let shares: Vec<_> = (0..11).map(|_| takes(&mut free)).collect();
        assert!(free > 0, "{shares:?}");
        assert!(shares.is_sorted_by(|one, next| one >= next) && shares[0] == REQUESTS_OF_TENANT_MAX, "{shares:?}");
    }

    #[test]
    fn greedy_tenants_leave_a_permit_to_the_next_one() {
        let all = TenantLimits::default();
        let mut permits = Vec::new();
        for number in 0..10 {
            let tokens = [token(&format!("t{number}"), 1), token(&format!("t{number}"), 2)];
            for token in &tokens {
                while let Ok(permit) = all.enter(token, RequestKind::Read) {
                    permits.push(permit);
                }
            }
        }
        assert!(is_refused(all.enter(&token("t9", 1), RequestKind::Read), "its share"));
        all.enter(&token("late", 1), RequestKind::Read).unwrap();
        drop(permits);
    }

    #[tokio::test]
    async fn an_action_of_a_tenant_waits_while_it_has_its_share() {
        let all = TenantLimits::default();
        let tenant = |name: &str| all.enter(&token(name, 1), RequestKind::Change).unwrap();
        let takes =
            |permit: &RequestPermit| -> Vec<_> { std::iter::from_fn(|| permit.action().now_or_never()).collect() };
        let (acme, rival, third, late) = (tenant("acme"), tenant("rival"), tenant("third"), tenant("late"));
        let mut of_acme = takes(&acme);
        assert_eq!(of_acme.len(), 16);
        let held = (takes(&rival), takes(&third));
        let of_late = takes(&late);
        assert!(!of_late.is_empty(), "three others leave it some");
        let mut waiting = pin!(acme.action());
        assert!((&mut waiting).now_or_never().is_none());
        // One that ends is not enough: the tenant would have more than half of what is left.
        of_acme.pop();
        assert!((&mut waiting).now_or_never().is_none());
        of_acme.clear();
        drop((held, of_late));
        waiting.await;
        assert_eq!((all.actions.in_use(), all.actions.tenants()), (0, 0));
    }

    #[tokio::test]
    async fn a_tenant_has_one_large_body_and_one_release_read_at_a_time() {
        let all = TenantLimits::default();
        let [deploys, asks] =
            [RequestKind::Change, RequestKind::Read].map(|asks| all.enter(&token("acme", 1), asks).unwrap());
        let large = deploys.acquire_exclusive(true, false).await;
        assert!(deploys.acquire_exclusive(false, false).now_or_never().is_some(), "a small one does not wait");
        assert!(deploys.acquire_exclusive(true, false).now_or_never().is_none());
        let small = asks.acquire_exclusive(false, true).await;
        assert!(asks.acquire_exclusive(false, true).now_or_never().is_none());
        drop(small);
        assert!(asks.acquire_exclusive(true, true).now_or_never().is_none());
        drop(large);
        let _both = asks.acquire_exclusive(true, true).await;
        let rival = all.enter(&token("rival", 2), RequestKind::Read).unwrap();
        assert!(rival.acquire_exclusive(true, true).now_or_never().is_some());
    }

    #[test]
    fn actions_of_a_tenant_in_an_hour_are_bounded() {
        let (all, acme, now) = (TenantLimits::default(), token("acme", 1), Instant::now());
        for (asks, max) in [(RequestKind::Change, CHANGES_OF_TENANT_MAX), (RequestKind::Upload, UPLOADS_OF_TENANT_MAX)]
        {
            for _ in 0..max {
                drop(all.enter_at(&acme, asks, now).unwrap());
            }
            assert!(is_refused(all.enter_at(&acme, asks, now), &max.to_string()));
        }
        all.enter_at(&acme, RequestKind::Read, now).unwrap();
        for asks in [RequestKind::Change, RequestKind::Upload] {
            all.enter_at(&acme, asks, now + PERIOD).unwrap();
        }
    }

    #[test]
    fn counts_of_inactive_tenants_are_removed() {
        let (all, now) = (TenantLimits::default(), Instant::now());
        for number in 0..100 {
            drop(all.enter_at(&token(&format!("t{number}"), 1), RequestKind::Change, now).unwrap());
        }
        let held = all.enter_at(&token("held", 1), RequestKind::Change, now).unwrap();
        drop(all.enter_at(&token("new", 1), RequestKind::Change, now + PERIOD).unwrap());
        assert_eq!(lock(&all.all).of_tenants.len(), 2);
        drop(held);
        assert_eq!(lock(&all.all).requests, 0);
    }
}
