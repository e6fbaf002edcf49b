//! The requests and responses of a node's admin API, and the quotas of tenants. The crate contains only data types,
//! which are sent as JSON.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`quotas`] | the quotas of a tenant |
//! | [`tenant`] | tenants |
//! | [`app`] | apps and their revisions |
//! | [`deploy`] | releases, deployments, rollbacks |
//! | [`data`] | reading and changing the stores of an app |
//! | [`sql_rows`] | the result of a statement on an SQL store |
//! | [`shapes`] | shapes, their comparison, and advice |
//! | [`status`] | the state of a node, and lines of apps' logs |
//! | [`log_level`] | the severity of records in an app's log |
//! | [`tokens`] | tokens of tenants |
//! | [`metrics`] | the values of metrics |
//! | [`trace`] | traces, and queries for traces |
//! | [`trace_order`] | orders to trace the next requests |
//! | [`dashboard`] | opening the dashboard |
//! | [`problem`] | errors |
//! | [`routes`] | the paths of the API |
//!
//! Names and digests have types of `isomer-ids`, so they are checked when a request or response is parsed.

#![forbid(unsafe_code)]

pub mod app;
pub mod dashboard;
pub mod data;
pub mod deploy;
pub mod log_level;
pub mod metrics;
pub mod problem;
pub mod quotas;
pub mod routes;
pub mod shapes;
pub mod sql_rows;
pub mod status;
pub mod tenant;
pub mod tokens;
pub mod trace;
pub mod trace_order;

pub use app::{
    Actor, AppInfo, AppState, ReleaseChanges, RevisionInfo, RevisionOperation, RevisionOrigin, SnapshotInfo,
    StoreSnapshot,
};
pub use dashboard::DashboardCode;
pub use data::{
    KvDeleteRequest, KvKey, KvKeyPage, KvKeysQuery, KvSetRequest, KvValue, KvValueQuery, SqlChanges, SqlColumn,
    SqlObject, SqlSchema, SqlStatement, StoreInfo, StoreKind,
};
pub use deploy::{
    DeployMessage, DeployReport, MissingParts, PartPath, Release, ReleasePart, ReshapeRequest, RollbackRequest,
    StoreChange, SwapRequest,
};
pub use log_level::LogLevel;
pub use metrics::{ExemplarReport, MetricKind, MetricReport, MetricsQuery, MetricsReport, SeriesReport};
pub use problem::{ApiProblem, ProblemKind};
pub use quotas::{Quota, QuotaChange, Quotas};
pub use shapes::{
    AdviceItem, AdviceKind, Confidence, IsolationChange, ProcessOutline, SeamChange, ShapeAdvice, ShapeComparison,
    ShapeInfo, ShapeRequest,
};
pub use sql_rows::{ResponseCharge, SqlCell, SqlRows};
pub use status::{LogLine, LogQuery, NodeStatus};
pub use tenant::{TenantChange, TenantInfo, TenantUsage};
pub use tokens::{CreatedToken, StoredToken, TOKEN_FILE, TokenInfo, TokenRequest, TokenRole};
pub use trace::{
    TRACES_DEFAULT, TRACES_MAX, Trace, TraceKind, TracePage, TraceQuery, TraceSpan, TraceSummary, TraceValue,
};
pub use trace_order::TraceOrderRequest;
