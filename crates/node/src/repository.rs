//! The packages of a node's apps on disk, from which the tenancy loads apps into memory.
//!
//! A recorded package cannot be used if another version of the program made it, or if its compiled code was lost. In
//! this case, the node compiles the app's release again, in a child process as for a deployment. So no app needs to be
//! deployed again after an upgrade, or after the code cache was deleted. The release is compiled once for all requests
//! that wait for it (see [`CompileJobs`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use isomer_api::{ApiProblem, ProblemKind, Release};
use isomer_apps::Package;
use isomer_apps::fair_semaphore::SemaphorePermit as CompilePermit;
use isomer_apps::tenancy::{AppRepository, LaunchSpec, RepositoryError};
use isomer_capabilities::secrets::{Secret, SecretValues};
use isomer_capabilities::{AppFiles, AppResources, GrantedBy, NodeDir, SESSION_KEY_FILE};
use isomer_ids::{AppName, ReleaseDigest, TenantName};
use isomer_observe::{AppLog, AppLogs};
use isomer_otlp::{Otlp, ServiceIdentity};
use isomer_runtime::Account;
use isomer_runtime::code::{CodeCache, Key};
use isomer_state::{Blobs, Contents, NodeState};
use isomer_telemetry::{AppIdentity, Tee, TraceFragment, TraceSink, Tracer};
use isomer_traces::TraceStore;
use serde_json::value::RawValue;

use crate::app_traces::AppTraces;
use crate::compiler::jobs::{CompileJobs, CompileReason};
use crate::compiler::{CompileOutput, CompileRequest, Compilers};
use crate::probed_code::ReleaseProbes;
use crate::problems;
use crate::revisions::record::{self, RevisionRecord};
use crate::revisions::release;
use crate::tenant_resources::ResourcesByTenant;

/// The result of compiling a release.
pub(crate) struct CompiledRelease {
    pub(crate) package: Arc<Package>,
    pub(crate) contents: Contents,
    /// Whether a child process compiled code; `false` if the cache had all the code.
    pub(crate) compiled: bool,
    /// The plan as JSON; `None` if it is too large to be stored.
    pub(crate) plan: Option<Box<RawValue>>,
    /// The warnings about the manifest and the plan, as text for people.
    pub(crate) warnings: Vec<String>,
}

/// The packages and logs of apps in a node's data directory.
pub(crate) struct DiskRepository {
    pub(crate) dir: Arc<NodeDir>,
    pub(crate) state: Arc<NodeState>,
    pub(crate) blobs: Blobs,
    pub(crate) cache: CodeCache,
    pub(crate) compilers: Arc<Compilers>,
    pub(crate) jobs: CompileJobs<Arc<CompiledRelease>>,
    pub(crate) resources: Arc<ResourcesByTenant>,
    pub(crate) logs: AppLogs,
    pub(crate) traces: AppTraces,
    /// Whether the node writes an access log for each app.
    pub(crate) access_log: bool,
    /// The export of telemetry, if there is a collector.
    pub(crate) export: Option<Arc<Otlp>>,
    /// A hash of this program's version and its engine's settings: see [`RevisionRecord::maker`].
    pub(crate) maker: Key,
    pub(crate) runtime: tokio::runtime::Handle,
}

