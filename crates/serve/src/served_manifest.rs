//! The manifest and the stores of the revision that serves requests.

use isomer_apps::AppData;
use isomer_manifest::App;

/// The app that the process serves: its manifest, and its stores if this process has opened them.
pub(crate) struct ServedManifest {
    pub(crate) app: App,
    /// The stores; `None` if members of the process have opened them.
    pub(crate) data: Option<AppData>,
}
