//! The node's trash folder. Data to be removed is first moved there, by a rename, and then removed, which may take
//! long.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use isomer_capabilities::NodeDir;
use isomer_disk::tree;

/// Moves a file or folder of the node's directory to the trash, and returns its path there; `None` if it does not
/// exist. A mount point cannot be moved, so it is removed in its place.
pub(crate) fn move_to_trash(dir: &NodeDir, path: &Path) -> io::Result<Option<PathBuf>> {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let goal = dir.trash().join(format!("{now:x}-{}", NUMBERS.fetch_add(1, Ordering::Relaxed)));
    match fs::rename(path, &goal) {
        Ok(()) => File::open(dir.trash())?.sync_all().map(|()| Some(goal)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::ResourceBusy) => {
            tree::remove_if_there(path).map(|()| None)
        }
        Err(error) => Err(error),
    }
}

/// Removes a file or folder that was moved to the trash. A failure is logged, and [`clean`] tries again.
pub(crate) fn discard(moved: Option<PathBuf>) {
    if let Some(path) = moved
        && let Err(error) = tree::remove_if_there(&path)
    {
        tracing::warn!(path = %path.display(), %error, "removed data still takes space; removing it is tried again later");
    }
}

/// Empties the trash. Blocks until it is done. Returns whether something is left in the trash.
pub(crate) fn clean(dir: &NodeDir) -> bool {
    let mut is_left = false;
    let mut failed = |error: &io::Error| {
        is_left = true;
        tracing::warn!(%error, "removed data still takes space; removing it is tried again later");
    };
    match fs::read_dir(dir.trash()) {
        Ok(entries) => {
            for entry in entries {
                if let Err(error) = entry.and_then(|entry| tree::remove_if_there(&entry.path())) {
                    failed(&error);
                }
            }
        }
        Err(error) => failed(&error),
    }
    is_left
}
