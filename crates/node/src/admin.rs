//! The node's implementation of the admin API. Each operation is delegated to the module for its subject.
//!
//! Each operation runs in its own tokio task, so it completes even if the client disconnects.

use std::sync::Arc;

use futures::future::FutureExt as _;
use isomer_admin::{Admin, AdminReply, AppApi, Caller, LogLines, MetricsText, NewTraces, UploadBody, current_action};
use isomer_api::{
    ApiProblem, AppInfo, DeployReport, LogQuery, MetricsQuery, MetricsReport, MissingParts, NodeStatus, ProblemKind,
    Release, ReshapeRequest, RevisionInfo, RollbackRequest, StoredToken, SwapRequest, TenantChange, TenantInfo,
    TokenInfo, Trace, TraceOrderRequest, TracePage, TraceQuery,
};
use isomer_apps::{metrics_report, metrics_text};
use isomer_ids::{AppName, Digest, SecretName, TenantName, TokenId, TokenName};

use crate::node::Node;
use crate::problems;
use crate::tenants::SecretChange;

/// Returns a future that runs `work` in a tokio task. The task is spawned by the first poll of the future: before that
/// poll, the audit log can still refuse the operation.
fn spawn_operation<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiProblem>> + Send + 'static,
) -> AdminReply<T> {
    async move {
        tokio::spawn(work)
            .await
            .unwrap_or_else(|_| Err(ApiProblem::new(ProblemKind::Failed, "the node failed; see the node's log")))
    }
    .boxed()
}

/// Like [`spawn_operation`], and passes the number of the action in the audit log to `work`.
fn spawn_action<T: Send + 'static, F: Future<Output = Result<T, ApiProblem>> + Send + 'static>(
    work: impl FnOnce(Option<u64>) -> F + Send + 'static,
) -> AdminReply<T> {
    async move { spawn_operation(work(current_action())).await }.boxed()
}

/// Returns a future that runs `work` on a blocking thread, because `work` reads and syncs files.
fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ApiProblem> + Send + 'static) -> AdminReply<T> {
    spawn_operation(async move {
        let failed = |_| Err(ApiProblem::new(ProblemKind::Failed, "the node failed; see the node's log"));
        tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
    })
}

impl AppApi for Node {
    fn reshape(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        reshape: ReshapeRequest,
    ) -> AdminReply<DeployReport> {
        spawn_action(move |action| async move { self.reshape_app(caller, tenant, app, reshape, action).await })
    }

    fn status(self: Arc<Self>) -> AdminReply<NodeStatus> {
        spawn_operation(async move { Ok(self.node_status()) })
    }

    fn apps(self: Arc<Self>, tenant: Option<TenantName>) -> AdminReply<Vec<AppInfo>> {
        blocking(move || self.all_apps(tenant.as_ref()))
    }

