//! The way of an app into memory, on its first request.
//!
//! Whoever asks for an app that is on its way waits for the same outcome. Loads are tasks of their own, so that an app comes in though
//! the client that asked for it has gone. So many run at once, shared fairly among the tenants ([`Places`]); some more wait, and the others
//! are refused. A load that is slow (it waits for a compiler, or for migrations) leaves its place: a few tenants with slow loads keep nobody
//! else's apps out. What cannot be loaded is said in the log, and is not tried again for a while, which grows each time; what is not there
//! yet, because its code is still being compiled, is tried again by the next request. Who waits for a load that is overtaken, as by a secret's
//! new value, waits for the next.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use isomer_api::RevisionId;
use isomer_front::{Entering, Refusal};
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::app::{App, Loading, Outcome, State};
use super::loaded::Loaded;
use super::{Inner, Making, TenancyError, chain, hold};
use crate::places::{Asked, PlaceLimits, Places};
use crate::seams::Peers;

/// How many of a tenant's apps are loaded at once, the slow ones included.
const LOADS_OF_TENANT_MAX: usize = 4;

/// How long a load has a place: one that takes longer goes on without.
const SLOW_AFTER: Duration = Duration::from_millis(250);

/// How many loads go on without a place. Above that, the slow ones keep theirs.
const SLOW_MAX: usize = 256;

/// How many loads may wait for their turn.
const WAITING_MAX: usize = 4096;

/// How many of them may be one tenant's.
const WAITING_OF_TENANT_MAX: usize = 1024;

/// How long a load may take once it is its turn.
const LOAD_MAX: Duration = Duration::from_secs(30);

/// How long an app is left alone that could not be loaded: after the first time, and at most.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How often a load is begun again because what it is to serve was changed meanwhile.
const OVERTAKEN_MAX: u32 = 3;

/// The loads of a node.
pub(super) struct Loads {
    places: Places,
    done: AtomicU64,
}

/// A load, before it is its turn.
struct Begin {
    revision: RevisionId,
    /// See [`State::generation`].
    generation: u64,
    /// How often in a row it failed before.
    failures: u32,
    asked: Asked,
}

