//! The tenants of a node, their apps, and which of these are in memory.
//!
//! An app is known by its tenant and its name. It serves one revision under its host names. Of thousands of apps most do nothing: these
//! are a name each, and lie on disk as packages. The first request for one loads it, and while it is in memory nothing tells it from one
//! that always was. Of the apps in memory, those go that nobody uses, when there is no room for others.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `resolver` | finds the app of a request, and admits the request |
//! | `hosts` | which app answers for a host name |
//! | `tenant` | what a tenant may use and has used |
//! | `app` | an app |
//! | `serving` | what it is to serve, and what serves it: every decision about that |
//! | `sync` | what `serving` is synchronised by |
//! | `model` | the races of these decisions, tried out under many schedules |
//! | `loading` | the way of an app into memory |
//! | `hold` | requests that wait while an app is replaced with its data |
//! | [`times`] | how long requests and statements may take at most |
//! | `loaded` | what is in memory, and what goes first |
//! | [`memory`] | what memory the process and the system have |
//!
//! Nothing is kept here over a restart: who calls (a command that serves one app, or a node with its own state on disk) says what
//! there is.
//!
//! Invariants: a request is served by one revision from end to end, whatever takes over, is stopped or dropped meanwhile. No request
//! waits for a lock that is held over anything slow. What one tenant does is charged to that tenant, before it costs anything.
//!
//! long because all that others may ask of a tenancy is one type's functions, each with what it promises; what they are made of lies in
//! the files above.

mod admission;
mod app;
mod hold;
mod hosts;
mod loaded;
mod loading;
pub mod memory;
#[cfg(test)]
mod model;
mod resolver;
mod serving;
mod sync;
mod tenant;
pub mod time_limits;

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Instant;

use futures::future::BoxFuture;
use isomer_api::{ApiProblem, AppState, Quotas, TenantUsage};
use isomer_capabilities::outbound::InvalidHostRule;
use isomer_capabilities::outbound::OutboundNetwork;
use isomer_capabilities::{AppResources, CapabilityLimits, Engines, StorageAccount};
use isomer_front::SiteOwner;
use isomer_ids::{AppName, HostPattern, ReleaseDigest, TenantName};
use isomer_manifest::NodeLimits;
use isomer_observe::{AppLog, Log, LogQuota};
use isomer_runtime::Graph;
use isomer_runtime::code::CodeCache;
use isomer_runtime::engine::{Engine, PoolSizes};
use isomer_runtime::machine::Machine;
use isomer_telemetry::{AppIdentity, EventSink};
use isomer_wire::Callee;

use crate::app_capabilities::{AppCapabilities, AppCapabilityError};
use crate::error::RevisionError;
use crate::group_handler::AppSite;
use crate::package::Package;
use crate::progress::Progress;
use crate::revision::{Revision, StartOptions};
use crate::seams::Peers;
use app::App;
pub use hold::Held;
use hosts::Hosts;
use loaded::{Loaded, LoadedApps, ResidencyPermit};
use loading::Loads;
pub use memory::MemoryBounds;
use serving::Replaced;
use tenant::Tenant;
pub use time_limits::TimeLimits;

/// How many apps are in memory at once, and how they come there.
#[derive(Debug, Clone)]
pub struct TenancyOptions {
    /// Apps in memory.
    pub loaded_max: usize,
    /// Apps that are loaded at the same time.
    pub loads_max: usize,
    /// When apps are dropped from memory though there is room for them. Nothing is watched where absent.
    pub memory: Option<MemoryBounds>,
    /// Instances of a group that may live at once; fewer where the engine's pool has no room for as many.
    pub instances_max: Option<u32>,
    /// Requests that one instance serves before it is replaced; 1 gives each request a fresh one.
    pub requests_per_instance_max: Option<u32>,
    /// Bytes of the data directory's file system that tenants' writes leave free: for the node's own state, audit log and code.
    pub disk_reserve_bytes: u64,
    /// How long requests and statements may take at most, whatever manifests say.
    pub time_limits: TimeLimits,
    /// What outgoing requests are sent through.
    pub network: OutboundNetwork,
    /// There is one app, which answers for every host name: where nothing answers, it is still being built.
    pub is_of_one_app: bool,
    /// Call stacks have the lines of sources that components were built with. For one app that is developed: code takes more room on disk
    /// and in memory for it.
    pub source_lines: bool,
}

