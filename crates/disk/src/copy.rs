//! Copies folders that a tenant made, with limits on descriptors, bytes and time, and without following symbolic links.
//!
//! Like [`super::tree`], this module works on open folders and names in them, not on paths. At each level, the folder
//! and its copy stay open, so folders below [`DEPTH_MAX`] levels are refused. Symbolic links are copied as links.
//! Entries other than files, folders and symbolic links are skipped. A file and its copy share blocks if the file
//! system supports that.
//!
//! Each step reserves the bytes that it needs before it writes them, so the copy does not use space that another writer
//! has reserved. We considered checking the free space only once, before the first step, but copies that start at the
//! same time would all see the same free space.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use isomer_display::size;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};

use crate::tree::{DEPTH_MAX, FOLDER, is_itself, there, too_deep};

/// The number of bytes that are reserved for an empty file or folder, because it occupies space on disk. The sizes of
/// files are rounded up to a multiple of this number, because files occupy whole blocks.
const ENTRY_BYTES: u64 = 4096;

/// The maximum number of bytes that are reserved and copied in one step. The deadline is checked before each step. If
/// several processes share a limit (such as the free space of a disk) but do not know each other's reservations, each
/// process may exceed the limit by this number of bytes.
pub const STEP_BYTES: u64 = 1 << 20;

/// The state of a running copy.
struct Copying<C> {
    reserve: C,
    deadline: Instant,
    bytes: u64,
}

/// Copies the folder `from` with its content to the new folder `to`. If a file changes during the copy, any part of the
/// copied file may have the old or the new content. Calls `reserve` before each step with the number of bytes that the
/// step needs, at least 4096 for each file and folder. `reserve` returns whether these bytes are available. Returns the
/// total number of reserved bytes.
///
/// # Errors
/// If `to` exists, or an entry cannot be read or written. [`io::ErrorKind::QuotaExceeded`] if a reservation is refused,
/// or a folder is deeper than [`DEPTH_MAX`] levels. [`io::ErrorKind::TimedOut`] if the copy is not finished at
/// `deadline`. After an error, the caller removes the incomplete copy.
pub fn copy(from: &Path, to: &Path, deadline: Instant, reserve: impl FnMut(u64) -> bool) -> io::Result<u64> {
    let mut copying = Copying { reserve, deadline, bytes: 0 };
    let from = rustix::fs::open(from, FOLDER, Mode::empty())?;
    let mut open = vec![(Dir::new(from)?, copying.folder(CWD, to.as_os_str())?)];
    while let Some((from, to)) = open.last_mut() {
        let Some(entry) = from.read() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if is_itself(name) {
            continue;
        }
        let name = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name.to_bytes());
        let folder = from.fd()?;
        let stat = rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        let Some(stat) = there(stat)? else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let Some(inner) = there(rustix::fs::openat(folder, name, FOLDER, Mode::empty()))? else { continue };
                let made = copying.folder(&*to, name)?;
                if open.len() > DEPTH_MAX {
                    return Err(too_deep());
                }
                open.push((Dir::new(inner)?, made));
            }
            FileType::RegularFile => copying.file(folder, &*to, name)?,
            FileType::Symlink => copying.link(folder, &*to, name)?,
            _ => {}
        }
    }
    Ok(copying.bytes)
}

impl<C: FnMut(u64) -> bool> Copying<C> {
    fn folder(&mut self, above: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
        self.take(ENTRY_BYTES)?;
        rustix::fs::mkdirat(&above, name, Mode::RWXU)?;
        Ok(rustix::fs::openat(&above, name, FOLDER, Mode::empty())?)
    }

    fn file(&mut self, from: impl AsFd, to: impl AsFd, name: &OsStr) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let Some(from) = there(rustix::fs::openat(from, name, flags, Mode::empty()))? else { return Ok(()) };
        let from = File::from(from);
        if !from.metadata()?.is_file() {
            // Since the folder was read, the file has been replaced with an entry of another kind, which is skipped.
            return Ok(());
        }
        self.take(ENTRY_BYTES)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut to = File::from(rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
        // The bytes that were reserved for the directory entry also cover the first bytes of the file. At most the
        // current length of the file is copied, even if the file grows during the copy.
        let (mut left, mut paid) = (from.metadata()?.len(), ENTRY_BYTES);
        while left > 0 {
            let wanted = left.min(STEP_BYTES);
            if wanted > paid {
                let more = (wanted - paid).next_multiple_of(ENTRY_BYTES);
                self.take(more)?;
                paid += more;
            }
            let copied = io::copy(&mut (&from).take(wanted), &mut to)?;
            if copied == 0 {
                break;
            }
            (left, paid) = (left - copied, paid - copied);
        }
        Ok(())
    }

