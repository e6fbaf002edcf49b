//! Tenants, apps and revisions as they are kept.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use isomer_api::{Quotas, RevisionOrigin};
use isomer_ids::{AppName, Digest, HostPattern, ReleaseDigest, TenantName};
use serde::{Deserialize, Serialize};

/// How many revisions of an app can be gone back to, the one that serves included.
pub const REVISIONS_MAX: usize = 10;

/// The most host names of an app, and of a tenant's own.
pub const HOSTS_MAX: usize = 1000;

/// The most secrets of a tenant.
pub const SECRETS_MAX: usize = 1000;

/// The most tokens of a tenant.
pub const TOKENS_MAX: usize = 100;

/// A tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// What it may use.
    pub quotas: Quotas,
    /// Host names that are its own, and below its wildcards.
    pub hosts: Vec<HostPattern>,
    /// The names of its secrets.
    #[serde(skip)]
    pub secrets: BTreeSet<String>,
}

/// An app of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// The host names under which it is served.
    pub hosts: Vec<HostPattern>,
    /// Did an admin stop it?
    pub stopped: bool,
    /// What was deployed, the newest first: that one serves. Never empty, each revision once, [`REVISIONS_MAX`] at most.
    pub history: Vec<Deployment>,
}

impl App {
    /// What serves.
    ///
    /// # Panics
    /// Never: a history is not empty.
    #[must_use]
    pub fn current(&self) -> &Deployment {
        self.history.first().expect("a history is not empty")
    }
}

/// A revision took over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Which.
    pub revision: ReleaseDigest,
    /// The version that its manifest says.
    pub version: String,
    /// When: seconds since 1970, UTC.
    pub deployed_at: u64,
    /// How it came into service; absent if an earlier version of the program recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<RevisionOrigin>,
    /// Names the replacement of the app's stores that it took over with, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<String>,
}

/// What is kept of a revision: once, however many apps have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// What the node needs to start it. Means nothing here.
    pub package: Vec<u8>,
    /// The blobs that it is made of.
    pub blobs: BTreeSet<Digest>,
    /// The names of its compiled code.
    pub code: BTreeSet<String>,
}

/// An app takes a revision into service.
#[derive(Debug, Clone)]
pub struct Taking {
    /// Whose app.
    pub tenant: TenantName,
    /// Which. It is made if it is not there.
    pub app: AppName,
    /// All its host names from now on; as they are where absent.
    pub hosts: Option<Vec<HostPattern>>,
    /// What takes over.
    pub deployment: Deployment,
    /// What the revision is made of.
    pub contents: Contents,
    /// Bytes of the disk that the tenant is charged with for as long as one of its apps has the revision.
    pub charge: u64,
    /// The most that all revisions of the tenant may be charged with. One that adds nothing is taken where they have more already.
    pub charges_max: u64,
    /// Secrets of the tenant without which it does not start.
    pub secrets: BTreeSet<String>,
}

/// All that some app's revision refers to.
#[derive(Debug, Default)]
pub struct References {
    /// Revisions.
    pub revisions: HashSet<ReleaseDigest>,
    /// Blobs.
    pub blobs: HashSet<Digest>,
    /// Compiled code.
    pub code: HashSet<String>,
}

/// A secret's value. Whoever prints it gets none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// Secrets by name.
pub type Secrets = BTreeMap<String, Secret>;

impl Secret {
    /// A value.
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
