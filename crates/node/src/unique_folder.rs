//! Folders with names that were never used before. So files that an earlier attempt or process has left are never
//! mistaken for new files.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The maximum number of names that are tried for one folder.
const NAMES_TRIED_MAX: u32 = 100;

/// Creates an empty folder in the folder `above`, with a name that begins with `prefix`. Only the current user can
/// access the new folder.
///
/// # Errors
/// If the folder cannot be created.
pub(crate) fn create_unique_folder(above: &Path, prefix: &str) -> io::Result<PathBuf> {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(above)?;
    for _ in 0..NAMES_TRIED_MAX {
        // The name contains a number, which distinguishes the folder from other folders of this process, and the time,
        // which distinguishes it from folders of other processes.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("{prefix}{now:x}-{}", NUMBERS.fetch_add(1, Ordering::Relaxed));
        match DirBuilder::new().mode(0o700).create(above.join(&name)) {
            Ok(()) => return Ok(above.join(name)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unique_folders_have_distinct_names() {
        let dir = tempfile::tempdir().unwrap();
        let above = dir.path().join("new");
        let made: std::collections::BTreeSet<_> =
            (0..10).map(|_| create_unique_folder(&above, "t-").unwrap()).collect();
        assert_eq!((made.len(), fs::read_dir(&above).unwrap().count()), (10, 10));
        assert!(made.iter().all(|path| path.file_name().unwrap().to_str().unwrap().starts_with("t-")));
    }
}
