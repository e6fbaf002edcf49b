//! Apps and their revisions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{AppName, HostPattern, RevisionId, TenantName};

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
    pub revision: RevisionId,
    /// The version that its manifest says.
    pub version: String,
    /// Whether it serves.
    pub state: AppState,
    /// When that revision was deployed: seconds since 1970, UTC.
    pub deployed_at: u64,
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
}

/// A revision of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionInfo {
    /// Its name.
    pub revision: RevisionId,
    /// The version that its manifest says.
    pub version: String,
    /// When it was deployed last: seconds since 1970, UTC.
    pub deployed_at: u64,
    /// Is it the one that serves?
    pub current: bool,
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
