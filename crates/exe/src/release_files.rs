//! The files of a release on disk: granted folders and migrations. They are in the payload, and are written into the data
//! directory, because components and SQLite read them as files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_api::ReleasePart;
use isomer_console::CliError;
use isomer_ids::{Digest, ReleaseDigest};
use isomer_parcel::exe::Payload;
use sha2::{Digest as _, Sha256};

use crate::own_payload::payload_error;

/// The folder in the data directory that contains one folder for each release.
const RELEASES: &str = "release";

/// The temporary name of the folder of a release whose files are not complete yet.
const UNFINISHED: &str = ".unfinished";

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
        let unfinished = releases.join(UNFINISHED);
        for old in [&unfinished, &folder] {
            remove(old)?;
        }
        write(payload, &unfinished)?;
        fs::rename(&unfinished, &folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    }
    remove_earlier(&releases, name);
    Ok(folder)
}

/// Removes the files of earlier releases. They take only space, so an error is ignored. Files with other names stay,
/// because the user may have named a folder as the data directory that has a folder `release` of its own.
fn remove_earlier(releases: &Path, current: &str) {
    for entry in fs::read_dir(releases).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_release = name == UNFINISHED || name.to_str().is_some_and(|name| ReleaseDigest::new(name).is_ok());
        if is_release && name != current {
            let _ = remove(&entry.path());
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_earlier_releases_are_removed() {
        let data = tempfile::tempdir().unwrap();
        let releases = data.path().join(RELEASES);
        let (current, earlier) = ("0123456789abcdef".repeat(2), "fedcba9876543210".repeat(2));
        for folder in [current.as_str(), &earlier, UNFINISHED, "1.4.0"] {
            fs::create_dir_all(releases.join(folder)).unwrap();
            fs::write(releases.join(folder).join("file"), "text").unwrap();
        }
        fs::write(releases.join("notes.txt"), "of the user").unwrap();
        remove_earlier(&releases, &current);
        let mut left: Vec<_> = fs::read_dir(&releases).unwrap().map(|it| it.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [current.as_str(), "1.4.0", "notes.txt"]);
    }
}
