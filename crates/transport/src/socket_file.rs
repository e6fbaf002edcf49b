//! The file of a Unix socket. The file has mode 0600, never replaces the socket of a running process, and is removed
//! when the process stops listening.
//!
//! If a process is killed, its socket file remains. The next process that listens on the path removes the file if no
//! process accepts connections on it. If two processes start at the same time, both could find that no process accepts
//! connections. Servers that must prevent this hold a lock file next to the socket while they run
//! ([`SocketFile::listen_locked`]). The operating system releases the lock however a process ends.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::net::{UnixListener, UnixStream};

/// The reason why a process cannot listen on a Unix socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketFileError {
    /// Another process listens on the socket.
    #[error("another process listens on this socket")]
    InUse,
    /// A file that is not a socket exists at the path.
    #[error("a file exists at this path, and it is not a socket")]
    NotASocket,
    /// The permissions of the folder do not exclude other users.
    #[error("other users can enter `{folder}` (mode {mode:03o})")]
    OpenFolder {
        /// The socket's folder.
        folder: PathBuf,
        /// The permissions of the folder.
        mode: u32,
    },
    /// The folder belongs to another user, who could replace the socket.
    #[error("`{folder}` belongs to user {owner}, and this process's user is {user}")]
    ForeignFolder {
        /// The socket's folder.
        folder: PathBuf,
        /// The owner of the folder.
        owner: u32,
        /// The effective user of this process.
        user: u32,
    },
    /// Listening on the socket failed for another reason.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The file of a Unix socket on which this process listens. Dropping this value removes the file, unless another
/// process has replaced the file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: FileIdentity,
    /// The lock, which is released after the file is removed.
    _lock: Option<File>,
}

/// A file's inode number and, if the file system records it, the file's creation time. The time is needed because inode
/// numbers are reused.
type FileIdentity = (u64, Option<SystemTime>);

fn identity(metadata: &fs::Metadata) -> FileIdentity {
    (metadata.ino(), metadata.created().ok())
}

impl SocketFile {
    /// Listens on the socket `path`. The file's mode is set to 0600 after the socket is created, so other users can
    /// connect for a short time: the caller must refuse peers by their user ([`is_trusted_user`]).
    ///
    /// # Errors
    /// If another process listens on the socket, if `path` is a file that is not a socket, or if listening fails for
    /// another reason.
    pub async fn listen(path: &Path) -> Result<(UnixListener, Self), SocketFileError> {
        Self::bind(path, None).await
    }

    /// Listens on the socket `path` in a folder that only this process's user can enter, and holds a lock while
    /// listening. Creates the folder if it is missing.
    ///
    /// # Errors
    /// The errors of [`SocketFile::listen`]. Also fails if the folder belongs to another user, or if other users can
    /// enter it.
    pub async fn listen_locked(path: &Path) -> Result<(UnixListener, Self), SocketFileError> {
        // Makes the path absolute, because the parent of a path like `a.sock` would be the empty path.
        let path = &std::path::absolute(path)?;
        make_private_folder(path.parent().unwrap_or(Path::new("/")))?;
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock_path)?;
        match lock.try_lock() {
            Ok(()) => Self::bind(path, Some(lock)).await,
            Err(TryLockError::WouldBlock) => Err(SocketFileError::InUse),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Binds `path` as the caller wrote it, because the kernel accepts at most 107 bytes, which the absolute path may
    /// exceed.
    async fn bind(path: &Path, lock: Option<File>) -> Result<(UnixListener, Self), SocketFileError> {
        remove_stale(path).await?;
        let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => SocketFileError::InUse,
            _ => error.into(),
        })?;
        // Before this call, other users can connect to a socket in a folder that they can enter: see `listen`.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        // Stores the absolute path, which stays valid if the working directory changes.
        let path = std::path::absolute(path)?;
        let identity = identity(&fs::symlink_metadata(&path)?);
        Ok((listener, Self { path, identity, _lock: lock }))
    }

    /// Returns the absolute path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_own = fs::symlink_metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.identity);
        if is_own {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns whether a process of `user` is trusted as the peer of a Unix socket. Only this process's own user and root
/// are trusted.
#[must_use]
pub fn is_trusted_user(user: u32) -> bool {
    is_trusted(user, current_user())
}

/// Returns the effective user of this process.
#[must_use]
pub fn current_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn is_trusted(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

fn make_private_folder(folder: &Path) -> Result<(), SocketFileError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let metadata = fs::metadata(folder)?;
    let (owner, user) = (metadata.uid(), current_user());
    if owner != user {
        return Err(SocketFileError::ForeignFolder { folder: folder.to_owned(), owner, user });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SocketFileError::OpenFolder { folder: folder.to_owned(), mode });
    }
    Ok(())
}

/// Removes the socket file at `path` if no process listens on it.
async fn remove_stale(path: &Path) -> Result<(), SocketFileError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(SocketFileError::NotASocket),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(SocketFileError::InUse),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_own_user_are_trusted() {
        let trusted = [(7, 7), (0, 7), (0, 0), (8, 7), (7, 0)].map(|(peer, own)| is_trusted(peer, own));
        assert_eq!(trusted, [true, true, true, false, false]);
    }

    #[tokio::test]
    async fn the_file_is_private_and_removed_with_the_listener() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("a.sock");
        let (listener, file) = SocketFile::listen(&path).await.expect("it listens");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        assert!(matches!(SocketFile::listen(&path).await, Err(SocketFileError::InUse)));
        drop((listener, file));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_file_is_replaced_and_a_successors_file_stays() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("it listens"));
        let (listener, file) = SocketFile::listen(&path).await.expect("the file is stale");
        drop(listener);
        let successor = SocketFile::listen(&path).await.expect("no process listens");
        drop(file);
        assert!(path.exists());
        drop(successor);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("precious");
        fs::write(&path, "data").expect("it is written");
        assert!(matches!(SocketFile::listen(&path).await, Err(SocketFileError::NotASocket)));
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "data");
    }

    #[tokio::test]
    async fn a_locked_socket_needs_a_private_folder_and_has_one_holder() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = dir.path().join("private");
        let path = folder.join("a.sock");
        let held = SocketFile::listen_locked(&path).await.expect("the folder is created");
        // The lock excludes a second process even while the socket's file is missing.
        fs::remove_file(&path).expect("it is there");
        assert!(matches!(SocketFile::listen_locked(&path).await, Err(SocketFileError::InUse)));
        drop(held);
        drop(SocketFile::listen_locked(&path).await.expect("the lock is free"));
        fs::set_permissions(&folder, Permissions::from_mode(0o750)).expect("it is ours");
        assert!(matches!(SocketFile::listen_locked(&path).await, Err(SocketFileError::OpenFolder { mode: 0o750, .. })));
    }
}
