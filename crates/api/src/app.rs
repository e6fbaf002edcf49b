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
}
