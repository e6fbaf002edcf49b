//! The data directory of a node: the node's own state and the data of all tenants' apps, in one folder. Only one
//! process at a time can open the directory.
//!
//! Unlike an app's data directory ([`crate::DataDir`]), it contains the data of many apps. The layout is documented in
//! `docs/reference/data-directory.md`; no other source file depends on it. The names of tenants and apps have the
//! syntax of host name labels, so they cannot lead out of the directory.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::data_dir::{DataDirError, failed, lock_dir};
use crate::private_files::{make_private_dir, sync_dir};

/// An open data directory of a node. Holds the lock of the directory until it is dropped.
#[derive(Debug)]
pub struct NodeDir {
    path: PathBuf,
    _lock: File,
}

impl NodeDir {
    /// Opens the directory at `path`, and locks it for this process. Creates the directory if it does not exist,
    /// readable only for the current user.
    ///
    /// # Errors
    /// If the directory cannot be created or written, another process has it open, or it is the data directory of an
    /// app.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let (path, lock) = lock_dir(path)?;
        if path.join("kv").is_dir() || path.join("sql").is_dir() {
            return Err(DataDirError::OfApp { path });
        }
        let dir = Self { path, _lock: lock };
        for part in [dir.blobs(), dir.revisions(), dir.cache(), dir.tenants(), dir.trash()] {
            make_private_dir(&part).map_err(failed(&part, "making the directory failed"))?;
        }
        sync_dir(&dir.path).map_err(failed(&dir.path, "syncing the directory failed"))?;
        Ok(dir)
    }

    /// Returns the absolute path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the state file.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path.join("state.redb")
    }

    /// Returns the folder of uploaded files, which are named by their digest.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }

    /// Returns the folder that contains the files of each release.
    #[must_use]
    pub fn revisions(&self) -> PathBuf {
        self.path.join("revisions")
    }

    /// Returns the folder of compiled code.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// Returns the folder of removed data that has not been deleted yet, and may still occupy space.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.path.join("trash")
    }

    /// Returns the folder that candidate revisions write to. The folder's content is not used after the process has
    /// exited.
    #[must_use]
    pub fn trials(&self) -> PathBuf {
        self.path.join("trials")
    }

    /// Returns the folder that contains the files of unfinished take-overs that replace stores.
    #[must_use]
    pub fn takeovers(&self) -> PathBuf {
        self.path.join("takeovers")
    }

    /// Returns the folder that contains the data of all tenants.
    #[must_use]
    pub fn tenants(&self) -> PathBuf {
        self.path.join("tenants")
    }

    /// Returns the folder of a tenant's data.
    #[must_use]
    pub fn tenant(&self, tenant: &str) -> PathBuf {
        self.tenants().join(tenant)
    }

    /// Returns the folder of an app's data. It contains `kv/`, `sql/`, `dirs/`, `log/`, `access/` and `snapshots/`,
    /// each created on demand.
    #[must_use]
    pub fn app(&self, tenant: &str, app: &str) -> PathBuf {
        self.tenant(tenant).join("apps").join(app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DataDir;

    #[test]
    fn one_process_has_the_directory_open_and_it_is_not_an_apps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/node");
        let node = NodeDir::open(&path).unwrap();
        assert!(matches!(NodeDir::open(&path), Err(DataDirError::InUse { .. })));
        assert!(node.blobs().is_dir() && node.cache().is_dir() && node.app("t", "a").starts_with(node.path()));
        drop(node);
        NodeDir::open(&path).unwrap();
        let app = folder.path().join("app");
        DataDir::open(&app).unwrap();
        let refused = NodeDir::open(&app).unwrap_err();
        assert!(matches!(refused, DataDirError::OfApp { .. }), "{refused}");
    }
}
