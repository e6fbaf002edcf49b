//! Apps and their revisions.

use isomer_ids::{AppName, HostPattern, ReleaseDigest, TenantName, TokenId, TokenName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deploy::DeployMessage;

/// An app of a tenant as an admin sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppInfo {
    /// Whose it is.
    pub tenant: TenantName,
    /// Its name.
    pub name: AppName,
    /// The host names under which it is served.
    pub hosts: Vec<HostPattern>,
    /// The revision that serves.
    pub revision: ReleaseDigest,
    /// The version that its manifest says.
    pub version: String,
    /// Whether it serves.
    pub state: AppState,
    /// When that revision was deployed: seconds since 1970, UTC.
    pub deployed_at: u64,
    /// Why it cannot be loaded, while its state is `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Whether an app serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AppState {
    /// On disk; its next request loads it.
    Idle,
    /// In memory.
    Loaded,
    /// An admin stopped it: requests are answered with 503.
    Stopped,
    /// It could not be loaded: requests are answered with 500. It is tried again, in longer and longer intervals of a minute at most.
    Failed,
}

/// A revision of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionInfo {
    /// Its name.
    pub revision: ReleaseDigest,
    /// The version that its manifest says.
    pub version: String,
    /// When it was deployed last: seconds since 1970, UTC.
    pub deployed_at: u64,
    /// Is it the one that serves?
    pub current: bool,
    /// Where it comes from; absent if an earlier version of the program deployed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<RevisionOrigin>,
    /// What a rollback to it with its stores would bring back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotInfo>,
}

/// SQL stores of an app as they were when a revision with migrations took over from this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotInfo {
    /// When it was taken: seconds since 1970, UTC.
    pub taken_at: u64,
    /// The stores.
    pub stores: Vec<StoreSnapshot>,
}

/// One store in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreSnapshot {
    /// Its name.
    pub store: String,
    /// What it takes on disk, which counts for the tenant's storage.
    pub bytes: u64,
}

/// How a revision came into service last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionOrigin {
    /// By which operation.
    pub how: RevisionOperation,
    /// Who asked for it.
    pub by: Actor,
    /// What they said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<DeployMessage>,
    /// What differs from the revision that served before; absent where none did, or it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<ReleaseChanges>,
}

/// The operations that bring a revision into service.
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

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "token", rename_all = "kebab-case")]
pub enum Actor {
    /// The holder of the node's own token.
    Node,
    /// The holder of a tenant's token.
    Tenant {
        /// The token's name.
        name: TokenName,
        /// Which of that name it was.
        id: TokenId,
    },
}

/// The most components that [`ReleaseChanges`] name.
pub const CHANGES_NAMED_MAX: usize = 16;

/// What differs between two revisions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReleaseChanges {
    /// The manifest.
    pub manifest: bool,
    /// The shape.
    pub shape: bool,
    /// Components with other bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Components that are new.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// Components that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// Further components that differ, beyond the first 16.
    pub more: u32,
    /// Files and empty folders that differ.
    pub files: u32,
}
