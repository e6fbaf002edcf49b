//! Tenants, apps and deployments as they are stored.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use isomer_api::{Quotas, RevisionOrigin};
use isomer_ids::{AppName, Digest, HostPattern, ReleaseDigest, TenantName};
use serde::{Deserialize, Serialize};

/// The number of releases of an app that are kept for rollbacks, including the current one.
pub const REVISIONS_MAX: usize = 10;

/// The maximum number of host names of an app, and of those that a tenant itself owns.
pub const HOSTS_MAX: usize = 1000;

/// The maximum number of secrets of a tenant.
pub const SECRETS_MAX: usize = 1000;

/// The maximum number of tokens of a tenant.
pub const TOKENS_MAX: usize = 100;

/// A tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// The tenant's quotas.
    pub quotas: Quotas,
    /// The host names that the tenant owns. Wildcards include the names below them.
    pub hosts: Vec<HostPattern>,
    /// The names of its secrets.
    #[serde(skip)]
    pub secrets: BTreeSet<String>,
}

/// An app of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// The host names under which the app is served.
    pub hosts: Vec<HostPattern>,
    /// Whether an admin stopped the app.
    pub stopped: bool,
    /// The deployments, the newest first: that one serves. Never empty, each release once, at most [`REVISIONS_MAX`].
    pub history: Vec<Deployment>,
}

impl App {
    /// Returns the deployment that serves.
    ///
    /// # Panics
    /// Never: a history is not empty.
    #[must_use]
    pub fn current(&self) -> &Deployment {
        self.history.first().expect("a history is not empty")
    }
}

/// A release that took over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The release.
    pub revision: ReleaseDigest,
    /// The version in its manifest.
    pub version: String,
    /// The time of the take-over, in seconds since 1970.
    pub deployed_at: u64,
    /// How it was deployed; `None` if an earlier version of the program recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<RevisionOrigin>,
    /// The name of the replacement of the app's stores at the take-over, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<String>,
}

/// The stored content of a release. It is stored once, however many apps have the release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The package, which the node starts the app from. Opaque to this crate.
    pub package: Vec<u8>,
    /// The blobs of the release's parts.
    pub blobs: BTreeSet<Digest>,
    /// The names of the release's compiled code.
    pub code: BTreeSet<String>,
}

/// A take-over: an app changes to another release.
#[derive(Debug, Clone)]
pub struct Taking {
    /// The app's tenant.
    pub tenant: TenantName,
    /// The app. It is created if it does not exist.
    pub app: AppName,
    /// The app's new host names; `None` leaves them unchanged.
    pub hosts: Option<Vec<HostPattern>>,
    /// The deployment that takes over.
    pub deployment: Deployment,
    /// The content of the release.
    pub contents: Contents,
    /// The bytes of storage that the tenant is charged with while one of its apps has the release.
    pub charge: u64,
    /// The maximum bytes that all releases of the tenant may be charged with. A release that adds no charge is accepted
    /// even if the maximum is exceeded already.
    pub charges_max: u64,
    /// The tenant's secrets that the app needs to start.
    pub secrets: BTreeSet<String>,
}

/// Everything that the releases of all apps refer to.
#[derive(Debug, Default)]
pub struct References {
    /// Releases.
    pub revisions: HashSet<ReleaseDigest>,
    /// Blobs.
    pub blobs: HashSet<Digest>,
    /// Compiled code.
    pub code: HashSet<String>,
}

/// The value of a secret. Its `Debug` output does not contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// Secrets by name.
pub type Secrets = BTreeMap<String, Secret>;

impl Secret {
    /// Creates a secret with this value.
    #[must_use]
    pub fn new(value: Vec<u8>) -> Self {
        Self(value)
    }

    /// The value.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
