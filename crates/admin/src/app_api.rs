//! The interface between the admin API and any process that serves apps: the operations that a node, `isomer run` and
//! `isomer dev` have in common.

use std::pin::Pin;
use std::sync::Arc;

use futures::stream::Stream;
use isomer_api::{
    ApiProblem, AppInfo, DeployReport, LogLine, LogQuery, MetricsQuery, MetricsReport, NodeStatus, ProblemKind,
    ReshapeRequest, StoredToken, Trace, TraceOrderRequest, TracePage, TraceQuery, TraceSummary,
};
use isomer_ids::{AppName, TenantName, TokenId};
use serde_json::Value;

use crate::caller::Caller;
use crate::data_api::{ShapeApi, StoreApi};
pub use crate::reply::AdminReply;

/// Lines of a log: the last existing lines, followed by new lines if `follow` is true in the query.
pub type LogLines = Pin<Box<dyn Stream<Item = LogLine> + Send>>;

/// Traces that are recorded while the stream is read.
pub type NewTraces = Pin<Box<dyn Stream<Item = TraceSummary> + Send>>;

/// Metrics as text.
#[derive(Debug, Clone)]
pub struct MetricsText {
    /// The content type of the response.
    pub content_type: &'static str,
    /// The metrics, in the format that `content_type` names.
    pub text: String,
}

/// The operations that every process with an admin API implements. They observe apps, and change only
/// their shape.
pub trait AppApi: StoreApi + ShapeApi {
    /// Returns the status of the process.
    fn status(self: Arc<Self>) -> AdminReply<NodeStatus>;

    /// Returns all apps of the process, or all apps of one tenant, sorted by tenant and name.
    fn apps(self: Arc<Self>, tenant: Option<TenantName>) -> AdminReply<Vec<AppInfo>>;
    /// Returns one app.
    fn app(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<AppInfo>;
    /// Returns the plan of an app's serving revision.
    fn plan(self: Arc<Self>, tenant: TenantName, app: AppName) -> AdminReply<Value>;
    /// Returns lines of an app's log, or of its access log if `access` is true in the query.
    fn logs(self: Arc<Self>, tenant: TenantName, app: AppName, query: LogQuery) -> AdminReply<LogLines>;

    /// Returns the traces of an app that match the query, the newest first.
    fn traces(self: Arc<Self>, _: TenantName, _: AppName, _: TraceQuery) -> AdminReply<TracePage> {
        no_traces()
    }
    /// Returns one trace. `id` is the id of the trace, or of its request.
    fn trace(self: Arc<Self>, _: TenantName, _: AppName, _: String) -> AdminReply<Trace> {
        no_traces()
    }
    /// Returns a stream of the app's traces that match the query, as they are recorded. A query with a condition about
    /// spans is refused, because a [`TraceSummary`] has no spans.
    fn follow_traces(self: Arc<Self>, _: TenantName, _: AppName, _: TraceQuery) -> AdminReply<NewTraces> {
        no_traces()
    }
    /// Samples the next requests to an app. The [`TraceOrderRequest`] states how many.
    fn order_traces(self: Arc<Self>, _: TenantName, _: AppName, _: TraceOrderRequest) -> AdminReply<()> {
        no_traces()
    }

    /// Runs the revision of an app that serves requests in another shape. If this fails, the app keeps its shape.
    fn reshape(
        self: Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        reshape: ReshapeRequest,
    ) -> AdminReply<DeployReport>;

    /// Returns the metrics that match `query`.
    fn metrics(self: Arc<Self>, query: MetricsQuery) -> AdminReply<MetricsReport>;
    /// Returns all metrics, or the metrics of one tenant, as text. `accept` is the value of the request's `Accept`
    /// header.
    fn metrics_text(self: Arc<Self>, tenant: Option<TenantName>, accept: Option<String>) -> AdminReply<MetricsText>;

    /// Returns the app of a process that serves only one app; `None` for other processes. The operations on this app
    /// can also be called without the names of the tenant and the app in the path: `/v1/logs` is the log of this app.
    fn only_app(&self) -> Option<(TenantName, AppName)> {
        None
    }

    /// Returns the stored form of a tenant's token; `None` if there is no such token. Called for each request with a
    /// tenant's token, so this must not block.
    fn stored_token(&self, id: &TokenId) -> Option<StoredToken>;

    /// Returns a problem in the form that clients may see. The audit log records the problem unchanged.
    fn shown(&self, problem: ApiProblem) -> ApiProblem {
        problem
    }
}

/// Returns the reply of a process that records no traces.
fn no_traces<T: Send + 'static>() -> AdminReply<T> {
    let problem = ApiProblem::new(ProblemKind::NotFound, "this process records no traces");
    Box::pin(std::future::ready(Err(problem)))
}