impl DiskRepository {
    /// Returns the launch spec of an app's revision, with its package. Blocks.
    pub(crate) fn spec(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        package: Arc<Package>,
    ) -> Result<LaunchSpec, ApiProblem> {
        let resources = self.resources.get(tenant).ok_or_else(|| ApiProblem::not_found("tenant", tenant))?;
        resources.count(&self.dir.tenant(tenant.as_str()));
        let secrets = self.state.secrets(tenant).map_err(problems::of_state)?;
        let text = |value: &isomer_state::Secret| String::from_utf8_lossy(value.reveal()).into_owned();
        let secrets = secrets.iter().map(|(name, value)| (name.clone(), Secret::new(text(value))));
        let data = self.dir.app(tenant.as_str(), app.as_str());
        let place = AppResources {
            kv: data.join("kv"),
            sql: data.join("sql"),
            session_key: data.join(SESSION_KEY_FILE),
            files: AppFiles::Own {
                files: release::files_of(&self.dir.revisions(), revision),
                writable: data.join("dirs"),
            },
            storage: resources.storage.clone(),
            account: Account::unlimited(),
            statement_time_max: Duration::MAX,
            outbound: None,
            secrets: SecretValues::Given(secrets.collect()),
            environment: Arc::default(),
            candidate: None,
            series: Arc::default(),
            granted_by: GrantedBy::Manifest,
        };
        let access = if self.access_log { Some(self.access_of(tenant, app)?) } else { None };
        let log = self.log_of(tenant, app)?;
        let version = revision.to_string();
        let log = match self.export.as_ref().and_then(|export| export.logs(&identity(tenant, app, &version))) {
            Some(exporter) => log.exported_to(exporter),
            None => log,
        };
        let tracer = self.tracer_of(tenant, app, revision)?;
        if let Some(policy) = self.traces.policy(package.sampling()) {
            tracer.set_policy(policy);
        }
        let probes = ReleaseProbes {
            state: self.state.clone(),
            blobs: self.blobs.clone(),
            cache: self.cache.clone(),
            compilers: self.compilers.clone(),
            maker: self.maker.clone(),
            tenant: tenant.clone(),
            revision: revision.clone(),
        };
        Ok(LaunchSpec { package, place, log: Some(log), access, tracer, probes: Some(Arc::new(probes)) })
    }

    /// Returns the app's own log, which contains the guests' output.
    pub(crate) fn log_of(&self, tenant: &TenantName, app: &AppName) -> Result<AppLog, ApiProblem> {
        Ok(self.log_in("log", tenant, app)?.with_tabs(&self.tabs_of(tenant, app)?))
    }

    /// Returns the log of the app's tabs. It is a separate file for the same reason as the access log.
    pub(crate) fn tabs_of(&self, tenant: &TenantName, app: &AppName) -> Result<AppLog, ApiProblem> {
        self.log_in("tabs", tenant, app)
    }

    /// Returns the app's access log. The access log is a separate file, so that its lines do not displace the guests'
    /// output.
    pub(crate) fn access_of(&self, tenant: &TenantName, app: &AppName) -> Result<AppLog, ApiProblem> {
        self.log_in("access", tenant, app)
    }

    fn log_in(&self, folder: &str, tenant: &TenantName, app: &AppName) -> Result<AppLog, ApiProblem> {
        let resources = self.resources.get(tenant).ok_or_else(|| ApiProblem::not_found("tenant", tenant))?;
        Ok(self.logs.open(self.dir.app(tenant.as_str(), app.as_str()).join(folder), &resources.log))
    }

    /// Returns the app's traces.
    pub(crate) fn traces_of(&self, tenant: &TenantName, app: &AppName) -> Result<TraceStore, ApiProblem> {
        let resources = self.resources.get(tenant).ok_or_else(|| ApiProblem::not_found("tenant", tenant))?;
        Ok(self.traces.store(&self.traces_folder(tenant, app), &resources.traces))
    }

    /// Returns the tracer that records the requests of a revision of the app.
    pub(crate) fn tracer_of(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
    ) -> Result<Tracer, ApiProblem> {
        let store = self.traces_of(tenant, app)?;
        let make = |sampling| {
            let sink = self.trace_sink(store, tenant, app, revision);
            let app = AppIdentity { tenant: tenant.shared(), app: app.shared() };
            Tracer::new(Some(app), sampling, sink)
        };
        Ok(self.traces.tracer(tenant, app, revision, make))
    }

    /// Returns the sink of an app's traces: its store, and the exporter if there is one.
    fn trace_sink(
        &self,
        store: TraceStore,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
    ) -> Arc<dyn TraceSink> {
        let version = revision.to_string();
        let export = self.export.as_ref().and_then(|export| export.traces(&identity(tenant, app, &version)));
        let store: Arc<dyn TraceSink> = Arc::new(store);
        match export {
            Some(export) => Arc::new(Tee::new([store, export])),
            None => store,
        }
    }

    /// Stores a trace of the node's own work for an app. Does nothing if the app does not exist. Blocks.
    pub(crate) fn store_trace(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        fragment: TraceFragment,
    ) -> Result<(), ApiProblem> {
        self.state.app(tenant, app).map_err(problems::of_state)?;
        let app_identity = AppIdentity { tenant: tenant.shared(), app: app.shared() };
        let sink = self.trace_sink(self.traces_of(tenant, app)?, tenant, app, revision);
        sink.record(TraceFragment { app: Some(app_identity), ..fragment });
        Ok(())
    }

