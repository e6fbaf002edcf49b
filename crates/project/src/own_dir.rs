//! The folder, inside an app's folder, that belongs to the platform.

use std::fs::File;
use std::path::PathBuf;

use isomer_seam::Components;

/// The name of the folder, inside the app's folder, for data, built components and compiled code.
pub(crate) const OWN_DIR: &str = ".isomer";

/// The components of an app that was built elsewhere.
pub(crate) struct UnpackedComponents {
    /// Their bytes.
    pub(crate) components: Components,
    /// The app's data directory; `None` if the app has no files on this machine.
    pub(crate) data: Option<PathBuf>,
    /// Locked while the app is used, so that its files are not replaced by another release. `None` if the app has no
    /// files on this machine.
    pub(crate) _lock: Option<File>,
}