/// What tenants leave free of the disk unless the node is told otherwise: some hundred deployments of a usual app.
const DISK_RESERVE_BYTES: u64 = 256 << 20;

/// Even where there is hardly room, some are in memory: a node that drops an app after every request is of no use.
const LOADED_MIN: usize = 64;

/// More than this would only be looked through.
const LOADED_MAX: usize = 50_000;

impl Default for TenancyOptions {
    /// Of a node of many apps, that has the machine for itself: as many are in memory as `isomer doctor` says that there is room for.
    fn default() -> Self {
        let room = Machine::read().capacity(&PoolSizes::of_a_node());
        Self {
            loaded_max: usize::try_from(room.loaded_apps).unwrap_or(usize::MAX).clamp(LOADED_MIN, LOADED_MAX),
            loads_max: 8,
            memory: Some(MemoryBounds::of_this_machine()),
            instances_max: None,
            requests_per_instance_max: None,
            disk_reserve_bytes: DISK_RESERVE_BYTES,
            time_limits: TimeLimits::of(&NodeLimits::default()),
            network: OutboundNetwork::default(),
            is_of_one_app: false,
            source_lines: false,
        }
    }
}

impl TenancyOptions {
    /// For what always stays in memory.
    #[must_use]
    pub fn unbounded() -> Self {
        Self { loaded_max: usize::MAX, memory: None, time_limits: TimeLimits::NONE, ..Self::default() }
    }
}

/// What an app is started from.
pub struct LaunchSpec {
    /// Its package.
    pub package: Arc<Package>,
    /// What it finds on this node. What its tenant may use of it is not looked at: that is known here.
    pub place: AppResources,
    /// Its own log; what its guests say goes into the node's where it has none.
    pub log: Option<AppLog>,
    /// Its own access log, where requests are logged.
    pub access: Option<AppLog>,
}

/// Why nothing came off a [`AppRepository`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// Too much else is being made. Nothing is wrong with the app: the next request tries again.
    #[error(transparent)]
    Busy(Box<dyn Error + Send + Sync>),
    /// It is not there, or cannot be read or made.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

/// Where apps come from that are not in memory.
pub trait AppRepository: Send + Sync + 'static {
    /// What `revision` of the app is started from. It must not block, and may be dropped before it is done: what it has to wait for
    /// goes on then, for whoever asks next.
    ///
    /// # Errors
    /// When it is not there.
    fn take(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        revision: ReleaseDigest,
    ) -> BoxFuture<'static, Result<LaunchSpec, RepositoryError>>;

    /// The app's own log, where there is one. It must not block.
    fn log(&self, _tenant: &TenantName, _app: &AppName) -> Option<AppLog> {
        None
    }

    /// What a tenant is told of an error: without the places where the node keeps things.
    fn told(&self, text: &str) -> String {
        text.to_owned()
    }
}

/// For who keeps all apps in memory.
pub struct EmptyRepository;

impl AppRepository for EmptyRepository {
    fn take(
        self: Arc<Self>,
        _: TenantName,
        _: AppName,
        _: ReleaseDigest,
    ) -> BoxFuture<'static, Result<LaunchSpec, RepositoryError>> {
        Box::pin(async { Err(RepositoryError::Failed("nothing is kept on disk".into())) })
    }
}

/// Why something cannot be done with an app.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TenancyError {
    /// There is no such tenant.
    #[error("there is no tenant `{0}`")]
    NoTenant(TenantName),
    /// The tenant has no such app.
    #[error("tenant `{tenant}` has no app `{app}`")]
    NoApp {
        /// Whose.
        tenant: TenantName,
        /// Which.
        app: AppName,
    },
    /// What it is started from cannot be read.
    #[error("what the app is started from cannot be read")]
    Repository(#[source] ApiProblem),
    /// It cannot be started.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// A grant could not be made good.
    #[error(transparent)]
    Capabilities(#[from] AppCapabilityError),
}

/// What a node has, and has done since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tenants.
    pub tenants: usize,
    /// Apps.
    pub apps: usize,
    /// Those in memory, and on their way there.
    pub loaded: usize,
    /// How many may be.
    pub loaded_max: usize,
    /// How often an app was loaded for a request.
    pub loads: u64,
    /// How often one was dropped in favour of others.
    pub drops: u64,
    /// Requests for apps, those that were refused too.
    pub requests: u64,
}

