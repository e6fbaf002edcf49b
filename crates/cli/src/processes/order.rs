//! What supervisor and member say to each other: one JSON object a line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The first line to a member: what it is. Its socket for the front door comes before it, if it has one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    /// The shape of the app.
    pub(super) shape: String,
    /// The group that it runs.
    pub(super) group: String,
    /// The app's folder, where relative paths start.
    pub(super) app_dir: PathBuf,
    /// The manifest's name, as people should see it, and its text.
    pub(super) manifest: (String, String),
    /// Variables for secrets, where the process's environment lacks them.
    pub(super) environment: BTreeMap<String, String>,
    /// The files of the components, by name. They do not change.
    pub(super) components: BTreeMap<String, PathBuf>,
    /// The data directory, held by the supervisor.
    pub(super) data: PathBuf,
    /// The folder of compiled code.
    pub(super) cache: PathBuf,
    /// The sockets of all groups, this one among them.
    pub(super) sockets: BTreeMap<String, PathBuf>,
    /// The private directory, to be removed by whoever finds that the supervisor is gone.
    pub(super) home: PathBuf,
    /// How much the platform is to say of itself.
    pub(super) log: String,
    /// Is every request to be logged?
    pub(super) access_log: bool,
    /// How long requests may go on after the word to stop, in seconds.
    pub(super) grace_s: u64,
    /// May words for people have colours?
    pub(super) colour: bool,
    /// Are the time of day and randomness given by request and component?
    pub(super) given_clock_and_random: bool,
    /// A folder of secrets that come before those of the manifest, for tests.
    pub(super) given_secrets: Option<PathBuf>,
    /// Where requests to some hosts go instead, for tests.
    pub(super) stubs: BTreeMap<String, SocketAddr>,
}

/// Further lines to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Command {
    /// Take nothing new, finish what runs, end.
    Stop,
}

/// What a member says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Word {
    /// It answers.
    Ready,
    /// It ends because it must.
    Failed {
        /// Why, rendered for people.
        text: String,
        /// The exit code that this means.
        code: u8,
    },
}
