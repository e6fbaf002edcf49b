//! Free space that tenants cannot use. When tenants have filled the rest of the disk, the node still writes its state,
//! its audit log and compiled code to this space.

use std::path::{Path, PathBuf};

/// The number of bytes that tenants' data must leave free on a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// Creates a reserve of `bytes` on the file system of `path`.
    #[must_use]
    pub fn new(path: &Path, bytes: u64) -> Self {
        Self { path: path.to_owned(), bytes }
    }

    /// Returns the size of the reserve in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of bytes that tenants may still write before they reach the reserve. The call is cheap,
    /// because the file system keeps the number of free bytes in memory. Returns 0 if this number cannot be read.
    #[must_use]
    pub fn room(&self) -> u64 {
        let Ok(system) = rustix::fs::statvfs(&self.path) else { return 0 };
        system.f_bavail.saturating_mul(system.f_frsize).saturating_sub(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_not_available() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Reserve::new(dir.path(), 0).room() > 0);
        assert_eq!(Reserve::new(dir.path(), u64::MAX).room(), 0);
        assert_eq!(Reserve::new(&dir.path().join("missing"), 0).room(), 0);
    }
}
