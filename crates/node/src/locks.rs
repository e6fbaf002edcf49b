//! Locks on apps and tenants. The lock on an app is held during a change of the app, and the lock on a tenant during a
//! change of the tenant or of its secrets.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use isomer_api::{ApiProblem, ProblemKind};
use isomer_ids::{AppName, TenantName};
use tokio::sync::OwnedMutexGuard;

/// The maximum time that a change of a tenant waits for other changes of the same tenant.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The locks on apps, as the set of the apps that are locked now.
#[derive(Debug, Default)]
pub(crate) struct AppLocks(Arc<Mutex<HashSet<(TenantName, AppName)>>>);

/// The exclusive lock on an app. Dropping this value releases the lock.
#[derive(Debug)]
pub(crate) struct AppLock {
    busy: Arc<Mutex<HashSet<(TenantName, AppName)>>>,
    app: (TenantName, AppName),
}

impl AppLocks {
    /// Locks an app. Does not wait.
    ///
    /// # Errors
    /// If the app is already locked.
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

/// The locks on tenants. Changes of a tenant or of its secrets run one after another, so that the node's memory agrees
/// with its recorded state. If a tenant is created again while it is being removed, the creation waits for the removal,
/// which would otherwise delete the new tenant's data.
///
/// A single lock for all tenants was rejected: a removal waits for the tenant's requests in flight, and changes of
/// other tenants must not wait for these requests.
#[derive(Default)]
pub(crate) struct TenantLocks(Mutex<HashMap<TenantName, Weak<tokio::sync::Mutex<()>>>>);

impl TenantLocks {
    /// Locks a tenant. Waits until other changes of the tenant have finished.
    ///
    /// # Errors
    /// If the wait exceeds [`LOCK_TIMEOUT`].
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
                .hint("try again later; if this persists, check the node's log for disk errors")
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
