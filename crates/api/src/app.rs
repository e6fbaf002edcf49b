//! Apps and their revisions.

use isomer_ids::{AppName, HostPattern, ReleaseDigest, TenantName, TokenId, TokenName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deploy::DeployMessage;

/// An app of a tenant, as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppInfo {
    /// The tenant that owns the app.
    pub tenant: TenantName,
    /// The app's name, unique in its tenant.
    pub name: AppName,
    /// The host names under which the app is served.
    pub hosts: Vec<HostPattern>,
    /// The revision that serves requests.
    pub revision: ReleaseDigest,
    /// The app's version, from the manifest of the revision that serves requests.
    pub version: String,
    /// The shape in which the revision that serves requests runs; absent if an earlier version of Isomer deployed the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// The state of the app.
    pub state: AppState,
    /// The time at which the revision that serves requests was deployed, in seconds since 1970-01-01 00:00 UTC.
    pub deployed_at: u64,
    /// Why the app cannot be loaded; absent unless the state is `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The state of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AppState {
    /// The app is on disk only. The next request loads it into memory.
    Idle,
    /// The app is in memory.
    Loaded,
    /// The app was stopped through the admin API. Its requests get status 503.
    Stopped,
    /// The app could not be loaded. Its requests get status 500. After a pause, the next request loads the app again.
    /// The pause becomes longer after each failure, up to one minute.
    Failed,
}

/// A revision of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionInfo {
    /// The release digest, which identifies the revision.
    pub revision: ReleaseDigest,
    /// The app's version, from the revision's manifest.
    pub version: String,
    /// The shape in which the revision runs; absent if an earlier version of Isomer deployed the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// The time at which the revision was last deployed, in seconds since 1970-01-01 00:00 UTC.
    pub deployed_at: u64,
    /// Whether this revision serves requests.
    pub current: bool,
    /// The operation that put the revision into service; absent if an earlier version of Isomer deployed the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<RevisionOrigin>,
    /// The snapshot that a rollback to this revision can restore; absent if there is no snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotInfo>,
}

/// A snapshot of an app's SQL stores. It is taken when a revision with migrations replaces another revision, and
/// belongs to the replaced revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotInfo {
    /// The time at which the snapshot was taken, in seconds since 1970-01-01 00:00 UTC.
    pub taken_at: u64,
    /// The stores in the snapshot.
    pub stores: Vec<StoreSnapshot>,
}

/// One store in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreSnapshot {
    /// The store's name.
    pub store: String,
    /// The size on disk in bytes, which is charged to the tenant's storage quota.
    pub bytes: u64,
}

/// The operation that last put a revision into service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionOrigin {
    /// The kind of operation.
    pub how: RevisionOperation,
    /// The holder of the token with which the operation was requested.
    pub by: Actor,
    /// The message that the client sent with the operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<DeployMessage>,
    /// The message with which the revision was first deployed; absent if it equals `message`, or if the first deployment
    /// had no message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_message: Option<DeployMessage>,
    /// The differences from the revision that served requests before; absent if there was none, or if the differences
    /// cannot be determined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<ReleaseChanges>,
    /// The id of the operation's trace, which the traces of the app contain for some time; absent if an earlier version of
    /// Isomer performed the operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// A kind of operation that puts a revision into service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevisionOperation {
    /// A release was deployed.
    Deploy,
    /// Components of the previous revision were replaced (`isomer swap`).
    Swap,
    /// An earlier revision was put into service again (`isomer rollback`).
    Rollback,
    /// The previous revision was put into service in another shape (`isomer reshape`).
    Reshape,
}

/// The holder of the token with which an operation was requested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "token", rename_all = "kebab-case")]
pub enum Actor {
    /// The holder of the node's own token.
    Node,
    /// The holder of a tenant's token.
    Tenant {
        /// The token's name.
        name: TokenName,
        /// The token's id.
        id: TokenId,
    },
}

/// The maximum number of components that [`ReleaseChanges`] lists by name.
pub const CHANGES_NAMED_MAX: usize = 16;

/// The differences between two revisions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReleaseChanges {
    /// Whether the manifests differ.
    pub manifest: bool,
    /// Whether the shapes in which the two revisions run differ.
    pub shape: bool,
    /// The names of components whose bytes differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// The names of added components.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// The names of removed components.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// The number of further components that differ. `changed`, `added` and `removed` do not contain their names,
    /// because these lists contain at most 16 names together.
    pub more: u32,
    /// The number of files and empty folders that differ.
    pub files: u32,
}