/// All tenants with their apps. Cheap to clone.
#[derive(Clone)]
pub struct Tenancy(Arc<Inner>);

struct Inner {
    engine: Engine,
    cache: CodeCache,
    stores: Engines,
    log: Log,
    repository: Arc<dyn AppRepository>,
    options: TenancyOptions,
    runtime: tokio::runtime::Handle,
    began: Instant,
    hosts: RwLock<Hosts>,
    known: Mutex<Known>,
    set: Arc<LoadedApps>,
    loads: Loads,
}

#[derive(Default)]
struct Known {
    tenants: HashMap<TenantName, Arc<Tenant>>,
    apps: BTreeMap<(TenantName, AppName), Arc<App>>,
    /// Requests of tenants that are gone.
    requests_gone: u64,
}

/// A revision that has started beside the one that serves. Dropping it is the end of it.
pub struct Started {
    tenant: Arc<Tenant>,
    app: AppName,
    revision: ReleaseDigest,
    loaded: Arc<Loaded>,
    /// See [`Started::made_of`].
    inputs: Option<u64>,
}

impl Started {
    /// Says which [`Tenancy::inputs`] there were before what it was started from was read. If these are others when it takes over, its
    /// next request loads it anew.
    #[must_use]
    pub fn made_of(self, inputs: u64) -> Self {
        Self { inputs: Some(inputs), ..self }
    }

    /// What it would serve.
    #[must_use]
    pub fn site(&self) -> &Arc<AppSite> {
        self.loaded.revision.site()
    }

    /// Answers the calls of the shape's other processes, for as long as somebody holds it.
    #[must_use]
    pub fn callee(&self) -> Arc<dyn Callee> {
        self.loaded.revision.callee()
    }
}

/// A revision that serves no new requests.
pub struct Retired(Weak<Graph>);

