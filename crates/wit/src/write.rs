//! Writes packages into a folder, so that an app's bindings can refer to them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::{WitPackage, packages};

/// A file or folder of `wit/deps` that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be written", path.display())]
pub struct WriteError {
    /// The path that was being written.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// Updates `dir` (an app's `wit/deps`): each of `wanted` gets its own folder. Returns the files that were written, in
/// the order of the packages. A file that already has the right text is not touched, and other files and folders stay
/// as they are.
pub fn write_deps<'a>(
    dir: &Path,
    wanted: impl IntoIterator<Item = &'a WitPackage>,
) -> Result<Vec<PathBuf>, WriteError> {
    let mut written = Vec::new();
    for package in wanted {
        let package_dir = dir.join(package.dir_name());
        for file in package.files {
            let path = package_dir.join(file.name);
            if fs::read(&path).is_ok_and(|text| text == file.text.as_bytes()) {
                continue;
            }
            replace(&package_dir, &path, file.text).map_err(|source| WriteError { path: path.clone(), source })?;
            written.push(path);
        }
    }
    Ok(written)
}

/// Removes the platform's packages that are not among `wanted` from `dir`, unless their text differs from the text that
/// [`write_deps`] writes. Returns their folders. Two versions of a package next to each other would make bindings
/// rename its modules.
pub fn remove_unneeded(dir: &Path, wanted: &[&WitPackage]) -> Result<Vec<PathBuf>, WriteError> {
    let mut removed = Vec::new();
    for package in packages().iter().filter(|package| !wanted.contains(package)) {
        let package_dir = dir.join(package.dir_name());
        if is_as_written(&package_dir, package) {
            fs::remove_dir_all(&package_dir).map_err(|source| WriteError { path: package_dir.clone(), source })?;
            removed.push(package_dir);
        }
    }
    Ok(removed)
}

/// Returns whether the folder has exactly the package's files.
fn is_as_written(dir: &Path, package: &WitPackage) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    let is_ours = |path: &Path| {
        let file = package.files.iter().find(|file| path.file_name().is_some_and(|name| name == file.name));
        file.is_some_and(|file| fs::read(path).is_ok_and(|text| text == file.text.as_bytes()))
    };
    let entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    !entries.is_empty() && entries.iter().all(|path| is_ours(path))
}

/// Replaces a file by renaming a new one, so that a reader sees either the old text or the new one.
fn replace(dir: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut file = tempfile::Builder::new().prefix(".wit-").tempfile_in(dir)?;
    file.write_all(text.as_bytes())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
