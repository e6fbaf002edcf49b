//! Copies single files, within the tenant's storage quota and the free space of the disk.
//!
//! Before the copy starts, the size of the whole file is checked against the tenant's quota. Tenants must leave a part
//! of the free space of the disk unused (the reserve). This is checked again before each step, because other tenants
//! write to the same disk at the same time.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use isomer_disk::STEP_BYTES;
use isomer_display::size;

use crate::StorageAccount;
use crate::storage::Claim;

/// The reason why a file was not copied.
#[derive(Debug, thiserror::Error)]
pub enum FileCopyError {
    /// The copy does not fit into the tenant's quota, or would use the part of the free space that tenants must not use
    /// (the reserve).
    #[error("a copy needs {}, which is more than the available storage", size(*bytes))]
    NoRoom {
        /// The size of the file in bytes.
        bytes: u64,
    },
    /// The caller stopped the copy before it was complete.
    #[error("the copy was stopped")]
    Stopped,
    /// An operation on one of the files failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl StorageAccount {
    /// Copies the file `from` to a new file `to`. Calls `continues` after each step, and stops the copy if the result
    /// is `false`. If the file system supports it, the two files share disk blocks. Adds the copied bytes to the
    /// tenant's used storage, even if the copy fails. This function blocks the thread.
    ///
    /// # Errors
    /// If there is not enough space, if the copy is stopped, or if a file operation fails. The caller then removes the
    /// incomplete copy.
    pub fn copy_file(&self, from: &Path, to: &Path, continues: impl FnMut() -> bool) -> Result<(), FileCopyError> {
        let from = File::open(from)?;
        let bytes = from.metadata()?.len();
        let Some(_claim) = Claim::new(self, bytes) else {
            self.refuse();
            return Err(FileCopyError::NoRoom { bytes });
        };
        let copied = self.copy_steps(&from, bytes, to, continues);
        self.measure(to);
        copied
    }

    fn copy_steps(
        &self,
        from: &File,
        bytes: u64,
        to: &Path,
        mut continues: impl FnMut() -> bool,
    ) -> Result<(), FileCopyError> {
        let mut to = File::options().write(true).create(true).truncate(true).mode(0o600).open(to)?;
        let mut left = bytes;
        while left > 0 {
            let step = left.min(STEP_BYTES);
            if !self.leaves_reserve(step) {
                self.refuse();
                return Err(FileCopyError::NoRoom { bytes });
            }
            let copied = io::copy(&mut from.take(step), &mut to)?;
            if copied == 0 {
                break;
            }
            left -= copied;
            if !continues() {
                return Err(FileCopyError::Stopped);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use isomer_disk::Reserve;

    use super::*;

    #[test]
    fn a_file_is_copied_within_the_quota_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let bytes = 5 * STEP_BYTES / 2;
        std::fs::write(&from, vec![7; usize::try_from(bytes).unwrap()]).unwrap();
        let account = StorageAccount::new(2 * bytes);
        let mut steps = 0;
        let copied = account.copy_file(&from, &to, || {
            steps += 1;
            assert!(account.room() <= bytes, "the whole size is reserved from the start");
            true
        });
        copied.unwrap();
        assert_eq!((steps, std::fs::read(&to).unwrap().len() as u64), (3, bytes));
        assert!(account.used() >= bytes && account.room() <= bytes);
        let more = [(); 2].map(|()| account.copy_file(&from, &dir.path().join("more"), || true).is_ok());
        assert!(!more[1], "the account has room for at most two copies");
        let stopped = StorageAccount::new(2 * bytes);
        let part = dir.path().join("part");
        assert!(matches!(stopped.copy_file(&from, &part, || false), Err(FileCopyError::Stopped)));
        assert!(
            (STEP_BYTES..bytes).contains(&stopped.used()),
            "the copied part is added to the used storage: {}",
            stopped.used()
        );
        let poor = StorageAccount::new(bytes - 1);
        let refused = poor.copy_file(&from, &dir.path().join("none"), || true);
        assert!(matches!(refused, Err(FileCopyError::NoRoom { .. })) && !dir.path().join("none").exists());
    }

    #[test]
    fn the_reserve_is_checked_before_each_step() {
        let dir = tempfile::tempdir().unwrap();
        // The second step of the copy finds less free space, because other processes have written to the disk.
        let disk = dir.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let from = dir.path().join("from");
        std::fs::write(&from, vec![7; usize::try_from(3 * STEP_BYTES).unwrap()]).unwrap();
        let account = StorageAccount::new(1 << 40);
        account.set_reserve(Arc::new(Reserve::new(&disk, 0)));
        let to = dir.path().join("to");
        let refused = account.copy_file(&from, &to, || {
            // Removes the folder, so that the free space cannot be read. A disk whose free space is unknown is treated
            // as full.
            let _ = std::fs::remove_dir(&disk);
            true
        });
        assert!(matches!(refused, Err(FileCopyError::NoRoom { .. })), "{refused:?}");
        assert_eq!((std::fs::metadata(&to).unwrap().len(), account.refused()), (STEP_BYTES, 1));
    }
}