    /// Returns the folder of the app's traces.
    pub(crate) fn traces_folder(&self, tenant: &TenantName, app: &AppName) -> PathBuf {
        self.dir.app(tenant.as_str(), app.as_str()).join("traces")
    }

    /// Closes the logs and traces of an app that is being removed. Without `app`, the tenant is being removed: closes
    /// the logs and traces of all its apps that have a folder on disk, including apps that were removed earlier. Later
    /// lines and traces are dropped. Blocks.
    pub(crate) fn close_logs_and_traces(&self, tenant: &TenantName, app: Option<&AppName>) {
        self.traces.forget(tenant, app);
        let apps = match app {
            Some(app) => vec![app.clone()],
            None => self.apps_on_disk(tenant),
        };
        for app in &apps {
            let logs = [self.log_of(tenant, app), self.access_of(tenant, app), self.tabs_of(tenant, app)];
            logs.iter().flatten().for_each(AppLog::close);
        }
        self.traces.stores().close(apps.iter().map(|app| self.traces_folder(tenant, app)).collect());
    }

    /// Returns the apps of a tenant that have a folder on disk, including removed apps. Blocks.
    fn apps_on_disk(&self, tenant: &TenantName) -> Vec<AppName> {
        let folders = std::fs::read_dir(self.dir.tenant(tenant.as_str()).join("apps"));
        let names = folders.into_iter().flatten().flatten().map(|folder| folder.file_name());
        names.filter_map(|name| name.to_str()?.parse().ok()).collect()
    }

    /// Returns the package in a revision's record; `None` if this program cannot start the package, or if the cache
    /// lacks some of its code. Blocks.
    pub(crate) fn usable_package(&self, bytes: &[u8]) -> Result<Option<Package>, ApiProblem> {
        let kept = RevisionRecord::read(bytes)?;
        if kept.maker != self.maker.as_str().as_bytes() {
            return Ok(None);
        }
        let package = Package::from_bytes(kept.package).ok();
        let has_files = |package: &Package| package.files().is_none_or(|key| self.cache.note(key).is_some());
        Ok(package.filter(|package| package.code().all(|key| self.cache.has(key)) && has_files(package)))
    }

    /// Returns the plan of a recorded revision. If the record of the revision was written by an earlier version, which
    /// stored no plans, compiles the release again.
    pub(crate) async fn plan_of(
        self: &Arc<Self>,
        tenant: &TenantName,
        revision: &ReleaseDigest,
    ) -> Result<serde_json::Value, ApiProblem> {
        let wanted = revision.clone();
        let found = self.blocking(move |repository| {
            let bytes = repository.state.package(&wanted).map_err(problems::of_state)?;
            let bytes = bytes.ok_or_else(|| ApiProblem::not_found("revision", &wanted))?;
            let record = RevisionRecord::read(&bytes)?;
            let release = if record.has_plan() { None } else { Some(record.release()?) };
            Ok((record.plan()?, release))
        });
        let plan = match found.await? {
            (plan, None) => plan,
            (_, Some(release)) => {
                let compiled = self.compile(tenant, revision, &release, CompileReason::Load).await?;
                compiled.plan.as_ref().and_then(|plan| serde_json::from_str(plan.get()).ok())
            }
        };
        let too_large = || {
            let problem = ApiProblem::new(ProblemKind::NotFound, "the plan of the app is too large to be stored");
            problem.hint("run `isomer plan` in the app's folder")
        };
        plan.ok_or_else(too_large)
    }

    /// Compiles a release in a child process. Concurrent requests for the same release share one compilation.
    pub(crate) async fn compile(
        self: &Arc<Self>,
        tenant: &TenantName,
        revision: &ReleaseDigest,
        release: &Release,
        reason: CompileReason,
    ) -> Result<Arc<CompiledRelease>, ApiProblem> {
        let (repository, of) = (self.clone(), (tenant.clone(), revision.clone(), release.clone()));
        let compile = move |permit: CompilePermit| async move {
            let (tenant, revision, release) = of;
            let compiled = repository.compile_now(permit, &tenant, &release).await?;
            // Update the record of the revision, even if no request waits for the result any more. If the update fails,
            // the result is used anyway, and the release is compiled again after a restart of the node.
            let kept = repository.blocking({
                let compiled = compiled.clone();
                move |repository| repository.state.renew(&revision, &compiled.contents).map_err(problems::of_state)
            });
            if let Err(problem) = kept.await {
                tracing::warn!(%tenant, %problem, "cannot write the record of a revision that was compiled again");
            }
            Ok(compiled)
        };
        let request_permit = || self.compilers.request_permit(tenant).map_err(ApiProblem::from);
        self.jobs.join(revision, tenant, reason, request_permit, compile).await
    }

