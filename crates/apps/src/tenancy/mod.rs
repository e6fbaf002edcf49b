//! The tenants of a process, their apps, and which apps are in memory.
//!
//! A tenant's name and an app's name together identify an app. An app serves one revision under its host names. Of
//! thousands of apps, most are idle: an idle app is a name in memory and a package on disk. The first request for an
//! idle app loads the app. When memory has no room for more apps, the least recently used idle apps are evicted.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `resolver` | the path of a request into the tenancy: host name, tenant's limits, app |
//! | `registry`, `host_names` | the tenants, apps and host names |
//! | `tenant`, `admission` | a tenant's limits and usage |
//! | `app` | one app |
//! | `lifecycle` | the lifecycle of an app, as a pure state machine |
//! | `shared_lifecycle`, `sync` | the lifecycle of an app behind a lock |
//! | `model` | a test of the lifecycle's races under many schedules |
//! | `loader` | loading and starting revisions |
//! | `loaded_apps`, `loaded_revision` | the apps in memory, and which of them are evicted |
//! | [`repository`] | the source of apps that are not in memory |
//! | `gateways` | the gateways of apps with a browser group |
//! | `hold` | holding requests while an app is replaced together with its data |
//! | [`options`], [`time_limits`] | how many apps are in memory, and how they run |
//! | `metrics`, `process_metrics` | the metrics of tenants, apps and the process |
//! | [`memory`] | the memory of the process and the system |
//!
//! A tenancy stores nothing on disk. After a restart, the caller (a command that serves one app, or a node with a state
//! on disk) adds the tenants and apps again.
//!
//! Invariants: a request is served by one revision from beginning to end, even if another revision takes over, or the
//! app is stopped or evicted during the request. No request waits for a lock that is held during a slow operation. The
//! resources that a tenant's requests and guests use are charged to that tenant before they are used.
//!
//! The file is long because every change of a tenant or an app is a method of `Tenancy`.

mod admission;
mod app;
mod gateways;
mod hold;
mod host_names;
mod lifecycle;
mod loaded_apps;
mod loaded_revision;
mod loader;
pub mod memory;
mod metrics;
#[cfg(test)]
mod model;
pub mod options;
mod process_metrics;
mod registry;
pub mod repository;
mod resolver;
mod shared_lifecycle;
mod sync;
mod tenant;
pub mod time_limits;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use isomer_api::{ApiProblem, AppState, Quotas, TenantUsage};
use isomer_capabilities::outbound::InvalidHostRule;
use isomer_capabilities::{Engines, StorageAccount};
use isomer_ids::{AppName, HostPattern, ReleaseDigest, TenantName};
use isomer_observe::{Log, LogQuota};
use isomer_runtime::Account;
use isomer_runtime::code::CodeSource;
use isomer_runtime::engine::Engine;
use isomer_telemetry::metrics::{MetricSource, Metrics};
use isomer_wire::Callee;

use crate::app_capabilities::AppCapabilityError;
use crate::error::RevisionError;
use crate::group_handler::AppSite;
use crate::progress::Progress;
use crate::seams::Peers;
pub use hold::RequestHold;
use lifecycle::TakeOver;
use loaded_revision::LoadedRevision;
pub use loaded_revision::RetiredRevision;
use loader::{Loader, StartRequest};
pub use memory::MemoryBounds;
pub use options::TenancyOptions;
pub use process_metrics::ProcessMetrics;
pub(crate) use process_metrics::process_start;

use registry::Registry;
pub use repository::{AppRepository, EmptyRepository, LaunchSpec, RepositoryError};
use tenant::Tenant;
pub use time_limits::TimeLimits;