/// Why an app was not loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("all apps in memory serve requests, and there is room for no more")]
    Full,
    #[error("what it is started from cannot be read")]
    Shelf(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Start(#[from] TenancyError),
    #[error("it did not start within {} s", LOAD_MAX.as_secs())]
    Late,
    /// Not a failure: whoever comes next waits on.
    #[error("what it is started from is not there after {} s: it is still being made", LOAD_MAX.as_secs())]
    Unready,
}

impl Loads {
    pub(super) fn new(at_once: usize) -> Self {
        let places = Places::new(PlaceLimits {
            places: at_once,
            of_tenant: LOADS_OF_TENANT_MAX,
            waiting: WAITING_MAX,
            waiting_of_tenant: WAITING_OF_TENANT_MAX,
            slow: SLOW_MAX,
        });
        Self { places, done: AtomicU64::new(0) }
    }

    /// How often an app was loaded.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Begin {
    fn of(state: &State, failures: u32, asked: Asked) -> Self {
        Self { revision: state.revision.clone(), generation: state.generation, failures, asked }
    }

    async fn carry_out(self, inner: Arc<Inner>, app: Arc<App>) -> Outcome {
        let (mut begin, mut again) = (self, 0..OVERTAKEN_MAX);
        loop {
            let Self { revision, generation, failures, asked } = begin;
            let loaded = inner.bring(&app, &revision, asked).await;
            app.not_held().await;
            match inner.bring_in(&app, generation, failures, loaded, again.next().is_some()) {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(next) => begin = next,
            }
        }
    }
}

impl Inner {
    /// The app's site, once it is there.
    ///
    /// # Errors
    /// When it is not to be loaded now.
    pub(super) fn load(self: &Arc<Self>, app: &Arc<App>) -> Result<Entering, Refusal> {
        let mut state = app.state();
        if app.is_stopped() {
            return Err(Refusal::Stopped);
        }
        if let Some(site) = app.site() {
            return Ok(Entering::Ready(site));
        }
        if let Some(held) = &state.held {
            return Ok(Entering::Loading(Box::pin(hold::after(self.clone(), app.clone(), held.clone()))));
        }
        let outcome = match &state.loading {
            // Where the load ended without an outcome, its channel is closed.
            Loading::Begun(outcome) if outcome.has_changed().is_ok() => outcome.clone(),
            Loading::Failed { until, .. } if Instant::now() < *until => return Err(Refusal::Broken),
            _ => {
                let asked = self.ask(app).ok_or(Refusal::Loading)?;
                let (told, outcome) = watch::channel(None);
                let failures = match state.loading {
                    Loading::Failed { times, .. } => times,
                    Loading::No | Loading::Begun(_) => 0,
                };
                state.loading = Loading::Begun(outcome.clone());
                let begin = Begin::of(&state, failures, asked);
                let (inner, app) = (self.clone(), app.clone());
                self.runtime.spawn(async move {
                    told.send_replace(Some(begin.carry_out(inner, app).await));
                });
                outcome
            }
        };
        Ok(Entering::Loading(Box::pin(wait_for(outcome))))
    }

    fn ask(&self, app: &App) -> Option<Asked> {
        self.loads.places.ask(&app.tenant.name).ok()
    }

    async fn bring(
        self: &Arc<Self>,
        app: &Arc<App>,
        revision: &RevisionId,
        asked: Asked,
    ) -> Result<Arc<Loaded>, LoadError> {
        let place = asked.place().await;
        let deadline = tokio::time::Instant::now() + LOAD_MAX;
        let brought = async {
            let (tenant, name) = (app.tenant.name.clone(), app.name().clone());
            let taken = self.shelf.clone().take(tenant, name, revision.clone());
            let stock = timeout_at(deadline, taken).await.map_err(|_| LoadError::Unready)?;
            let stock = stock.map_err(LoadError::Shelf)?;
            let seat = self.set.seat().ok_or(LoadError::Full)?;
            let making =
                Making { tenant: &app.tenant, name: app.name(), stock: &stock, peers: Peers::new(), warm_up: false };
            let made = timeout_at(deadline, self.make(making, seat, &|_| {})).await.map_err(|_| LoadError::Late)?;
            Ok(Arc::new(made?))
        };
        place.hold(tokio::time::sleep(SLOW_AFTER), brought).await
    }

    /// Puts what was loaded into service, if that is still wanted. If something else is that is not in memory either, and it may load
    /// `again`, gives the next load: who waits did not ask for a certain revision.
    fn bring_in(
        self: &Arc<Self>,
        app: &Arc<App>,
        generation: u64,
        failures: u32,
        loaded: Result<Arc<Loaded>, LoadError>,
        again: bool,
    ) -> ControlFlow<Outcome, Begin> {
        let mut state = app.state();
        if state.generation == generation {
            return ControlFlow::Break(self.bring_in_wanted(app, state, failures, loaded));
        }
        let outcome = match app.site() {
            Some(site) => Ok(site),
            None if app.is_stopped() => Err(Refusal::Stopped),
            None => match self.ask(app).filter(|_| again) {
                Some(asked) => return ControlFlow::Continue(Begin::of(&state, 0, asked)),
                None => Err(Refusal::Loading),
            },
        };
        state.loading = Loading::No;
        ControlFlow::Break(outcome)
    }

    fn bring_in_wanted(
        &self,
        app: &Arc<App>,
        mut state: MutexGuard<'_, State>,
        failures: u32,
        loaded: Result<Arc<Loaded>, LoadError>,
    ) -> Outcome {
        match loaded {
            Ok(loaded) => {
                state.loading = Loading::No;
                let site = loaded.revision.site().clone();
                app.serve(&mut state, Some(loaded));
                drop(state);
                self.loads.done.fetch_add(1, Ordering::Relaxed);
                self.set.list(app);
                Ok(site)
            }
            Err(LoadError::Full | LoadError::Unready) => {
                state.loading = Loading::No;
                Err(Refusal::Loading)
            }
            Err(error) => {
                let times = failures.saturating_add(1);
                let pause = RETRY_AFTER.0.saturating_mul(1 << failures.min(16)).min(RETRY_AFTER.1);
                state.loading = Loading::Failed { times, until: Instant::now() + pause };
                drop(state);
                let (tenant, name) = (&app.tenant.name, app.name());
                self.log.warn(format!("app `{name}` of tenant `{tenant}` cannot be loaded: {}", chain(&error)));
                Err(Refusal::Broken)
            }
        }
    }
}

async fn wait_for(mut outcome: watch::Receiver<Option<Outcome>>) -> Outcome {
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(Refusal::Broken)),
        // The load ended unexpectedly.
        Err(_) => Err(Refusal::Broken),
    }
}
