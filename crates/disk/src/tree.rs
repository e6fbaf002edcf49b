//! Counting and removing folders that a tenant made: however deep, wide or long-named they are, neither the stack nor the descriptors
//! of this process are at risk, and no symbolic link is followed.
//!
//! Both work on open folders and on names in them, never on whole paths, which a tenant can make longer than the system takes.
//!
//! [`remove`] has a folder and the one above it open, and nothing else: a folder that is not empty is *moved up*, beside the first level,
//! and waits there for its turn. So a tree of any depth is flattened while it is removed, needs no memory, and if the process ends in
//! between, the next attempt goes on with what is left.
//!
//! [`walk`] has all folders from the first level to the one that it looks at open, so it refuses to go below [`DEPTH_MAX`].
//!
//! | rejected | why |
//! | --- | --- |
//! | `std::fs::remove_dir_all`, the crate `remove_dir_all`, cap-std's | all recurse, with a frame and a descriptor for each level |
//! | a stack of names, going up by `..` | whoever moves a folder meanwhile decides where `..` leads, and the names of wide folders are memory |
//! | the crate `walkdir` | bounds descriptors by keeping what is left of each level in memory, and works on whole paths |

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// How many folders may lie inside one another below a folder that is walked. Each is a descriptor while it is walked.
pub const DEPTH_MAX: usize = 64;

/// Unit of a file's count of blocks, whatever the file system's own blocks are (`stat(2)`).
const BLOCK_BYTES: u64 = 512;

/// How often a name for a folder that is moved up may be taken by something else. The names begin at a random number.
const NAMES_TRIED_MAX: u32 = 1000;

