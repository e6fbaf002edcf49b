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
    /// The name.
    pub name: AppName,
    /// The host names under which it is served.
    pub hosts: Vec<HostPattern>,
    /// The revision that serves requests.
    pub revision: ReleaseDigest,
    /// The version in its manifest.
    pub version: String,
    /// The state of the app.
    pub state: AppState,
    /// When that revision was deployed, in seconds since 1970, UTC.
    pub deployed_at: u64,
    /// Why the app cannot be loaded, while its state is `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The state of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AppState {
    /// On disk. The next request loads it.
    Idle,
    /// In memory.
    Loaded,
    /// Stopped by an admin. Requests are answered with 503.
    Stopped,
    /// Loading failed. Requests are answered with 500. Loading is retried at growing intervals of at most a minute.
    Failed,
}

/// A revision of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionInfo {
    /// The name.
    pub revision: ReleaseDigest,
    /// The version in its manifest.
    pub version: String,
    /// When it was last deployed, in seconds since 1970, UTC.
    pub deployed_at: u64,
    /// Whether this revision serves requests.
    pub current: bool,
    /// How it came into service; absent if an earlier version of the program deployed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<RevisionOrigin>,
    /// The snapshot that a rollback to this revision can restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotInfo>,
}

/// A snapshot of an app's SQL stores, taken when a revision with migrations took over from this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotInfo {
    /// When it was taken, in seconds since 1970, UTC.
    pub taken_at: u64,
    /// The stores.
    pub stores: Vec<StoreSnapshot>,
}

/// One store in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreSnapshot {
    /// The name.
    pub store: String,
    /// The bytes on disk, which count for the tenant's storage quota.
    pub bytes: u64,
}

/// How a revision last came into service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionOrigin {
    /// The operation.
    pub how: RevisionOperation,
    /// Who requested it.
    pub by: Actor,
    /// The message of the operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<DeployMessage>,
    /// What differs from the previous revision; absent if there was none, or it cannot be determined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<ReleaseChanges>,
}

/// An operation that brings a revision into service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevisionOperation {
    /// `deploy`.
    Deploy,
    /// `swap`.
    Swap,
    /// `rollback`.
    Rollback,
}

/// Who requested an operation.
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

/// The maximum number of components that [`ReleaseChanges`] names.
pub const CHANGES_NAMED_MAX: usize = 16;

/// The differences between two revisions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReleaseChanges {
    /// Whether the manifest differs.
    pub manifest: bool,
    /// Whether the shape differs.
    pub shape: bool,
    /// Components whose bytes differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Components that were added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// Components that were removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// The number of further components that differ, beyond the first 16.
    pub more: u32,
    /// The number of files and empty folders that differ.
    pub files: u32,
}