    fn app(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo> {
        blocking(move || self.one_app(&tenant, &app))
    }

    fn plan(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<serde_json::Value> {
        spawn_operation(async move { self.plan_of(tenant, app).await })
    }

    fn logs(self: Arc<Self>, tenant: TenantName, app: AppName, query: LogQuery) -> AdminReply<LogLines> {
        spawn_operation(async move { self.log_lines(tenant, app, query).await })
    }

    fn metrics(self: Arc<Self>, query: MetricsQuery) -> AdminReply<MetricsReport> {
        blocking(move || Ok(metrics_report(self.tenancy.metrics(), &query)))
    }

    fn metrics_text(self: Arc<Self>, tenant: Option<TenantName>, accept: Option<String>) -> AdminReply<MetricsText> {
        blocking(move || {
            let (content_type, text) = metrics_text(self.tenancy.metrics(), tenant.as_ref(), accept.as_deref());
            Ok(MetricsText { content_type, text })
        })
    }

    fn traces(self: Arc<Self>, tenant: TenantName, app: AppName, query: TraceQuery) -> AdminReply<TracePage> {
        blocking(move || self.trace_page(&tenant, &app, &query))
    }

    fn trace(self: Arc<Self>, tenant: TenantName, app: AppName, id: String) -> AdminReply<Trace> {
        blocking(move || self.one_trace(&tenant, &app, &id))
    }

    fn follow_traces(self: Arc<Self>, tenant: TenantName, app: AppName, query: TraceQuery) -> AdminReply<NewTraces> {
        blocking(move || self.new_traces(&tenant, &app, &query))
    }

    fn order_traces(self: Arc<Self>, tenant: TenantName, app: AppName, order: TraceOrderRequest) -> AdminReply<()> {
        blocking(move || self.order_app_traces(&tenant, &app, order))
    }

    fn stored_token(&self, id: &TokenId) -> Option<StoredToken> {
        self.state.token(id)
    }

    fn shown(&self, problem: ApiProblem) -> ApiProblem {
        problems::without_folder(problem, self.dir.path())
    }
}

impl Admin for Node {
    fn tenants(self: Arc<Self>) -> AdminReply<Vec<TenantInfo>> {
        blocking(move || Ok(self.all_tenants()))
    }

    fn tenant(self: Arc<Self>, tenant: TenantName) -> AdminReply<TenantInfo> {
        blocking(move || self.one_tenant(&tenant))
    }

    fn set_tenant(self: Arc<Self>, tenant: TenantName, change: TenantChange) -> AdminReply<TenantInfo> {
        spawn_operation(async move { self.change_tenant(tenant, change).await })
    }

    fn remove_tenant(self: Arc<Self>, tenant: TenantName) -> AdminReply<()> {
        spawn_operation(async move { self.delete_tenant(&tenant).await })
    }

    fn set_secret(self: Arc<Self>, tenant: TenantName, name: SecretName, value: Vec<u8>) -> AdminReply<()> {
        spawn_operation(async move { self.change_secret(&tenant, name, SecretChange::Set(value)).await })
    }

    fn remove_secret(self: Arc<Self>, tenant: TenantName, name: SecretName, force: bool) -> AdminReply<()> {
        spawn_operation(async move { self.change_secret(&tenant, name, SecretChange::Remove { force }).await })
    }

    fn tokens(self: Arc<Self>, tenant: TenantName) -> AdminReply<Vec<TokenInfo>> {
        blocking(move || self.tokens_of(&tenant))
    }

    fn add_token(self: Arc<Self>, token: StoredToken) -> AdminReply<TokenInfo> {
        spawn_operation(async move { self.record_token(token).await })
    }

    fn revoke_token(self: Arc<Self>, tenant: TenantName, name: TokenName) -> AdminReply<()> {
        spawn_operation(async move { self.delete_token(tenant, name).await })
    }

    fn revisions(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Vec<RevisionInfo>> {
        blocking(move || self.revisions_of(&tenant, &app))
    }

    fn missing(self: Arc<Self>, caller: Caller, release: Release) -> AdminReply<MissingParts> {
        blocking(move || self.missing_of(&caller, &release))
    }

    fn put_blob(self: Arc<Self>, caller: Caller, digest: Digest, body: UploadBody) -> AdminReply<()> {
        spawn_operation(async move { self.store_blob(caller, digest, body).await })
    }

    fn deploy(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        release: Release,
    ) -> AdminReply<DeployReport> {
        spawn_action(move |action| async move { self.deploy_release(caller, tenant, app, release, action).await })
    }

    fn rollback(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        rollback: RollbackRequest,
    ) -> AdminReply<DeployReport> {
        spawn_action(move |action| async move { self.roll_back(caller, tenant, app, rollback, action).await })
    }

    fn swap(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        swap: SwapRequest,
    ) -> AdminReply<DeployReport> {
        spawn_action(move |action| async move { self.swap_components(caller, tenant, app, swap, action).await })
    }

    fn stop(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo> {
        spawn_operation(async move { self.set_stopped(tenant, app, true).await })
    }

    fn start(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo> {
        spawn_operation(async move { self.set_stopped(tenant, app, false).await })
    }

    fn remove(self: Arc<Self>, tenant: TenantName, app: AppName, data: bool) -> AdminReply<()> {
        spawn_operation(async move { self.remove_app(tenant, app, data).await })
    }
}