impl Retired {
    /// Are all its requests over, and is it gone from memory?
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Tenancy {
    /// Without tenants. Needs tokio's runtime.
    #[must_use]
    pub fn new(
        engine: Engine,
        cache: CodeCache,
        log: Log,
        repository: Arc<dyn AppRepository>,
        options: TenancyOptions,
    ) -> Self {
        let set = LoadedApps::new(options.loaded_max, options.memory);
        let loads = Loads::new(options.loads_max);
        Self(Arc::new(Inner {
            engine,
            cache,
            stores: Engines::with_network(CapabilityLimits::default(), options.network.clone()),
            log,
            repository,
            options,
            runtime: tokio::runtime::Handle::current(),
            began: Instant::now(),
            hosts: RwLock::default(),
            known: Mutex::default(),
            set,
            loads,
        }))
    }

    /// The engine that all apps share.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Where compiled code lies.
    #[must_use]
    pub fn cache(&self) -> &CodeCache {
        &self.0.cache
    }

    /// How long requests and statements may take at most.
    #[must_use]
    pub fn time_limits(&self) -> TimeLimits {
        self.0.options.time_limits
    }

    /// The storage engines that all apps share.
    #[must_use]
    pub fn stores(&self) -> &Engines {
        &self.0.stores
    }

    /// Adds the tenant whose process this is: nothing bounds it, and its manifests alone say what they reach.
    pub fn set_own_tenant(&self, name: &TenantName) {
        self.0.known().tenants.entry(name.clone()).or_insert_with(|| Tenant::own(name.clone()));
    }

    /// Adds a tenant, or gives it other quotas from now on.
    ///
    /// # Errors
    /// When its outbound hosts are none. Nothing is changed then.
    pub fn set_tenant(&self, name: &TenantName, quotas: &Quotas) -> Result<(), InvalidHostRule> {
        let mut known = self.0.known();
        match known.tenants.get(name) {
            Some(tenant) => tenant.set(quotas)?,
            None => drop(known.tenants.insert(name.clone(), Tenant::new(name.clone(), quotas)?)),
        }
        Ok(())
    }

    /// A tenant's account of what its stores take on disk.
    #[must_use]
    pub fn storage(&self, name: &TenantName) -> Option<Arc<StorageAccount>> {
        self.0.known().tenants.get(name).map(|tenant| tenant.storage.clone())
    }

    /// A tenant's quota of what its apps may log.
    #[must_use]
    pub fn log_quota(&self, name: &TenantName) -> Option<Arc<LogQuota>> {
        self.0.known().tenants.get(name).map(|tenant| tenant.log.clone())
    }

    /// Removes a tenant with all its apps. Requests in flight end as they would.
    pub fn remove_tenant(&self, name: &TenantName) {
        for app in self.apps_of(name) {
            self.remove(name, app.name());
        }
        let mut known = self.0.known();
        if let Some(tenant) = known.tenants.remove(name) {
            known.requests_gone += tenant.admission.counts().requests;
        }
    }

    /// Counts that a tenant was refused an app which its quota does not allow. How many it has is for whoever keeps them to know.
    pub fn refuse_app(&self, name: &TenantName) {
        if let Some(tenant) = self.0.known().tenants.get(name) {
            tenant.refused_apps.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What a tenant uses and has used; none where there is no such tenant.
    #[must_use]
    pub fn usage(&self, name: &TenantName) -> Option<TenantUsage> {
        self.0.known().tenants.get(name).map(|tenant| tenant.usage())
    }

    /// What there is, and what was done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let inner = &self.0;
        let known = inner.known();
        let requests = known.tenants.values().map(|tenant| tenant.admission.counts().requests);
        Counts {
            tenants: known.tenants.len(),
            apps: known.apps.len(),
            loaded: inner.set.taken(),
            loaded_max: inner.set.max(),
            loads: inner.loads.done(),
            drops: inner.set.drops(),
            requests: known.requests_gone + requests.sum::<u64>(),
        }
    }

    /// Makes an app known that lies on disk, or changes what is known of one: its next request loads `revision`.
    ///
    /// # Errors
    /// When there is no such tenant.
    pub fn put(
        &self,
        tenant: &TenantName,
        name: &AppName,
        revision: &ReleaseDigest,
        hosts: &[HostPattern],
        stopped: bool,
    ) -> Result<(), TenancyError> {
        let app = self.0.app_or_new(tenant, name, revision)?;
        let mut locked = app.serving.lock();
        app.set_failure(None);
        self.0.retired(locked.put(revision, stopped));
        self.0.set_hosts(&app, locked.kept(), hosts);
        Ok(())
    }

    /// Starts a revision beside the one that serves. Nothing of it is served before [`Tenancy::take_over`].
    ///
    /// # Errors
    /// When there is no such tenant, or the revision does not start; then nothing of it is left.
    pub async fn start(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        spec: &LaunchSpec,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Started, TenancyError> {
        self.start_with_peers(tenant, app, revision, spec, Peers::new(), progress).await
    }

    /// As [`Tenancy::start`], without a first instance: nothing of its guests runs before its first request.
    ///
    /// # Errors
    /// As [`Tenancy::start`].
    pub async fn start_cold(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        spec: &LaunchSpec,
    ) -> Result<Started, TenancyError> {
        self.start_or_not(tenant, app, revision, spec, Peers::new(), false, &|_| {}).await
    }

    /// Counts changes of what a tenant's apps are started with beside their revisions, as of secrets.
    #[must_use]
    pub fn inputs(&self, tenant: &TenantName) -> u64 {
        self.0.known().tenants.get(tenant).map_or(0, |tenant| tenant.inputs.load(Ordering::SeqCst))
    }

    /// What a tenant's apps are started with was changed: call this after the change, then [`Tenancy::unload`] for each app.
    pub fn inputs_changed(&self, tenant: &TenantName) {
        if let Some(tenant) = self.0.known().tenants.get(tenant) {
            tenant.inputs.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// As [`Tenancy::start`], for one of the processes of a shape: `peers` are the others.
    ///
    /// # Errors
    /// As [`Tenancy::start`].
    pub async fn start_with_peers(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        spec: &LaunchSpec,
        peers: Peers,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Started, TenancyError> {
        self.start_or_not(tenant, app, revision, spec, peers, true, progress).await
    }

    #[expect(clippy::too_many_arguments, reason = "each is a thing of its own, and all come from different places")]
    async fn start_or_not(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        spec: &LaunchSpec,
        peers: Peers,
        warm_up: bool,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Started, TenancyError> {
        let inner = &self.0;
        let owner = inner.known().tenants.get(tenant).cloned();
        let owner = owner.ok_or_else(|| TenancyError::NoTenant(tenant.clone()))?;
        let seat = inner.set.seat_in_any_case();
        let making = Making { tenant: &owner, name: app, spec, peers, warm_up };
        let loaded = Arc::new(inner.make(making, seat, progress).await?);
        Ok(Started { tenant: owner, app: app.clone(), revision: revision.clone(), loaded, inputs: None })
    }

    /// From now on new requests for the app go to `started`, under these host names and no others; those in flight end with the
    /// revision that they began with. Gives that one. A stopped app stays so.
    ///
    /// # Errors
    /// When the tenant was removed meanwhile.
    pub fn take_over(&self, started: Started, hosts: &[HostPattern]) -> Result<Option<Retired>, TenancyError> {
        let inner = &self.0;
        let Started { tenant, app, revision, loaded, inputs } = started;
        let app = inner.app_or_new(&tenant.name, &app, &revision)?;
        if !Arc::ptr_eq(&app.tenant, &tenant) {
            return Err(TenancyError::NoTenant(tenant.name.clone()));
        }
        let is_current = || inputs.is_none_or(|inputs| inputs == tenant.inputs.load(Ordering::SeqCst));
        let mut locked = app.serving.lock();
        app.set_failure(None);
        let Replaced { before, unused } = locked.take_over(revision, loaded, is_current);
        if let Some(unused) = unused {
            inner.set.discard(unused);
        }
        app.use_at(inner.now_ns());
        let retired = inner.retired(before);
        inner.set_hosts(&app, locked.kept(), hosts);
        drop(locked);
        inner.set.list(&app);
        Ok(retired)
    }

    /// Gives an app other host names, in place of all that it had.
    ///
    /// # Errors
    /// When there is no such app.
    pub fn set_hosts(&self, tenant: &TenantName, app: &AppName, hosts: &[HostPattern]) -> Result<(), TenancyError> {
        let app = self.0.app(tenant, app)?;
        self.0.set_hosts(&app, app.serving.lock().kept(), hosts);
        Ok(())
    }

    /// Requests for the app are answered with 503 from now on. It leaves memory when those in flight are over.
    ///
    /// # Errors
    /// When there is no such app.
    pub fn stop(&self, tenant: &TenantName, app: &AppName) -> Result<Option<Retired>, TenancyError> {
        let app = self.0.app(tenant, app)?;
        let before = app.serving.lock().stop();
        Ok(self.0.retired(before))
    }

    /// The end of [`Tenancy::stop`]: the next request loads the app.
    ///
    /// # Errors
    /// When there is no such app.
    pub fn resume(&self, tenant: &TenantName, app: &AppName) -> Result<(), TenancyError> {
        let app = self.0.app(tenant, app)?;
        app.serving.lock().resume();
        Ok(())
    }

    /// Drops an app from memory, for what it was started with has changed: its next request loads it anew.
    ///
    /// # Errors
    /// When there is no such app.
    pub fn unload(&self, tenant: &TenantName, app: &AppName) -> Result<Option<Retired>, TenancyError> {
        let app = self.0.app(tenant, app)?;
        let mut locked = app.serving.lock();
        app.set_failure(None);
        let before = locked.unload();
        drop(locked);
        Ok(self.0.retired(before))
    }

    /// The app and its host names are gone. Requests in flight end as they would. Gives what served it.
    pub fn remove(&self, tenant: &TenantName, app: &AppName) -> Option<Retired> {
        let app = self.0.known().apps.remove(&(tenant.clone(), app.clone()))?;
        let mut locked = app.serving.lock();
        self.0.set_hosts(&app, locked.kept(), &[]);
        let before = locked.stop();
        // The set of what is in memory locks apps while it is locked itself.
        drop(locked);
        self.0.set.unlist(&app);
        self.0.retired(before)
    }

    /// Whether an app serves; none where there is no such app.
    #[must_use]
    pub fn state(&self, tenant: &TenantName, app: &AppName) -> Option<AppState> {
        let app = self.0.app(tenant, app).ok()?;
        Some(match app.serving.loaded() {
            _ if app.serving.is_stopped() => AppState::Stopped,
            Some(_) => AppState::Loaded,
            None if app.failure().is_some() => AppState::Failed,
            None => AppState::Idle,
        })
    }

    /// Why an app could not be loaded when a request asked for it last, in words for its tenant. None if it could, or what it is to serve has
    /// changed since.
    #[must_use]
    pub fn failure(&self, tenant: &TenantName, app: &AppName) -> Option<Arc<str>> {
        self.0.app(tenant, app).ok()?.failure()
    }

    /// Returns whether an app in memory serves requests, or a guest of it is still at work after its answer has been read: then it is not dropped
    /// in favour of others.
    #[must_use]
    pub fn is_busy(&self, tenant: &TenantName, app: &AppName) -> bool {
        let app = self.0.app(tenant, app).ok();
        app.and_then(|app| app.serving.read(|loaded| loaded.revision.is_busy())).unwrap_or(false)
    }

    fn apps_of(&self, tenant: &TenantName) -> Vec<Arc<App>> {
        let known = self.0.known();
        known.apps.iter().filter(|((owner, _), _)| owner == tenant).map(|(_, app)| app.clone()).collect()
    }
}

/// What an app that is to serve is made of.
struct Making<'a> {
    tenant: &'a Tenant,
    name: &'a AppName,
    spec: &'a LaunchSpec,
    peers: Peers,
    warm_up: bool,
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hosts(&self) -> RwLockReadGuard<'_, Hosts> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn hosts_mut(&self) -> RwLockWriteGuard<'_, Hosts> {
        self.hosts.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since the node started.
    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn app(&self, tenant: &TenantName, app: &AppName) -> Result<Arc<App>, TenancyError> {
        let found = self.known().apps.get(&(tenant.clone(), app.clone())).cloned();
        found.ok_or_else(|| TenancyError::NoApp { tenant: tenant.clone(), app: app.clone() })
    }

    fn app_or_new(
        &self,
        tenant: &TenantName,
        name: &AppName,
        revision: &ReleaseDigest,
    ) -> Result<Arc<App>, TenancyError> {
        let mut known = self.known();
        let owner = known.tenants.get(tenant).ok_or_else(|| TenancyError::NoTenant(tenant.clone()))?.clone();
        let app = known.apps.entry((tenant.clone(), name.clone()));
        Ok(app.or_insert_with(|| App::new(owner, name.clone(), revision.clone())).clone())
    }

    /// Makes something that serves of what an app is started from.
    async fn make(
        &self,
        making: Making<'_>,
        seat: ResidencyPermit,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Loaded, TenancyError> {
        let Making { tenant, name, spec, peers, warm_up } = making;
        let LaunchSpec { package, place, log, access } = spec;
        let place = AppResources {
            storage: tenant.storage.clone(),
            account: tenant.account.clone(),
            statement_time_max: self.options.time_limits.statement,
            outbound: tenant.outbound.clone(),
            ..place.clone()
        };
        let sink: Arc<dyn EventSink> = match log {
            Some(log) => Arc::new(log.clone()),
            None => Arc::new(self.log.clone()),
        };
        let parts = AppCapabilities::open_at(package.grants(), &place, &self.stores, sink).await?;
        let identity = || AppIdentity { tenant: tenant.name.shared(), app: name.shared() };
        let options = StartOptions {
            requests_per_instance_max: self.options.requests_per_instance_max,
            instances_max: self.options.instances_max,
            deadline_max: self.options.time_limits.request,
            stream_max: self.options.time_limits.stream,
            peers,
            account: tenant.account.clone(),
            owner: log.as_ref().map(|log| SiteOwner { app: identity(), log: log.clone(), access_log: access.clone() }),
            warm_up,
        };
        let revision = Revision::start(package, &self.engine, &self.cache, &parts, &options, progress).await?;
        Ok(Loaded { revision, seat })
    }

    /// Lets go of what served before.
    fn retired(&self, before: Option<Arc<Loaded>>) -> Option<Retired> {
        let before = before?;
        let retired = Retired(Arc::downgrade(before.revision.graph()));
        self.set.discard(before);
        Some(retired)
    }

    fn set_hosts(&self, app: &Arc<App>, before: &mut Box<[HostPattern]>, hosts: &[HostPattern]) {
        if **before == *hosts {
            return;
        }
        let mut map = self.hosts_mut();
        for gone in before.iter().filter(|host| !hosts.contains(host)) {
            map.remove(gone, app);
        }
        for host in hosts {
            map.insert(host, app);
        }
        *before = hosts.into();
    }
}
