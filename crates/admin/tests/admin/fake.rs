//! A fake node that records its calls and returns fixed results. The tests of the crate `isomer` also use this file.
//!
//! long because every operation of the API has a function here, and all of them belong to one type.

#![allow(dead_code, reason = "neither of the two test programs uses all functions")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::stream::StreamExt as _;
use isomer_admin::{
    Admin, AdminReply, AppApi, Caller, LogLines, MetricsText, NewTraces, ShapeApi, StoreApi, UploadBody,
};
use isomer_api::{
    Actor, AdviceItem, AdviceKind, ApiProblem, AppInfo, AppState, Confidence, DeployReport, KvDeleteRequest, KvKeyPage,
    KvKeysQuery, KvSetRequest, KvValue, LogLine, LogQuery, MetricKind, MetricReport, MetricsQuery, MetricsReport,
    MissingParts, NodeStatus, ProblemKind, Quotas, Release, ReleaseChanges, ReshapeRequest, RevisionInfo,
    RevisionOperation, RevisionOrigin, RollbackRequest, SeriesReport, ShapeAdvice, ShapeComparison, ShapeInfo,
    ShapeRequest, SnapshotInfo, SqlChanges, SqlRows, SqlSchema, SqlStatement, StoreInfo, StoreSnapshot, StoredToken,
    SwapRequest, TenantChange, TenantInfo, TenantUsage, TokenInfo, Trace, TraceOrderRequest, TracePage, TraceQuery,
    TraceSpan, TraceSummary, TraceValue,
};
use isomer_ids::{AppName, Digest, ReleaseDigest, SecretName, StoreName, TenantName, TokenId, TokenName};
use tokio::sync::{Notify, broadcast};

pub(crate) struct Fake {
    /// The recorded calls, as text.
    asked: Mutex<Vec<String>>,
    /// The release of the last deployment.
    release: Mutex<Option<Release>>,
    /// The stored forms of the tenants' tokens.
    tokens: Mutex<Vec<StoredToken>>,
    /// The channel that carries new log lines to the responses that stream a log as it grows.
    pub(crate) lines: broadcast::Sender<LogLine>,
    /// Notified by a test to let a deployment of the app `slow`, or a statement that contains `waits`, continue.
    pub(crate) go_on: Notify,
    /// Notified when a deployment of the app `slow`, or a statement that contains `waits`, starts.
    pub(crate) started: Notify,
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            release: Mutex::default(),
            tokens: Mutex::default(),
            lines: broadcast::channel(1024).0,
            go_on: Notify::new(),
            started: Notify::new(),
        })
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Returns the calls since the last call of this function.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    pub(crate) fn release(&self) -> Option<Release> {
        self.release.lock().unwrap().clone()
    }

    /// Returns the stored forms of the tenants' tokens.
    pub(crate) fn kept_tokens(&self) -> Vec<StoredToken> {
        self.tokens.lock().unwrap().clone()
    }

    fn note(&self, asked: impl Into<String>) {
        self.asked.lock().unwrap().push(asked.into());
    }

    /// Records a call and returns `answer`. Like a node, does nothing before the first poll.
    fn answer<T: Send + 'static>(self: Arc<Self>, asked: impl Into<String>, answer: T) -> AdminReply<T> {
        let asked = asked.into();
        async move {
            self.note(asked);
            Ok(answer)
        }
        .boxed()
    }
}

pub(crate) fn revision(digit: u8) -> ReleaseDigest {
    ReleaseDigest::from([digit; 16])
}

pub(crate) fn line(text: &str) -> LogLine {
    let component = Some("front".to_owned());
    LogLine { at_ms: 1, component, stream: "stdout".to_owned(), text: text.to_owned(), ..LogLine::default() }
}

/// The id of the fake node's only trace.
pub(crate) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// The id of the request that [`TRACE`] belongs to.
pub(crate) const REQUEST: &str = "00000000000000ab";

