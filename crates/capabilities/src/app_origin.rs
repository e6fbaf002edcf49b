//! Where an app that runs in a process of its user comes from.

use serde::{Deserialize, Serialize};

/// Where an app comes from that runs in a process without other apps. It determines what the app's manifest may refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppOrigin {
    /// The app's sources are on this machine. The manifest belongs to the user: its paths lead to any file, and its secrets
    /// come from the process's environment.
    #[default]
    Sources,
    /// The app was shipped as one program, which the user has chosen to execute. Only relative paths in the manifest are
    /// restricted to the files of the release and to the app's own folders.
    Program,
    /// The app is from a registry or an archive. The user has not written its manifest, so the manifest reaches
    /// neither the files of the user nor the process's environment.
    Unpacked,
}
