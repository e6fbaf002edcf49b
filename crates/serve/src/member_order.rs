//! The order of a member: what it runs. It is the first line on the control channel.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a member runs. If it has the front door, the listening socket comes separately.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MemberOrder {
    /// The shape of the app.
    pub(crate) shape: String,
    /// The group that the member runs.
    pub(crate) group: String,
    /// The app's folder, where relative paths start.
    pub(crate) app_dir: PathBuf,
    /// The manifest's name, as people should see it, and its text.
    pub(crate) manifest: (String, String),
    /// Variables for secrets, used if the process's environment lacks them.
    pub(crate) environment: BTreeMap<String, String>,
    /// The files of the components, by name. They do not change.
    pub(crate) components: BTreeMap<String, PathBuf>,
    /// The data directory, locked by the supervisor.
    pub(crate) data: PathBuf,
    /// The folder of compiled code.
    pub(crate) cache: PathBuf,
    /// The sockets of all groups, including this one.
    pub(crate) sockets: BTreeMap<String, PathBuf>,
    /// The supervisor's private folder. A member whose supervisor has ended removes it.
    pub(crate) private_dir: PathBuf,
    /// The levels of the platform's own log.
    pub(crate) log: String,
    /// Whether every request is logged.
    pub(crate) access_log: bool,
    /// The time that running requests have after the message to stop, in seconds.
    pub(crate) grace_s: u64,
    /// Whether messages for people may have colours.
    pub(crate) colour: bool,
    /// Whether clock and randomness follow from the request and the component.
    pub(crate) deterministic: bool,
    /// A folder of secrets that replace those of the manifest, for tests.
    pub(crate) test_secrets: Option<PathBuf>,
    /// The addresses to which requests to some hosts are sent, for tests.
    pub(crate) stubs: BTreeMap<String, SocketAddr>,
}
