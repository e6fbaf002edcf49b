//! Locks of apps and of tenants (with their secrets) during a change.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use isomer_api::{ApiProblem, ProblemKind};
use isomer_ids::{AppName, TenantName};
use tokio::sync::OwnedMutexGuard;

/// How long a change of a tenant waits for an earlier change of the same tenant.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The apps that are being changed.
#[derive(Debug, Default)]
pub(crate) struct AppLocks(Arc<Mutex<HashSet<(TenantName, AppName)>>>);

/// The exclusive right to change an app. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct AppLock {
    busy: Arc<Mutex<HashSet<(TenantName, AppName)>>>,
    app: (TenantName, AppName),
}

impl AppLocks {
    /// Locks an app, or fails if it is locked.
    pub(crate) fn begin(&self, tenant: &TenantName, app: &AppName) -> Result<AppLock, ApiProblem> {
        let app = (tenant.clone(), app.clone());
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(app.clone()) {
            let title = format!("app `{}` of tenant `{tenant}` is being deployed or changed by another request", app.1);
            return Err(ApiProblem::new(ProblemKind::Conflict, title).hint("try again when that request has finished"));
        }
        Ok(AppLock { busy: self.0.clone(), app })
    }
}

impl Drop for AppLock {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.app);
    }
}

/// The locks of tenants. Changes of one tenant or its secrets are made one after another, so that the memory agrees
/// with the recorded state. If a tenant is created again during its removal, the creation waits, so that the new
/// tenant's data is not removed. (A single lock for all tenants was rejected: a removal waits for requests in flight,
/// and changes of other tenants must not wait for those requests.)
#[derive(Default)]
pub(crate) struct TenantLocks(Mutex<HashMap<TenantName, Weak<tokio::sync::Mutex<()>>>>);

impl TenantLocks {
    /// Locks a tenant. Waits for an earlier change of the tenant.
    ///
    /// # Errors
    /// When the earlier change takes longer than [`LOCK_TIMEOUT`].
    pub(crate) async fn take(&self, tenant: &TenantName) -> Result<OwnedMutexGuard<()>, ApiProblem> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            locks.get(tenant).and_then(Weak::upgrade).unwrap_or_else(|| {
                let lock = Arc::default();
                locks.insert(tenant.clone(), Arc::downgrade(&lock));
                lock
            })
        };
        tokio::time::timeout(LOCK_TIMEOUT, lock.lock_owned()).await.map_err(|_| {
            let title = format!("tenant `{tenant}` is being changed by another request");
            ApiProblem::new(ProblemKind::Conflict, title)
                .hint("try again later; see the node's log if the disk may have failed")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_one_change_at_a_time() {
        let busy = AppLocks::default();
        let (tenant, shop): (TenantName, AppName) = ("acme".parse().unwrap(), "shop".parse().unwrap());
        let first = busy.begin(&tenant, &shop).unwrap();
        assert_eq!(busy.begin(&tenant, &shop).unwrap_err().kind, ProblemKind::Conflict);
        busy.begin(&tenant, &"other".parse().unwrap()).unwrap();
        drop(first);
        busy.begin(&tenant, &shop).unwrap();
    }
}
