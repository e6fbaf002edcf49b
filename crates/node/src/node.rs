//! A node, and the resources that its parts share.

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
use isomer_runtime::code::CodeError;
use isomer_state::{BlobError, Blobs, NodeState, StateError};

use crate::attempts::Attempts;
use crate::compiler::sandbox::Confinement;
use crate::compiler::{CompileError, CompilerOptions, Compilers};
use crate::locks::{AppLocks, TenantLocks};
use crate::repository::DiskRepository;
use crate::steps::ChangeStep;
use crate::suspended_apps::SuspendedApps;
use crate::tenant_resources::ResourcesByTenant;
use crate::uploads::Uploads;

/// The options for opening a node.
pub struct NodeOptions {
    /// The data directory.
    pub data: PathBuf,
    /// The node's log.
    pub log: Log,
    /// How releases are compiled.
    pub compiler: CompilerOptions,
    /// How apps run, and how many are in memory.
    pub tenancy: TenancyOptions,
    /// Called at each step of every change, from any thread.
    pub watch: Option<Arc<dyn Fn(ChangeStep) + Send + Sync>>,
}

/// Why a node cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The data directory is in use or cannot be opened.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// The node's state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The uploaded parts cannot be read.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The cache of compiled code cannot be opened.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The engine cannot be set up.
    #[error(transparent)]
    Engine(RevisionError),
    /// The thread that writes the apps' logs cannot be started.
    #[error("cannot start writing the apps' logs")]
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
    pub(crate) uploads: Uploads,
    pub(crate) suspended: SuspendedApps,
    pub(crate) tenant_locks: TenantLocks,
    pub(crate) resources: Arc<ResourcesByTenant>,
    pub(crate) compilers: Arc<Compilers>,
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
    /// Returns the resolver of the front door.
    #[must_use]
    pub fn resolver(&self) -> Arc<AppResolver> {
        Arc::new(self.tenancy.clone())
    }

    /// Returns the node's data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Sets the addresses of the front door and the counter of its connections, for the node's status. Calls after the
    /// first are ignored.
    pub fn set_front(&self, addresses: Vec<SocketAddr>, connections: Connections) {
        let _ = self.front.set((addresses, connections));
    }

    /// Returns how many compilers were started so far.
    #[must_use]
    pub fn compilers_started(&self) -> u64 {
        self.compilers.started()
    }

    /// Returns how compilers are confined on this system, and logs a warning if the confinement is insufficient.
    ///
    /// # Errors
    /// When no compiler can be started.
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

    /// Returns the disk space that uploads and tenants must leave free.
    pub(crate) fn reserve(&self) -> &Arc<Reserve> {
        self.resources.reserve()
    }

    /// Returns the account of a tenant's bytes on disk.
    pub(crate) fn storage(&self, tenant: &TenantName) -> Option<Arc<StorageAccount>> {
        self.resources.get(tenant).map(|resources| resources.storage.clone())
    }

    /// Charges a tenant for its revisions' data in the state. Must be called after the state has changed.
    pub(crate) fn charge(&self, tenant: &TenantName) {
        self.resources.charge(tenant, &self.state);
    }

    /// Counts a deployment that was refused because the tenant's storage is used up.
    pub(crate) fn refuse_storage(&self, tenant: &TenantName) {
        if let Some(storage) = self.storage(tenant) {
            storage.refuse();
        }
    }

    /// Returns the maximum charge for a tenant's revisions that its quota allows now. Blocks.
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

    /// Runs work that reads and syncs files.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiProblem> + Send + 'static,
    ) -> Result<T, ApiProblem> {
        let failed = |_| Err(ApiProblem::new(ProblemKind::Failed, "the node failed; see its log"));
        tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
    }
}