    async fn compile_now(
        &self,
        permit: CompilePermit,
        tenant: &TenantName,
        release: &Release,
    ) -> Result<Arc<CompiledRelease>, ApiProblem> {
        let request = CompileRequest::new(tenant, release, &self.blobs, &self.cache, &self.maker);
        let made = self.compilers.make_with_cache(permit, &request).await.map_err(ApiProblem::from)?;
        let CompileOutput { package, code, compiled, plan, warnings } = made;
        let contents = record::contents(&self.maker, release, &package.to_bytes(), plan.as_deref(), code);
        Ok(Arc::new(CompiledRelease { package: Arc::new(package), contents, compiled, plan, warnings }))
    }

    /// Runs `work`, which reads and syncs files, on a blocking thread.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ApiProblem> + Send + 'static,
    ) -> Result<T, ApiProblem> {
        let repository = self.clone();
        let failed = |_| Err(ApiProblem::new(ProblemKind::Failed, "the node failed; see the node's log"));
        self.runtime.spawn_blocking(move || work(&repository)).await.unwrap_or_else(failed)
    }
}

impl AppRepository for DiskRepository {
    fn fetch(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        revision: ReleaseDigest,
    ) -> BoxFuture<'static, Result<LaunchSpec, RepositoryError>> {
        Box::pin(async move {
            self.fetch_package(tenant, app, revision).await.map_err(|problem| match problem.kind {
                ProblemKind::Unavailable => RepositoryError::Busy(problem.into()),
                _ => RepositoryError::Failed(with_detail(&problem).into()),
            })
        })
    }

    fn log(&self, tenant: &TenantName, app: &AppName) -> Option<AppLog> {
        self.log_of(tenant, app).ok()
    }

    fn redact(&self, text: &str) -> String {
        problems::hidden(text, self.dir.path())
    }
}

/// Returns the app's identity in exported telemetry. `version` is the revision.
fn identity<'a>(tenant: &'a TenantName, app: &'a AppName, version: &'a str) -> ServiceIdentity<'a> {
    ServiceIdentity { app: app.as_str(), tenant: Some(tenant.as_str()), version: Some(version) }
}

/// Returns the title and the detail of a problem, for the log. The `Display` of a problem has only the title.
fn with_detail(problem: &ApiProblem) -> String {
    match &problem.detail {
        Some(detail) => format!("{}: {detail}", problem.title),
        None => problem.title.clone(),
    }
}

impl DiskRepository {
    async fn fetch_package(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        revision: ReleaseDigest,
    ) -> Result<LaunchSpec, ApiProblem> {
        let wanted = revision.clone();
        let found = self.blocking(move |repository| {
            let bytes = repository.state.package(&wanted).map_err(problems::of_state)?;
            let bytes = bytes.ok_or_else(|| ApiProblem::not_found("revision", &wanted))?;
            match repository.usable_package(&bytes)? {
                Some(package) => Ok(StoredRevision::Package(Arc::new(package))),
                None => Ok(StoredRevision::Release(Box::new(RevisionRecord::read(&bytes)?.release()?))),
            }
        });
        let package = match found.await? {
            StoredRevision::Package(package) => package,
            StoredRevision::Release(release) => {
                tracing::info!(%tenant, %app, %revision, "compiling an app again, because its code is missing or was compiled by another version");
                self.compile(&tenant, &revision, &release, CompileReason::Load).await?.package.clone()
            }
        };
        self.blocking(move |repository| repository.spec(&tenant, &app, &revision, package)).await
    }
}

/// The part of a revision's record that can be used: the package, or only the release, which must then be compiled
/// again.
enum StoredRevision {
    Package(Arc<Package>),
    /// The release. The package cannot be used, because another version of the program made it, or its code was lost.
    Release(Box<Release>),
}
