//! The order that tells a member what to run. It is the first line on the control channel.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The order of a member. If the member has the front door, the listening socket is sent separately.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MemberOrder {
    /// The shape of the app.
    pub(crate) shape: String,
    /// The group that the member runs.
    pub(crate) group: String,
    /// The app's folder, where relative paths start.
    pub(crate) app_dir: PathBuf,
    /// The manifest's name for messages, and the manifest's text.
    pub(crate) manifest: (String, String),
    /// Variables for secrets, used if the process's environment lacks them.
    pub(crate) environment: BTreeMap<String, String>,
    /// The files of the components, by name. The files never change.
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
    /// The maximum time that running requests may take after the message to stop, in seconds.
    pub(crate) grace_s: u64,
    /// Whether messages for people may have colours.
    pub(crate) colour: bool,
    /// Whether the clock and random numbers of guests are derived from the request and the component.
    pub(crate) deterministic: bool,
    /// A folder of secrets that replace the secrets of the manifest, for tests.
    pub(crate) test_secrets: Option<PathBuf>,
    /// Addresses by host name: requests to such a host are sent to the address instead, for tests.
    pub(crate) stubs: BTreeMap<String, SocketAddr>,
}
