//! Apps that do not serve although they were not stopped: their stores may be half replaced, or the node cannot
//! determine whether they are.
//!
//! Suspended apps are checked again before each change of the app, and every minute; see
//! [`crate::deployment::takeover::finish`].

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use isomer_ids::{AppName, TenantName};

/// The name of an app, with its tenant.
type AppKey = (TenantName, AppName);

/// The suspended apps of a node.
#[derive(Debug, Default)]
pub(crate) struct SuspendedApps(Mutex<BTreeSet<AppKey>>);

impl SuspendedApps {
    pub(crate) fn new(apps: impl IntoIterator<Item = AppKey>) -> Self {
        Self(Mutex::new(apps.into_iter().collect()))
    }

    pub(crate) fn insert(&self, tenant: &TenantName, app: &AppName) {
        self.lock().insert((tenant.clone(), app.clone()));
    }

    pub(crate) fn all(&self) -> BTreeSet<AppKey> {
        self.lock().clone()
    }

    /// Removes an app. Returns whether it was suspended.
    pub(crate) fn remove(&self, tenant: &TenantName, app: &AppName) -> bool {
        self.lock().remove(&(tenant.clone(), app.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<AppKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
