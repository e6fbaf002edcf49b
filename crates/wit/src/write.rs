//! Writing the packages into a folder, so that an app's bindings can refer to them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::{WitPackage, packages};

/// A file or folder of `wit/deps` that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be written", path.display())]
pub struct WriteError {
    /// What was being written.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// Bring `dir` (an app's `wit/deps`) up to date: each of `wanted` in a folder of its own. Gives the files that were written, in
/// the order of the packages; a file that has the right text is not touched. Other files and folders are left alone.
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

/// Removes from `dir` the platform's packages that are not among `wanted`, as far as they are just what [`write_deps`] has written; gives their
/// folders. Two versions of one package side by side make bindings rename its modules.
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

/// Whether the folder has the package's files, and nothing else.
fn is_as_written(dir: &Path, package: &WitPackage) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    let is_ours = |path: &Path| {
        let file = package.files.iter().find(|file| path.file_name().is_some_and(|name| name == file.name));
        file.is_some_and(|file| fs::read(path).is_ok_and(|text| text == file.text.as_bytes()))
    };
    let entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    !entries.is_empty() && entries.iter().all(|path| is_ours(path))
}

/// Put a file in its place by a rename: a reader sees the old text or the new one.
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
