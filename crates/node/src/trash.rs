//! The folder `trash/` of the data directory. Data to be removed is first moved there by a rename, which is fast. Then
//! it is removed, which may take a long time.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use isomer_capabilities::NodeDir;
use isomer_disk::tree;

/// Moves a file or folder of the data directory to the trash. Returns the new path; `None` if the file or folder does
/// not exist. A mount point cannot be moved, so its content is removed immediately.
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

/// Removes a file or folder that [`move_to_trash`] has moved. If this fails, logs the error; [`clean`] tries again.
pub(crate) fn discard(moved: Option<PathBuf>) {
    if let Some(path) = moved
        && let Err(error) = tree::remove_if_there(&path)
    {
        tracing::warn!(path = %path.display(), %error, "cannot empty the trash, whose files still take space; the node tries again later");
    }
}

/// Removes everything in the trash. Returns whether some files could not be removed. Blocks.
pub(crate) fn clean(dir: &NodeDir) -> bool {
    let mut is_left = false;
    let mut failed = |error: &io::Error| {
        is_left = true;
        tracing::warn!(%error, "cannot empty the trash, whose files still take space; the node tries again later");
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