fn summary() -> TraceSummary {
    TraceSummary {
        id: TRACE.to_owned(),
        request: REQUEST.to_owned(),
        tenant: None,
        app: None,
        name: "GET /{page}".to_owned(),
        path: Some("/cart".to_owned()),
        component: Some("front".to_owned()),
        start_us: 1_700_000_000_123_000,
        duration_ns: 12_400_000,
        status: Some(200),
        spans: 3,
        failed: false,
        sampled: true,
        partial: false,
    }
}

fn trace() -> Trace {
    let text = |text: &str| TraceValue::Text(text.to_owned());
    let span = |id: &str, parent: Option<&str>, depth, name: &str, times: [u64; 3]| TraceSpan {
        id: id.to_owned(),
        parent: parent.map(ToOwned::to_owned),
        parent_missing: false,
        depth,
        name: name.to_owned(),
        kind: "client".to_owned(),
        component: Some("front".to_owned()),
        process: None,
        offset_ns: times[0] * 1000,
        duration_ns: times[1] * 1000,
        self_ns: times[2] * 1000,
        moved_ns: None,
        failure: None,
        attributes: [("url.path".to_owned(), text("/cart"))].into(),
    };
    let mut call = span("00000000000000ac", Some(REQUEST), 1, "shop:api/cart.list", [1_000, 9_000, 1_500]);
    call.attributes = [("isomer.seam.mode".to_owned(), text("isolated"))].into();
    let mut read = span("00000000000000ad", Some("00000000000000ac"), 2, "kv get", [1_500, 7_500, 7_500]);
    (read.component, read.attributes) = (Some("cart".to_owned()), [("db.namespace".to_owned(), text("carts"))].into());
    read.failure = Some("the store was\u{1b}[2J closed".to_owned());
    let spans = vec![span(REQUEST, None, 0, "GET /cart", [0, 12_400, 3_400]), call, read];
    Trace { summary: summary(), spans, spans_dropped: 0, stopped_early: false }
}

fn tenant_info(name: TenantName) -> TenantInfo {
    TenantInfo {
        name,
        quotas: Quotas::default(),
        usage: TenantUsage::default(),
        apps: vec!["shop".parse().unwrap()],
        hosts: vec!["*.shop.example".parse().unwrap()],
        secrets: vec!["payment-key".to_owned()],
    }
}

fn app_info(tenant: TenantName, name: AppName, state: AppState) -> AppInfo {
    AppInfo {
        tenant,
        name,
        hosts: vec!["shop.example".parse().unwrap()],
        revision: revision(1),
        version: "1.2.3".to_owned(),
        shape: (state != AppState::Stopped).then(|| "isolated".to_owned()),
        state,
        deployed_at: 1_700_000_000,
        failure: (state == AppState::Failed).then(|| "its store `orders` cannot be opened".to_owned()),
    }
}

/// Returns one of three origins of a revision: a swap, a deployment, or a deployment by an earlier version.
fn origin(digit: u8) -> Option<RevisionOrigin> {
    let by = Actor::Tenant { name: "ci".parse().unwrap(), id: [7; 8].into() };
    let (how, message) = (RevisionOperation::Deploy, None);
    let first = RevisionOrigin { how, by: Actor::Node, message, first_message: None, changes: None, trace: None };
    let changes = ReleaseChanges { changed: vec!["front".to_owned()], files: 2, ..ReleaseChanges::default() };
    let message = Some("Show the cart's sum\n\n\u{202e}More of it".parse().unwrap());
    match digit {
        1 => {
            let (how, first_message) = (RevisionOperation::Swap, Some("Add a cart".parse().unwrap()));
            Some(RevisionOrigin { how, by, message, first_message, changes: Some(changes), trace: None })
        }
        2 => Some(first),
        _ => None,
    }
}

