//! The files of a release on disk: granted folders and migrations. They are in the payload, and are written into the data
//! directory, because components and SQLite read them as files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_api::ReleasePart;
use isomer_console::CliError;
use isomer_ids::Digest;
use isomer_parcel::exe::Payload;
use sha2::{Digest as _, Sha256};

use crate::own_payload::payload_error;

/// The folder in the data directory that contains one folder for each release.
const RELEASES: &str = "release";

/// The number of bytes of a file that are read in one step.
const CHUNK_BYTES: usize = 128 << 10;

/// Writes the files of the payload's release into `data`, unless they are already there. Every file is compared with its
/// digest. Returns the folder that contains the files. The caller has locked the data directory.
///
/// # Errors
/// If the payload was changed, or if the files cannot be written.
pub(crate) fn write_files(payload: &Payload, data: &Path) -> Result<PathBuf, CliError> {
    let releases = data.join(RELEASES);
    let name = payload.index().digest.as_str();
    let folder = releases.join(name);
    if !is_complete(payload, &folder) {
        let unfinished = releases.join(".unfinished");
        for old in [&unfinished, &folder] {
            remove(old)?;
        }
        write(payload, &unfinished)?;
        fs::rename(&unfinished, &folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    }
    for entry in fs::read_dir(&releases).into_iter().flatten().flatten() {
        // The files of earlier releases take only space, so an error is ignored.
        if entry.file_name() != name {
            let _ = remove(&entry.path());
        }
    }
    Ok(folder)
}

/// Returns whether `folder` contains all files and folders of the release, unchanged.
fn is_complete(payload: &Payload, folder: &Path) -> bool {
    let release = &payload.index().release;
    let has_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    has_folder(folder)
        && release.folders.iter().all(|path| has_folder(&folder.join(path.as_str())))
        && release.files.iter().all(|(path, part)| is_unchanged(&folder.join(path.as_str()), part).unwrap_or(false))
}

fn is_unchanged(path: &Path, part: &ReleasePart) -> io::Result<bool> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_file() || found.len() != part.bytes {
        return Ok(false);
    }
    let (mut file, mut hasher, mut chunk) = (File::open(path)?.take(part.bytes), Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => hasher.update(&chunk[..read]),
        }
    }
    Ok(Digest::from(<[u8; 32]>::from(hasher.finalize())) == part.digest)
}

fn write(payload: &Payload, folder: &Path) -> Result<(), CliError> {
    let release = &payload.index().release;
    let make = |path: &Path| {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.with_context(|| format!("cannot create `{}`", path.display()))
    };
    make(folder)?;
    release.folders.iter().try_for_each(|path| make(&folder.join(path.as_str())))?;
    for (path, part) in &release.files {
        let path = folder.join(path.as_str());
        make(path.parent().unwrap_or(folder))?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path);
        let mut file = file.with_context(|| format!("cannot create `{}`", path.display()))?;
        payload.copy(&part.digest, &mut file).map_err(payload_error)?;
    }
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}
