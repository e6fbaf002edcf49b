//! The file of a Unix socket: in a folder of this process's user that nobody else may enter, mode 0600, and never taken from a process that lives.
//!
//! Beside the socket lies a lock file, held for as long as the server lives: the system lets go of it however a process ends, so
//! a socket without a holder is a dead one's, and is replaced. Two that start at once cannot both believe so.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::address::Address;
use crate::error::LinkError;

/// A socket's file. Removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    _lock: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Still locked, so it is ours.
        let _ = fs::remove_file(&self.path);
    }
}

/// Connects to the socket `path`, if it is held by this process's user or by root: whoever else holds it would be told all calls.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    let (holder, user) = (stream.peer_cred()?.uid(), user());
    if is_trusted(holder, user) {
        return Ok(stream);
    }
    Err(io::Error::other(format!("its socket is held by user {holder}, and this process's is {user}")))
}

fn is_trusted(holder: u32, user: u32) -> bool {
    holder == user || holder == 0
}

/// This process's effective user.
fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Listens on the socket `path`.
pub(crate) fn listen(path: &Path) -> Result<(UnixListener, SocketFile), LinkError> {
    let address = Address::Unix(path.to_owned());
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => LinkError::InUse { address: address.clone() },
        io::ErrorKind::PermissionDenied => LinkError::NotAllowed { address: address.clone(), source },
        _ => LinkError::Listen { address: address.clone(), source },
    };
    let folder = match (path.parent(), path.file_name()) {
        (Some(folder), Some(_)) if path.is_absolute() => folder,
        _ => return Err(LinkError::Address { text: address.to_string(), problem: "it is no file's absolute path" }),
    };
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let metadata = fs::metadata(folder).map_err(failed)?;
    let (owner, user) = (metadata.uid(), user());
    if owner != user {
        return Err(LinkError::ForeignFolder { folder: folder.to_owned(), owner, user });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(LinkError::OpenFolder { folder: folder.to_owned(), mode });
    }
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock_path);
    let lock = lock.map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(LinkError::InUse { address }),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(LinkError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {
            // Another program's, which knows no lock?
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(LinkError::InUse { address });
            }
            fs::remove_file(path).map_err(failed)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok((listener, SocketFile { path: path.to_owned(), _lock: lock }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_own_user_hold_sockets_for_us() {
        let trusted = [(7, 7), (0, 7), (0, 0), (8, 7), (7, 0)].map(|(holder, user)| is_trusted(holder, user));
        assert_eq!(trusted, [true, true, true, false, false]);
    }
}
