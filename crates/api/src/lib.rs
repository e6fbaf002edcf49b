//! What a node's admin API says and is told: names, quotas, what is asked and what is answered. Pure data, as JSON on the wire.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`quotas`] | what a tenant may use |
//! | [`tenant`] | tenants: what is told of them, how they are changed |
//! | [`app`] | apps and their revisions |
//! | [`deploy`] | what a deployment sends |
//! | [`status`] | a node as a whole, and its log's lines |
//! | [`tokens`] | tokens of tenants |
//! | [`problem`] | why something was refused |
//! | [`routes`] | the paths of the API |
//!
//! Invariant: whoever has a value of these types has a value that was checked, wherever it came from.

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
