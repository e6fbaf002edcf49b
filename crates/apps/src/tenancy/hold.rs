//! Holding an app's requests while its revision is replaced together with its data.
//!
//! The revision in service and earlier revisions finish their requests in flight and get no new ones. New requests
//! wait, each until its own deadline at most. When the hold ends, they go to the revision that took over. If no
//! revision took over, they go to the revision that served before the hold.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use isomer_ids::{AppName, TenantName};
use tokio::sync::watch;

use super::Tenancy;
use super::app::{App, AppTypes};
use super::lifecycle::{HoldToken, Release};
use super::loaded_revision::LoadedRevision;
use super::loader::Loader;

/// The interval at which a hold checks whether requests have finished.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A hold on an app's requests, until it is dropped.
pub struct RequestHold {
    loader: Arc<Loader>,
    app: Arc<App>,
    /// `Some` until the hold is dropped.
    token: Option<HoldToken<AppTypes>>,
    /// Dropping it closes the channel on which held requests wait.
    _end: watch::Sender<()>,
}

impl Tenancy {
    /// Makes requests for the app wait until the returned hold is dropped. Returns `None` if there is no such app.
    #[must_use]
    pub fn hold(&self, tenant: &TenantName, app: &AppName) -> Option<RequestHold> {
        let app = self.registry().app(tenant, app).ok()?;
        let (end, held) = watch::channel(());
        let token = Some(app.lifecycle.lock().hold(held));
        Some(RequestHold { loader: self.loader().clone(), app, token, _end: end })
    }
}

impl RequestHold {
    /// Waits until all earlier requests have finished, for `timeout` at most. Returns whether they have finished.
    pub async fn drained(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let before = self.token.as_ref().and_then(|token| token.before.as_ref());
        let is_busy = |before: &Arc<LoadedRevision>| is_in_use(before, || before.revision.is_busy());
        while before.is_some_and(is_busy) || !self.app.lifecycle.is_drained() {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        true
    }
}

/// Returns whether a revision that is out of service is still in use.
///
/// A request finds the revision while it is in service, and is counted a moment later. Until it is counted, it has a
/// reference to the revision. So this function checks the references first and the count second. In the opposite order,
/// it could miss a request that is counted between the two checks.
pub(super) fn is_in_use<T>(before: &Arc<T>, is_busy: impl FnOnce() -> bool) -> bool {
    if Arc::strong_count(before) > 1 {
        return true;
    }
    // Synchronizes with requests that have dropped their references: each request was counted before it dropped its
    // reference, so `is_busy` sees the count.
    fence(Ordering::Acquire);
    is_busy()
}

impl Drop for RequestHold {
    /// Puts the revision that served before the hold back into service. Unloads it instead if another revision took
    /// over or is to be loaded.
    fn drop(&mut self) {
        let Some(token) = self.token.take() else { return };
        let released = self.app.lifecycle.lock().release(token);
        match released {
            Release::Restored => self.loader.loaded_apps().list(&self.app),
            Release::Replaced(before) => self.loader.loaded_apps().unload(before),
            Release::Nothing => {}
        }
    }
}
