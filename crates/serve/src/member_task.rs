//! The task of a member: what the supervisor wants the process to run. It is sent as the first line on the control
//! channel.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use isomer_capabilities::AppOrigin;
use isomer_telemetry::SamplingPolicy;
use serde::{Deserialize, Serialize};

/// The configuration of a member. If the member has the front door, the listening socket is sent separately.
///
/// Has no `Debug`, because it contains secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct MemberTask {
    /// The name of the app's shape.
    pub(crate) shape: String,
    /// The name of the group that the member runs.
    pub(crate) group: String,
    /// The app's folder. Relative paths in the manifest are resolved against this folder.
    pub(crate) app_dir: PathBuf,
    /// Where the app comes from, which determines what its manifest may refer to.
    pub(crate) origin: AppOrigin,
    /// The manifest's file name for messages, and the manifest's text.
    pub(crate) manifest: (String, String),
    /// The values of the secrets that the group's components were granted. The supervisor reads them once for each
    /// revision, so a restarted member has the same values.
    pub(crate) secrets: BTreeMap<String, String>,
    /// The files of the components, by component name. The content of the files never changes.
    pub(crate) components: BTreeMap<String, PathBuf>,
    /// The data directory, which the supervisor has locked.
    pub(crate) data: PathBuf,
    /// The folder of compiled code; `None` if the app was shipped as one program, which contains the code.
    pub(crate) cache: Option<PathBuf>,
    /// The link sockets of all groups by group name, including this member's own socket.
    pub(crate) sockets: BTreeMap<String, PathBuf>,
    /// The supervisor's private folder. The member removes the folder if the supervisor has exited.
    pub(crate) private_dir: PathBuf,
    /// The levels of the platform's own log.
    pub(crate) log: String,
    /// Whether every request is logged.
    pub(crate) access_log: bool,
    /// Which requests are traced; `None` if the member sends no traces to the supervisor.
    pub(crate) sampling: Option<SamplingPolicy>,
    /// Whether the member with the front door checks the app's health before it reports for the first time that it is
    /// ready.
    pub(crate) check_health: bool,
    /// The maximum time in seconds for running requests to finish after the stop message.
    pub(crate) grace_s: u64,
    /// Whether messages for people may have colours.
    pub(crate) colour: bool,
    /// Whether guests get a clock and random numbers that are derived from the request and the component.
    pub(crate) deterministic: bool,
    /// In tests, the addresses of the stubs, keyed by the name of the external host that each stub replaces. A request
    /// to such a host is sent to the address of its stub.
    pub(crate) stubs: BTreeMap<String, SocketAddr>,
}
