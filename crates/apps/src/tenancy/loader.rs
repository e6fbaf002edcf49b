//! Loads apps into memory on their first request.
//!
//! All requests for an app that is being loaded wait for the same outcome. Each load runs in its own task, so a load
//! finishes even if the client that requested it disconnects. The number of simultaneous loads is limited and shared
//! fairly among the tenants ([`FairSemaphore`]). Further loads wait. When too many loads wait, requests are refused. A
//! slow load, which waits for a compiler or for migrations, releases its permit, so that a few tenants with slow loads
//! do not block the loads of other tenants.
//!
//! [`super::lifecycle`] decides what happens to an app's requests. If a load fails, the reason is logged, and the app
//! is not loaded again during a pause that grows with each failure. If a revision is unavailable, because compilers are
//! overloaded or its code is still being compiled, the next request loads it again. If the app was changed during a
//! load, for example because a secret has a new value, the waiting requests wait for the next load.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use isomer_api::LogLevel;
use isomer_capabilities::{AppResources, CapabilityLimits, Engines};
use isomer_diagnostics::chain;
use isomer_display::excerpt::cut;
use isomer_front::{Refusal, SiteLookup, SiteOwner};
use isomer_ids::{AppName, ReleaseDigest};
use isomer_observe::Log;
use isomer_runtime::code::CodeSource;
use isomer_runtime::engine::Engine;
use isomer_telemetry::{AppIdentity, EventSink};
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::TenancyError;
use super::app::{App, AppTypes, LoadOutcome, LoadReceiver};
use super::gateways::Gateways;
use super::lifecycle::{LoadEnd, LoadResult, LoadTicket};
use super::loaded_apps::LoadedApps;
use super::loaded_revision::{LoadedRevision, ResidencyPermit};
use super::options::TenancyOptions;
use super::repository::{AppRepository, LaunchSpec, RepositoryError};
use super::shared_lifecycle::EntryAfterLoad;
use super::tenant::Tenant;
use crate::app_capabilities::AppCapabilities;
use crate::error::RevisionError;
use crate::fair_semaphore::{FairSemaphore, FairSemaphoreLimits, PermitRequest};
use crate::group_handler::AppSiteLookup;
use crate::probing::{ProbeSupply, RevisionProbes};
use crate::progress::Progress;
use crate::revision::{ProbeOptions, Revision, StartOptions};
use crate::seams::Peers;

/// The maximum number of simultaneous loads of one tenant's apps, including slow loads.
const LOADS_PER_TENANT_MAX: usize = 4;

/// The time after which a load counts as slow and releases its permit.
const SLOW_AFTER: Duration = Duration::from_millis(250);

/// The maximum number of slow loads that continue without a permit. Further slow loads keep their permits.
const SLOW_MAX: usize = 256;

/// The maximum number of loads that wait for a permit.
const WAITING_MAX: usize = 4096;

/// The maximum number of one tenant's loads that wait for a permit.
const WAITING_PER_TENANT_MAX: usize = 1024;

/// The time limit of a load, from the moment at which the load has a permit.
const LOAD_MAX: Duration = Duration::from_secs(30);

/// The maximum length in bytes of the stored reason why a load failed.
const FAILURE_BYTES_MAX: usize = 2 << 10;

/// The maximum number of times that a load is repeated because the app was changed during the load.
const RELOADS_MAX: u32 = 3;

/// Loads and starts the revisions of a tenancy, and owns the resources that the revisions share.
pub(super) struct Loader {
    pub(super) engine: Engine,
    pub(super) cache: CodeSource,
    pub(super) stores: Engines,
    pub(super) options: TenancyOptions,
    log: Log,
    repository: Arc<dyn AppRepository>,
    probe_supply: Arc<ProbeSupply>,
    pub(super) gateways: Gateways,
    runtime: tokio::runtime::Handle,
    loaded_apps: Arc<LoadedApps>,
    semaphore: FairSemaphore,
    loads: AtomicU64,
}

/// The revision to start, and the values with which the revision is started.
pub(super) struct StartRequest<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) name: &'a AppName,
    pub(super) spec: &'a LaunchSpec,
    pub(super) peers: Peers,
    /// See [`StartOptions::warm_up`].
    pub(super) warm_up: bool,
}

