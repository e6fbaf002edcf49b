//! Copying a folder that a tenant made: with bounded descriptors, bytes and time, and without following a symbolic link.
//!
//! As [`super::tree`], it works on open folders and on names in them. At each level the folder and its copy are open, so it refuses to go
//! below [`DEPTH_MAX`] levels. Links are copied as links; what is neither file, folder nor link is left out. Where the file system can share
//! the blocks of a file between copies, it does.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use isomer_display::size;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};

use crate::tree::{DEPTH_MAX, FOLDER, is_itself, there, too_deep};

/// What each file and folder counts at least: an empty one takes something, too.
const ENTRY_BYTES: u64 = 4096;

/// Bytes that are copied between two looks at the clock.
const STEP_BYTES: u64 = 16 << 20;

/// What a copy may take.
#[derive(Debug, Clone, Copy)]
pub struct CopyLimits {
    /// Bytes, of which each file and folder counts at least 4096.
    pub bytes_max: u64,
    /// When it must be done.
    pub deadline: Instant,
}

/// A copy under way.
struct Copying {
    limits: CopyLimits,
    bytes: u64,
}

/// Copies the folder `from` and all that is in it to `to`, which is made. What is changed meanwhile is copied as it was before or after. Returns
/// the bytes that the copy took of its limit.
///
/// # Errors
/// When `to` is there, something cannot be read or written, the copy would be larger than it may be or deeper than [`DEPTH_MAX`]
/// ([`io::ErrorKind::QuotaExceeded`]), or takes too long ([`io::ErrorKind::TimedOut`]). What was copied by then is left for the caller.
pub fn copy(from: &Path, to: &Path, limits: CopyLimits) -> io::Result<u64> {
    let mut copying = Copying { limits, bytes: 0 };
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

impl Copying {
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
            // Replaced meanwhile.
            return Ok(());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut to = File::from(rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
        self.take(ENTRY_BYTES)?;
        let mut paid = ENTRY_BYTES;
        loop {
            // One byte more than may be taken, to see that there is more.
            let room = self.limits.bytes_max.saturating_sub(self.bytes).saturating_add(paid).saturating_add(1);
            let copied = io::copy(&mut (&from).take(STEP_BYTES.min(room)), &mut to)?;
            if copied == 0 {
                return Ok(());
            }
            // The first bytes are paid for by the entry.
            let free = paid.min(copied);
            paid -= free;
            self.take(copied - free)?;
        }
    }

    fn link(&mut self, from: impl AsFd, to: impl AsFd, name: &OsStr) -> io::Result<()> {
        let Some(target) = there(rustix::fs::readlinkat(from, name, Vec::new()))? else { return Ok(()) };
        self.take(ENTRY_BYTES)?;
        Ok(rustix::fs::symlinkat(target, to, name)?)
    }

    fn take(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.bytes_max {
            let why = format!("a copy takes more than the {} that are left", size(self.limits.bytes_max));
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
        }
        if Instant::now() >= self.limits.deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a copy takes too long"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    fn limits(bytes_max: u64) -> CopyLimits {
        CopyLimits { bytes_max, deadline: Instant::now() + Duration::from_secs(600) }
    }

    #[test]
    fn all_is_copied_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/small"), "text").unwrap();
        fs::write(from.join("large"), vec![7; 100_000]).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("../secret", from.join("out")).unwrap();
        symlink("a", from.join("to-folder")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        let bytes = copy(&from, &to, limits(u64::MAX)).unwrap();
        // Three folders, two links, a small and a large file.
        assert_eq!(bytes, 6 * ENTRY_BYTES + 100_000);
        assert_eq!(fs::read(to.join("a/b/small")).unwrap(), b"text");
        assert_eq!(fs::read(to.join("large")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::read_link(to.join("out")).unwrap(), Path::new("../secret"));
        assert_eq!(fs::read_dir(&to).unwrap().count(), 4, "the socket is left out");
        assert_eq!(copy(&from, &to, limits(u64::MAX)).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(copy(&from, &dir.path().join("exact"), limits(bytes)).unwrap(), bytes);
        let small = copy(&from, &dir.path().join("small"), limits(bytes - 1)).unwrap_err();
        assert_eq!(small.kind(), io::ErrorKind::QuotaExceeded);
        let late = CopyLimits { bytes_max: u64::MAX, deadline: Instant::now() };
        assert_eq!(copy(&from, &dir.path().join("late"), late).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn depth_names_and_holes_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        let long = "n".repeat(200);
        let mut deep = from.clone();
        for _ in 0..DEPTH_MAX {
            fs::create_dir_all(&deep).unwrap();
            // Longer than a path may be.
            if deep.as_os_str().len() > 3000 {
                break;
            }
            deep.push(&long);
        }
        copy(&from, &dir.path().join("long"), limits(u64::MAX)).unwrap();
        let hole = dir.path().join("hole");
        fs::create_dir(&hole).unwrap();
        File::create(hole.join("file")).unwrap().set_len(1 << 40).unwrap();
        let refused = copy(&hole, &dir.path().join("filled"), limits(1 << 20)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded, "a file of nothing but a hole is what it says to be");
        let below = dir.path().join("below");
        fs::create_dir_all(below.join(["d"; DEPTH_MAX + 1].join("/"))).unwrap();
        let refused = copy(&below, &dir.path().join("copied"), limits(u64::MAX)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded, "{refused}");
    }
}
