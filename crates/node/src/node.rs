//! The type [`Node`], and the resources that all parts of a node share.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use isomer_api::{ApiProblem, NodeStatus, ProblemKind};
use isomer_apps::tenancy::memory::resident_bytes;
use isomer_apps::{AppResolver, RevisionError, Tenancy, TenancyOptions};
use isomer_capabilities::data_dir::DataDirError;
use isomer_capabilities::{NodeDir, StorageAccount};
use isomer_disk::Reserve;
use isomer_front::{ConnectionCounts, Connections};
use isomer_ids::TenantName;
use isomer_observe::Log;
use isomer_otlp::Otlp;
use isomer_runtime::code::CodeError;
use isomer_state::{BlobError, Blobs, NodeState, StateError};
use isomer_telemetry::SamplingLimits;

use crate::attempts::Attempts;
use crate::compiler::sandbox::Confinement;
use crate::compiler::{CompileError, CompilerOptions, Compilers};
use crate::data_leases::DataLeases;
use crate::locks::{AppLocks, TenantLocks};
use crate::repository::DiskRepository;
use crate::shape_traffic::ShapeTraffic;
use crate::signatures::SignaturePolicy;
use crate::steps::ChangeStep;
use crate::suspended_apps::SuspendedApps;
use crate::tenant_resources::ResourcesByTenant;
use crate::uploads::Uploads;

/// The options for opening a node.
pub struct NodeOptions {
    /// The path of the data directory.
    pub data: PathBuf,
    /// The log of the node itself.
    pub log: Log,
    /// The options for compiling releases.
    pub compiler: CompilerOptions,
    /// The options for running apps, including how many apps stay in memory.
    pub tenancy: TenancyOptions,
    /// Which requests of the apps are traced, and the limits for the apps' own settings; `None` if no traces are
    /// recorded.
    pub sampling: Option<SamplingLimits>,
    /// The export of telemetry, if there is a collector.
    pub export: Option<Arc<Otlp>>,
    /// Which keys must have signed the releases of tenants.
    pub signatures: SignaturePolicy,
    /// A function that is called after each step of every change, on any thread.
    pub watch: Option<Arc<dyn Fn(ChangeStep) + Send + Sync>>,
}

/// The reason why a node cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The data directory is in use by another process, or cannot be opened.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// The node's recorded state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The stored parts of releases cannot be read.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The cache of compiled code cannot be opened.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The WebAssembly engine cannot be set up.
    #[error(transparent)]
    Engine(RevisionError),
    /// The thread that writes the apps' traces cannot be started.
    #[error("cannot start the thread that writes the apps' traces")]
    Traces {
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The thread that writes the apps' logs cannot be started.
    #[error("cannot start the thread that writes the apps' logs")]
    Log {
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// A node: one process that serves the apps of tenants.
pub struct Node {
    pub(crate) dir: Arc<NodeDir>,
    pub(crate) state: Arc<NodeState>,
    pub(crate) blobs: Blobs,
    pub(crate) repository: Arc<DiskRepository>,
    pub(crate) tenancy: Tenancy,
    pub(crate) app_locks: AppLocks,
    pub(crate) attempts: Attempts,
    pub(crate) data_leases: DataLeases,
    pub(crate) uploads: Uploads,
    pub(crate) suspended: SuspendedApps,
    pub(crate) shape_traffic: ShapeTraffic,
    pub(crate) tenant_locks: TenantLocks,
    pub(crate) resources: Arc<ResourcesByTenant>,
    pub(crate) compilers: Arc<Compilers>,
    pub(crate) signatures: SignaturePolicy,
    pub(crate) watch: Option<Arc<dyn Fn(ChangeStep) + Send + Sync>>,
    pub(crate) front: OnceLock<(Vec<SocketAddr>, Connections)>,
    pub(crate) opened: Instant,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("dir", &self.dir.path()).finish_non_exhaustive()
    }
}

impl Node {
    /// Returns the resolver with which the front door finds the app for each request.
    #[must_use]
    pub fn resolver(&self) -> Arc<AppResolver> {
        Arc::new(self.tenancy.clone())
    }

    /// Returns the node's data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Sets what the node's status reports about its front door: the addresses, and the counter of open connections.
    /// Only the first call has an effect.
    pub fn set_front(&self, addresses: Vec<SocketAddr>, connections: Connections) {
        let _ = self.front.set((addresses, connections));
    }

    /// Returns the number of compiler processes that have been started so far.
    #[must_use]
    pub fn compilers_started(&self) -> u64 {
        self.compilers.started()
    }

    /// Returns which layers of the compiler's sandbox this system supports. Logs a warning if they are not sufficient.
    ///
    /// # Errors
    /// If no compiler process can be started.
    pub async fn confinement(&self) -> Result<Confinement, CompileError> {
        self.compilers.confinement().await
    }

    pub(crate) fn node_status(&self) -> NodeStatus {
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
            shape: None,
            uptime_s: self.opened.elapsed().as_secs(),
            tenants: number(counts.tenants),
            apps: number(counts.apps),
            apps_loaded: number(counts.loaded),
            apps_loaded_max: number(counts.loaded_max),
            instances: self.tenancy.engine().live_instances().into(),
            resident_bytes: resident_bytes().unwrap_or(0),
            requests: counts.requests,
            loads: counts.loads,
            drops: counts.evictions,
            connections: number(connections.open),
            connections_evicted: connections.evicted,
            connections_refused: connections.refused,
        }
    }

    /// Returns the free disk space that uploads and tenants' data must not use.
    pub(crate) fn reserve(&self) -> &Arc<Reserve> {
        self.resources.reserve()
    }

    /// Returns the account of a tenant's disk space; `None` if the tenant does not exist.
    pub(crate) fn storage(&self, tenant: &TenantName) -> Option<Arc<StorageAccount>> {
        self.resources.get(tenant).map(|resources| resources.storage.clone())
    }

    /// Updates the charge to a tenant for its revisions. Must be called after each change of the tenant's revisions in
    /// the node's state.
    pub(crate) fn charge(&self, tenant: &TenantName) {
        self.resources.charge(tenant, &self.state);
    }

    /// Counts a deployment that is refused because the tenant's quota `storage` is exhausted.
    pub(crate) fn refuse_storage(&self, tenant: &TenantName) {
        if let Some(storage) = self.storage(tenant) {
            storage.refuse();
        }
    }

    /// Returns the maximum number of bytes that may be charged to a tenant for its revisions: the part of the quota
    /// `storage` that the tenant's other data does not use. Blocks.
    pub(crate) fn charges_max(&self, tenant: &TenantName) -> u64 {
        let Some(resources) = self.resources.get(tenant) else { return u64::MAX };
        resources.count(&self.dir.tenant(tenant.as_str()));
        resources.storage.charges_max()
    }

    pub(crate) fn step(&self, step: ChangeStep) {
        if let Some(watch) = &self.watch {
            watch(step);
        }
    }

    /// Runs `work`, which reads and syncs files, on a blocking thread.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiProblem> + Send + 'static,
    ) -> Result<T, ApiProblem> {
        let failed = |_| Err(ApiProblem::new(ProblemKind::Failed, "the node failed; see the node's log"));
        tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
    }
}
