//! An app of a tenancy. For an idle app, only its name, its host names and the name of its revision are in memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use isomer_front::Refusal;
use isomer_ids::{AppName, HostPattern, ReleaseDigest};
use tokio::sync::watch;

use super::lifecycle::{PendingLoad, Types};
use super::loaded_revision::{LoadedRevision, RetiredRevision};
use super::shared_lifecycle::SharedLifecycle;
use super::tenant::Tenant;
use crate::group_handler::AppSiteInUse;

/// One app of a tenant.
pub(super) struct App {
    pub(super) tenant: Arc<Tenant>,
    name: AppName,
    /// The state of the app and its revisions. The same lock protects the app's host names.
    pub(super) lifecycle: SharedLifecycle<AppTypes, Box<[HostPattern]>>,
    /// The time of the app's last request, in nanoseconds since the tenancy was created.
    used_ns: AtomicU64,
    /// The reason why the last load failed, without details that the tenant may not see; `None` if the last load did
    /// not fail.
    failure: Mutex<Option<Arc<str>>>,
    /// Whether the app is in the list of apps that may be evicted. Changes only under the lock of
    /// [`super::loaded_apps`].
    pub(super) is_listed: AtomicBool,
}

/// The types with which an app's lifecycle is instantiated.
pub(super) struct AppTypes;

/// A channel on which requests wait for the outcome of a load.
#[derive(Clone)]
pub(super) struct LoadReceiver(pub(super) watch::Receiver<Option<LoadOutcome>>);

pub(super) type LoadOutcome = Result<AppSiteInUse, Refusal>;

impl Types for AppTypes {
    type Revision = ReleaseDigest;
    type Loaded = LoadedRevision;
    type PendingLoad = LoadReceiver;
    /// A channel that is closed when the hold ends: see [`super::hold`].
    type Hold = watch::Receiver<()>;
    type Retired = RetiredRevision;

    fn retire(loaded: &Arc<LoadedRevision>) -> RetiredRevision {
        RetiredRevision::new(loaded)
    }

    fn is_drained(retired: &RetiredRevision) -> bool {
        retired.is_drained()
    }
}

impl PendingLoad for LoadReceiver {
    fn is_lost(&self) -> bool {
        // The channel is closed without an outcome if the loading task ends early.
        self.0.has_changed().is_err()
    }
}

impl App {
    pub(super) fn new(tenant: Arc<Tenant>, name: AppName, revision: ReleaseDigest) -> Arc<Self> {
        Arc::new(Self {
            tenant,
            name,
            lifecycle: SharedLifecycle::new(revision, Box::default()),
            used_ns: AtomicU64::new(0),
            failure: Mutex::default(),
            is_listed: AtomicBool::new(false),
        })
    }

    pub(super) fn name(&self) -> &AppName {
        &self.name
    }

    /// Returns the routes of the revision in service, and counts the revision as in use until the returned value is
    /// dropped. Returns `None` if no revision is in service.
    pub(super) fn begin_request(&self) -> Option<AppSiteInUse> {
        self.lifecycle.read(|loaded| loaded.revision.site().begin_request())
    }

    /// Returns why the last load failed; `None` if the last load did not fail.
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets or clears the reason why the last load failed.
    pub(super) fn set_failure(&self, failure: Option<Arc<str>>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Waits until the app is not held.
    pub(super) async fn not_held(&self) {
        while let Some(mut held) = self.lifecycle.held() {
            // No value is ever sent, so this waits until the channel is closed.
            let _ = held.changed().await;
        }
    }

    pub(super) fn used_ns(&self) -> u64 {
        self.used_ns.load(Ordering::Relaxed)
    }

    pub(super) fn set_used_ns(&self, ns: u64) {
        self.used_ns.store(ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use isomer_api::Quotas;

    use super::*;

    /// Returns an app that is not in memory.
    pub(crate) fn app(name: &str) -> Arc<App> {
        let tenant = Tenant::new("t".parse().unwrap(), &Quotas::default()).unwrap();
        App::new(tenant, name.parse().unwrap(), ReleaseDigest::from([0; 16]))
    }
}
