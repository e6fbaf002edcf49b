//! Holds an app's requests while its revision and its data are replaced.
//!
//! During a hold, requests in flight finish in the revisions that began to serve them, and new requests wait. Each
//! request waits no longer than its own deadline. When the hold ends, the waiting requests go to the revision that took
//! over. If no revision took over, they go to the revision that served before the hold.

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

/// The interval at which a hold checks whether the requests in flight have finished.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A hold on an app's requests. The hold ends when this value is dropped.
pub struct RequestHold {
    loader: Arc<Loader>,
    app: Arc<App>,
    /// The token that ends the hold; `None` only while this value is being dropped.
    token: Option<HoldToken<AppTypes>>,
    /// The sender of the channel on which held requests wait. The channel closes when the sender is dropped.
    _end: watch::Sender<()>,
}

impl Tenancy {
    /// Makes requests for the app wait until the returned hold is dropped. From now on, calls of tabs start only in the
    /// revision in service, not in earlier ones. Returns `None` if the tenant has no such app.
    #[must_use]
    pub fn hold(&self, tenant: &TenantName, name: &AppName) -> Option<RequestHold> {
        let app = self.registry().app(tenant, name).ok()?;
        let (end, held) = watch::channel(());
        let token = Some(app.lifecycle.lock().hold(held));
        self.loader().gateways.end_revisions(tenant, name);
        Some(RequestHold { loader: self.loader().clone(), app, token, _end: end })
    }
}

impl RequestHold {
    /// Waits until all requests that began before the hold have finished, but not longer than `timeout`. Returns
    /// whether they have finished.
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

/// Returns whether requests still use a revision that is out of service.
///
/// A request first gets a reference to the revision in service, and is counted a moment later. So this function checks
/// the references first and the count second. In the opposite order, it could miss a request: the request could be
/// counted and drop its reference between the two checks.
pub(super) fn is_in_use<T>(before: &Arc<T>, is_busy: impl FnOnce() -> bool) -> bool {
    if Arc::strong_count(before) > 1 {
        return true;
    }
    // Synchronizes with requests that have dropped their references. A request is counted before it drops its
    // reference, so `is_busy` sees the count.
    fence(Ordering::Acquire);
    is_busy()
}

impl Drop for RequestHold {
    /// Puts the revision that served before the hold back into service. If the app was changed during the hold, unloads
    /// this revision instead.
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
