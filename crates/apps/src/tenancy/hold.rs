//! Holding an app's requests at the door, while what it is to serve is replaced together with its data.
//!
//! The revision that serves, and those before it, finish the requests that they have and get no more; those that come wait, each no longer than to its own
//! deadline. When the hold ends they go to what took over, or to the revision that served before if nothing did.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use isomer_ids::{AppName, TenantName};
use tokio::sync::watch;

use super::app::{App, AppKinds, Outcome};
use super::loaded::Loaded;
use super::serving::{Holding, Released};
use super::{Inner, Tenancy};
use isomer_front::SiteLookup;

/// How often to look whether requests are over.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// An app whose requests wait, until this is dropped.
pub struct Held {
    inner: Arc<Inner>,
    app: Arc<App>,
    /// There until this is dropped.
    holding: Option<Holding<AppKinds>>,
    /// Closed when the hold ends.
    _end: watch::Sender<()>,
}

impl Tenancy {
    /// From now on requests for the app wait. None where there is no such app.
    #[must_use]
    pub fn hold(&self, tenant: &TenantName, app: &AppName) -> Option<Held> {
        let app = self.0.app(tenant, app).ok()?;
        let (end, held) = watch::channel(());
        let holding = Some(app.serving.lock().hold(held));
        Some(Held { inner: self.0.clone(), app, holding, _end: end })
    }
}

impl Held {
    /// Resolves when all requests that came before have finished, on the revision that served and on those before it, or when they take longer than
    /// `wait`: with whether they have.
    pub async fn drained(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let before = self.holding.as_ref().and_then(|holding| holding.before.as_ref());
        let is_busy = |before: &Arc<Loaded>| is_used(before, || before.revision.is_busy());
        while before.is_some_and(is_busy) || !self.app.serving.is_drained() {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }
}

/// Returns whether something that is out of service is used. Requests that found it before hold it until they are among those that
/// `is_busy` counts. So the holders are looked at first: seen the other way round, a request could be between the two.
pub(super) fn is_used<T>(before: &Arc<T>, is_busy: impl FnOnce() -> bool) -> bool {
    if Arc::strong_count(before) > 1 {
        return true;
    }
    // Whoever let go of it did so after it was counted.
    fence(Ordering::Acquire);
    is_busy()
}

impl Drop for Held {
    /// Something took over, or is to be loaded: then what served before ends. Else it goes on.
    fn drop(&mut self) {
        let Some(holding) = self.holding.take() else { return };
        let released = self.app.serving.lock().release(holding);
        match released {
            Released::Serves => self.inner.set.list(&self.app),
            Released::Replaced(before) => self.inner.set.discard(before),
            Released::Nothing => {}
        }
    }
}

/// What a request for an app that is held waits for.
pub(super) async fn after(inner: Arc<Inner>, app: Arc<App>, mut held: watch::Receiver<()>) -> Outcome {
    // Nothing is ever sent: the channel closes.
    let _ = held.changed().await;
    match inner.load(&app)? {
        SiteLookup::Ready(site) => Ok(site),
        SiteLookup::Loading(loading) => loading.await,
    }
}
