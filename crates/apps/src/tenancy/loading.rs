//! The way of an app into memory, on its first request.
//!
//! Whoever asks for an app that is on its way waits for the same outcome. Loads are tasks of their own, so that an app comes in though
//! the client that asked for it has gone. So many run at once, shared fairly among the tenants ([`FairSemaphore`]); some more wait, and the others
//! are refused. A load that is slow (it waits for a compiler, or for migrations) leaves its permit: a few tenants with slow loads keep nobody
//! else's apps out. Where a compiler has too much to do, the request is told to come again, and the next one tries. What cannot be loaded is said in the log, and is not tried again for a while, which grows each time; what is not there
//! yet, because its code is still being compiled, is tried again by the next request. Who waits for a load that is overtaken, as by a secret's
//! new value, waits for the next.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use isomer_diagnostics::chain;
use isomer_display::excerpt::cut;
use isomer_front::{Refusal, SiteLookup};
use isomer_ids::ReleaseDigest;
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::app::{App, AppKinds, Outcome, PendingLoad};
use super::loaded::Loaded;
use super::serving::{Brought, Ended, Entry, Ticket};
use super::{Inner, Making, RepositoryError, TenancyError, hold};
use crate::fair_semaphore::{FairSemaphore, FairSemaphoreLimits, PermitRequest};
use crate::group_handler::AppSiteLookup;
use crate::seams::Peers;

/// How many of a tenant's apps are loaded at once, the slow ones included.
const LOADS_OF_TENANT_MAX: usize = 4;

/// How long a load has a permit: one that takes longer goes on without.
const SLOW_AFTER: Duration = Duration::from_millis(250);

/// How many loads go on without a permit. Above that, the slow ones keep theirs.
const SLOW_MAX: usize = 256;

/// How many loads may wait for their turn.
const WAITING_MAX: usize = 4096;

/// How many of them may be one tenant's.
const WAITING_OF_TENANT_MAX: usize = 1024;

/// How long a load may take once it is its turn.
const LOAD_MAX: Duration = Duration::from_secs(30);

/// How long an app is left alone that could not be loaded: after the first time, and at most.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The most bytes that are kept of why an app could not be loaded.
const FAILURE_BYTES_MAX: usize = 2 << 10;

/// How often a load is begun again because what it is to serve was changed meanwhile.
const OVERTAKEN_MAX: u32 = 3;

/// The loads of a node.
pub(super) struct Loads {
    permits: FairSemaphore,
    done: AtomicU64,
}

/// A load, before it is its turn.
struct Begin {
    ticket: Ticket<AppKinds>,
    asked: PermitRequest,
}

