//! The listener of the admin API, and the identities of the clients that connect to it.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use isomer_transport::{Acceptor, SocketFile, SocketFileError, socket_file};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::address::AdminAddress;
use crate::audit::Requester;

/// The reason why the admin API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is refused, because other machines can reach it. They could guess tokens and read the traffic.
    #[error(
        "refused to serve the admin API on `{address}`: other machines can reach this address, and the API is not encrypted"
    )]
    Remote {
        /// The refused address.
        address: AdminAddress,
    },
    /// Another process listens on the address.
    #[error("the admin API cannot listen on `{address}`: the address is already in use")]
    InUse {
        /// The address that is in use.
        address: AdminAddress,
    },
    /// A file that is not a socket exists at the path of the Unix socket.
    #[error("the admin API cannot listen on `{address}`: the path is a file that is not a socket")]
    NoSocket {
        /// The address of the Unix socket.
        address: AdminAddress,
    },
    /// The operating system refused to listen on the address, with an error other than "address already in use".
    #[error("the admin API cannot listen on `{address}`")]
    Io {
        /// The address on which the admin API cannot listen.
        address: AdminAddress,
        /// The operating system's error.
        source: io::Error,
    },
}

/// The listening socket of the admin API.
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// A Unix socket. Dropping the listener removes the socket's file, unless a service manager created the file.
    Unix {
        listener: UnixListener,
        _file: Option<SocketFile>,
    },
}

/// A listening socket from a service manager. The service manager keeps the socket open when this process exits.
#[derive(Debug)]
pub enum AdminSocket {
    /// A TCP socket.
    Tcp(std::net::TcpListener),
    /// A Unix socket. The service manager owns its file.
    Unix(std::os::unix::net::UnixListener),
}

/// The stream of an accepted connection.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Listens on `address`. Refuses an address that other machines can reach, unless `remote` is true.
    ///
    /// # Errors
    /// If the address is refused, or listening fails.
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
                let (listener, file) = SocketFile::listen(path).await.map_err(|error| match error {
                    SocketFileError::InUse => ListenError::InUse { address: address.clone() },
                    SocketFileError::NotASocket => ListenError::NoSocket { address: address.clone() },
                    SocketFileError::Io(source) => failed(source),
                    other => failed(io::Error::other(other)),
                })?;
                let address = AdminAddress::Unix(file.path().to_owned());
                Ok((Self::Unix { listener, _file: Some(file) }, address))
            }
        }
    }

    /// Listens on a socket from a service manager. Refuses a socket that other machines can reach, unless `remote` is
    /// true.
    ///
    /// # Errors
    /// If the socket is refused, or does not listen.
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
}

impl Acceptor for Listener {
    type Connection = (Stream, Requester);

    /// Waits for the next connection. Returns its stream and the identity of its client.
    async fn accept(&mut self) -> io::Result<(Stream, Requester)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Requester { peer: Some(peer), ..Requester::default() }))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                if !socket_file::is_trusted_user(peer.uid()) {
                    let user = peer.uid();
                    return Err(io::Error::new(
                        io::ErrorKind::PermissionDenied,
                        format!("user {user} is not permitted"),
                    ));
                }
                Ok((Stream::Unix(stream), Requester { uid: Some(peer.uid()), pid: peer.pid(), ..Requester::default() }))
            }
        }
    }
}

/// Calls the same method on the TCP stream or the Unix stream of `self`.
macro_rules! on_stream {
    ($self:ident, $call:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).$call($($argument),*),
            Self::Unix(stream) => Pin::new(stream).$call($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(address: &AdminAddress) -> ListenError {
        match Listener::open(address, false).await {
            Err(error) => error,
            Ok(_) => panic!("the listener was opened"),
        }
    }

    #[tokio::test]
    async fn a_remote_address_needs_the_setting() {
        for text in ["0.0.0.0:0", "[::]:0"] {
            let address: AdminAddress = text.parse().unwrap();
            assert!(matches!(refused(&address).await, ListenError::Remote { .. }), "{text}");
        }
        assert!(Listener::open(&"0.0.0.0:0".parse().unwrap(), true).await.is_ok());
    }

    #[tokio::test]
    async fn an_address_in_use_is_reported() {
        let (_kept, bound) = Listener::open(&"127.0.0.1:0".parse().unwrap(), false).await.unwrap();
        assert!(matches!(refused(&bound).await, ListenError::InUse { .. }));
    }

    #[tokio::test]
    async fn the_user_at_the_other_end_of_a_socket_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let address = AdminAddress::Unix(dir.path().join("admin.sock"));
        let (mut listener, _) = Listener::open(&address, false).await.unwrap();
        assert!(matches!(refused(&address).await, ListenError::InUse { .. }));
        let stream = UnixStream::connect(dir.path().join("admin.sock"));
        let (accepted, stream) = tokio::join!(listener.accept(), stream);
        let (_, who) = accepted.unwrap();
        assert_eq!(who.uid, Some(socket_file::current_user()));
        assert_eq!(who.pid, Some(std::process::id().cast_signed()));
        drop(stream);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(matches!(refused(&AdminAddress::Unix(path)).await, ListenError::NoSocket { .. }));
    }
}