/// The reason why an operation on an app failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TenancyError {
    /// No tenant has this name.
    #[error("there is no tenant `{0}`")]
    NoTenant(TenantName),
    /// The tenant has no app of this name.
    #[error("tenant `{tenant}` has no app `{app}`")]
    NoApp {
        /// The tenant.
        tenant: TenantName,
        /// The app.
        app: AppName,
    },
    /// The node could not read the package of the revision, or another resource that the revision needs.
    #[error("the app's package cannot be read")]
    Repository(#[source] ApiProblem),
    /// The revision could not be started.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// A store, secret or directory that the app was granted could not be opened.
    #[error(transparent)]
    Capabilities(#[from] AppCapabilityError),
}

/// The numbers of tenants, apps, loads and requests. Loads, evictions and requests are counted since the process
/// started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenancyCounts {
    /// The number of tenants.
    pub tenants: usize,
    /// The number of apps.
    pub apps: usize,
    /// The number of apps that are in memory or being loaded.
    pub loaded: usize,
    /// The maximum number of apps in memory.
    pub loaded_max: usize,
    /// The number of successful loads that requests started.
    pub loads: u64,
    /// The number of evictions. An app counts each time it is evicted.
    pub evictions: u64,
    /// The number of requests for apps, including refused requests.
    pub requests: u64,
}

/// All tenants with their apps. Cheap to clone.
#[derive(Clone)]
pub struct Tenancy(Arc<Inner>);

struct Inner {
    registry: Registry,
    loader: Arc<Loader>,
    process: Arc<ProcessMetrics>,
    started_at: Instant,
}

/// A revision that was started next to the revision in service, and can take over. Dropping this value shuts the
/// revision down.
pub struct StandbyRevision {
    tenant: Arc<Tenant>,
    app: AppName,
    revision: ReleaseDigest,
    loaded: Arc<LoadedRevision>,
    /// See [`StandbyRevision::with_inputs`].
    inputs: Option<u64>,
}

impl StandbyRevision {
    /// Sets the value that [`Tenancy::inputs`], a counter of changes to the inputs with which revisions are started,
    /// had before this revision was started. If the counter has another value when the revision takes over, the next
    /// request loads the revision again.
    #[must_use]
    pub fn with_inputs(self, inputs: u64) -> Self {
        Self { inputs: Some(inputs), ..self }
    }

    /// Returns the routes of the revision.
    #[must_use]
    pub fn site(&self) -> &Arc<AppSite> {
        self.loaded.revision.site()
    }

    /// Returns the callee for calls from other processes of the shape. The revision runs until the callee is dropped.
    #[must_use]
    pub fn callee(&self) -> Arc<dyn Callee> {
        self.loaded.revision.callee()
    }

    /// Makes the probed code of the revision's groups, because its requests will be sampled. Without this call, the first
    /// sampled request makes the code. Must be called in a tokio runtime.
    pub fn expect_sampled_requests(&self) {
        self.loaded.revision.graph().request_probed_code();
    }

    /// Returns the number of the revision's groups that have probed code, which sampled requests run.
    #[must_use]
    pub fn probed_groups(&self) -> usize {
        self.loaded.revision.graph().probed_groups()
    }
}

impl Tenancy {
    /// Creates a tenancy without tenants. Must be called in a tokio runtime.
    #[must_use]
    pub fn new(
        engine: Engine,
        cache: impl Into<CodeSource>,
        log: Log,
        repository: Arc<dyn AppRepository>,
        options: TenancyOptions,
    ) -> Self {
        let (metrics, process) = (options.metrics.clone(), Arc::new(ProcessMetrics::default()));
        log.report_to(&metrics);
        let loader = Loader::new(engine, cache.into(), log, repository, options);
        let inner = Arc::new(Inner { registry: Registry::default(), loader, process, started_at: Instant::now() });
        let sources: [Arc<dyn MetricSource>; 2] = [inner.clone(), inner.process.clone()];
        for source in &sources {
            metrics.add_source(Arc::downgrade(source));
        }
        Self(inner)
    }

