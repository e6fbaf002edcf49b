//! Writing the files of shipped apps.

use std::fs::Permissions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_console::CliError;

/// The permission bits of a program.
pub(crate) const PROGRAM: u32 = 0o755;

/// The permission bits of any other file.
pub(crate) const DATA: u32 = 0o644;

/// Returns the path of the file to write: `named`, or `default` in the working directory.
///
/// # Errors
/// If there is a folder with this name.
pub(crate) fn output_path(named: Option<&Path>, default: &str) -> Result<PathBuf, CliError> {
    let path = named.map_or_else(|| PathBuf::from(default), Path::to_owned);
    if path.is_dir() {
        return Err(CliError::usage(
            format!("cannot write `{}`: a folder has this name", path.display()),
            "name another file: -o FILE",
        ));
    }
    Ok(path)
}

/// Writes a file with `write` under a temporary name, and renames it when it is complete. Until then, the old file
/// stays, so a program that runs from it is not disturbed. `mode` has the permission bits of the file.
///
/// # Errors
/// If `write` fails, or if the file cannot be written.
pub(crate) fn write_file<T>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<T>,
) -> Result<T, CliError> {
    let cannot = || format!("cannot write `{}`", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new()
        .prefix(".isomer-ship-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)
        .with_context(cannot)?;
    let mut writer = BufWriter::new(file.as_file());
    let written = write(&mut writer).and_then(|written| writer.flush().map(|()| written)).with_context(cannot)?;
    drop(writer);
    file.persist(path).map_err(|error| error.error).with_context(cannot)?;
    Ok(written)
}