/// Why an app was not loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("all apps in memory serve requests, and there is room for no more")]
    Full,
    #[error("what it is started from cannot be read")]
    Repository(#[source] RepositoryError),
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
        let permits = FairSemaphore::new(FairSemaphoreLimits {
            permits: at_once,
            of_tenant: LOADS_OF_TENANT_MAX,
            waiting: WAITING_MAX,
            waiting_of_tenant: WAITING_OF_TENANT_MAX,
            slow: SLOW_MAX,
        });
        Self { permits, done: AtomicU64::new(0) }
    }

    /// How often an app was loaded.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Begin {
    async fn carry_out(self, inner: Arc<Inner>, app: Arc<App>) -> Outcome {
        let (mut begin, mut again) = (self, 0..OVERTAKEN_MAX);
        loop {
            let Self { ticket, asked } = begin;
            let loaded = inner.bring(&app, &ticket.revision, asked).await;
            app.not_held().await;
            match inner.bring_in(&app, &ticket, loaded, again.next().is_some()) {
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
    pub(super) fn load(self: &Arc<Self>, app: &Arc<App>) -> Result<AppSiteLookup, Refusal> {
        let begin = |ticket| {
            let asked = self.ask(app).ok_or(Refusal::Loading)?;
            let (told, outcome) = watch::channel(None);
            let (begin, inner, app) = (Begin { ticket, asked }, self.clone(), app.clone());
            self.runtime.spawn(async move {
                told.send_replace(Some(begin.carry_out(inner, app).await));
            });
            Ok(PendingLoad(outcome))
        };
        match app.serving.enter(Instant::now(), begin)? {
            Entry::Stopped => Err(Refusal::Stopped),
            Entry::Broken => Err(Refusal::Broken),
            Entry::Ready(loaded) => Ok(SiteLookup::Ready(loaded.revision.site().clone())),
            Entry::Held(held) => Ok(SiteLookup::Loading(Box::pin(hold::after(self.clone(), app.clone(), held)))),
            Entry::Loading(outcome) => Ok(SiteLookup::Loading(Box::pin(wait_for(outcome)))),
        }
    }

    fn ask(&self, app: &App) -> Option<PermitRequest> {
        self.loads.permits.request(&app.tenant.name).ok()
    }

    async fn bring(
        self: &Arc<Self>,
        app: &Arc<App>,
        revision: &ReleaseDigest,
        asked: PermitRequest,
    ) -> Result<Arc<Loaded>, LoadError> {
        let permit = asked.granted().await;
        let deadline = tokio::time::Instant::now() + LOAD_MAX;
        let brought = async {
            let (tenant, name) = (app.tenant.name.clone(), app.name().clone());
            let taken = self.repository.clone().take(tenant, name, revision.clone());
            let spec = timeout_at(deadline, taken).await.map_err(|_| LoadError::Unready)?;
            let spec = spec.map_err(LoadError::Repository)?;
            let seat = self.set.seat_soon().await.ok_or(LoadError::Full)?;
            let making =
                Making { tenant: &app.tenant, name: app.name(), spec: &spec, peers: Peers::new(), warm_up: false };
            let made = timeout_at(deadline, self.make(making, seat, &|_| {})).await.map_err(|_| LoadError::Late)?;
            Ok(Arc::new(made?))
        };
        permit.run(tokio::time::sleep(SLOW_AFTER), brought).await
    }

    /// Puts what was loaded into service, if that is still wanted. If something else is that is not in memory either, and it may load
    /// `again`, gives the next load: who waits did not ask for a certain revision.
    fn bring_in(
        self: &Arc<Self>,
        app: &Arc<App>,
        ticket: &Ticket<AppKinds>,
        loaded: Result<Arc<Loaded>, LoadError>,
        again: bool,
    ) -> ControlFlow<Outcome, Begin> {
        let (brought, error) = match loaded {
            Ok(loaded) => (Brought::Loaded(loaded), None),
            // Nothing that the app could be blamed for.
            Err(LoadError::Full | LoadError::Unready | LoadError::Repository(RepositoryError::Busy(_))) => {
                (Brought::NotNow, None)
            }
            Err(error) => (Brought::Failed, Some(error)),
        };
        let why = error.as_ref().map(|error| chain(error)).unwrap_or_default();
        let told = if error.is_some() { cut(self.repository.told(&why), FAILURE_BYTES_MAX) } else { String::new() };
        // Called under the lock, if the failure counts: what takes over later clears it.
        let until = |failures: u32| {
            app.set_failure(Some(told.as_str().into()));
            let pause = RETRY_AFTER.0.saturating_mul(1 << failures.min(16)).min(RETRY_AFTER.1);
            Instant::now() + pause
        };
        let (ended, unused) = app.serving.ended(ticket, brought, until, || self.ask(app).filter(|_| again));
        if let Some(unused) = unused {
            self.set.discard(unused);
        }
        ControlFlow::Break(match ended {
            Ended::Serves(loaded) => {
                app.set_failure(None);
                self.loads.done.fetch_add(1, Ordering::Relaxed);
                self.set.list(app);
                Ok(loaded.revision.site().clone())
            }
            Ended::Overtaken(loaded) => Ok(loaded.revision.site().clone()),
            Ended::Again(ticket, asked) => return ControlFlow::Continue(Begin { ticket, asked }),
            Ended::Stopped => Err(Refusal::Stopped),
            Ended::NotNow => Err(Refusal::Loading),
            Ended::Failed => {
                let (tenant, name) = (&app.tenant.name, app.name());
                self.log.error(format!("app `{name}` of tenant `{tenant}` cannot be loaded: {why}"));
                if let Some(log) = self.repository.log(tenant, name) {
                    log.note(format!("the app cannot be loaded, and requests are answered with 500: {told}"));
                }
                Err(Refusal::Broken)
            }
        })
    }
}

async fn wait_for(mut outcome: PendingLoad) -> Outcome {
    match outcome.0.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(Refusal::Broken)),
        // The load ended unexpectedly.
        Err(_) => Err(Refusal::Broken),
    }
}
