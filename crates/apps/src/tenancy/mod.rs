//! The tenants of a process, their apps, and which apps are in memory.
//!
//! An app is identified by its tenant and its name. It serves one revision under its host names. Of thousands of apps,
//! most are idle: an idle app is a name in memory and a package on disk. The first request for an idle app loads it.
//! When there is no room for more apps in memory, the least recently used idle apps are evicted.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `resolver` | how a request enters: host name, tenant's limits, app |
//! | `registry`, `host_names` | the tenants, apps and host names |
//! | `tenant`, `admission` | a tenant's limits and usage |
//! | `app` | one app |
//! | `lifecycle` | the lifecycle of an app, as a pure state machine |
//! | `shared_lifecycle`, `sync` | that state machine behind a lock |
//! | `model` | a test of the lifecycle's races under many schedules |
//! | `loader` | loading and starting revisions |
//! | `loaded_apps`, `loaded_revision` | the apps in memory, and which of them are evicted |
//! | [`repository`] | the source of apps that are not in memory |
//! | `hold` | holding requests while an app is replaced together with its data |
//! | [`options`], [`time_limits`] | how many apps are in memory, and how they run |
//! | [`memory`] | the memory of the process and the system |
//!
//! Nothing here is stored over a restart: the caller (a command that serves one app, or a node with a state on disk)
//! adds tenants and apps.
//!
//! Invariants: a request is served by one revision from beginning to end, even if another revision takes over, or the
//! app is stopped or evicted during the request. No request waits for a lock that is held during a slow operation. The
//! resources that a tenant's requests and guests use are charged to that tenant before they are used.
//!
//! The file is long because every change of a tenant or an app is a method of `Tenancy`.

mod admission;
mod app;
mod hold;
mod host_names;
mod lifecycle;
mod loaded_apps;
mod loaded_revision;
mod loader;
pub mod memory;
#[cfg(test)]
mod model;
pub mod options;
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
use isomer_runtime::code::CodeCache;
use isomer_runtime::engine::Engine;
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
use registry::Registry;
pub use repository::{AppRepository, EmptyRepository, LaunchSpec, RepositoryError};
use tenant::Tenant;
pub use time_limits::TimeLimits;

/// Why an operation on an app failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TenancyError {
    /// There is no such tenant.
    #[error("there is no tenant `{0}`")]
    NoTenant(TenantName),
    /// The tenant has no such app.
    #[error("tenant `{tenant}` has no app `{app}`")]
    NoApp {
        /// The tenant.
        tenant: TenantName,
        /// The app.
        app: AppName,
    },
    /// The package of the revision, or another resource that it needs from the node, could not be read.
    #[error("the app's package cannot be read")]
    Repository(#[source] ApiProblem),
    /// The revision could not be started.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// A store, secret or directory that the app was granted could not be opened.
    #[error(transparent)]
    Capabilities(#[from] AppCapabilityError),
}

/// Numbers of tenants, apps, loads and requests. Loads, evictions and requests are counted since the start.
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
    /// The number of successful loads for requests.
    pub loads: u64,
    /// The number of evictions.
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
    started_at: Instant,
}

/// A revision that was started next to the revision in service, and can take over. Dropping it shuts it down.
pub struct StandbyRevision {
    tenant: Arc<Tenant>,
    app: AppName,
    revision: ReleaseDigest,
    loaded: Arc<LoadedRevision>,
    /// See [`StandbyRevision::with_inputs`].
    inputs: Option<u64>,
}

impl StandbyRevision {
    /// Sets the value of [`Tenancy::inputs`] with which the revision was started. If the value has changed when the
    /// revision takes over, the next request loads the revision again.
    #[must_use]
    pub fn with_inputs(self, inputs: u64) -> Self {
        Self { inputs: Some(inputs), ..self }
    }

    /// Returns the routes of the revision.
    #[must_use]
    pub fn site(&self) -> &Arc<AppSite> {
        self.loaded.revision.site()
    }

    /// Returns the callee for calls from the shape's other processes. The revision runs until the callee is dropped.
    #[must_use]
    pub fn callee(&self) -> Arc<dyn Callee> {
        self.loaded.revision.callee()
    }
}

impl Tenancy {
    /// Creates a tenancy without tenants. Must be called in a tokio runtime.
    #[must_use]
    pub fn new(
        engine: Engine,
        cache: CodeCache,
        log: Log,
        repository: Arc<dyn AppRepository>,
        options: TenancyOptions,
    ) -> Self {
        let loader = Loader::new(engine, cache, log, repository, options);
        Self(Arc::new(Inner { registry: Registry::default(), loader, started_at: Instant::now() }))
    }

