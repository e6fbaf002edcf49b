//! Measures and removes folders that a tenant made. The depth and width of these folders and the length of their names
//! are not limited, but neither the stack nor the descriptors of this process are exhausted. Symbolic links are not
//! followed.
//!
//! Both operations work on open folders and names in them, never on whole paths, because a tenant can make paths longer
//! than the system allows.
//!
//! [`remove`] has only a folder and its parent open. A folder that is not empty is *moved up*, next to the folders of
//! the first level, and removed later. So a tree of any depth becomes flat during the removal, and the memory that is
//! needed does not depend on the depth. If the process exits before the removal is complete, the next call removes the
//! remaining folders.
//!
//! [`walk`] keeps all folders from the first level to the current one open, so folders below [`DEPTH_MAX`] are refused.
//!
//! | rejected | why |
//! | --- | --- |
//! | `remove_dir_all` of `std::fs`, of the crate `remove_dir_all` and of cap-std | all of them recurse, with a frame and a descriptor for each level |
//! | a stack of names, going up by `..` | another process can move a folder meanwhile and so decide where `..` leads, and the names of wide folders need memory |
//! | the crate `walkdir` | it bounds descriptors by keeping the rest of each level in memory, and works on whole paths |

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// The maximum number of levels of folders below a folder that is walked or copied. Each level needs a descriptor.
pub const DEPTH_MAX: usize = 64;

/// The unit of `st_blocks`, the size of a file on disk, which does not depend on the file system's block size
/// (`stat(2)`).
const BLOCK_BYTES: u64 = 512;

/// The maximum number of attempts to find an unused name for a nested folder that is moved into the root of the tree
/// that is being removed.
const NAMES_TRIED_MAX: u32 = 1000;

pub(crate) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// An entry that [`walk`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The bytes that the entry occupies on disk.
    pub bytes: u64,
    /// Whether the entry is a folder.
    pub is_folder: bool,
}

/// Calls `visit` with the path of each entry below `root`, its size, and whether it is a folder. Skips entries that are
/// removed during the walk. If `root` does not exist, there are no entries.
///
/// # Errors
/// If a folder cannot be read. [`io::ErrorKind::QuotaExceeded`] if a folder is deeper than [`DEPTH_MAX`] levels.
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

/// Returns how many levels an open folder is below one of `roots` (each identified by its device number and inode
/// number). Goes up from the folder without using names or following symbolic links. Returns `None` if no root is found
/// within [`DEPTH_MAX`] levels.
///
/// # Errors
/// If a parent folder cannot be opened.
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

/// Returns the device number and inode number of a folder.
///
/// # Errors
/// If the folder does not exist.
pub fn identity_of(folder: &Path) -> io::Result<(u64, u64)> {
    Ok(identity(&rustix::fs::stat(folder)?))
}

/// Removes a file, or a folder with its content. A symbolic link is removed, but not its target.
///
/// # Errors
/// If the file or folder does not exist, or an entry cannot be removed. Some entries may then remain.
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

/// Removes like [`remove`], but succeeds if the path does not exist.
///
/// # Errors
/// If an entry cannot be removed.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes everything in a folder, but not the folder itself.
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
            // Another pass removes the folders that this pass moved up, and entries that the file system did not list
            // because the folder changed while it was read.
            (true, true) => {}
            (true, false) => return Err(Errno::NOTEMPTY.into()),
        }
    }
}

/// Removes the entry `name` of `folder`. If the entry is a folder that is not empty, calls `make_empty` instead, which
/// removes or moves entries of this folder, or moves the folder itself. Returns whether an entry was removed or moved.
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

/// Empties the folder `name` of `root` and removes it: removes its files, and moves its folders up into `root`. Returns
/// whether an entry was removed or moved.
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
        // The folder has entries that this pass did not see. `true` makes `empty` start another pass; `false` would end
        // the removal with an error, because no progress is possible.
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(removed),
        Err(error) => Err(error.into()),
    }
}

/// A generator of names for nested folders that are moved into the root of the tree that is being removed. The names
/// contain consecutive numbers, the first of which is computed from the time and the process ID, so the names are
/// rarely in use.
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
                // The rename has replaced an empty folder if one had this name. That is harmless, because everything in
                // `root` is being removed.
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

/// Converts the error that an entry does not exist to `None`.
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
