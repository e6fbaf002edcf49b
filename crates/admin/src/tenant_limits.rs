//! Limits on the use of the admin API with tenants' tokens: on requests, actions and lines in the audit log. There are
//! no such limits for the node's token.
//!
//! The limits leave a share for every tenant and for the node's admins. They also ensure that a tenant can revoke a
//! stolen token, even if the thief sends as many requests as possible.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use isomer_api::{ApiProblem, ProblemKind, TokenInfo};
use isomer_ids::{TenantName, TokenId};
use isomer_transport::{FairLimiter, FairPermit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusals::Refusals;

/// The maximum number of concurrent requests of one tenant, including requests that follow a log.
pub(crate) const REQUESTS_OF_TENANT_MAX: usize = 16;

/// The maximum number of concurrent requests with one token. It is less than the maximum of the tenant, so that the
/// tenant can revoke a stolen token with another token.
pub(crate) const REQUESTS_OF_TOKEN_MAX: usize = 12;

/// The maximum number of concurrent requests of all tenants together. It is less than the maximum number of
/// connections, so that the node's admins always have connections. [`is_fair`] limits the share of each tenant.
pub(crate) const REQUESTS_OF_TENANTS_MAX: usize = 96;

/// The maximum number of actions of all tenants that run at the same time. Further actions wait. The number is less
/// than the maximum for all callers, so that actions of the node's admins need not wait for tenants. [`is_fair`] limits
/// the share of each tenant.
pub(crate) const ACTIONS_OF_TENANTS_AT_ONCE_MAX: usize = 48;

/// The maximum number of parts that a tenant may upload in each [`PERIOD`]: twice the maximum number of parts of a
/// release. The limit keeps the audit log small. It can be this high, because the two lines that an upload adds to the
/// log are short.
pub(crate) const UPLOADS_OF_TENANT_MAX: u32 = 20_000;

/// The maximum number of actions other than uploads that a tenant may perform in each [`PERIOD`]. It is lower than the
/// maximum for uploads. Each action has two lines in the audit log, and these lines are longer than those of an upload:
/// they contain arguments and problems.
pub(crate) const CHANGES_OF_TENANT_MAX: u32 = 2_000;

/// The maximum number of reads of the content of stores with a tenant's tokens in each [`PERIOD`]. Each has two
/// lines in the audit log, which must not fill the node's disk.
pub(crate) const DATA_READS_OF_TENANT_MAX: u32 = 10_000;

/// The period for which the actions of a tenant are counted.
const PERIOD: Duration = Duration::from_secs(3600);

/// The kind of a request, which decides which limit applies to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// The request changes nothing.
    Read,
    /// The request reads the content of a store, which the audit log records.
    DataRead,
    /// The request uploads a part of a release.
    Upload,
    /// The request changes something other than uploaded parts.
    Change,
}

/// The limits on the use of the admin API by tenants, with the current use.
#[derive(Debug)]
pub(crate) struct TenantLimits {
    all: Arc<Mutex<AllTenants>>,
    /// The permits for running actions.
    actions: FairLimiter<TenantName>,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self { all: Arc::default(), actions: FairLimiter::new(ACTIONS_OF_TENANTS_AT_ONCE_MAX, is_fair) }
    }
}

#[derive(Debug, Default)]
struct AllTenants {
    requests: usize,
    by_tenant: HashMap<TenantName, TenantUse>,
}

/// The current use of the admin API by one tenant.
#[derive(Debug)]
struct TenantUse {
    /// The number of requests in progress with each of the tenant's tokens.
    requests: HashMap<TokenId, usize>,
    since: Instant,
    uploads: u32,
    changes: u32,
    data_reads: u32,
    refusals: Refusals,
    exclusive: ExclusiveSemaphores,
}

/// Two semaphores with one permit each. They limit a tenant to one request at a time of each kind that uses much memory
/// or processor time.
#[derive(Debug, Clone)]
struct ExclusiveSemaphores {
    /// The permit for a large body. A request acquires the permit before its body is read, and holds it until the
    /// operation ends, so a tenant has at most one large body in memory.
    largest: Arc<Semaphore>,
    /// The permit for a request that reads which parts of a release are missing. A tenant may run only one such request
    /// at a time, because the request searches all revisions of the tenant.
    release_reads: Arc<Semaphore>,
}

