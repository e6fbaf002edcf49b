//! Where the admin API listens, and who connects.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::address::AdminAddress;
use crate::audit::Who;

/// Why the admin API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Anybody who reaches this machine could try tokens, and read what is said.
    #[error("the admin API would listen on `{address}`, which others can reach, and it speaks without encryption")]
    Remote {
        /// Where it was to listen.
        address: AdminAddress,
    },
    /// Someone else listens there.
    #[error("the admin API cannot listen on `{address}`: another process does")]
    InUse {
        /// Where it was to listen.
        address: AdminAddress,
    },
    /// There is something else at the socket's path.
    #[error("the admin API cannot listen on `{address}`: there is a file, and it is no socket")]
    NoSocket {
        /// Where it was to listen.
        address: AdminAddress,
    },
    /// Anything else.
    #[error("the admin API cannot listen on `{address}`")]
    Io {
        /// Where it was to listen.
        address: AdminAddress,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that listens.
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// The file is removed with it.
    Unix {
        listener: UnixListener,
        _file: Option<SocketFile>,
    },
}

/// A socket that listens already: a service manager's, which goes on listening after this process.
#[derive(Debug)]
pub enum AdminSocket {
    /// Of TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket. Its file is the service manager's.
    Unix(std::os::unix::net::UnixListener),
}

/// A connection.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The file of a Unix socket. It is removed with this, if it is still the same.
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Listener {
    /// Listens; also on an address that others reach if `remote`.
    ///
    /// # Errors
    /// When it cannot, or must not.
    pub(crate) async fn open(address: &AdminAddress, remote: bool) -> Result<(Self, AdminAddress), ListenError> {
        if !address.is_local() && !remote {
            return Err(ListenError::Remote { address: address.clone() });
        }
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse { address: address.clone() },
            _ => ListenError::Io { address: address.clone(), source },
        };
        match address {
            AdminAddress::Tcp(wanted) => {
                let listener = TcpListener::bind(wanted).await.map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                Ok((Self::Tcp(listener), AdminAddress::Tcp(bound)))
            }
            AdminAddress::Unix(path) => {
                if !is_free(path).await.map_err(failed)? {
                    return Err(ListenError::NoSocket { address: address.clone() });
                }
                let listener = UnixListener::bind(path).map_err(failed)?;
                // Whoever connected before this is refused by its user, as everybody is.
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
                let inode = std::fs::metadata(path).map_err(failed)?.ino();
                let absolute = std::path::absolute(path).map_err(failed)?;
                let file = SocketFile { path: absolute.clone(), inode };
                Ok((Self::Unix { listener, _file: Some(file) }, AdminAddress::Unix(absolute)))
            }
        }
    }

    /// Listens on a service manager's socket; also where others reach it if `remote`.
    ///
    /// # Errors
    /// When it must not, or it is no socket that listens.
    pub(crate) fn inherited(socket: AdminSocket, remote: bool) -> Result<(Self, AdminAddress), ListenError> {
        let failed = |source| ListenError::Io { address: AdminAddress::default(), source };
        match socket {
            AdminSocket::Tcp(socket) => {
                let address = AdminAddress::Tcp(socket.local_addr().map_err(failed)?);
                if !address.is_local() && !remote {
                    return Err(ListenError::Remote { address });
                }
                socket.set_nonblocking(true).map_err(failed)?;
                Ok((Self::Tcp(TcpListener::from_std(socket).map_err(failed)?), address))
            }
            AdminSocket::Unix(socket) => {
                let path = socket.local_addr().map_err(failed)?.as_pathname().map(Path::to_owned).unwrap_or_default();
                socket.set_nonblocking(true).map_err(failed)?;
                let listener = UnixListener::from_std(socket).map_err(failed)?;
                Ok((Self::Unix { listener, _file: None }, AdminAddress::Unix(path)))
            }
        }
    }

    /// The next connection, and who is at its other end.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Who)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Who { peer: Some(peer), ..Who::default() }))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                let own = rustix::process::geteuid().as_raw();
                if peer.uid() != own && peer.uid() != 0 {
                    let user = peer.uid();
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {user} may not ask")));
                }
                Ok((Stream::Unix(stream), Who { uid: Some(peer.uid()), pid: peer.pid(), ..Who::default() }))
            }
        }
    }
}

/// Makes room for a socket: one that nobody listens on any more is removed. Not if there is anything else.
async fn is_free(path: &Path) -> io::Result<bool> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Ok(false);
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_own = std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode);
        if is_own {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(address: &AdminAddress) -> ListenError {
        match Listener::open(address, false).await {
            Err(error) => error,
            Ok(_) => panic!("it listens"),
        }
    }

    #[tokio::test]
    async fn others_reach_it_only_if_that_is_wanted() {
        for text in ["0.0.0.0:0", "[::]:0"] {
            let address: AdminAddress = text.parse().unwrap();
            assert!(matches!(refused(&address).await, ListenError::Remote { .. }), "{text}");
        }
        assert!(Listener::open(&"0.0.0.0:0".parse().unwrap(), true).await.is_ok());
    }

    #[tokio::test]
    async fn an_address_in_use_is_told() {
        let (_kept, bound) = Listener::open(&"127.0.0.1:0".parse().unwrap(), false).await.unwrap();
        assert!(matches!(refused(&bound).await, ListenError::InUse { .. }));
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_and_goes_away_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let address = AdminAddress::Unix(path.clone());
        let (listener, _) = Listener::open(&address, false).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(refused(&address).await, ListenError::InUse { .. }));
        drop(listener);
        assert!(!path.exists());
        // One that was left behind, as by a kill.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (listener, _) = Listener::open(&address, false).await.unwrap();
        let stream = UnixStream::connect(&path);
        let (accepted, stream) = tokio::join!(listener.accept(), stream);
        let (_, who) = accepted.unwrap();
        assert_eq!(who.uid, Some(rustix::process::geteuid().as_raw()));
        assert_eq!(who.pid, Some(std::process::id().cast_signed()));
        drop(stream);
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(matches!(refused(&AdminAddress::Unix(path.clone())).await, ListenError::NoSocket { .. }));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }
}
