//! Writing the packages into a folder, so that an app's bindings can refer to them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::packages;

/// A file or folder of `wit/deps` that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be written", path.display())]
pub struct WriteError {
    /// What was being written.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// Bring `dir` (an app's `wit/deps`) up to date: each package in a folder of its own. Gives the files that were written, in
/// the order of the packages; a file that has the right text is not touched. Other files and folders are left alone.
pub fn write_deps(dir: &Path) -> Result<Vec<PathBuf>, WriteError> {
    let mut written = Vec::new();
    for package in packages() {
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
