//! The app of this process as the admin API shows it: its state, its plan and its log.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use isomer_admin::{AdminReply, AppApi, Caller, LogLines, MetricsText, NewTraces};
use isomer_advice::Traffic;
use isomer_api::{
    ApiProblem, AppInfo, AppState, DeployReport, LogQuery, MetricsQuery, MetricsReport, NodeStatus, ProblemKind,
    ReshapeRequest, StoredToken, Trace, TraceOrderRequest, TracePage, TraceQuery,
};
use isomer_apps::tenancy::memory::resident_bytes;
use isomer_apps::{AppData, Tenancy, metrics_report, metrics_text};
use isomer_front::Connections;
use isomer_ids::{AppName, HostPattern, PlanDigest, ReleaseDigest, TenantName, TokenId};
use isomer_manifest::App;
use isomer_observe::{AppLog, AppLogError};
use isomer_plan::Plan;
use isomer_telemetry::metrics::Metrics;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::reshape_orders::{self, ReshapeOrder};
use crate::served_manifest::ServedManifest;
use crate::served_traces::ServedTraces;

/// The app of a process that was started by `isomer run` or `isomer dev`.
pub(crate) struct ServedApp {
    tenant: TenantName,
    name: AppName,
    opened: Instant,
    /// The front door's address.
    listen: Option<String>,
    logs: Option<ServedLogs>,
    traces: Option<ServedTraces>,
    /// The metrics of this process and of its members.
    metrics: Metrics,
    /// The revision that serves requests; `None` before the first revision has started.
    revision: Mutex<Option<ServedRevision>>,
    /// What was measured before the app started in its current shape.
    earlier_traffic: Mutex<Traffic>,
    /// The manifest and the stores of this revision.
    manifest: Mutex<Option<Arc<ServedManifest>>>,
    /// The parts of the process that count requests, instances and connections; `None` while member processes run all
    /// groups.
    counters: Mutex<Option<(Arc<Tenancy>, Connections)>>,
    /// The sender of orders to reshape the app; unset in a process that runs only one group of a shape.
    orders: OnceLock<mpsc::Sender<ReshapeOrder>>,
}

/// The app's logs on disk.
pub(crate) struct ServedLogs {
    pub(crate) output: AppLog,
    /// The lines that tabs sent.
    pub(crate) tabs: AppLog,
    /// The access log, if the process logs served requests.
    pub(crate) access: Option<AppLog>,
}

/// The revision that serves requests.
struct ServedRevision {
    plan: Value,
    digest: ReleaseDigest,
    version: String,
    shape: String,
    /// The time at which the revision started, in seconds since 1970-01-01 00:00 UTC.
    since: u64,
}

impl ServedApp {
    /// Creates an app that serves no revision yet. `name` is the app's name in its manifest.
    pub(crate) fn new(
        name: &str,
        listen: Option<String>,
        logs: Option<ServedLogs>,
        traces: Option<ServedTraces>,
        metrics: Metrics,
    ) -> Self {
        Self {
            tenant: TenantName::DEFAULT.parse().expect("the default tenant has a valid name"),
            // A manifest may have a longer name than a node accepts.
            name: name.parse().unwrap_or_else(|_| "app".parse().expect("`app` is a valid name")),
            opened: Instant::now(),
            listen,
            logs,
            traces,
            metrics,
            revision: Mutex::default(),
            earlier_traffic: Mutex::default(),
            manifest: Mutex::default(),
            counters: Mutex::default(),
            orders: OnceLock::new(),
        }
    }

    /// Sets the parts of the process that count requests, instances and connections; `None` if the process no longer
    /// serves requests itself.
    pub(crate) fn set_counters(&self, counters: Option<(Arc<Tenancy>, Connections)>) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    /// Sets the sender of orders to reshape the app.
    pub(crate) fn set_orders(&self, orders: mpsc::Sender<ReshapeOrder>) {
        let _ = self.orders.set(orders);
    }

