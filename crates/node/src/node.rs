//! A node that hosts apps of many tenants: what it keeps on disk, what it has in memory, and what its admins may ask of it.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `admin` | what admins may ask |
//! | `tenants`, `apps`, `tokens` | the answers to that which is no deployment (see [`crate::deploy`]) |
//! | `uploads` | what tenants have sent and not deployed yet |
//! | `resources` | what a tenant's apps share of stores and network |
//! | `shelf` | where an app that is not in memory comes from |
//! | `removals` | data that is to be removed |
//! | `withheld` | apps that do not serve until their stores are whole |
//! | `settling` | recording changes, and those of which it is not known whether they were recorded |
//! | `chores` | what the node does by itself, every minute and every hour |
//! | `problems` | what admins are told of errors |
//!
//! Opening it locks its directory, finishes what an earlier process noted and did not do, and takes all tenants and apps into memory as
//! names: no app is loaded before its first request. Nothing is compiled.

mod admin;
mod apps;
mod chores;
pub(crate) mod problems;
pub(crate) mod removals;
mod resources;
pub(crate) mod settling;
pub(crate) mod shelf;
mod tenants;
mod tokens;
pub(crate) mod uploads;
mod withheld;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use isomer_api::{NodeStatus, Problem, ProblemKind, TenantChange, TenantName};
use isomer_capabilities::data_dir::DataDirError;
use isomer_capabilities::{NodeDir, StorageAccount};
use isomer_disk::{FileStorage, Reserve, Storage};
use isomer_front::{ConnectionCounts, Connections, Door};
use isomer_observe::{AppLogLimits, AppLogs, Log};
use isomer_runtime::code::{CodeCache, CodeError, Key};
use isomer_runtime::engine::{Engine, PoolSizes};
use isomer_state::{BlobError, Blobs, State, StateError};

use crate::deploy::attempts::Attempts;
use crate::deploy::flights::Flights;
use crate::deploy::sandbox::Confinement;
use crate::deploy::steps::Busy;
use crate::deploy::{CompileError, CompilerOptions, Compilers, Step, release, takeover};
use crate::tenancy::memory::resident_bytes;
use crate::tenancy::{Tenancy, TenancyOptions};
use resources::AllResources;
use shelf::OnDisk;
use tenants::Turns;
use uploads::Uploads;
use withheld::Withheld;

/// How a node is set up.
pub struct HostOptions {
    /// Its data directory.
    pub data: PathBuf,
    /// Its log.
    pub log: Log,
    /// How uploads are compiled.
    pub compiler: CompilerOptions,
    /// What is in memory.
    pub tenancy: TenancyOptions,
    /// Told of every step of what changes an app, from whichever thread takes it.
    pub watch: Option<Arc<dyn Fn(Step) + Send + Sync>>,
}

/// Why a node does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Its directory.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// What it keeps about itself.
    #[error(transparent)]
    State(#[from] StateError),
    /// What was uploaded.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// Compiled code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The engine.
    #[error("cannot set aside address space for instances")]
    Engine {
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The apps' logs.
    #[error("cannot start writing the apps' logs")]
    Log {
        /// Why.
        source: std::io::Error,
    },
}

/// A node that hosts apps.
pub struct Host {
    pub(crate) dir: Arc<NodeDir>,
    pub(crate) state: Arc<State>,
    pub(crate) blobs: Blobs,
    pub(crate) shelf: Arc<OnDisk>,
    pub(crate) tenancy: Tenancy,
    pub(crate) busy: Busy,
    pub(crate) attempts: Attempts,
    pub(crate) uploads: Uploads,
    pub(crate) withheld: Withheld,
    turns: Turns,
    resources: Arc<AllResources>,
    compilers: Arc<Compilers>,
    watch: Option<Arc<dyn Fn(Step) + Send + Sync>>,
    front: OnceLock<(Vec<SocketAddr>, Connections)>,
    opened: Instant,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("dir", &self.dir.path()).finish_non_exhaustive()
    }
}

impl Host {
    /// Opens the node's directory. Needs tokio's runtime, and blocks.
    ///
    /// # Errors
    /// When another process has the directory, or something in it cannot be read.
    pub fn open(options: HostOptions) -> Result<Arc<Self>, HostError> {
        Self::open_over(options, FileStorage::new)
    }

