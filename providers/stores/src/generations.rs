//! The folder of a database: the names of its generations and segments, and how generations begin and end (see `pages`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::pages::PagesError;
use crate::random;

/// The number of segments after which a generation is sealed.
pub(crate) const SEGMENTS_MAX: u32 = 256;
/// A file with the number of a generation that exists or existed, from which the newest one is searched.
const HINT: &str = "newest";
/// The age after which a file that an interrupted writer left behind is removed.
const LEFT_OVER_AGE: Duration = Duration::from_secs(3600);

/// Creates a generation with the base that `write` writes. Does nothing if the generation exists.
pub(crate) fn publish_generation(
    dir: &Path,
    number: u64,
    write: impl FnOnce(&File) -> Result<(), PagesError>,
) -> Result<(), PagesError> {
    let folder = dir.join(format!("tmp-{}", random::name()));
    fs::create_dir_all(dir)?;
    fs::create_dir(&folder)?;
    let filled = fill(&folder, write);
    let published = filled.and_then(|()| match fs::rename(&folder, generation_path(dir, number)) {
        Ok(()) => Ok(sync_dir(dir)?),
        // The target is a folder that is not empty: another writer was first.
        Err(_) if exists(&generation_path(dir, number))? => Ok(()),
        Err(error) => Err(error.into()),
    });
    // Does nothing if the folder was renamed.
    remove_folder(&folder);
    published?;
    // The generation may have existed and been removed while this writer was stopped. Then it was recreated from an old
    // state, and must not be used.
    if exists(&done_path(dir, number))? {
        remove_generation(dir, number);
        return Err(PagesError::Conflict);
    }
    Ok(())
}

/// Returns whether the generation after this sealed one exists, or existed.
pub(crate) fn is_superseded(dir: &Path, generation: u64) -> Result<bool, PagesError> {
    // Before a later generation is removed, this one is.
    Ok(exists(&generation_path(dir, generation + 1))? || exists(&done_path(dir, generation))?)
}

fn fill(folder: &Path, write: impl FnOnce(&File) -> Result<(), PagesError>) -> Result<(), PagesError> {
    let file = OpenOptions::new().write(true).create_new(true).open(folder.join("base"))?;
    write(&file)?;
    file.sync_all()?;
    Ok(sync_dir(folder)?)
}

/// Removes the generations before `number`, and what interrupted writers left behind. A failure does no harm: the next
/// call tries again.
pub(crate) fn remove_generations_before(dir: &Path, number: u64) {
    // Older generations first, so that `is_superseded` finds a trace of each.
    let first = (0..number).rev().take_while(|old| exists(&generation_path(dir, *old)).unwrap_or(false)).last();
    for old in first.into_iter().flat_map(|first| first..number) {
        remove_generation(dir, old);
    }
    let hint = dir.join(format!("tmp-{}", random::name()));
    let _ = fs::write(&hint, number.to_string()).and_then(|()| fs::rename(&hint, dir.join(HINT)));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with("tmp-") && is_old(&path) {
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }
}

/// Removes a generation, after it was recorded that it existed.
fn remove_generation(dir: &Path, number: u64) {
    let recorded = File::create(done_path(dir, number)).and_then(|_| sync_dir(dir));
    let gone = dir.join(format!("tmp-{}", random::name()));
    // The rename lets the whole generation disappear at once: no reader finds a part of it.
    if recorded.is_ok() && fs::rename(generation_path(dir, number), &gone).is_ok() {
        remove_folder(&gone);
    }
}

/// Removes the folder of a generation. Its files have known names, because some hosts cannot list folders.
fn remove_folder(folder: &Path) {
    let _ = fs::remove_file(folder.join("base"));
    for number in 1..=SEGMENTS_MAX {
        if fs::remove_file(segment_path(folder, number)).is_err() {
            break;
        }
    }
    let _ = fs::remove_dir(folder);
}

fn is_old(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > LEFT_OVER_AGE))
}

/// A file without its final name. It is removed when this value is dropped.
pub(crate) struct NewFile {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

impl NewFile {
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!("tmp-{}", random::name()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Returns the number of the newest generation in a folder; `None` if the folder has no database yet.
///
/// Folders are not listed for this: some hosts cannot list them, and a list that is made while generations are replaced
/// may contain none of them.
pub(crate) fn newest(dir: &Path) -> Result<Option<u64>, PagesError> {
    let hint = fs::read_to_string(dir.join(HINT)).ok().and_then(|text| text.trim().parse().ok());
    let mut number = hint.unwrap_or(0);
    loop {
        if exists(&generation_path(dir, number))? {
            return Ok(Some(number));
        }
        // The order matters: a generation is removed after this file was created.
        if exists(&done_path(dir, number))? {
            number += 1;
        } else if number == 0 {
            return Ok(None);
        } else {
            return Err(damaged(&generation_path(dir, number)));
        }
    }
}

pub(crate) fn generation_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("gen-{number:08}"))
}

fn done_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("done-{number:08}"))
}

pub(crate) fn segment_path(generation: &Path, number: u32) -> PathBuf {
    generation.join(format!("seg-{number:06}"))
}

pub(crate) fn exists(path: &Path) -> Result<bool, PagesError> {
    Ok(path.try_exists()?)
}

/// Syncs a folder, so that a crash does not lose its entries. Some hosts cannot sync folders; there, the file system
/// decides when the entries are durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    match synced {
        Err(error) if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::NotFound | ErrorKind::Other) => {
            Ok(())
        }
        synced => synced,
    }
}

pub(crate) fn damaged(path: &Path) -> PagesError {
    PagesError::Damaged(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
}