pub(crate) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Something that [`walk`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Bytes that it takes on disk.
    pub bytes: u64,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// Calls `visit` with the path of everything below `root`, and what it is. What is removed meanwhile is left out; a root that is not there has
/// nothing.
///
/// # Errors
/// When a folder cannot be read, or lies deeper than [`DEPTH_MAX`] ([`io::ErrorKind::QuotaExceeded`]).
pub fn walk(root: &Path, mut visit: impl FnMut(&Path, Found)) -> io::Result<()> {
    let first = match rustix::fs::open(root, FOLDER, Mode::empty()) {
        Ok(first) => first,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut path = PathBuf::from(root);
    let mut open = vec![Dir::new(first)?];
    while let Some(folder) = open.last_mut() {
        let Some(entry) = folder.read() else {
            open.pop();
            path.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if is_itself(name) {
            continue;
        }
        let Some(stat) = there(rustix::fs::statat(folder.fd()?, name, AtFlags::SYMLINK_NOFOLLOW))? else { continue };
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        path.push(OsStr::from_bytes(name.to_bytes()));
        visit(&path, Found { bytes: bytes_on_disk(&stat), is_folder });
        let inner =
            if is_folder { there(rustix::fs::openat(folder.fd()?, name, FOLDER, Mode::empty()))? } else { None };
        match inner {
            Some(_) if open.len() > DEPTH_MAX => return Err(too_deep()),
            Some(inner) => open.push(Dir::new(inner)?),
            None => drop(path.pop()),
        }
    }
    Ok(())
}

/// How deep an open folder lies below one of `roots` (device and inode of each), found by going up; `None` if it is more than [`DEPTH_MAX`]
/// levels. Symbolic links and names do not matter.
///
/// # Errors
/// When a folder on the way cannot be opened.
pub fn depth_below(folder: impl AsFd, roots: &[(u64, u64)]) -> io::Result<Option<usize>> {
    let mut above: Option<OwnedFd> = None;
    for depth in 0..=DEPTH_MAX {
        let current = above.as_ref().map_or(folder.as_fd(), AsFd::as_fd);
        if roots.contains(&identity(&rustix::fs::fstat(current)?)) {
            return Ok(Some(depth));
        }
        above = Some(rustix::fs::openat(current, "..", FOLDER, Mode::empty())?);
    }
    Ok(None)
}

/// Device and inode of a folder.
///
/// # Errors
/// When it is not there.
pub fn identity_of(folder: &Path) -> io::Result<(u64, u64)> {
    Ok(identity(&rustix::fs::stat(folder)?))
}

/// Removes a file, or a folder and all that is in it. A symbolic link is removed, and not what it leads to.
///
/// # Errors
/// When it is not there, or something cannot be removed. What could be removed is.
pub fn remove(path: &Path) -> io::Result<()> {
    let root = match rustix::fs::open(path, FOLDER, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => return std::fs::remove_file(path),
        Err(error) => return Err(error.into()),
    };
    empty(&root)?;
    drop(root);
    match rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// As [`remove`], where nothing may be there.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes all that is in a folder.
fn empty(root: &OwnedFd) -> io::Result<()> {
    let mut names = Names::new();
    loop {
        let (mut found, mut removed) = (false, false);
        let mut entries = Dir::read_from(root)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if is_itself(name) {
                continue;
            }
            found = true;
            removed |=
                remove_entry(root, root, name, entry.file_type(), |root, name| empty_into(root, name, &mut names))?;
        }
        match (found, removed) {
            (false, _) => return Ok(()),
            // Else: what was moved up meanwhile, and what the file system left out as the folder changed while it was read.
            (true, true) => {}
            (true, false) => return Err(Errno::NOTEMPTY.into()),
        }
    }
}

/// Removes what `name` is in `folder`. A folder is handed to `make_empty`, if it is not. Whether something was removed or moved.
fn remove_entry(
    root: &OwnedFd,
    folder: impl AsFd,
    name: &CStr,
    kind: FileType,
    make_empty: impl FnOnce(&OwnedFd, &CStr) -> io::Result<bool>,
) -> io::Result<bool> {
    let kind = match kind {
        FileType::Unknown => match there(rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW))? {
            Some(stat) => FileType::from_raw_mode(stat.st_mode),
            None => return Ok(true),
        },
        known => known,
    };
    if kind != FileType::Directory {
        return there(rustix::fs::unlinkat(&folder, name, AtFlags::empty())).map(|_| true);
    }
    match rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => make_empty(root, name),
        Err(error) => Err(error.into()),
    }
}

/// Empties the folder `name` of `root` and removes it: its files are removed, its folders moved up into `root`. Whether that changed something.
fn empty_into(root: &OwnedFd, name: &CStr, names: &mut Names) -> io::Result<bool> {
    let Some(folder) = there(rustix::fs::openat(root, name, FOLDER, Mode::empty()))? else { return Ok(true) };
    let (mut entries, mut removed) = (Dir::new(folder)?, false);
    while let Some(entry) = entries.read() {
        let entry = entry?;
        if is_itself(entry.file_name()) {
            continue;
        }
        let inner = entries.fd()?;
        removed |= remove_entry(root, inner, entry.file_name(), entry.file_type(), |root, name| {
            names.move_up(inner, name, root).map(|()| true)
        })?;
    }
    match rustix::fs::unlinkat(root, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        // If it lost something, another pass may find the rest.
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(removed),
        Err(error) => Err(error.into()),
    }
}

/// Names for folders that are moved up. Numbers from a random one on, so that what is there already rarely has them.
struct Names(u64);

impl Names {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(
            u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or_default()
                ^ u64::from(std::process::id()) << 32,
        )
    }

    fn move_up(&mut self, folder: impl AsFd, name: &CStr, root: &OwnedFd) -> io::Result<()> {
        for _ in 0..NAMES_TRIED_MAX {
            self.0 = self.0.wrapping_add(1);
            match rustix::fs::renameat(&folder, name, root, format!(".removed-{:016x}", self.0)) {
                // An empty folder that had the name is gone, as it was to be.
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EXIST.into())
    }
}

pub(crate) fn is_itself(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// `None` where the thing is not there any more.
pub(crate) fn there<T>(result: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn too_deep() -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, format!("folders are more than {DEPTH_MAX} levels deep"))
}

#[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "the types differ between systems")]
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

fn bytes_on_disk(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES)
}
