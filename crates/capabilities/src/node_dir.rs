//! A node's data directory: what it keeps about itself, and the data of all tenants' apps, under one path, open in one process at a time.
//!
//! It differs from an app's own data directory ([`crate::DataDir`]) by having many apps in it. The layout is documented in
//! `docs/reference/data-directory.md`; this file is the only one that knows it. Names of tenants and apps are labels as in a host name, so none
//! of them leads elsewhere.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::data_dir::{DataDirError, failed, lock_dir};
use crate::private_files::{make_private_dir, sync_dir};

/// An open data directory of a node. The lock is held until it is dropped.
#[derive(Debug)]
pub struct NodeDir {
    path: PathBuf,
    _lock: File,
}

impl NodeDir {
    /// Opens the directory at `path`, making it (for this user alone) where it isn't there, and locks it for this process.
    ///
    /// # Errors
    /// When it can't be made or written, another process has it open, or it is the data directory of an app.
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

    /// The directory itself, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the node keeps about itself.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path.join("state.redb")
    }

    /// What was uploaded, by its digest.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }

    /// Files of revisions' app folders.
    #[must_use]
    pub fn revisions(&self) -> PathBuf {
        self.path.join("revisions")
    }

    /// Compiled code.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// What was removed and may still take space.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.path.join("trash")
    }

    /// What revisions on trial write; nothing of it outlives its process.
    #[must_use]
    pub fn trials(&self) -> PathBuf {
        self.path.join("trials")
    }

    /// Take-overs that replace stores, while they do.
    #[must_use]
    pub fn takeovers(&self) -> PathBuf {
        self.path.join("takeovers")
    }

    /// The data of all tenants.
    #[must_use]
    pub fn tenants(&self) -> PathBuf {
        self.path.join("tenants")
    }

    /// The data of a tenant.
    #[must_use]
    pub fn tenant(&self, tenant: &str) -> PathBuf {
        self.tenants().join(tenant)
    }

    /// The data of an app of a tenant: `kv/`, `sql/`, `dirs/`, `log/`, `access/`, `snapshots/`, each made when it is needed.
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
    fn one_process_has_it_and_it_is_no_apps() {
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
