//! Apps that do not serve although they were not stopped: their stores may be half replaced, or it cannot be found out whether they are.
//!
//! They are looked at again when one is changed, and every minute; see [`crate::deploy::takeover::finish`].

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use isomer_api::{AppName, TenantName};

use super::Host;

/// A tenant's app.
type Key = (TenantName, AppName);

/// Those of a node.
#[derive(Debug, Default)]
pub(crate) struct Withheld(Mutex<BTreeSet<Key>>);

impl Withheld {
    pub(super) fn new(apps: impl IntoIterator<Item = Key>) -> Self {
        Self(Mutex::new(apps.into_iter().collect()))
    }

    pub(super) fn insert(&self, tenant: &TenantName, app: &AppName) {
        self.lock().insert((tenant.clone(), app.clone()));
    }

    pub(super) fn all(&self) -> BTreeSet<Key> {
        self.lock().clone()
    }

    /// Returns whether the app was among them.
    fn remove(&self, tenant: &TenantName, app: &AppName) -> bool {
        self.lock().remove(&(tenant.clone(), app.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    /// Serves an app again whose stores could not be finished or looked at before, and are whole now; unless an admin has stopped it.
    pub(crate) fn serve_withheld(&self, tenant: &TenantName, app: &AppName) {
        if self.withheld.remove(tenant, app) && self.state.app(tenant, app).is_ok_and(|app| !app.stopped) {
            // A tenancy that does not know the app has nothing to resume.
            let _ = self.tenancy.resume(tenant, app);
        }
    }
}
