//! Giving a file its name only if nothing has it.

use std::fs;
use std::io;
use std::path::Path;

/// Moves the file `from` to `to`, unless something lies there. Needs no hard links where the system can rename like that; where it cannot,
/// they do it.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where something lies there, and when the disk fails. Then `from` stays.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;

        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // The file system cannot, or the kernel.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            done => return Ok(done?),
        }
    }
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        fs::write(&new, "new").unwrap();
        rename_new(&new, &old).unwrap();
        assert!(!new.exists());
        fs::write(&new, "newer").unwrap();
        assert_eq!(rename_new(&new, &old).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            (fs::read(&new).unwrap().as_slice(), fs::read(&old).unwrap().as_slice()),
            (&b"newer"[..], &b"new"[..])
        );
    }
}