    /// As [`Host::open`], with the node's state over storage of the caller's own, for tests of a failing disk.
    ///
    /// # Errors
    /// As [`Host::open`].
    pub fn open_over<S: Storage>(
        options: HostOptions,
        storage: impl FnOnce(&Path) -> S,
    ) -> Result<Arc<Self>, HostError> {
        let dir = Arc::new(NodeDir::open(&options.data)?);
        let is_new = !dir.state().exists();
        let state = Arc::new(State::open_over(&dir.state(), storage(&dir.state()))?);
        if is_new {
            let default = TenantName::DEFAULT.parse().expect("it is a name");
            state.set_tenant(&default, TenantChange::default())?;
        }
        removals::recover(&dir, &state);
        let unfinished = takeover::recover(&dir, &state);
        release::remove_unfinished(&dir.revisions());
        let blobs = Blobs::open(&dir.blobs())?;
        let cache = CodeCache::open_kept(&dir.cache())?;
        let compilers = Arc::new(Compilers::new(options.compiler));
        let engine = |source: wasmtime::Error| HostError::Engine { source: source.into() };
        let engine = Engine::new(PoolSizes::of_a_node()).map_err(engine)?;
        let resources = Arc::new(AllResources::new(Reserve::new(dir.path(), options.tenancy.disk_reserve_bytes)));
        let logs = AppLogs::start(AppLogLimits::default()).map_err(|source| HostError::Log { source })?;
        let reserve = resources.reserve().clone();
        logs.leave_free(move || reserve.room());
        let shelf = Arc::new(OnDisk {
            dir: dir.clone(),
            state: state.clone(),
            blobs: blobs.clone(),
            cache: cache.clone(),
            compilers: compilers.clone(),
            flights: Flights::new(),
            resources: resources.clone(),
            logs,
            access_log: options.log.wants_access(),
            maker: Key::new(&engine, [env!("CARGO_PKG_VERSION").as_bytes()]),
            runtime: tokio::runtime::Handle::current(),
        });
        let tenancy = Tenancy::new(engine, cache, options.log, shelf.clone(), options.tenancy);
        for (name, tenant) in state.tenants() {
            match tenancy.set_tenant(&name, &tenant.quotas) {
                Ok(()) => {
                    resources.add(&name, &tenancy);
                    resources.charge(&name, &state);
                }
                Err(error) => tracing::error!(tenant = %name, %error, "a tenant's apps are not served"),
            }
        }
        for (tenant, name, app) in state.apps() {
            let is_stopped = app.stopped || unfinished.contains(&(tenant.clone(), name.clone()));
            let put = tenancy.put(&tenant, &name, &app.current().revision, &app.hosts, is_stopped);
            if let Err(error) = put {
                tracing::error!(%tenant, app = %name, %error, "an app is not served");
            }
        }
        let host = Arc::new(Self {
            dir,
            state,
            blobs,
            shelf,
            tenancy,
            busy: Busy::default(),
            attempts: Attempts::default(),
            uploads: Uploads::default(),
            withheld: Withheld::new(unfinished),
            turns: Turns::default(),
            resources,
            compilers,
            watch: options.watch,
            front: OnceLock::new(),
            opened: Instant::now(),
        });
        chores::begin(&host);
        Ok(host)
    }

    /// Who serves a request, by its host.
    #[must_use]
    pub fn door(&self) -> Arc<dyn Door> {
        Arc::new(self.tenancy.clone())
    }

    /// The node's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Says where the front door listens and what counts its connections, for the node's status. The first call counts.
    pub fn set_front(&self, addresses: Vec<SocketAddr>, connections: Connections) {
        let _ = self.front.set((addresses, connections));
    }

    /// How many compilers were started so far.
    #[must_use]
    pub fn compilers_started(&self) -> u64 {
        self.compilers.started()
    }

    /// How compilers are confined on this system; said in the log where that is not as it should be.
    ///
    /// # Errors
    /// When none can be started.
    pub async fn confinement(&self) -> Result<Confinement, CompileError> {
        self.compilers.confinement().await
    }

    fn node_status(&self) -> NodeStatus {
        let counts = self.tenancy.counts();
        let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let (listen, connections) = match self.front.get() {
            Some((addresses, connections)) => (addresses.as_slice(), connections.counts()),
            None => ([].as_slice(), ConnectionCounts::default()),
        };
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            listen: listen.iter().map(ToString::to_string).collect(),
            uptime_s: self.opened.elapsed().as_secs(),
            tenants: number(counts.tenants),
            apps: number(counts.apps),
            apps_loaded: number(counts.loaded),
            apps_loaded_max: number(counts.loaded_max),
            instances: self.tenancy.engine().live_instances().into(),
            resident_bytes: resident_bytes().unwrap_or(0),
            requests: counts.requests,
            loads: counts.loads,
            drops: counts.drops,
            connections: number(connections.open),
            connections_evicted: connections.evicted,
            connections_refused: connections.refused,
        }
    }

    /// What uploads and tenants may not use of the disk.
    pub(crate) fn reserve(&self) -> &Arc<Reserve> {
        self.resources.reserve()
    }

    /// What a tenant uses of the disk, and may use.
    pub(crate) fn storage(&self, tenant: &TenantName) -> Option<Arc<StorageAccount>> {
        self.resources.get(tenant).map(|resources| resources.storage.clone())
    }

    /// Counts what the state keeps of a tenant's revisions as used, after it has changed.
    pub(crate) fn charge(&self, tenant: &TenantName) {
        self.resources.charge(tenant, &self.state);
    }

    /// Counts a deployment that was refused as the tenant's storage is used up.
    pub(crate) fn refuse_storage(&self, tenant: &TenantName) {
        if let Some(storage) = self.storage(tenant) {
            storage.refuse();
        }
    }

    /// The most that a tenant's revisions may be charged with now. Blocks.
    pub(crate) fn charges_max(&self, tenant: &TenantName) -> u64 {
        let Some(resources) = self.resources.get(tenant) else { return u64::MAX };
        resources.count(&self.dir.tenant(tenant.as_str()));
        resources.storage.charges_max()
    }

    pub(crate) fn step(&self, step: Step) {
        if let Some(watch) = &self.watch {
            watch(step);
        }
    }

    /// For what reads and syncs files.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let failed = |_| Err(Problem::new(ProblemKind::Failed, "the node failed at this; its log has more about it"));
        tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
    }
}
