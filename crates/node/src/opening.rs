//! Opening a node: locks the data directory, finishes the changes of data that an earlier process left unfinished, and
//! adds all tenants and apps to the tenancy. Opening compiles nothing. An app is loaded by its first request.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use isomer_api::TenantChange;
use isomer_apps::{Tenancy, revision};
use isomer_capabilities::NodeDir;
use isomer_disk::{FileStorage, Reserve, Storage};
use isomer_ids::TenantName;
use isomer_observe::{AppLogLimits, AppLogs};
use isomer_otlp::{Otlp, ServedApps, ServiceIdentity};
use isomer_runtime::code::{CodeCache, Key};
use isomer_runtime::engine::PoolSizes;
use isomer_state::{Blobs, NodeState};
use isomer_telemetry::metrics::{MetricSource, Metrics};

use crate::app_traces::AppTraces;
use crate::attempts::Attempts;
use crate::compiler::Compilers;
use crate::compiler::jobs::CompileJobs;
use crate::data_leases::DataLeases;
use crate::locks::{AppLocks, TenantLocks};
use crate::node::{Node, NodeError, NodeOptions};
use crate::repository::DiskRepository;
use crate::revisions::release;
use crate::shape_traffic::ShapeTraffic;
use crate::suspended_apps::SuspendedApps;
use crate::tenant_resources::ResourcesByTenant;
use crate::uploads::Uploads;
use crate::{maintenance, removals, replacements};

impl Node {
    /// Opens the node in a data directory. Blocks. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// If another process uses the directory, or a part of the node's data cannot be read.
    pub fn open(options: NodeOptions) -> Result<Arc<Self>, NodeError> {
        Self::open_over(options, FileStorage::new)
    }

    /// Like [`Node::open`], but stores the node's state in the given storage. For tests with a failing disk.
    ///
    /// # Errors
    /// The same errors as for [`Node::open`].
    pub fn open_over<S: Storage>(
        options: NodeOptions,
        storage: impl FnOnce(&Path) -> S,
    ) -> Result<Arc<Self>, NodeError> {
        let dir = Arc::new(NodeDir::open(&options.data)?);
        let is_new = !dir.state().exists();
        let state = Arc::new(NodeState::open_over(&dir.state(), storage(&dir.state()))?);
        if is_new {
            let default = TenantName::DEFAULT.parse().expect("`default` is a valid name");
            state.set_tenant(&default, TenantChange::default())?;
        }
        removals::recover(&dir, &state);
        let unfinished = replacements::recover(&dir, &state);
        release::remove_unfinished(&dir.revisions());
        let blobs = Blobs::open(&dir.blobs())?;
        let cache = CodeCache::open_kept(&dir.cache())?;
        let compilers = Arc::new(Compilers::new(options.compiler));
        let engine = revision::engine(PoolSizes::of_a_node(), false).map_err(NodeError::Engine)?;
        let resources = Arc::new(ResourcesByTenant::new(Reserve::new(dir.path(), options.tenancy.disk_reserve_bytes)));
        let logs = AppLogs::start(AppLogLimits::default()).map_err(|source| NodeError::Log { source })?;
        let reserve = resources.reserve().clone();
        logs.leave_free(move || reserve.room());
        let traces = AppTraces::start(resources.reserve().clone(), options.sampling)
            .map_err(|source| NodeError::Traces { source })?;
        let repository = Arc::new(DiskRepository {
            dir: dir.clone(),
            state: state.clone(),
            blobs: blobs.clone(),
            cache: cache.clone(),
            compilers: compilers.clone(),
            jobs: CompileJobs::new(),
            resources: resources.clone(),
            logs,
            traces,
            access_log: options.log.wants_access(),
            export: options.export.clone(),
            maker: Key::new(&engine, [env!("CARGO_PKG_VERSION").as_bytes()]),
            runtime: tokio::runtime::Handle::current(),
        });
        let folders = state.apps().into_iter().map(|(tenant, app, _)| repository.traces_folder(&tenant, &app));
        repository.traces.stores().add_existing(folders.collect());
        let tenancy = Tenancy::new(engine, cache, options.log, repository.clone(), options.tenancy);
        repository.traces.stores().report_to(tenancy.metrics());
        if let Some(export) = options.export {
            export_metrics(&export, tenancy.metrics());
        }
        for (name, tenant) in state.tenants() {
            match tenancy.set_tenant(&name, &tenant.quotas) {
                Ok(()) => {
                    resources.add(&name, &tenancy);
                    resources.charge(&name, &state);
                }
                Err(error) => tracing::error!(tenant = %name, %error, "cannot serve the apps of a tenant"),
            }
        }
        for (tenant, name, app) in state.apps() {
            let is_stopped = app.stopped || unfinished.contains(&(tenant.clone(), name.clone()));
            let put = tenancy.put(&tenant, &name, &app.current().revision, &app.hosts, is_stopped);
            if let Err(error) = put {
                tracing::error!(%tenant, app = %name, %error, "cannot serve an app");
            }
        }
        let node = Arc::new(Self {
            dir,
            state,
            blobs,
            repository,
            tenancy,
            app_locks: AppLocks::default(),
            data_leases: DataLeases::default(),
            attempts: Attempts::default(),
            uploads: Uploads::default(),
            suspended: SuspendedApps::new(unfinished),
            shape_traffic: ShapeTraffic::default(),
            tenant_locks: TenantLocks::default(),
            resources,
            compilers,
            signatures: options.signatures,
            watch: options.watch,
            front: OnceLock::new(),
            opened: Instant::now(),
        });
        maintenance::begin(&node);
        Ok(node)
    }
}

/// Begins to export the metrics of the node. Also adds the counters of the export itself to `metrics`.
fn export_metrics(export: &Arc<Otlp>, metrics: &Metrics) {
    let source: Arc<dyn MetricSource> = export.clone();
    metrics.add_source(Arc::downgrade(&source));
    let node = ServiceIdentity { app: "isomer-node", tenant: None, version: Some(env!("CARGO_PKG_VERSION")) };
    export.export_metrics(metrics, &node, ServedApps::Many);
}