    fn link(&mut self, from: impl AsFd, to: impl AsFd, name: &OsStr) -> io::Result<()> {
        let Some(target) = there(rustix::fs::readlinkat(from, name, Vec::new()))? else { return Ok(()) };
        self.take(ENTRY_BYTES)?;
        Ok(rustix::fs::symlinkat(target, to, name)?)
    }

    fn take(&mut self, bytes: u64) -> io::Result<()> {
        if Instant::now() >= self.deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "copying the folder took too long"));
        }
        if !(self.reserve)(bytes) {
            let why =
                format!("there is not enough space to copy the folder: the copy stopped after {}", size(self.bytes));
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
        }
        self.bytes += bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(600)
    }

    fn of(mut room: u64) -> impl FnMut(u64) -> bool {
        move |bytes| {
            let left = room.checked_sub(bytes);
            room = left.unwrap_or(room);
            left.is_some()
        }
    }

    fn copy_in(from: &Path, to: &Path, bytes_max: u64) -> io::Result<u64> {
        copy(from, to, later(), of(bytes_max))
    }

    #[test]
    fn everything_is_copied_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/small"), "text").unwrap();
        fs::write(from.join("large"), vec![7; 100_000]).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("../secret", from.join("out")).unwrap();
        symlink("a", from.join("to-folder")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        let bytes = copy_in(&from, &to, u64::MAX).unwrap();
        // The three folders, two links and the small file need one unit of `ENTRY_BYTES` each. The large file needs 25.
        assert_eq!(bytes, 6 * ENTRY_BYTES + 25 * ENTRY_BYTES, "each entry needs whole blocks");
        assert_eq!(fs::read(to.join("a/b/small")).unwrap(), b"text");
        assert_eq!(fs::read(to.join("large")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::read_link(to.join("out")).unwrap(), Path::new("../secret"));
        assert_eq!(fs::read_dir(&to).unwrap().count(), 4, "the socket is left out");
        assert_eq!(copy_in(&from, &to, u64::MAX).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(copy_in(&from, &dir.path().join("exact"), bytes).unwrap(), bytes);
        let small = copy_in(&from, &dir.path().join("small"), bytes - 1).unwrap_err();
        assert_eq!(small.kind(), io::ErrorKind::QuotaExceeded);
        let late = copy(&from, &dir.path().join("late"), Instant::now(), of(u64::MAX)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_copy_reserves_bytes_before_it_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("f"), vec![7; 5 * STEP_BYTES as usize / 2]).unwrap();
        let (mut reserved, mut most) = (0, 0);
        let bytes = copy(&from, &to, later(), |bytes| {
            let there = fs::metadata(to.join("f")).map_or(0, |file| file.len());
            assert!(there <= reserved, "{there} of {reserved}");
            (reserved, most) = (reserved + bytes, most.max(bytes));
            true
        });
        assert_eq!((bytes.unwrap(), most), (reserved, STEP_BYTES));
        // Space was free when the copy started, but the fourth reservation is refused, as if other writers had reserved
        // the space.
        let mut reservations = 0;
        let refused = copy(&from, &dir.path().join("other"), later(), |_| {
            reservations += 1;
            reservations <= 3
        });
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        assert_eq!(fs::metadata(dir.path().join("other/f")).unwrap().len(), STEP_BYTES);
    }

    #[test]
    fn depth_names_and_holes_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        let long = "n".repeat(200);
        let mut deep = from.clone();
        for _ in 0..DEPTH_MAX {
            fs::create_dir_all(&deep).unwrap();
            // A longer path would exceed the system's limit on the length of paths.
            if deep.as_os_str().len() > 3000 {
                break;
            }
            deep.push(&long);
        }
        copy_in(&from, &dir.path().join("long"), u64::MAX).unwrap();
        let hole = dir.path().join("hole");
        fs::create_dir(&hole).unwrap();
        File::create(hole.join("file")).unwrap().set_len(1 << 40).unwrap();
        let refused = copy_in(&hole, &dir.path().join("filled"), 1 << 20).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded, "a sparse file needs space for its whole length");
        let below = dir.path().join("below");
        fs::create_dir_all(below.join(["d"; DEPTH_MAX + 1].join("/"))).unwrap();
        let refused = copy_in(&below, &dir.path().join("copied"), u64::MAX).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded, "{refused}");
    }
}
