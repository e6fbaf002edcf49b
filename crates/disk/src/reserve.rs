//! Free space that tenants cannot use, so that the node can write its state, its audit log and its code when tenants
//! have filled the disk.

use std::path::{Path, PathBuf};

/// The bytes of a file system that are kept free of tenants' data.
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

    /// The size of the reserve in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the bytes that tenants may write before they reach the reserve. Asks the file system, which keeps the
    /// number in memory. Returns 0 if the file system gives no result.
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