/// The exclusive permits that a tenant's request holds. Dropping this value releases them.
#[derive(Debug, Default)]
pub(crate) struct ExclusivePermits {
    _largest: Option<OwnedSemaphorePermit>,
    _release_read: Option<OwnedSemaphorePermit>,
}

/// The permit for one request of a tenant. Dropping this value ends the request.
#[derive(Debug)]
pub(crate) struct RequestPermit {
    all: Arc<Mutex<AllTenants>>,
    actions: FairLimiter<TenantName>,
    tenant: TenantName,
    token: TokenId,
    exclusive: ExclusiveSemaphores,
}

/// Returns whether a tenant that has `own` permits may get another one while `free` permits are available. A tenant may
/// always get its first permit if one is available. It may get another one only if twice the number of its permits is
/// less than the number of available ones. So a permit remains available for the next tenant, no matter how many
/// permits the other tenants have.
fn is_fair(own: usize, free: usize) -> bool {
    free > 0 && (own == 0 || own.saturating_mul(2) < free)
}

impl RequestPermit {
    /// If `is_large`, waits for the tenant's permit for a large body. If `is_release_read`, waits for the tenant's
    /// permit for a request that reads which parts of a release are missing.
    pub(crate) async fn acquire_exclusive(&self, is_large: bool, is_release_read: bool) -> ExclusivePermits {
        let ExclusiveSemaphores { largest, release_reads } = self.exclusive.clone();
        // `ok` never drops an error, because the semaphores are never closed.
        let release_read = if is_release_read { release_reads.acquire_owned().await.ok() } else { None };
        let largest = if is_large { largest.acquire_owned().await.ok() } else { None };
        ExclusivePermits { _largest: largest, _release_read: release_read }
    }

    /// Waits for a permit to run an action of the tenant. The permit must be held until the action ends.
    pub(crate) async fn action(&self) -> FairPermit<TenantName> {
        self.actions.acquire(&self.tenant).await
    }
}

impl TenantLimits {
    /// Returns a permit for a request with a tenant's token.
    ///
    /// # Errors
    /// If the token, the tenant, or all tenants together have reached a limit.
    pub(crate) fn enter(&self, token: &TokenInfo, kind: RequestKind) -> Result<RequestPermit, ApiProblem> {
        self.enter_at(token, kind, Instant::now())
    }