/// A requested load that waits for a permit.
struct QueuedLoad {
    ticket: LoadTicket<AppTypes>,
    permit: PermitRequest,
}

/// The reason why a load failed.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("no more apps fit into memory, and all apps in memory are serving requests")]
    Full,
    #[error("the app's package cannot be fetched")]
    Repository(#[source] RepositoryError),
    #[error(transparent)]
    Start(#[from] TenancyError),
    #[error("the app did not start within {} s", LOAD_MAX.as_secs())]
    StartTimeout,
    /// Fetching the package took too long. The app is not at fault, so the next request waits for the package again.
    #[error("the app's package is still not ready after {} s", LOAD_MAX.as_secs())]
    RepositoryTimeout,
}

impl LoadError {
    /// Returns whether the cause is temporary and not the app's fault.
    fn is_temporary(&self) -> bool {
        matches!(self, Self::Full | Self::RepositoryTimeout | Self::Repository(RepositoryError::Busy(_)))
    }
}

impl Loader {
    /// Creates a loader without loaded apps. Must be called in a tokio runtime.
    pub(super) fn new(
        engine: Engine,
        cache: CodeSource,
        log: Log,
        repository: Arc<dyn AppRepository>,
        options: TenancyOptions,
    ) -> Arc<Self> {
        let semaphore = FairSemaphore::new(FairSemaphoreLimits {
            permits: options.loads_max,
            of_tenant: LOADS_PER_TENANT_MAX,
            waiting: WAITING_MAX,
            waiting_of_tenant: WAITING_PER_TENANT_MAX,
            slow: SLOW_MAX,
        });
        let probe_supply = ProbeSupply::new(engine.clone(), cache.clone(), options.probed_groups_max);
        Arc::new(Self {
            engine,
            cache,
            probe_supply,
            gateways: Gateways::default(),
            stores: Engines::with_network(CapabilityLimits::default(), options.network.clone()),
            log,
            repository,
            runtime: tokio::runtime::Handle::current(),
            loaded_apps: LoadedApps::new(options.loaded_max, options.memory),
            semaphore,
            loads: AtomicU64::new(0),
            options,
        })
    }

    pub(super) fn loaded_apps(&self) -> &Arc<LoadedApps> {
        &self.loaded_apps
    }

    /// Returns the number of successful loads that requests started.
    pub(super) fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    /// Returns the routes of the app's revision, or a future that resolves to the routes. Starts a load if the app is
    /// not in memory.
    ///
    /// # Errors
    /// If the app is stopped, if its last load failed a short time ago, or if too many loads wait.
    pub(super) fn load(self: &Arc<Self>, app: &Arc<App>) -> Result<AppSiteLookup, Refusal> {
        let start = |ticket| {
            let permit = self.request_permit(app).ok_or(Refusal::Loading)?;
            let (sender, outcome) = watch::channel(None);
            let (queued, loader, app) = (QueuedLoad { ticket, permit }, self.clone(), app.clone());
            self.runtime.spawn(async move {
                sender.send_replace(Some(loader.run(&app, queued).await));
            });
            Ok(LoadReceiver(outcome))
        };
        match app.lifecycle.enter(Instant::now(), start)? {
            EntryAfterLoad::Stopped => Err(Refusal::Stopped),
            EntryAfterLoad::Failed => Err(Refusal::Broken),
            EntryAfterLoad::Ready(loaded) => Ok(SiteLookup::Ready(loaded.revision.site().begin_request())),
            EntryAfterLoad::Held(held) => {
                Ok(SiteLookup::Loading(Box::pin(wait_for_release(self.clone(), app.clone(), held))))
            }
            EntryAfterLoad::Loading(outcome) => Ok(SiteLookup::Loading(Box::pin(wait_for(outcome)))),
        }
    }

    /// Starts the revision of `request`.
    pub(super) async fn start(
        &self,
        request: StartRequest<'_>,
        permit: ResidencyPermit,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<LoadedRevision, TenancyError> {
        let StartRequest { tenant, name, spec, peers, warm_up } = request;
        let LaunchSpec { package, place, log, access, tracer, probes } = spec;
        let app = || AppIdentity { tenant: tenant.name.shared(), app: name.shared() };
        // In a process with only one app, the metrics of the app have the name in its manifest, if this is a valid app
        // name.
        let manifest_name = package.name().parse::<AppName>().ok().filter(|_| self.options.is_of_one_app);
        let measured = AppIdentity { app: manifest_name.as_ref().unwrap_or(name).shared(), ..app() };
        let series = self.options.metrics.app(&measured);
        let place = AppResources {
            storage: tenant.storage.clone(),
            account: tenant.account.clone(),
            statement_time_max: self.options.time_limits.statement,
            outbound: tenant.outbound.clone(),
            series: series.clone(),
            ..place.clone()
        };
        let sink: Arc<dyn EventSink> = match log {
            Some(log) => Arc::new(log.clone()),
            None => Arc::new(self.log.clone()),
        };
        tracer.charge_to(tenant.account.clone());
        let capabilities = AppCapabilities::open_at(package.grants(), &place, &self.stores, sink).await?;
        // Requests whose spans are not recorded do not run probed code, and most apps have no fused seams.
        let is_fused = package.groups.iter().any(|group| group.components.len() > 1);
        let probes = probes.clone().filter(|_| is_fused && tracer.is_enabled()).map(|maker| ProbeOptions {
            supplier: Arc::new(RevisionProbes {
                supply: self.probe_supply.clone(),
                maker,
                tenant: tenant.name.clone(),
                app: measured.app.clone(),
                series: series.clone(),
            }),
            is_expected: self.options.is_of_one_app && tracer.samples_by_ratio(),
        });
        let gateway = match &package.tabs {
            Some(_) => {
                let accounts = (&tenant.account, &place.storage);
                let opened = self.gateways.open(&tenant.name, name, &place.session_key, accounts).await;
                Some(opened.map_err(|source| RevisionError::Gateway { source })?)
            }
            None => None,
        };
        let options = StartOptions {
            requests_per_instance_max: self.options.requests_per_instance_max,
            instances_max: self.options.instances_max,
            deadline_max: self.options.time_limits.request,
            stream_max: self.options.time_limits.stream,
            peers,
            account: tenant.account.clone(),
            series,
            probes,
            owner: log.as_ref().map(|log| SiteOwner { app: app(), log: log.clone(), access_log: access.clone() }),
            tracer: tracer.clone(),
            gateway,
            warm_up,
        };
        let revision = Revision::start(package, &self.engine, &self.cache, &capabilities, &options, progress).await?;
        Ok(LoadedRevision { revision, permit })
    }

    /// Requests a permit for a load. Returns `None` if too many loads wait.
    fn request_permit(&self, app: &App) -> Option<PermitRequest> {
        self.semaphore.request(&app.tenant.name).ok()
    }

    /// Loads the app, and repeats the load until there is an outcome for the waiting requests.
    async fn run(self: Arc<Self>, app: &Arc<App>, mut queued: QueuedLoad) -> LoadOutcome {
        let mut reloads = 0..RELOADS_MAX;
        loop {
            let QueuedLoad { ticket, permit } = queued;
            let loaded = self.run_once(app, &ticket.revision, permit).await;
            app.not_held().await;
            match self.finish(app, &ticket, loaded, reloads.next().is_some()) {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(next) => queued = next,
            }
        }
    }

    async fn run_once(
        &self,
        app: &App,
        revision: &ReleaseDigest,
        permit: PermitRequest,
    ) -> Result<Arc<LoadedRevision>, LoadError> {
        let permit = permit.granted().await;
        let deadline = tokio::time::Instant::now() + LOAD_MAX;
        let load = async {
            let (tenant, name) = (app.tenant.name.clone(), app.name().clone());
            let fetched = self.repository.clone().fetch(tenant, name, revision.clone());
            let spec = timeout_at(deadline, fetched).await.map_err(|_| LoadError::RepositoryTimeout)?;
            let spec = spec.map_err(LoadError::Repository)?;
            let residency = self.loaded_apps.acquire().await.ok_or(LoadError::Full)?;
            let request = StartRequest {
                tenant: &app.tenant,
                name: app.name(),
                spec: &spec,
                peers: Peers::new(),
                warm_up: false,
            };
            let started = timeout_at(deadline, self.start(request, residency, &|_| {})).await;
            Ok(Arc::new(started.map_err(|_| LoadError::StartTimeout)??))
        };
        permit.run(tokio::time::sleep(SLOW_AFTER), load).await
    }

    /// Puts a loaded revision into service, if the app was not changed during the load. If the app is to serve another
    /// revision, and `may_reload` is true, returns the load of that revision: the waiting requests are for the app, and
    /// not for a specific revision.
    fn finish(
        &self,
        app: &Arc<App>,
        ticket: &LoadTicket<AppTypes>,
        loaded: Result<Arc<LoadedRevision>, LoadError>,
        may_reload: bool,
    ) -> ControlFlow<LoadOutcome, QueuedLoad> {
        let (result, failure) = match loaded {
            Ok(loaded) => (LoadResult::Loaded(loaded), None),
            Err(error) if error.is_temporary() => (LoadResult::Unavailable, None),
            Err(error) => (LoadResult::Failed, Some(chain(&error))),
        };
        let shown = failure.as_ref().map(|failure| cut(self.repository.redact(failure), FAILURE_BYTES_MAX));
        let mut locked = app.lifecycle.lock();
        let (end, unused) = locked.load_finished(ticket, result, Instant::now());
        let outcome = match end {
            LoadEnd::Serves(loaded) => {
                app.set_failure(None);
                drop(locked);
                self.loads.fetch_add(1, Ordering::Relaxed);
                self.loaded_apps.list(app);
                ControlFlow::Break(Ok(loaded.revision.site().begin_request()))
            }
            LoadEnd::Superseded(loaded) => ControlFlow::Break(Ok(loaded.revision.site().begin_request())),
            LoadEnd::Reload(ticket) => match self.request_permit(app).filter(|_| may_reload) {
                Some(permit) => ControlFlow::Continue(QueuedLoad { ticket, permit }),
                None => {
                    locked.load_cancelled();
                    ControlFlow::Break(Err(Refusal::Loading))
                }
            },
            LoadEnd::Stopped => ControlFlow::Break(Err(Refusal::Stopped)),
            LoadEnd::Unavailable => ControlFlow::Break(Err(Refusal::Loading)),
            LoadEnd::Failed => {
                // Set the failure before the lock is released, so that a later take-over clears it.
                app.set_failure(shown.as_deref().map(Arc::from));
                drop(locked);
                self.log_failure(app, &failure.unwrap_or_default(), &shown.unwrap_or_default());
                ControlFlow::Break(Err(Refusal::Broken))
            }
        };
        if let Some(unused) = unused {
            self.loaded_apps.unload(unused);
        }
        outcome
    }

    /// Logs why a load failed: `reason` in the process's log, and `shown` in the app's own log, if it has one. `shown`
    /// contains no paths of the node.
    fn log_failure(&self, app: &App, reason: &str, shown: &str) {
        let (tenant, name) = (&app.tenant.name, app.name());
        self.log.error(format!("app `{name}` of tenant `{tenant}` cannot be loaded: {reason}"));
        if let Some(log) = self.repository.log(tenant, name) {
            log.note(
                LogLevel::Error,
                None,
                format!("the app cannot be loaded, so its requests get status 500: {shown}"),
            );
        }
    }
}

/// Waits until the app's hold ends, which makes new requests wait, for example while the app's stores are replaced.
/// Then returns the app's routes like [`Loader::load`].
async fn wait_for_release(loader: Arc<Loader>, app: Arc<App>, mut held: watch::Receiver<()>) -> LoadOutcome {
    // No value is ever sent, so this waits until the channel is closed.
    let _ = held.changed().await;
    match loader.load(&app)? {
        SiteLookup::Ready(site) => Ok(site),
        SiteLookup::Loading(loading) => loading.await,
    }
}

async fn wait_for(mut outcome: LoadReceiver) -> LoadOutcome {
    match outcome.0.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(Refusal::Broken)),
        // The loading task ended without an outcome.
        Err(_) => Err(Refusal::Broken),
    }
}
