//! An app in memory. While no request comes, it is a name, its hosts and the name of its revision.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use isomer_front::Refusal;
use isomer_ids::{AppName, HostPattern, ReleaseDigest};
use tokio::sync::watch;

use super::Retired;
use super::loaded::Loaded;
use super::serving::{Awaited, Kinds, Serving};
use super::tenant::Tenant;
use crate::group_handler::AppSite;

/// One app of a tenant.
pub(super) struct App {
    pub(super) tenant: Arc<Tenant>,
    name: AppName,
    /// What serves it, while it is in memory, and what is to.
    pub(super) serving: Serving<AppKinds>,
    /// When a request came last, in nanoseconds since the node started.
    used_ns: AtomicU64,
    /// Why it could not be loaded the last time, in words for its tenant.
    failure: Mutex<Option<Arc<str>>>,
    /// Is it among those that may be dropped? Changed under the lock of the loaded set.
    pub(super) is_listed: AtomicBool,
}

/// What apps serve.
pub(super) struct AppKinds;

/// What requests wait for while an app is loaded.
#[derive(Clone)]
pub(super) struct PendingLoad(pub(super) watch::Receiver<Option<Outcome>>);

pub(super) type Outcome = Result<Arc<AppSite>, Refusal>;

impl Kinds for AppKinds {
    type Revision = ReleaseDigest;
    type Loaded = Loaded;
    type Outcome = PendingLoad;
    /// Closed when the hold ends: see [`super::hold`].
    type Hold = watch::Receiver<()>;
    type Retired = Retired;
    /// The app's host names.
    type Kept = Box<[HostPattern]>;

    fn retire(loaded: &Arc<Loaded>) -> Retired {
        Retired(Arc::downgrade(loaded.revision.graph()))
    }

    fn is_over(retired: &Retired) -> bool {
        retired.is_over()
    }
}

impl Awaited for PendingLoad {
    fn is_lost(&self) -> bool {
        // Where the load ended without an outcome, its channel is closed.
        self.0.has_changed().is_err()
    }
}

impl App {
    pub(super) fn new(tenant: Arc<Tenant>, name: AppName, revision: ReleaseDigest) -> Arc<Self> {
        Arc::new(Self {
            tenant,
            name,
            serving: Serving::new(revision, Box::default()),
            used_ns: AtomicU64::new(0),
            failure: Mutex::default(),
            is_listed: AtomicBool::new(false),
        })
    }

    pub(super) fn name(&self) -> &AppName {
        &self.name
    }

    /// What serves it now.
    pub(super) fn site(&self) -> Option<Arc<AppSite>> {
        self.serving.read(|loaded| loaded.revision.site().clone())
    }

    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes why it cannot be loaded; or that nothing is known against it.
    pub(super) fn set_failure(&self, failure: Option<Arc<str>>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Resolves when requests for the app do not wait for a hold to end.
    pub(super) async fn not_held(&self) {
        while let Some(mut held) = self.serving.held() {
            // Nothing is ever sent: the channel closes.
            let _ = held.changed().await;
        }
    }

    pub(super) fn used_ns(&self) -> u64 {
        self.used_ns.load(Ordering::Relaxed)
    }

    pub(super) fn use_at(&self, ns: u64) {
        self.used_ns.store(ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use isomer_api::Quotas;

    use super::*;

    /// An app of no consequence.
    pub(crate) fn app(name: &str) -> Arc<App> {
        let tenant = Tenant::new("t".parse().unwrap(), &Quotas::default()).unwrap();
        App::new(tenant, name.parse().unwrap(), ReleaseDigest::from([0; 16]))
    }
}