    /// Replaces the plan of the revision that serves requests.
    pub(crate) fn set_revision(&self, plan: &Plan, digest: PlanDigest) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let revision = ServedRevision {
            plan: plan.to_json(),
            digest: ReleaseDigest::from(digest.0),
            version: plan.version.clone(),
            shape: plan.shape.clone(),
            since,
        };
        let before = self.revision.lock().unwrap_or_else(PoisonError::into_inner).replace(revision);
        // Averages of different shapes cannot be combined.
        if before.is_some_and(|before| before.shape != plan.shape) {
            *self.earlier_traffic.lock().unwrap_or_else(PoisonError::into_inner) = self.all_traffic();
        }
    }

    /// Returns the traffic since the process started.
    fn all_traffic(&self) -> Traffic {
        Traffic::of(&metrics_report(&self.metrics, &MetricsQuery::default()), None, None)
    }

    /// Returns the traffic since the app started in its current shape.
    pub(crate) fn traffic(&self) -> Traffic {
        self.all_traffic().since(&self.earlier_traffic.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the manifest, and the stores if this process has opened them.
    pub(crate) fn set_manifest(&self, app: &App, data: Option<AppData>) {
        let manifest = Arc::new(ServedManifest { app: app.clone(), data });
        *self.manifest.lock().unwrap_or_else(PoisonError::into_inner) = Some(manifest);
    }

    /// Returns the manifest and the stores; `None` before the first revision has started.
    pub(crate) fn served_manifest(&self) -> Option<Arc<ServedManifest>> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the plan of the revision that serves requests, as JSON.
    pub(crate) fn plan_value(&self) -> Result<Value, ApiProblem> {
        let revision = self.revision.lock().unwrap_or_else(PoisonError::into_inner);
        revision.as_ref().map(|revision| revision.plan.clone()).ok_or_else(not_started)
    }

    /// Checks that a request is about this app.
    pub(crate) fn check(&self, tenant: &TenantName, app: &AppName) -> Result<(), ApiProblem> {
        if *tenant == self.tenant && *app == self.name {
            return Ok(());
        }
        Err(ApiProblem::not_found("app", app).hint(format!("this process serves only the app `{}`", self.name)))
    }

    fn info(&self) -> Result<AppInfo, ApiProblem> {
        let revision = self.revision.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = revision.as_ref().ok_or_else(not_started)?;
        let every: HostPattern = "*".parse().expect("`*` is a valid pattern");
        Ok(AppInfo {
            tenant: self.tenant.clone(),
            name: self.name.clone(),
            hosts: vec![every],
            revision: revision.digest.clone(),
            version: revision.version.clone(),
            shape: Some(revision.shape.clone()),
            state: AppState::Loaded,
            deployed_at: revision.since,
            failure: None,
        })
    }

    fn process_status(&self) -> NodeStatus {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = counters.as_ref().map(|(tenancy, connections)| {
            (tenancy.counts(), u64::from(tenancy.engine().live_instances()), connections.counts())
        });
        let (counts, instances, connections) = counters.unwrap_or_default();
        let revision = self.revision.lock().unwrap_or_else(PoisonError::into_inner);
        let shape = revision.as_ref().map(|revision| revision.shape.clone());
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            listen: self.listen.iter().cloned().collect(),
            shape,
            uptime_s: self.opened.elapsed().as_secs(),
            tenants: 1,
            apps: 1,
            apps_loaded: revision.is_some().into(),
            apps_loaded_max: 1,
            instances,
            resident_bytes: resident_bytes().unwrap_or(0),
            requests: counts.requests,
            loads: counts.loads,
            drops: counts.evictions,
            connections: connections.open.try_into().unwrap_or(u64::MAX),
            connections_evicted: connections.evicted,
            connections_refused: connections.refused,
        }
    }

    fn traces_of(&self, tenant: &TenantName, app: &AppName) -> Result<&ServedTraces, ApiProblem> {
        self.check(tenant, app)?;
        self.traces.as_ref().ok_or_else(|| {
            let problem = ApiProblem::new(ProblemKind::NotFound, "this process records no traces");
            problem.hint("start it without `--telemetry off`")
        })
    }

    fn log_lines(&self, query: &LogQuery) -> Result<LogLines, ApiProblem> {
        let no_log = || ApiProblem::new(ProblemKind::NotFound, "this process writes no log to its data directory");
        let no_access = || {
            let problem = ApiProblem::new(ProblemKind::NotFound, "this process writes no access log");
            problem.hint("start it with `--access-log`")
        };
        let logs = self.logs.as_ref().ok_or_else(no_log)?;
        let log = match (query.access, query.tabs) {
            (true, _) => logs.access.as_ref().ok_or_else(no_access)?,
            (false, true) => &logs.tabs,
            (false, false) => &logs.output,
        };
        log.query(query).map_err(|error| match &error {
            AppLogError::Read { .. } => ApiProblem::new(ProblemKind::Failed, error.to_string()),
            _ => ApiProblem::new(ProblemKind::Unavailable, error.to_string()),
        })
    }
}

pub(crate) fn not_started() -> ApiProblem {
    ApiProblem::new(ProblemKind::Unavailable, "the app has not started yet")
}

/// Returns a reply that calls `make` when it is first polled.
fn reply<T: Send + 'static>(make: impl FnOnce() -> Result<T, ApiProblem> + Send + 'static) -> AdminReply<T> {
    Box::pin(async move { make() })
}

/// Returns a reply that calls `make` on a blocking thread, because `make` reads files.
pub(crate) fn blocking<T: Send + 'static>(
    make: impl FnOnce() -> Result<T, ApiProblem> + Send + 'static,
) -> AdminReply<T> {
    Box::pin(async move {
        let failed = |_| Err(ApiProblem::new(ProblemKind::Failed, "reading the app's files failed"));
        tokio::task::spawn_blocking(make).await.unwrap_or_else(failed)
    })
}