fn deployed(digit: u8) -> DeployReport {
    DeployReport {
        revision: revision(digit),
        previous: Some(revision(1)),
        shape: Some("monolith".to_owned()),
        unchanged: false,
        hosts: vec!["shop.example".parse().unwrap()],
        compiled: true,
        took_ms: 7,
        warnings: Vec::new(),
        stores: Vec::new(),
    }
}

impl ShapeApi for Fake {
    fn shapes(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Vec<ShapeInfo>> {
        self.answer(format!("shapes {tenant}/{app}"), Vec::new())
    }

    fn compare_shape(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        shape: ShapeRequest,
    ) -> AdminReply<ShapeComparison> {
        self.answer(format!("compare-shape {tenant}/{app} {:?}", shape.shape), ShapeComparison::default())
    }

    fn advice(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<ShapeAdvice> {
        let item = AdviceItem {
            kind: AdviceKind::Fuse,
            component: "cart".to_owned(),
            caller: Some("front".to_owned()),
            summary: "Fuse `cart` with `front`.".to_owned(),
            cost_us_per_request: -190.0,
            evidence: vec!["`front` calls `cart` 2.0 times per request, remote.".to_owned()],
            confidence: Confidence::High,
        };
        let advice = ShapeAdvice { requests: 1200, request_us: Some(2500.0), items: vec![item], notes: Vec::new() };
        self.answer(format!("advice {tenant}/{app}"), advice)
    }
}

impl StoreApi for Fake {
    fn stores(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Vec<StoreInfo>> {
        self.answer(format!("stores {tenant}/{app}"), Vec::new())
    }

    fn kv_keys(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        _: KvKeysQuery,
    ) -> AdminReply<KvKeyPage> {
        self.answer(format!("kv-keys {tenant}/{app} {store}"), KvKeyPage::default())
    }

    fn kv_value(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        key: String,
    ) -> AdminReply<KvValue> {
        let value = KvValue { key, bytes: 6, hex: "736563726574".to_owned(), truncated: false };
        self.answer(format!("kv-value {tenant}/{app} {store}"), value)
    }

    fn sql_schema(self: Arc<Self>, tenant: TenantName, app: AppName, store: StoreName) -> AdminReply<SqlSchema> {
        self.answer(format!("sql-schema {tenant}/{app} {store}"), SqlSchema::default())
    }

    fn sql_query(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        SqlStatement { statement }: SqlStatement,
    ) -> AdminReply<SqlRows> {
        let fake = self.clone();
        let answer = self.answer(format!("sql-query {tenant}/{app} {store}"), SqlRows::default());
        async move {
            if statement.contains("waits") {
                fake.started.notify_one();
                fake.go_on.notified().await;
            }
            if statement.contains("fails") {
                return Err(ApiProblem::new(ProblemKind::BadRequest, "JSON path error near 'private-text'"));
            }
            answer.await
        }
        .boxed()
    }

    fn set_kv(self: Arc<Self>, tenant: TenantName, app: AppName, store: StoreName, _: KvSetRequest) -> AdminReply<()> {
        self.answer(format!("set-kv {tenant}/{app} {store}"), ())
    }

    fn delete_kv(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        _: KvDeleteRequest,
    ) -> AdminReply<()> {
        self.answer(format!("delete-kv {tenant}/{app} {store}"), ())
    }

    fn execute_sql(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        store: StoreName,
        _: SqlStatement,
    ) -> AdminReply<SqlChanges> {
        self.answer(format!("execute-sql {tenant}/{app} {store}"), SqlChanges::default())
    }
}

impl AppApi for Fake {
    fn reshape(
        self: Arc<Self>,
        _: Caller,
        tenant: TenantName,
        app: AppName,
        reshape: ReshapeRequest,
    ) -> AdminReply<DeployReport> {
        self.answer(format!("reshape {tenant} {app} {}", reshape.shape), deployed(3))
    }

    fn status(self: Arc<Self>) -> AdminReply<NodeStatus> {
        let status = NodeStatus {
            version: "0.0.0".to_owned(),
            pid: 1,
            listen: vec!["127.0.0.1:80".to_owned()],
            shape: None,
            uptime_s: 1,
            tenants: 1,
            apps: 1,
            apps_loaded: 1,
            apps_loaded_max: 100,
            instances: 1,
            resident_bytes: 1,
            requests: 1,
            loads: 1,
            drops: 0,
            connections: 1,
            connections_evicted: 0,
            connections_refused: 0,
        };
        self.answer("status", status)
    }

    fn apps(self: Arc<Self>, tenant: Option<TenantName>) -> AdminReply<Vec<AppInfo>> {
        let info = |name: &str, state| app_info("acme".parse().unwrap(), name.parse().unwrap(), state);
        let apps = vec![info("shop", AppState::Loaded), info("stock", AppState::Failed)];
        self.answer(format!("apps {}", tenant.map_or("-".to_owned(), String::from)), apps)
    }

    fn app(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo> {
        self.answer(format!("app {tenant} {app}"), app_info(tenant, app, AppState::Idle))
    }

    fn plan(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<serde_json::Value> {
        self.answer(format!("plan {tenant} {app}"), serde_json::json!({ "app": "shop", "seams": [] }))
    }

    fn logs(self: Arc<Self>, tenant: TenantName, app: AppName, query: LogQuery) -> AdminReply<LogLines> {
        let there =
            futures::stream::iter((0..query.lines.unwrap_or(100)).map(|number| line(&format!("line {number}"))));
        let to_come = futures::stream::unfold(self.lines.subscribe(), |mut lines| async move {
            lines.recv().await.ok().map(|line| (line, lines))
        });
        let lines: LogLines = match (query.follow, app.as_str()) {
            (true, "silent") => Box::pin(there.chain(futures::stream::pending())),
            (true, _) => Box::pin(there.chain(to_come)),
            (false, _) => Box::pin(there),
        };
        let access = if query.access { " access" } else { "" };
        let request = query.request.map(|request| format!(" of {request}")).unwrap_or_default();
        let trace = query.trace.map(|trace| format!(" of {trace}")).unwrap_or_default();
        self.answer(format!("logs {tenant} {app} {}{access}{request}{trace}", query.follow), lines)
    }

    fn traces(self: Arc<Self>, tenant: TenantName, app: AppName, query: TraceQuery) -> AdminReply<TracePage> {
        let asked = format!("traces {tenant} {app} {}", serde_json::to_string(&query).unwrap());
        let more = TraceSummary {
            id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            failed: true,
            status: Some(500),
            ..summary()
        };
        self.answer(
            asked,
            TracePage { traces: vec![summary(), more], next: Some("7".to_owned()), stopped_early: false },
        )
    }

    fn trace(self: Arc<Self>, tenant: TenantName, app: AppName, id: String) -> AdminReply<Trace> {
        async move {
            self.note(format!("trace {tenant} {app} {id}"));
            match id.as_str() {
                TRACE | REQUEST => Ok(trace()),
                _ => Err(ApiProblem::not_found("trace", id)),
            }
        }
        .boxed()
    }

    fn follow_traces(self: Arc<Self>, tenant: TenantName, app: AppName, query: TraceQuery) -> AdminReply<NewTraces> {
        let asked = format!("follow-traces {tenant} {app} {}", serde_json::to_string(&query).unwrap());
        let traces = futures::stream::iter([TraceSummary { sampled: false, ..summary() }, summary()]).boxed();
        self.answer(asked, traces)
    }

    fn order_traces(self: Arc<Self>, tenant: TenantName, app: AppName, order: TraceOrderRequest) -> AdminReply<()> {
        self.answer(format!("order-traces {tenant} {app} {} {}", order.path, order.requests), ())
    }

    fn metrics(self: Arc<Self>, query: MetricsQuery) -> AdminReply<MetricsReport> {
        let metric = MetricReport {
            name: "http.server.active_requests".to_owned(),
            kind: MetricKind::Gauge,
            unit: "requests".to_owned(),
            help: "The number of requests in progress.".to_owned(),
            bounds: Vec::new(),
            series: vec![SeriesReport { value: 2.0, ..SeriesReport::default() }],
        };
        let asked = serde_json::to_string(&query).unwrap();
        self.answer(format!("metrics {asked}"), MetricsReport { at_ms: 1, started_ms: None, metrics: vec![metric] })
    }

    fn metrics_text(self: Arc<Self>, tenant: Option<TenantName>, accept: Option<String>) -> AdminReply<MetricsText> {
        let tenant = tenant.map_or("-".to_owned(), String::from);
        let text = MetricsText { content_type: "text/plain; version=0.0.4", text: "up 1\n".to_owned() };
        self.answer(format!("metrics-text {tenant} {}", accept.unwrap_or_default()), text)
    }

    fn stored_token(&self, id: &TokenId) -> Option<StoredToken> {
        self.tokens.lock().unwrap().iter().find(|token| token.info.id == *id).cloned()
    }
}

impl Admin for Fake {
    fn tenants(self: Arc<Self>) -> AdminReply<Vec<TenantInfo>> {
        self.answer("tenants", vec![tenant_info("acme".parse().unwrap())])
    }

    fn tenant(self: Arc<Self>, tenant: TenantName) -> AdminReply<TenantInfo> {
        async move {
            self.note(format!("tenant {tenant}"));
            match tenant.as_str() {
                "missing" => Err(ApiProblem::not_found("tenant", tenant)),
                _ => Ok(tenant_info(tenant)),
            }
        }
        .boxed()
    }

    fn set_tenant(self: Arc<Self>, tenant: TenantName, change: TenantChange) -> AdminReply<TenantInfo> {
        let asked = format!("set-tenant {tenant} {}", serde_json::to_string(&change).unwrap());
        self.answer(asked, tenant_info(tenant))
    }

    fn remove_tenant(self: Arc<Self>, tenant: TenantName) -> AdminReply<()> {
        self.answer(format!("remove-tenant {tenant}"), ())
    }

    fn set_secret(self: Arc<Self>, tenant: TenantName, name: SecretName, value: Vec<u8>) -> AdminReply<()> {
        self.answer(format!("set-secret {tenant} {name} {}", String::from_utf8_lossy(&value)), ())
    }

    fn remove_secret(self: Arc<Self>, tenant: TenantName, name: SecretName, force: bool) -> AdminReply<()> {
        let force = if force { " by force" } else { "" };
        self.answer(format!("remove-secret {tenant} {name}{force}"), ())
    }

    fn tokens(self: Arc<Self>, tenant: TenantName) -> AdminReply<Vec<TokenInfo>> {
        let tokens = self.kept_tokens().into_iter().map(|token| token.info).filter(|info| info.tenant == tenant);
        let tokens = tokens.collect();
        self.answer(format!("tokens {tenant}"), tokens)
    }

    fn add_token(self: Arc<Self>, token: StoredToken) -> AdminReply<TokenInfo> {
        async move {
            let info = token.info.clone();
            self.note(format!("add-token {} {} {}", info.tenant, info.name, info.role));
            self.tokens.lock().unwrap().push(token);
            Ok(info)
        }
        .boxed()
    }

    fn revoke_token(self: Arc<Self>, tenant: TenantName, name: TokenName) -> AdminReply<()> {
        async move {
            self.note(format!("revoke-token {tenant} {name}"));
            self.tokens.lock().unwrap().retain(|token| token.info.tenant != tenant || token.info.name != name);
            Ok(())
        }
        .boxed()
    }

    fn revisions(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Vec<RevisionInfo>> {
        let info = |digit, current, snapshot| RevisionInfo {
            revision: revision(digit),
            version: "1.2.3".to_owned(),
            shape: (digit != 3).then(|| "monolith".to_owned()),
            deployed_at: 1,
            current,
            origin: origin(digit),
            snapshot,
        };
        let stores = vec![StoreSnapshot { store: "orders".to_owned(), bytes: 12_288 }];
        let earlier = info(2, false, Some(SnapshotInfo { taken_at: 60, stores }));
        self.answer(format!("revisions {tenant} {app}"), vec![info(1, true, None), earlier, info(3, false, None)])
    }

    fn missing(self: Arc<Self>, _: Caller, release: Release) -> AdminReply<MissingParts> {
        let parts = release.components.into_values().chain(release.files.into_values());
        let digests = parts.map(|part| part.digest).collect::<BTreeSet<_>>().into_iter().collect();
        self.answer("missing", MissingParts { digests })
    }

    fn put_blob(self: Arc<Self>, _: Caller, digest: Digest, mut body: UploadBody) -> AdminReply<()> {
        async move {
            let mut bytes = 0;
            while let Some(piece) = body.next().await {
                match piece {
                    Ok(piece) => bytes += piece.len(),
                    Err(error) => {
                        self.note(format!("put-blob {} broken: {error}", &digest.as_str()[..4]));
                        return Err(ApiProblem::new(ProblemKind::BadRequest, "the upload broke off"));
                    }
                }
            }
            self.note(format!("put-blob {} {bytes}", &digest.as_str()[..4]));
            Ok(())
        }
        .boxed()
    }

    fn deploy(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        release: Release,
    ) -> AdminReply<DeployReport> {
        async move {
            let message = release.message.as_ref().map(|message| format!(": {}", message.as_str()));
            let by = match caller.actor() {
                Actor::Node => String::new(),
                Actor::Tenant { name, .. } => format!(" by {name}"),
            };
            self.note(format!("deploy {tenant} {app} {}{by}{}", release.shape, message.unwrap_or_default()));
            *self.release.lock().unwrap() = Some(release);
            match app.as_str() {
                "slow" => {
                    self.started.notify_one();
                    self.go_on.notified().await;
                    self.note("deployed slow");
                    Ok(deployed(2))
                }
                "bad" => Err(ApiProblem::new(ProblemKind::Refused, "the revision cannot run").hint("mend it")),
                "panics" => panic!("as it happens"),
                "disk" => Err(ApiProblem::new(ProblemKind::Failed, "cannot write `/var/lib/isomer/state.redb`")),
                _ => Ok(deployed(2)),
            }
        }
        .boxed()
    }

    fn rollback(
        self: Arc<Self>,
        _: Caller,
        tenant: TenantName,
        app: AppName,
        rollback: RollbackRequest,
    ) -> AdminReply<DeployReport> {
        let to = rollback.revision.map_or("-".to_owned(), |revision| revision.short().to_owned());
        let stores = if rollback.to_snapshot { " with its stores" } else { "" };
        self.answer(format!("rollback {tenant} {app} {to}{stores}"), deployed(1))
    }

    fn swap(
        self: Arc<Self>,
        _: Caller,
        tenant: TenantName,
        app: AppName,
        swap: SwapRequest,
    ) -> AdminReply<DeployReport> {
        let names = swap.components.into_keys().collect::<Vec<_>>().join(",");
        self.answer(format!("swap {tenant} {app} {names}"), deployed(3))
    }

    fn stop(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo> {
        self.answer(format!("stop {tenant} {app}"), app_info(tenant, app, AppState::Stopped))
    }

    fn start(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo> {
        self.answer(format!("start {tenant} {app}"), app_info(tenant, app, AppState::Idle))
    }

    fn remove(self: Arc<Self>, tenant: TenantName, app: AppName, data: bool) -> AdminReply<()> {
        self.answer(format!("remove {tenant} {app} {data}"), ())
    }
}
