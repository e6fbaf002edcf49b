//! Suspended apps: apps that the node does not serve although no admin has stopped them. Their stores may be partly
//! replaced, or the node cannot read whether they are.
//!
//! The node checks a suspended app again before each change of the app, and every minute: see
//! [`crate::deployment::takeover::finish`].

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use isomer_ids::{AppName, TenantName};

/// The name of a tenant, and the name of one of its apps.
type AppKey = (TenantName, AppName);

/// The set of a node's suspended apps.
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

    /// Removes an app from the set. Returns whether the app was in the set.
    pub(crate) fn remove(&self, tenant: &TenantName, app: &AppName) -> bool {
        self.lock().remove(&(tenant.clone(), app.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<AppKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
