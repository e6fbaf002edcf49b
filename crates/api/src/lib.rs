//! The requests and responses of a node's admin API, and the quotas of tenants. Pure data, as JSON on the wire.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`quotas`] | what a tenant may use |
//! | [`tenant`] | tenants |
//! | [`app`] | apps and their revisions |
//! | [`deploy`] | releases, deployments, rollbacks |
//! | [`status`] | the state of a node, and lines of apps' logs |
//! | [`tokens`] | tokens of tenants |
//! | [`problem`] | errors |
//! | [`routes`] | the paths of the API |
//!
//! A value of these types has been checked, wherever it came from: names and digests are types of `isomer-ids`.

#![forbid(unsafe_code)]

pub mod app;
pub mod deploy;
pub mod problem;
pub mod quotas;
pub mod routes;
pub mod status;
pub mod tenant;
pub mod tokens;

pub use app::{
    Actor, AppInfo, AppState, ReleaseChanges, RevisionInfo, RevisionOperation, RevisionOrigin, SnapshotInfo,
    StoreSnapshot,
};
pub use deploy::{
    DeployMessage, DeployReport, MissingParts, PartPath, Release, ReleasePart, RollbackRequest, StoreChange,
    SwapRequest,
};
pub use problem::{ApiProblem, ProblemKind};
pub use quotas::{Quota, QuotaChange, Quotas};
pub use status::{LogLine, LogQuery, NodeStatus};
pub use tenant::{TenantChange, TenantInfo, TenantUsage};
pub use tokens::{CreatedToken, StoredToken, TokenInfo, TokenRequest, TokenRole};
