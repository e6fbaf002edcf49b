//! Holding an app's requests at the door, while what it is to serve is replaced together with its data.
//!
//! The revision that serves finishes the requests that it has and gets no more; those that come wait, each no longer than to its own
//! deadline. When the hold ends they go to what took over, or to the revision that served before if nothing did.

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_api::{AppName, TenantName};
use tokio::sync::watch;

use super::app::{App, Outcome};
use super::loaded::Loaded;
use super::{Inner, Tenancy};
use isomer_front::Entering;

/// How often to look whether requests are over.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// An app whose requests wait, until this is dropped.
pub struct Held {
    inner: Arc<Inner>,
    app: Arc<App>,
    /// What served it before.
    before: Option<Arc<Loaded>>,
    /// Of the app, since it is held.
    generation: u64,
    /// Closed when the hold ends.
    _end: watch::Sender<()>,
}

impl Tenancy {
    /// From now on requests for the app wait. None where there is no such app.
    #[must_use]
    pub fn hold(&self, tenant: &TenantName, app: &AppName) -> Option<Held> {
        let app = self.0.app(tenant, app).ok()?;
        let (end, held) = watch::channel(());
        let (before, generation) = {
            let mut state = app.state();
            let before = app.serve(&mut state, None);
            state.held = Some(held);
            (before, state.generation)
        };
        Some(Held { inner: self.0.clone(), app, before, generation, _end: end })
    }
}

impl Held {
    /// Resolves when the revision that served has finished all requests, or when they take longer than `wait`: with whether they have.
    pub async fn drained(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        while self.before.as_ref().is_some_and(|before| before.revision.is_busy()) {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }
}

impl Drop for Held {
    /// Something took over, or is to be loaded: then `before` ends. Else it goes on.
    fn drop(&mut self) {
        let mut state = self.app.state();
        state.held = None;
        let Some(before) = self.before.take() else { return };
        if state.generation != self.generation || self.app.is_stopped() {
            drop(state);
            self.inner.set.discard(before);
            return;
        }
        self.app.serve(&mut state, Some(before));
        drop(state);
        self.inner.set.list(&self.app);
    }
}

/// What a request for an app that is held waits for.
pub(super) async fn after(inner: Arc<Inner>, app: Arc<App>, mut held: watch::Receiver<()>) -> Outcome {
    // Nothing is ever sent: the channel closes.
    let _ = held.changed().await;
    match inner.load(&app)? {
        Entering::Ready(site) => Ok(site),
        Entering::Loading(loading) => loading.await,
    }
}