    fn enter_at(&self, token: &TokenInfo, kind: RequestKind, now: Instant) -> Result<RequestPermit, ApiProblem> {
        let TokenInfo { tenant, name, id, .. } = token;
        let too_many = |holder: String, max: usize| {
            let title = format!("{holder} {max} requests in progress at the node's admin API");
            Err(ApiProblem::new(ProblemKind::Quota, title).hint("retry when one of these requests has ended"))
        };
        let mut all = lock(&self.all);
        let free = REQUESTS_OF_TENANTS_MAX.saturating_sub(all.requests);
        if all.requests >= REQUESTS_OF_TENANTS_MAX {
            return too_many("all tenants together have".to_owned(), REQUESTS_OF_TENANTS_MAX);
        }
        let tenant_use = all.use_of(tenant, now);
        if tenant_use.requests() >= REQUESTS_OF_TENANT_MAX {
            return too_many(format!("tenant `{tenant}` has"), REQUESTS_OF_TENANT_MAX);
        }
        if tenant_use.requests.get(id).is_some_and(|requests| *requests >= REQUESTS_OF_TOKEN_MAX) {
            return too_many(format!("token `{name}` of tenant `{tenant}` has"), REQUESTS_OF_TOKEN_MAX);
        }
        if !is_fair(tenant_use.requests(), free) {
            let title = format!(
                "tenant `{tenant}` has as many requests in progress at the node's admin API as its share allows; the rest is reserved for other tenants"
            );
            return Err(
                ApiProblem::new(ProblemKind::Quota, title).hint("retry when one of the tenant's requests has ended")
            );
        }
        if now.saturating_duration_since(tenant_use.since) >= PERIOD {
            (tenant_use.since, tenant_use.uploads, tenant_use.changes) = (now, 0, 0);
            tenant_use.data_reads = 0;
        }
        let (counted, max, done, what) = match kind {
            RequestKind::Read => (None, 0, "", ""),
            RequestKind::DataRead => {
                (Some(&mut tenant_use.data_reads), DATA_READS_OF_TENANT_MAX, "made", "reads of data")
            }
            RequestKind::Upload => (Some(&mut tenant_use.uploads), UPLOADS_OF_TENANT_MAX, "uploaded", "parts"),
            RequestKind::Change => (Some(&mut tenant_use.changes), CHANGES_OF_TENANT_MAX, "made", "changes"),
        };
        if let Some(counted) = counted {
            if *counted >= max {
                let title = format!("tenant `{tenant}` has {done} {max} {what} in this hour");
                return Err(ApiProblem::new(ProblemKind::Quota, title).hint("retry in an hour"));
            }
            *counted += 1;
        }
        *tenant_use.requests.entry(id.clone()).or_default() += 1;
        let exclusive = tenant_use.exclusive.clone();
        all.requests += 1;
        let (tenant, token) = (tenant.clone(), id.clone());
        Ok(RequestPermit { all: self.all.clone(), actions: self.actions.clone(), tenant, token, exclusive })
    }

    /// Counts a refused request of the tenant. If the audit log gets a line about the request, returns the number that
    /// the line states: how many refused requests of the tenant got no line since the tenant's previous line. Otherwise
    /// returns `None`.
    pub(crate) fn count_refusal(&self, tenant: &TenantName) -> Option<u64> {
        lock(&self.all).use_of(tenant, Instant::now()).refusals.count()
    }
}

impl AllTenants {
    fn use_of(&mut self, tenant: &TenantName, now: Instant) -> &mut TenantUse {
        if !self.by_tenant.contains_key(tenant) {
            // Remove tenants that have no request in progress and whose counts are older than a period.
            let is_in_use = |tenant_use: &TenantUse| {
                tenant_use.requests() > 0 || now.saturating_duration_since(tenant_use.since) < PERIOD
            };
            self.by_tenant.retain(|_, tenant_use| is_in_use(tenant_use));
        }
        self.by_tenant.entry(tenant.clone()).or_insert_with(|| TenantUse {
            requests: HashMap::new(),
            since: now,
            uploads: 0,
            changes: 0,
            data_reads: 0,
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
        let Some(tenant_use) = all.by_tenant.get_mut(&self.tenant) else { return };
        if let Some(requests) = tenant_use.requests.get_mut(&self.token) {
            *requests = requests.saturating_sub(1);
            if *requests == 0 {
                tenant_use.requests.remove(&self.token);
            }
        }
    }
}

fn lock(all: &Mutex<AllTenants>) -> MutexGuard<'_, AllTenants> {
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
            data: false,
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
        // One tenant after the other takes as many permits as `is_fair` allows.
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
        assert!(!of_late.is_empty(), "three other tenants leave some permits");
        let mut waiting = pin!(acme.action());
        assert!((&mut waiting).now_or_never().is_none());
        // The tenant releases a permit, but may not get another one yet: according to `is_fair`, twice the number of
        // the tenant's permits must be less than the number of free permits.
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
        assert!(deploys.acquire_exclusive(false, false).now_or_never().is_some(), "a small body does not wait");
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
        for (asks, max) in [
            (RequestKind::Change, CHANGES_OF_TENANT_MAX),
            (RequestKind::Upload, UPLOADS_OF_TENANT_MAX),
            (RequestKind::DataRead, DATA_READS_OF_TENANT_MAX),
        ] {
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
        assert_eq!(lock(&all.all).by_tenant.len(), 2);
        drop(held);
        assert_eq!(lock(&all.all).requests, 0);
    }
}
