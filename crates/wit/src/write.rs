//! Writes packages into an app's folder, so that the app's bindings can refer to them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::{WitPackage, packages};

/// The error if a file or folder in `wit/deps` could not be written.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be written", path.display())]
pub struct WriteError {
    /// The path of the file or folder.
    pub path: PathBuf,
    /// The error of the operating system.
    pub source: io::Error,
}

/// Writes each of `wanted` into its own folder in `dir`, which is an app's `wit/deps`. Returns the files that were
/// written, in the order of the packages. Files that already have the same text are not written. Other files and
/// folders are not changed.
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

/// Removes the packages of the platform that are not in `wanted` from `dir`, and returns their folders. A package whose
/// files differ from what [`write_deps`] writes is kept. Unneeded packages are removed because bindings rename modules
/// if `dir` contains two versions of a package.
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

/// Returns whether the package's folder in `dir` contains exactly the package's files.
fn is_as_written(dir: &Path, package: &WitPackage) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    let is_ours = |path: &Path| {
        let file = package.files.iter().find(|file| path.file_name().is_some_and(|name| name == file.name));
        file.is_some_and(|file| fs::read(path).is_ok_and(|text| text == file.text.as_bytes()))
    };
    let entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    !entries.is_empty() && entries.iter().all(|path| is_ours(path))
}

/// Writes `text` to a temporary file in `dir` and renames it to `path`, so that a reader sees either the old or the new
/// text.
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