    /// Returns the engine that all apps share.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.0.loader.engine
    }

    /// Returns the cache of compiled code.
    #[must_use]
    pub fn cache(&self) -> &CodeCache {
        &self.0.loader.cache
    }

    /// Returns the maximum times of requests and statements.
    #[must_use]
    pub fn time_limits(&self) -> TimeLimits {
        self.0.loader.options.time_limits
    }

    /// Returns the storage engines that all apps share.
    #[must_use]
    pub fn stores(&self) -> &Engines {
        &self.0.loader.stores
    }

    /// Adds the tenant of a process that serves a single app: the tenant has no limits, and only its manifests decide
    /// which hosts its app may reach.
    pub fn set_own_tenant(&self, name: &TenantName) {
        self.registry().set_own_tenant(name);
    }

    /// Adds a tenant, or changes its quotas.
    ///
    /// # Errors
    /// When the outbound hosts in the quotas are invalid. Nothing is changed then.
    pub fn set_tenant(&self, name: &TenantName, quotas: &Quotas) -> Result<(), InvalidHostRule> {
        self.registry().set_tenant(name, quotas)
    }

    /// Returns the account of a tenant's bytes on disk.
    #[must_use]
    pub fn storage(&self, name: &TenantName) -> Option<Arc<StorageAccount>> {
        self.registry().tenant(name).map(|tenant| tenant.storage.clone())
    }

    /// Returns the quota of a tenant's log lines.
    #[must_use]
    pub fn log_quota(&self, name: &TenantName) -> Option<Arc<LogQuota>> {
        self.registry().tenant(name).map(|tenant| tenant.log.clone())
    }

    /// Removes a tenant with all its apps. Requests in flight still finish.
    pub fn remove_tenant(&self, name: &TenantName) {
        for app in self.registry().apps_of(name) {
            self.remove(name, app.name());
        }
        self.registry().remove_tenant(name);
    }

    /// Counts an app that was refused because of a tenant's quota. The caller checks the quota, because it knows how
    /// many apps the tenant has.
    pub fn count_refused_app(&self, name: &TenantName) {
        if let Some(tenant) = self.registry().tenant(name) {
            tenant.refused_apps.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the usage of a tenant, current and so far; `None` if there is no such tenant.
    #[must_use]
    pub fn usage(&self, name: &TenantName) -> Option<TenantUsage> {
        self.registry().tenant(name).map(|tenant| tenant.usage())
    }

    /// Returns the numbers of tenants, apps and requests.
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

    /// Adds an app that is on disk, or changes an app: its next request loads `revision`.
    ///
    /// # Errors
    /// When there is no such tenant.
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
    /// When there is no such tenant, or the revision does not start. Everything that was started is shut down again
    /// then.
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

    /// Like [`Tenancy::start`], for one of the processes of a shape. `peers` has the other processes.
    ///
    /// # Errors
    /// Like [`Tenancy::start`].
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

    /// Like [`Tenancy::start`], but does not start a first instance: no guest code runs before the first request.
    ///
    /// # Errors
    /// Like [`Tenancy::start`].
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

    /// Returns a counter of changes of the inputs, other than revisions, with which a tenant's apps are started, such
    /// as secrets.
    #[must_use]
    pub fn inputs(&self, tenant: &TenantName) -> u64 {
        self.registry().tenant(tenant).map_or(0, |tenant| tenant.inputs.load(Ordering::SeqCst))
    }

    /// Increments [`Tenancy::inputs`]. Must be called after the change of an input, and before [`Tenancy::unload`] of
    /// each app.
    pub fn inputs_changed(&self, tenant: &TenantName) {
        if let Some(tenant) = self.registry().tenant(tenant) {
            tenant.inputs.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Puts `standby` into service under the host names `hosts` only, and returns the revision that leaves service.
    /// Requests in flight finish with the revision with which they began. A stopped app stays stopped.
    ///
    /// # Errors
    /// When the tenant was removed in the meantime.
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
    /// When there is no such app.
    pub fn set_hosts(&self, tenant: &TenantName, app: &AppName, hosts: &[HostPattern]) -> Result<(), TenancyError> {
        let app = self.registry().app(tenant, app)?;
        self.registry().set_host_names(&app, app.lifecycle.lock().data(), hosts);
        Ok(())
    }

    /// Makes requests for the app fail with 503 from now on. The app leaves memory when the requests in flight have
    /// finished.
    ///
    /// # Errors
    /// When there is no such app.
    pub fn stop(&self, tenant: &TenantName, app: &AppName) -> Result<Option<RetiredRevision>, TenancyError> {
        let app = self.registry().app(tenant, app)?;
        let before = app.lifecycle.lock().stop();
        Ok(self.retire(before))
    }

    /// Ends [`Tenancy::stop`]: the next request loads the app.
    ///
    /// # Errors
    /// When there is no such app.
    pub fn resume(&self, tenant: &TenantName, app: &AppName) -> Result<(), TenancyError> {
        let app = self.registry().app(tenant, app)?;
        app.lifecycle.lock().resume();
        Ok(())
    }

    /// Unloads an app because an input with which it was started has changed. The next request loads the app again.
    ///
    /// # Errors
    /// When there is no such app.
    pub fn unload(&self, tenant: &TenantName, app: &AppName) -> Result<Option<RetiredRevision>, TenancyError> {
        let app = self.registry().app(tenant, app)?;
        let mut locked = app.lifecycle.lock();
        app.set_failure(None);
        let before = locked.unload();
        drop(locked);
        Ok(self.retire(before))
    }

    /// Removes an app with its host names, and returns the revision that leaves service. Requests in flight still
    /// finish.
    pub fn remove(&self, tenant: &TenantName, app: &AppName) -> Option<RetiredRevision> {
        let app = self.registry().remove_app(tenant, app)?;
        let mut locked = app.lifecycle.lock();
        self.registry().set_host_names(&app, locked.data(), &[]);
        let before = locked.stop();
        // Released before the loaded apps are locked: their lock is always taken before an app's lifecycle is locked.
        drop(locked);
        self.loader().loaded_apps().unlist(&app);
        self.retire(before)
    }

    /// Returns the status of an app; `None` if there is no such app.
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

    /// Returns the reason why the last load of an app failed, in the form that its tenant may see. Returns `None` if
    /// the load succeeded, or if the app is to serve another revision since then.
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

    /// Unloads a revision that left service.
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