    /// Returns the metrics of the apps and the process.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.loader.options.metrics
    }

    /// Returns the engine that all apps share.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.0.loader.engine
    }

    /// Returns the source of compiled code.
    #[must_use]
    pub fn cache(&self) -> &CodeSource {
        &self.0.loader.cache
    }

    /// Returns the maximum durations of requests and SQL statements.
    #[must_use]
    pub fn time_limits(&self) -> TimeLimits {
        self.0.loader.options.time_limits
    }

    /// Returns the storage engines that all apps share.
    #[must_use]
    pub fn stores(&self) -> &Engines {
        &self.0.loader.stores
    }

    /// Adds the tenant of a process that serves a single app. The tenant has no limits, and the app may reach every
    /// host that its manifest grants.
    pub fn set_own_tenant(&self, name: &TenantName) {
        self.registry().set_own_tenant(name);
    }

    /// Adds a tenant, or changes the quotas of a tenant.
    ///
    /// # Errors
    /// If the outbound hosts in the quotas are invalid. Nothing is changed in this case.
    pub fn set_tenant(&self, name: &TenantName, quotas: &Quotas) -> Result<(), InvalidHostRule> {
        self.registry().set_tenant(name, quotas)
    }

    /// Returns the account to which a tenant's bytes on disk are charged; `None` if the tenant does not exist.
    #[must_use]
    pub fn storage(&self, name: &TenantName) -> Option<Arc<StorageAccount>> {
        self.registry().tenant(name).map(|tenant| tenant.storage.clone())
    }

    /// Returns the account to which a tenant's processor time and memory are charged; `None` if the tenant does not
    /// exist.
    #[must_use]
    pub fn account(&self, name: &TenantName) -> Option<Arc<Account>> {
        self.registry().tenant(name).map(|tenant| tenant.account.clone())
    }

    /// Returns a tenant's quota of log lines; `None` if the tenant does not exist.
    #[must_use]
    pub fn log_quota(&self, name: &TenantName) -> Option<Arc<LogQuota>> {
        self.registry().tenant(name).map(|tenant| tenant.log.clone())
    }

    /// Removes a tenant and all its apps. Requests in flight still finish.
    pub fn remove_tenant(&self, name: &TenantName) {
        for app in self.registry().apps_of(name) {
            self.remove(name, app.name());
        }
        self.registry().remove_tenant(name);
    }

    /// Counts an app that was refused because of the tenant's quota. The caller checks the quota, because the caller
    /// knows the number of the tenant's apps.
    pub fn count_refused_app(&self, name: &TenantName) {
        if let Some(tenant) = self.registry().tenant(name) {
            tenant.refused_apps.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the current usage of a tenant, and its totals since the tenant was added to this process; `None` if the
    /// tenant does not exist.
    #[must_use]
    pub fn usage(&self, name: &TenantName) -> Option<TenantUsage> {
        self.registry().tenant(name).map(|tenant| tenant.usage())
    }

    /// Returns the numbers of tenants, apps, loads and requests.
    #[must_use]
    pub fn counts(&self) -> TenancyCounts {
        let (registered, loaded_apps) = (self.registry().counts(), self.loader().loaded_apps());
        TenancyCounts {
            tenants: registered.tenants,
            apps: registered.apps,
            loaded: loaded_apps.permits_in_use(),
            loaded_max: loaded_apps.max(),
            loads: self.loader().loads(),
            evictions: loaded_apps.evictions(),
            requests: registered.requests,
        }
    }

    /// Adds an app that is on disk, or changes an app. The app's next request loads `revision`.
    ///
    /// # Errors
    /// If the tenant does not exist.
    pub fn put(
        &self,
        tenant: &TenantName,
        name: &AppName,
        revision: &ReleaseDigest,
        hosts: &[HostPattern],
        is_stopped: bool,
    ) -> Result<(), TenancyError> {
        let app = self.registry().app_or_new(tenant, name, revision)?;
        let mut locked = app.lifecycle.lock();
        app.set_failure(None);
        self.retire(locked.put(revision, is_stopped));
        self.registry().set_host_names(&app, locked.data(), hosts);
        Ok(())
    }

    /// Starts a revision next to the revision in service. The started revision serves no requests before
    /// [`Tenancy::take_over`].
    ///
    /// # Errors
    /// If the tenant does not exist, or the revision does not start. Groups that were already started are then shut
    /// down.
    pub async fn start(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        spec: &LaunchSpec,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<StandbyRevision, TenancyError> {
        self.start_with_peers(tenant, app, revision, spec, Peers::new(), progress).await
    }

    /// Starts a revision like [`Tenancy::start`], for one process of a shape. `peers` are the callees in the shape's
    /// other processes.
    ///
    /// # Errors
    /// The errors of [`Tenancy::start`].
    pub async fn start_with_peers(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        spec: &LaunchSpec,
        peers: Peers,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<StandbyRevision, TenancyError> {
        let owner = self.owner(tenant)?;
        let request = StartRequest { tenant: &owner, name: app, spec, peers, warm_up: true };
        let loaded = self.start_now(request, progress).await?;
        Ok(StandbyRevision { tenant: owner, app: app.clone(), revision: revision.clone(), loaded, inputs: None })
    }

    /// Starts a revision like [`Tenancy::start`], but starts no instance. No guest code runs before the first request.
    ///
    /// # Errors
    /// The errors of [`Tenancy::start`].
    pub async fn start_cold(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        spec: &LaunchSpec,
    ) -> Result<StandbyRevision, TenancyError> {
        let owner = self.owner(tenant)?;
        let request = StartRequest { tenant: &owner, name: app, spec, peers: Peers::new(), warm_up: false };
        let loaded = self.start_now(request, &|_| {}).await?;
        Ok(StandbyRevision { tenant: owner, app: app.clone(), revision: revision.clone(), loaded, inputs: None })
    }

    /// Returns a counter of changes to the inputs with which a tenant's apps are started, such as secrets. Changes of
    /// the apps' revisions are not counted.
    #[must_use]
    pub fn inputs(&self, tenant: &TenantName) -> u64 {
        self.registry().tenant(tenant).map_or(0, |tenant| tenant.inputs.load(Ordering::SeqCst))
    }

    /// Increments the counter that [`Tenancy::inputs`] returns. Must be called after an input was changed, and before
    /// [`Tenancy::unload`] is called for each app of the tenant.
    pub fn inputs_changed(&self, tenant: &TenantName) {
        if let Some(tenant) = self.registry().tenant(tenant) {
            tenant.inputs.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Puts `standby` into service under exactly the host names `hosts`, and returns the revision that leaves service.
    /// Requests in flight are finished by the revision that began to serve them. A stopped app stays stopped.
    ///
    /// # Errors
    /// If the tenant was removed since `standby` was started.
    pub fn take_over(
        &self,
        standby: StandbyRevision,
        hosts: &[HostPattern],
    ) -> Result<Option<RetiredRevision>, TenancyError> {
        let StandbyRevision { tenant, app, revision, loaded, inputs } = standby;
        let app = self.registry().app_or_new(&tenant.name, &app, &revision)?;
        if !Arc::ptr_eq(&app.tenant, &tenant) {
            return Err(TenancyError::NoTenant(tenant.name.clone()));
        }
        let is_current = || inputs.is_none_or(|inputs| inputs == tenant.inputs.load(Ordering::SeqCst));
        let loaded_apps = self.loader().loaded_apps();
        let mut locked = app.lifecycle.lock();
        app.set_failure(None);
        let TakeOver { before, unused } = locked.take_over(revision, loaded, is_current);
        if let Some(unused) = unused {
            loaded_apps.unload(unused);
        }
        app.set_used_ns(self.nanos_since_start(Instant::now()));
        let retired = self.retire(before);
        self.registry().set_host_names(&app, locked.data(), hosts);
        drop(locked);
        loaded_apps.list(&app);
        Ok(retired)
    }

    /// Replaces the host names of an app.
    ///
    /// # Errors
    /// If the app does not exist.
    pub fn set_hosts(&self, tenant: &TenantName, app: &AppName, hosts: &[HostPattern]) -> Result<(), TenancyError> {
        let app = self.registry().app(tenant, app)?;
        self.registry().set_host_names(&app, app.lifecycle.lock().data(), hosts);
        Ok(())
    }

    /// Makes requests for the app fail with status 503 from now on. The app is removed from memory after the requests
    /// in flight have finished. Returns the revision that leaves service, if any.
    ///
    /// # Errors
    /// If the app does not exist.
    pub fn stop(&self, tenant: &TenantName, app: &AppName) -> Result<Option<RetiredRevision>, TenancyError> {
        let app = self.registry().app(tenant, app)?;
        let before = app.lifecycle.lock().stop();
        Ok(self.retire(before))
    }

    /// Allows requests again after [`Tenancy::stop`]. The next request loads the app.
    ///
    /// # Errors
    /// If the app does not exist.
    pub fn resume(&self, tenant: &TenantName, app: &AppName) -> Result<(), TenancyError> {
        let app = self.registry().app(tenant, app)?;
        app.lifecycle.lock().resume();
        Ok(())
    }

    /// Unloads an app because an input with which the app was started has changed. The next request loads the app
    /// again. Returns the revision that leaves service, if any.
    ///
    /// # Errors
    /// If the app does not exist.
    pub fn unload(&self, tenant: &TenantName, app: &AppName) -> Result<Option<RetiredRevision>, TenancyError> {
        let app = self.registry().app(tenant, app)?;
        let mut locked = app.lifecycle.lock();
        app.set_failure(None);
        let before = locked.unload();
        drop(locked);
        Ok(self.retire(before))
    }

    /// Removes an app and its host names, and returns the revision that leaves service. Requests in flight still
    /// finish.
    pub fn remove(&self, tenant: &TenantName, app: &AppName) -> Option<RetiredRevision> {
        let app = self.registry().remove_app(tenant, app)?;
        self.metrics().remove_app(tenant.as_str(), app.name().as_str());
        let mut locked = app.lifecycle.lock();
        self.registry().set_host_names(&app, locked.data(), &[]);
        let before = locked.stop();
        // Release the app's lock before `unlist` takes the lock of the loaded apps: when both are held, the lock of the
        // loaded apps is always taken first.
        drop(locked);
        self.loader().loaded_apps().unlist(&app);
        self.retire(before)
    }

    /// Returns the status of an app; `None` if the app does not exist.
    #[must_use]
    pub fn state(&self, tenant: &TenantName, app: &AppName) -> Option<AppState> {
        let app = self.registry().app(tenant, app).ok()?;
        Some(match app.lifecycle.loaded() {
            _ if app.lifecycle.is_stopped() => AppState::Stopped,
            Some(_) => AppState::Loaded,
            None if app.failure().is_some() => AppState::Failed,
            None => AppState::Idle,
        })
    }

    /// Makes the probed code of an app in memory, because its next requests will be sampled. Has no effect if the app is
    /// not in memory: its first sampled request then makes the code.
    pub fn expect_sampled_requests(&self, tenant: &TenantName, app: &AppName) {
        if let Ok(app) = self.registry().app(tenant, app)
            && let Some(loaded) = app.lifecycle.loaded()
        {
            loaded.revision.graph().request_probed_code();
        }
    }

    /// Returns the number of groups of an app in memory that have probed code, which sampled requests run.
    #[must_use]
    pub fn probed_groups(&self, tenant: &TenantName, app: &AppName) -> usize {
        let app = self.registry().app(tenant, app).ok();
        app.and_then(|app| app.lifecycle.read(|loaded| loaded.revision.graph().probed_groups())).unwrap_or(0)
    }

    /// Returns why the last load of an app failed, without details that the tenant may not see. Returns `None` if the
    /// load succeeded, or the app was changed after the load.
    #[must_use]
    pub fn failure(&self, tenant: &TenantName, app: &AppName) -> Option<Arc<str>> {
        self.registry().app(tenant, app).ok()?.failure()
    }

    /// Returns whether an app in memory serves requests, or one of its guests still runs after its response was read.
    /// Such an app is not evicted.
    #[must_use]
    pub fn is_busy(&self, tenant: &TenantName, app: &AppName) -> bool {
        let app = self.registry().app(tenant, app).ok();
        app.and_then(|app| app.lifecycle.read(|loaded| loaded.revision.is_busy())).unwrap_or(false)
    }

    fn registry(&self) -> &Registry {
        &self.0.registry
    }

    fn loader(&self) -> &Arc<Loader> {
        &self.0.loader
    }

    fn owner(&self, tenant: &TenantName) -> Result<Arc<Tenant>, TenancyError> {
        self.registry().tenant(tenant).ok_or_else(|| TenancyError::NoTenant(tenant.clone()))
    }

    async fn start_now(
        &self,
        request: StartRequest<'_>,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Arc<LoadedRevision>, TenancyError> {
        let permit = self.loader().loaded_apps().acquire_beyond_max();
        Ok(Arc::new(self.loader().start(request, permit, progress).await?))
    }

    /// Removes `before`, a revision that no longer serves, from the apps in memory. Returns a weak reference to it,
    /// with which callers can wait until its requests have finished.
    fn retire(&self, before: Option<Arc<LoadedRevision>>) -> Option<RetiredRevision> {
        let before = before?;
        let retired = RetiredRevision::new(&before);
        self.loader().loaded_apps().unload(before);
        Some(retired)
    }

    fn nanos_since_start(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.0.started_at);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}
