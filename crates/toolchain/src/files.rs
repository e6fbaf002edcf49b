//! File operations that write atomically and whose errors contain the path.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::PathError;

/// Returns a function that adds the path and the failed operation to an I/O error.
pub(crate) fn at(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> PathError {
    let path = path.to_owned();
    move |source| PathError { path, action, source }
}

/// Creates the folder and its parents if they are missing.
pub(crate) fn make_dir(path: &Path) -> Result<(), PathError> {
    fs::create_dir_all(path).map_err(at(path, "made"))
}

/// Removes a file, a symbolic link, or a folder with its contents, if it exists.
pub(crate) fn remove(path: &Path) -> Result<(), PathError> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, "removed")(error)),
        _ => Ok(()),
    }
}

/// Renames a file or folder. Both paths must be on the same file system.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), PathError> {
    fs::rename(from, to).map_err(at(to, "put in its place"))
}

/// Writes a file atomically: writes a temporary file and renames it.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    let partial = partial(path);
    fs::write(&partial, bytes).map_err(at(&partial, "written"))?;
    rename(&partial, path)
}

/// Returns a path for a temporary file next to `path`. No other writer uses this path.
fn partial(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{}.partial", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}
