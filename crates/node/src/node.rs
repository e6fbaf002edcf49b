//! A node: what it keeps on disk, what it has in memory, and what its parts share.

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

/// How a node is set up.
pub struct NodeOptions {
    /// Its data directory.
    pub data: PathBuf,
    /// Its log.
    pub log: Log,
    /// How uploads are compiled.
    pub compiler: CompilerOptions,
    /// What is in memory.
    pub tenancy: TenancyOptions,
    /// Told of every step of what changes an app, from whichever thread takes it.
    pub watch: Option<Arc<dyn Fn(ChangeStep) + Send + Sync>>,
}

/// Why a node does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Its directory.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// What it keeps about itself.
    #[error(transparent)]
    State(#[from] StateError),
    /// What was uploaded.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// CompiledRelease code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The engine.
    #[error(transparent)]
    Engine(RevisionError),
    /// The apps' logs.
    #[error("cannot start writing the apps' logs")]
    Log {
        /// Why.
        source: std::io::Error,
    },
}

/// A node that hosts apps.
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
    /// Who serves a request, by its host.
    #[must_use]
    pub fn door(&self) -> Arc<AppResolver> {
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

    pub(crate) fn step(&self, step: ChangeStep) {
        if let Some(watch) = &self.watch {
            watch(step);
        }
    }

    /// For what reads and syncs files.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiProblem> + Send + 'static,
    ) -> Result<T, ApiProblem> {
        let failed =
            |_| Err(ApiProblem::new(ProblemKind::Failed, "the node failed at this; its log has more about it"));
        tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
    }
}
