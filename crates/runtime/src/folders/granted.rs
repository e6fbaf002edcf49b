//! The directories that a manifest grants, opened for the instances of a group.
//!
//! All instances of a group share one descriptor for each directory, which counts as one open file of their account.
//! The descriptor is closed when the last instance that uses it is dropped. If a directory is replaced on the host,
//! instances that are created afterwards open the new directory.
//!
//! Two alternatives were rejected. With a descriptor for each instance, even an app that grants only a few directories
//! would use up its tenant's limit of open files, because a tenant may have hundreds of instances. If the directories
//! stayed open for as long as the app is loaded, thousands of idle apps would use descriptors.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::OFlags;
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::{Descriptor, Dir, OpenMode};

use super::open_files::OpenFile;
use crate::pool::Account;

/// A directory of the host that a manifest grants to a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The absolute path of the directory on the host.
    pub host: PathBuf,
    /// The absolute path at which the guest sees the directory.
    pub guest: String,
    /// Whether the guest may change the content of the directory.
    pub write: bool,
}

/// The index of an owner in its group, and the index of a directory among the owner's directories.
type DirectoryPosition = (usize, usize);

/// The granted directories that instances of a group currently have open.
#[derive(Default)]
pub(crate) struct GrantedFolders {
    open: Mutex<HashMap<DirectoryPosition, Weak<GrantedFolder>>>,
}

/// An open directory. It is closed when the last instance drops its reference to this value.
pub(crate) struct GrantedFolder {
    dir: Dir,
    identity: FolderIdentity,
    _open: OpenFile,
}

/// The reasons why a granted directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenDirectoryError {
    /// The account has reached its limit of open files.
    #[error(
        "the granted directory `{guest}` cannot be opened: the tenant's guests have reached their limit of open files"
    )]
    TooMany {
        /// The path at which the guest sees the directory.
        guest: String,
    },
    /// The operating system cannot open the directory.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The device and inode numbers of a directory.
type FolderIdentity = (u64, u64);

impl GrantedFolders {
    /// Returns the directory if another instance already has it open, and opens it otherwise.
    ///
    /// # Errors
    /// If the directory cannot be opened, or `account` has reached its limit of open files.
    pub(crate) fn open(
        &self,
        place: DirectoryPosition,
        directory: &Directory,
        account: &Arc<Account>,
    ) -> Result<Arc<GrantedFolder>, OpenDirectoryError> {
        let shared = self.lock().get(&place).and_then(Weak::upgrade);
        if let Some(shared) = shared
            && std::fs::metadata(&directory.host).is_ok_and(|now| identity(&now) == shared.identity)
        {
            return Ok(shared);
        }
        let too_many = || OpenDirectoryError::TooMany { guest: directory.guest.clone() };
        let open = OpenFile::new(account).ok_or_else(too_many)?;
        let folder = Arc::new(GrantedFolder::open(&directory.host, directory.write, open)?);
        // If two instances open the directory at the same time, later instances share one of the two descriptors.
        self.lock().insert(place, Arc::downgrade(&folder));
        Ok(folder)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DirectoryPosition, Weak<GrantedFolder>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GrantedFolder {
    fn open(host: &Path, write: bool, open: OpenFile) -> io::Result<Self> {
        let flags = (OFlags::DIRECTORY | OFlags::PATH).bits().cast_signed();
        let folder = File::options().read(true).custom_flags(flags).open(host)?;
        let identity = identity(&folder.metadata()?);
        let (perms, mode) = if write {
            (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE)
        } else {
            (FsPerms::ReadOnly, OpenMode::READ)
        };
        // The last argument allows blocking on the calling thread, because only threads for file work use the
        // directory.
        Ok(Self { dir: Dir::new(folder, perms, mode, true), identity, _open: open })
    }

    /// Returns a new [`Descriptor`] of the directory, for a handle of a guest. The wasmtime store that contains the
    /// handle must also keep this `GrantedFolder`.
    pub(crate) fn handle(&self) -> Descriptor {
        Descriptor::Dir(self.dir.clone())
    }
}

fn identity(metadata: &Metadata) -> FolderIdentity {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::fake::FakeStorage;
    use super::super::open_files::MANY;
    use super::*;

    #[test]
    fn instances_share_a_directory_that_counts_once_until_it_is_replaced() {
        let _alone = MANY.blocking_lock();
        let (storage, dir) = (FakeStorage::new(0, 1 << 20), tempfile::tempdir().unwrap());
        let account = &storage.account;
        let host = dir.path().join("data");
        std::fs::create_dir(&host).unwrap();
        let directory = Directory { host: host.clone(), guest: "/data".into(), write: true };
        let folders = GrantedFolders::default();
        let instances: Vec<_> = (0..100).map(|_| folders.open((0, 0), &directory, account).unwrap()).collect();
        assert_eq!(account.open_files().load(Ordering::Relaxed), 1);
        std::fs::rename(&host, dir.path().join("old")).unwrap();
        std::fs::create_dir(&host).unwrap();
        let newer = folders.open((0, 0), &directory, account).unwrap();
        assert!(!Arc::ptr_eq(&newer, &instances[0]));
        assert_eq!(account.open_files().load(Ordering::Relaxed), 2);
        drop((instances, newer));
        assert_eq!(
            account.open_files().load(Ordering::Relaxed),
            0,
            "the directory is still open after its last instance is dropped"
        );
        let missing = Directory { host: dir.path().join("missing"), ..directory.clone() };
        assert!(matches!(folders.open((0, 1), &missing, account), Err(OpenDirectoryError::Io(_))));
        let all: Vec<_> = std::iter::from_fn(|| OpenFile::new(account)).collect();
        assert!(matches!(folders.open((0, 0), &directory, account), Err(OpenDirectoryError::TooMany { .. })));
        drop(all);
    }
}
