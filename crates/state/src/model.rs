//! Tenants, apps and deployments, in the form in which the state stores them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use isomer_api::{DeployMessage, Quotas, RevisionOrigin};
use isomer_ids::{AppName, Digest, HostPattern, ReleaseDigest, TenantName};
use serde::{Deserialize, Serialize};

/// The maximum number of deployments in an app's history, including the current one. The app can be rolled back to the
/// others.
pub const REVISIONS_MAX: usize = 10;

/// The maximum number of host names of one app, and of the host names that one tenant itself owns.
pub const HOSTS_MAX: usize = 1000;

/// The maximum number of secrets per tenant.
pub const SECRETS_MAX: usize = 1000;

/// The maximum number of tokens per tenant.
pub const TOKENS_MAX: usize = 100;

/// A tenant, as the state stores it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// The tenant's quotas.
    pub quotas: Quotas,
    /// The host names that the tenant itself owns. A wildcard also reserves the names below it.
    pub hosts: Vec<HostPattern>,
    /// The names of the tenant's secrets.
    #[serde(skip)]
    pub secrets: BTreeSet<String>,
}

/// An app of a tenant, as the state stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// The host names under which the app is served.
    pub hosts: Vec<HostPattern>,
    /// Whether an admin has stopped the app.
    pub stopped: bool,
    /// The deployments of the app, newest first. The first one serves requests. Contains at least one and at most
    /// [`REVISIONS_MAX`] deployments, and each release at most once.
    pub history: Vec<Deployment>,
}

impl App {
    /// Returns the deployment that serves requests.
    ///
    /// # Panics
    /// If the history is empty, which the state never stores.
    #[must_use]
    pub fn current(&self) -> &Deployment {
        self.history.first().expect("a history is not empty")
    }

    /// Returns the message with which the revision was first deployed. The history contains only the last deployment of
    /// each revision, so a later deployment keeps the message of the first one.
    #[must_use]
    pub fn first_message(&self, revision: &ReleaseDigest) -> Option<&DeployMessage> {
        let deployment = self.history.iter().find(|deployment| deployment.revision == *revision)?;
        let origin = deployment.origin.as_ref()?;
        origin.first_message.as_ref().or(origin.message.as_ref())
    }
}

/// A take-over of an app by a release, as the app's history records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The digest of the deployed release.
    pub revision: ReleaseDigest,
    /// The version in the manifest of the release.
    pub version: String,
    /// The shape of the release; `None` if an earlier version of Isomer recorded the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// The time of the take-over, in seconds since 1970.
    pub deployed_at: u64,
    /// How the release was deployed; `None` if an earlier version of Isomer recorded the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<RevisionOrigin>,
    /// The name of the replacement that exchanged the app's stores at the take-over; `None` if the stores were not
    /// replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<String>,
}

/// The stored content of a release. If several apps have the release, its content is stored once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The encoded package, from which the node starts the app. This crate does not decode it.
    pub package: Vec<u8>,
    /// The digests of the release's parts.
    pub blobs: BTreeSet<Digest>,
    /// The names under which the release's compiled code is stored.
    pub code: BTreeSet<String>,
}

/// The data of a take-over: an app changes to another release.
#[derive(Debug, Clone)]
pub struct Taking {
    /// The app's tenant.
    pub tenant: TenantName,
    /// The app's name. The app is created if it does not exist.
    pub app: AppName,
    /// The app's new host names; `None` leaves them unchanged.
    pub hosts: Option<Vec<HostPattern>>,
    /// The deployment that takes over.
    pub deployment: Deployment,
    /// The content of the release that takes over.
    pub contents: Contents,
    /// The number of bytes that are charged to the tenant's storage while at least one of its apps has the release.
    pub charge: u64,
    /// The maximum number of bytes that may be charged for all releases of the tenant. A release that does not increase
    /// the charge is accepted even if the tenant already exceeds the maximum.
    pub charges_max: u64,
    /// The names of the tenant's secrets that the app needs to start.
    pub secrets: BTreeSet<String>,
}

/// Everything to which the releases of all apps refer.
#[derive(Debug, Default)]
pub struct References {
    /// The digests of the releases.
    pub revisions: HashSet<ReleaseDigest>,
    /// The digests of the parts of all releases.
    pub blobs: HashSet<Digest>,
    /// The names under which the compiled code of all releases is stored.
    pub code: HashSet<String>,
}

/// The value of a secret. `Debug` does not print the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// The values of secrets, by name.
pub type Secrets = BTreeMap<String, Secret>;

impl Secret {
    /// Creates a secret from its value.
    #[must_use]
    pub fn new(value: Vec<u8>) -> Self {
        Self(value)
    }

    /// Returns the value.
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
