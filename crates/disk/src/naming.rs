//! Renames a file only if the new name is not in use.

use std::fs;
use std::io;
use std::path::Path;

/// Moves the file `from` to `to`, unless `to` exists. If the system cannot rename without replacing `to`, creates the
/// hard link `to` to the file and removes `from`.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if `to` exists. The system's error if the file cannot be moved. `from` is unchanged
/// after an error.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;

        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // The file system or the kernel does not support this flag, so a hard link is created below.
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
    fn an_existing_file_is_not_replaced() {
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
