//! The paths of the API. A segment in braces is a parameter, a checked name.

/// `GET`: [`NodeStatus`](crate::NodeStatus).
pub const STATUS: &str = "/v1/status";
/// `GET`: this API as an OpenAPI document.
pub const OPENAPI: &str = "/v1/openapi.json";
/// `GET`: all [`TenantInfo`](crate::TenantInfo)s.
pub const TENANTS: &str = "/v1/tenants";
/// `GET`: [`TenantInfo`](crate::TenantInfo); `PUT` [`TenantChange`](crate::TenantChange): the same; `DELETE`: nothing, once it has no
/// apps.
pub const TENANT: &str = "/v1/tenants/{tenant}";
/// `PUT` with the value as the body (64 KiB at most), `DELETE`: nothing.
pub const SECRET: &str = "/v1/tenants/{tenant}/secrets/{secret}";
/// `GET`: all [`TokenInfo`](crate::TokenInfo)s of the tenant; `POST` [`TokenRequest`](crate::TokenRequest): [`CreatedToken`](crate::CreatedToken).
pub const TOKENS: &str = "/v1/tenants/{tenant}/tokens";
/// `DELETE`: nothing.
pub const TOKEN: &str = "/v1/tenants/{tenant}/tokens/{token}";
/// `GET`: all [`AppInfo`](crate::AppInfo)s of the node; `?tenant=` those of one.
pub const APPS: &str = "/v1/apps";
/// `GET`: [`AppInfo`](crate::AppInfo); `DELETE`: nothing; `?data=true` its data too.
pub const APP: &str = "/v1/tenants/{tenant}/apps/{app}";
/// `GET`: [`RevisionInfo`](crate::RevisionInfo)s, the newest first.
pub const REVISIONS: &str = "/v1/tenants/{tenant}/apps/{app}/revisions";
/// `POST` [`Release`](crate::Release): [`MissingParts`](crate::MissingParts).
pub const MISSING: &str = "/v1/missing";
/// `PUT` with the bytes as the body: nothing.
pub const BLOB: &str = "/v1/blobs/{digest}";
/// `POST` [`Release`](crate::Release): [`DeployReport`](crate::DeployReport).
pub const DEPLOY: &str = "/v1/tenants/{tenant}/apps/{app}/deploy";
/// `POST` [`RollbackRequest`](crate::RollbackRequest): [`DeployReport`](crate::DeployReport).
pub const ROLLBACK: &str = "/v1/tenants/{tenant}/apps/{app}/rollback";
/// `POST` [`SwapRequest`](crate::SwapRequest): [`DeployReport`](crate::DeployReport).
pub const SWAP: &str = "/v1/tenants/{tenant}/apps/{app}/swap";
/// `POST`: [`AppInfo`](crate::AppInfo).
pub const STOP: &str = "/v1/tenants/{tenant}/apps/{app}/stop";
/// `POST`: [`AppInfo`](crate::AppInfo).
pub const START: &str = "/v1/tenants/{tenant}/apps/{app}/start";
/// `GET` with [`LogQuery`](crate::LogQuery) in the query: [`LogLine`](crate::LogLine)s, one a line.
pub const LOGS: &str = "/v1/tenants/{tenant}/apps/{app}/logs";
