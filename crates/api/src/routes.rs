//! The paths of the admin API. A segment in braces is a placeholder for a name or a digest.

/// `GET`; returns [`NodeStatus`](crate::NodeStatus).
pub const STATUS: &str = "/v1/status";
/// `GET`; returns this API as an OpenAPI document.
pub const OPENAPI: &str = "/v1/openapi.json";
/// `POST`; returns a [`DashboardCode`](crate::DashboardCode).
pub const DASHBOARD_CODES: &str = "/v1/dashboard-codes";
/// `GET`; returns all [`TenantInfo`](crate::TenantInfo)s.
pub const TENANTS: &str = "/v1/tenants";
/// `GET` returns [`TenantInfo`](crate::TenantInfo). `PUT` of a [`TenantChange`](crate::TenantChange) returns the
/// changed `TenantInfo`. `DELETE` removes the tenant, which must have no apps; the response has no body.
pub const TENANT: &str = "/v1/tenants/{tenant}";
/// `PUT` with the value as the body (64 KiB at most), or `DELETE`. The responses have no body.
pub const SECRET: &str = "/v1/tenants/{tenant}/secrets/{secret}";
/// `GET` returns all [`TokenInfo`](crate::TokenInfo)s of the tenant. `POST` of a [`TokenRequest`](crate::TokenRequest)
/// returns [`CreatedToken`](crate::CreatedToken).
pub const TOKENS: &str = "/v1/tenants/{tenant}/tokens";
/// `DELETE`; the response has no body.
pub const TOKEN: &str = "/v1/tenants/{tenant}/tokens/{token}";
/// `GET` returns the [`AppInfo`](crate::AppInfo)s of all apps of the node, or with `?tenant=NAME` of one tenant.
pub const APPS: &str = "/v1/apps";
/// `GET` returns [`AppInfo`](crate::AppInfo). `DELETE` removes the app, and with `?data=true` its data as well; the
/// response has no body.
pub const APP: &str = "/v1/tenants/{tenant}/apps/{app}";
/// `GET`; returns the plan of the revision that serves requests, as `isomer plan --json` prints it.
pub const PLAN: &str = "/v1/tenants/{tenant}/apps/{app}/plan";
/// `GET`; returns [`RevisionInfo`](crate::RevisionInfo)s, the newest first.
pub const REVISIONS: &str = "/v1/tenants/{tenant}/apps/{app}/revisions";
/// `POST` a [`Release`](crate::Release); returns [`MissingParts`](crate::MissingParts).
pub const MISSING: &str = "/v1/missing";
/// `PUT` with the bytes as the body; the response has no body.
pub const BLOB: &str = "/v1/blobs/{digest}";
/// `POST` a [`Release`](crate::Release); returns [`DeployReport`](crate::DeployReport).
pub const DEPLOY: &str = "/v1/tenants/{tenant}/apps/{app}/deploy";
/// `POST` a [`RollbackRequest`](crate::RollbackRequest); returns [`DeployReport`](crate::DeployReport).
pub const ROLLBACK: &str = "/v1/tenants/{tenant}/apps/{app}/rollback";
/// `POST` a [`SwapRequest`](crate::SwapRequest); returns [`DeployReport`](crate::DeployReport).
pub const SWAP: &str = "/v1/tenants/{tenant}/apps/{app}/swap";
/// `POST` a [`ReshapeRequest`](crate::ReshapeRequest); returns [`DeployReport`](crate::DeployReport).
pub const RESHAPE: &str = "/v1/tenants/{tenant}/apps/{app}/reshape";
/// `POST`; returns [`AppInfo`](crate::AppInfo).
pub const STOP: &str = "/v1/tenants/{tenant}/apps/{app}/stop";
/// `POST`; returns [`AppInfo`](crate::AppInfo).
pub const START: &str = "/v1/tenants/{tenant}/apps/{app}/start";
/// `GET` with [`LogQuery`](crate::LogQuery) in the query; returns [`LogLine`](crate::LogLine)s as JSON, one per line.
pub const LOGS: &str = "/v1/tenants/{tenant}/apps/{app}/logs";
/// `GET` with [`TraceQuery`](crate::TraceQuery) in the query; returns [`TracePage`](crate::TracePage).
pub const TRACES: &str = "/v1/tenants/{tenant}/apps/{app}/traces";
/// `GET` with [`TraceQuery`](crate::TraceQuery) in the query; returns a [`TraceSummary`](crate::TraceSummary) as JSON,
/// one per line, for each trace that is recorded after the request.
pub const FOLLOW_TRACES: &str = "/v1/tenants/{tenant}/apps/{app}/traces/follow";
/// `GET` with the id of a trace or of a request; returns [`Trace`](crate::Trace).
pub const TRACE: &str = "/v1/tenants/{tenant}/apps/{app}/traces/{trace}";
/// `POST` a [`TraceOrderRequest`](crate::TraceOrderRequest); the response has no body.
pub const TRACE_ORDERS: &str = "/v1/tenants/{tenant}/apps/{app}/trace-orders";
/// `GET`; returns the app's [`StoreInfo`](crate::StoreInfo)s.
pub const STORES: &str = "/v1/tenants/{tenant}/apps/{app}/stores";
/// `POST` a [`KvKeysQuery`](crate::KvKeysQuery); returns [`KvKeyPage`](crate::KvKeyPage).
pub const KV_KEYS: &str = "/v1/tenants/{tenant}/apps/{app}/stores/kv/{store}/keys";
/// `POST` a [`KvValueQuery`](crate::KvValueQuery); returns [`KvValue`](crate::KvValue).
pub const KV_VALUE: &str = "/v1/tenants/{tenant}/apps/{app}/stores/kv/{store}/value";
/// `POST` a [`KvSetRequest`](crate::KvSetRequest); the response has no body.
pub const KV_SET: &str = "/v1/tenants/{tenant}/apps/{app}/stores/kv/{store}/set";
/// `POST` a [`KvDeleteRequest`](crate::KvDeleteRequest); the response has no body.
pub const KV_DELETE: &str = "/v1/tenants/{tenant}/apps/{app}/stores/kv/{store}/delete";
/// `GET`; returns [`SqlSchema`](crate::SqlSchema).
pub const SQL_SCHEMA: &str = "/v1/tenants/{tenant}/apps/{app}/stores/sql/{store}/schema";
/// `POST` a [`SqlStatement`](crate::SqlStatement) that reads; returns [`SqlRows`](crate::SqlRows).
pub const SQL_QUERY: &str = "/v1/tenants/{tenant}/apps/{app}/stores/sql/{store}/query";
/// `POST` a [`SqlStatement`](crate::SqlStatement) that changes the store; returns [`SqlChanges`](crate::SqlChanges).
pub const SQL_EXECUTE: &str = "/v1/tenants/{tenant}/apps/{app}/stores/sql/{store}/execute";
/// `GET`; returns the [`ShapeInfo`](crate::ShapeInfo)s of the manifest.
pub const SHAPES: &str = "/v1/tenants/{tenant}/apps/{app}/shapes";
/// `POST` a [`ShapeRequest`](crate::ShapeRequest); returns [`ShapeComparison`](crate::ShapeComparison).
pub const COMPARE_SHAPE: &str = "/v1/tenants/{tenant}/apps/{app}/shapes/compare";
/// `GET`; returns [`ShapeAdvice`](crate::ShapeAdvice).
pub const ADVICE: &str = "/v1/tenants/{tenant}/apps/{app}/advice";
/// `GET` with [`MetricsQuery`](crate::MetricsQuery) in the query; returns [`MetricsReport`](crate::MetricsReport).
pub const METRICS: &str = "/v1/metrics";
/// `GET`; returns all metrics as text, in the format that the field `Accept` selects: Prometheus' format, or OpenMetrics.
/// The path is the one that Prometheus requests by default.
pub const METRICS_TEXT: &str = "/metrics";