impl AppApi for ServedApp {
    fn reshape(
        self: Arc<Self>,
        _: Caller,
        tenant: TenantName,
        app: AppName,
        reshape: ReshapeRequest,
    ) -> AdminReply<DeployReport> {
        Box::pin(async move {
            self.check(&tenant, &app)?;
            let Some(orders) = self.orders.get() else {
                let problem = ApiProblem::new(ProblemKind::Refused, "this process runs only one group of a shape");
                return Err(problem.hint("stop the processes of the shape, and start those of the other shape"));
            };
            reshape_orders::order(orders.clone(), reshape.shape).await
        })
    }

    fn status(self: Arc<Self>) -> AdminReply<NodeStatus> {
        reply(move || Ok(self.process_status()))
    }

    fn apps(self: Arc<Self>, tenant: Option<TenantName>) -> AdminReply<Vec<AppInfo>> {
        reply(move || match tenant {
            Some(tenant) if tenant != self.tenant => Ok(Vec::new()),
            _ => Ok(self.info().into_iter().collect()),
        })
    }

    fn app(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo> {
        reply(move || self.check(&tenant, &app).and_then(|()| self.info()))
    }

    fn plan(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Value> {
        reply(move || {
            self.check(&tenant, &app)?;
            self.plan_value()
        })
    }

    fn logs(self: Arc<Self>, tenant: TenantName, app: AppName, query: LogQuery) -> AdminReply<LogLines> {
        blocking(move || {
            self.check(&tenant, &app)?;
            self.log_lines(&query)
        })
    }

    fn traces(self: Arc<Self>, tenant: TenantName, app: AppName, query: TraceQuery) -> AdminReply<TracePage> {
        blocking(move || self.traces_of(&tenant, &app)?.page(&query))
    }

    fn trace(self: Arc<Self>, tenant: TenantName, app: AppName, id: String) -> AdminReply<Trace> {
        blocking(move || self.traces_of(&tenant, &app)?.trace(&id))
    }

    fn follow_traces(self: Arc<Self>, tenant: TenantName, app: AppName, query: TraceQuery) -> AdminReply<NewTraces> {
        reply(move || self.traces_of(&tenant, &app)?.follow(&query))
    }

    fn order_traces(self: Arc<Self>, tenant: TenantName, app: AppName, order: TraceOrderRequest) -> AdminReply<()> {
        reply(move || {
            self.traces_of(&tenant, &app)?.order(order);
            Ok(())
        })
    }

    fn metrics(self: Arc<Self>, query: MetricsQuery) -> AdminReply<MetricsReport> {
        reply(move || Ok(metrics_report(&self.metrics, &query)))
    }

    fn metrics_text(self: Arc<Self>, tenant: Option<TenantName>, accept: Option<String>) -> AdminReply<MetricsText> {
        reply(move || {
            let (content_type, text) = metrics_text(&self.metrics, tenant.as_ref(), accept.as_deref());
            Ok(MetricsText { content_type, text })
        })
    }

    fn only_app(&self) -> Option<(TenantName, AppName)> {
        Some((self.tenant.clone(), self.name.clone()))
    }

    fn stored_token(&self, _: &TokenId) -> Option<StoredToken> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_app_is_shown_as_soon_as_it_has_a_revision() {
        let app = Arc::new(ServedApp::new("shop", Some("127.0.0.1:1".to_owned()), None, None, Metrics::default()));
        let (tenant, name) = app.only_app().unwrap();
        assert_eq!(name.as_str(), "shop");
        assert_eq!(app.clone().apps(None).await.unwrap(), []);
        assert_eq!(app.clone().plan(tenant.clone(), name.clone()).await.unwrap_err().kind, ProblemKind::Unavailable);
        let plan = Plan {
            app: "shop".to_owned(),
            version: "1.2.3".to_owned(),
            shape: "monolith".to_owned(),
            groups: Vec::new(),
            reuse: Default::default(),
            browser: None,
            seams: Vec::new(),
            access: Vec::new(),
            notes: Vec::new(),
            warnings: Vec::new(),
        };
        app.set_revision(&plan, PlanDigest([7; 16]));
        let apps = app.clone().apps(None).await.unwrap();
        assert_eq!((apps.len(), apps[0].version.as_str(), apps[0].state), (1, "1.2.3", AppState::Loaded));
        assert_eq!(app.clone().plan(tenant.clone(), name.clone()).await.unwrap()["shape"], "monolith");
        let other: AppName = "other".parse().unwrap();
        assert_eq!(app.clone().app(tenant, other).await.unwrap_err().kind, ProblemKind::NotFound);
        assert_eq!(app.status().await.unwrap().apps_loaded, 1);
    }

    #[test]
    fn a_name_that_a_node_refuses_is_replaced() {
        assert_eq!(ServedApp::new(&"a".repeat(64), None, None, None, Metrics::default()).name.as_str(), "app");
    }
}
