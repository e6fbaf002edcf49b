//! The server: listening, limiting the number of connections, and draining.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use isomer_transport::{Acceptor, ResourceShortage, SocketFile, accept_until};
use isomer_wire::Callee;
use tokio::net::UnixListener;
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::address::{Address, InvalidLinkAddress};
use crate::error::LinkError;
use crate::limits::ServerLimits;
use crate::server_call::CallServer;
use crate::server_connection;
use crate::stream::LinkStream;
use crate::tls::{self, Tls};

/// A server of calls at one address.
pub struct Server {
    listener: Listener,
    address: Address,
    server: Arc<CallServer>,
}

enum Listener {
    Tcp(TcpListener, Option<TlsAcceptor>),
    /// A Unix socket. Its file is removed when this value is dropped.
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

impl Server {
    /// Starts listening. Uses mutual TLS if `tls` is set and the address is not a Unix socket. A Unix socket needs no
    /// TLS, because only processes of this process's user and of root can open it. Connections wait in the kernel's
    /// queue until [`Server::serve`] accepts them.
    pub async fn listen(
        address: &Address,
        tls: Option<&Tls>,
        limits: ServerLimits,
        callee: Arc<dyn Callee>,
    ) -> Result<Self, LinkError> {
        let (listener, address) = match address {
            Address::Unix(path) => {
                if !path.is_absolute() || path.file_name().is_none() {
                    let problem = "it is not the absolute path of a file";
                    return Err(InvalidLinkAddress { text: address.to_string(), problem }.into());
                }
                let listened = SocketFile::listen_locked(path).await;
                let (listener, file) = listened.map_err(|error| LinkError::from_socket(error, address))?;
                (Listener::Unix { listener, _file: file }, address.clone())
            }
            Address::Tcp { host, port } => {
                let listener = listen_tcp(address, host, *port, tls.is_none()).await?;
                let port = listener.local_addr().map_or(*port, |local| local.port());
                let acceptor = tls.map(|tls| TlsAcceptor::from(tls.server.clone()));
                (Listener::Tcp(listener, acceptor), Address::Tcp { host: host.clone(), port })
            }
        };
        Ok(Self { listener, address, server: Arc::new(CallServer::new(callee, limits)) })
    }

    /// Returns the address, with the port that the system chose for port 0.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Serves until `stop` resolves. Then accepts no further connections and calls, and gives running calls up to
    /// `grace` to finish. Returns the number of connections that were still open after `grace`; their calls are
    /// cancelled.
    pub async fn serve(self, stop: impl Future<Output = ()>, grace: Duration) -> usize {
        let permits = Arc::new(Semaphore::new(self.server.limits.connections_max));
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut acceptor = LinkAcceptor { listener: self.listener, permits };
        let serve = |(incoming, permit): (Incoming, OwnedSemaphorePermit)| {
            while connections.try_join_next().is_some() {}
            let (server, stopped) = (self.server.clone(), stopped.clone());
            connections.spawn(async move {
                let handshake = tokio::time::timeout(server.limits.handshake_timeout, incoming.secure());
                match handshake.await {
                    Ok(Ok(stream)) => server_connection::serve(stream, server, stopped).await,
                    Ok(Err(reason)) => isomer_telemetry::debug!(reason, "the TLS handshake with a peer failed"),
                    Err(_) => isomer_telemetry::debug!("a peer did not complete the TLS handshake in time"),
                }
                drop(permit);
            });
        };
        accept_until(&mut acceptor, stop, &mut ResourceShortage::waiting("link"), serve).await;
        drop(acceptor);
        stopping.send_replace(true);
        let _ = tokio::time::timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
        let cut_off = connections.len();
        connections.shutdown().await;
        cut_off
    }
}

async fn listen_tcp(address: &Address, host: &str, port: u16, is_clear: bool) -> Result<TcpListener, LinkError> {
    let cleartext = || LinkError::Cleartext { address: address.clone() };
    if is_clear && !address.is_local() {
        return Err(cleartext());
    }
    let found = lookup_host((host, port)).await;
    let found = found.map_err(|source| LinkError::Resolve { address: address.clone(), source })?;
    let found: Vec<SocketAddr> = found.filter(|found| !is_clear || found.ip().is_loopback()).collect();
    if found.is_empty() {
        return Err(cleartext());
    }
    TcpListener::bind(&*found).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => LinkError::InUse { address: address.clone() },
        io::ErrorKind::PermissionDenied => LinkError::NotAllowed { address: address.clone(), source },
        _ => LinkError::Listen { address: address.clone(), source },
    })
}

/// An accepted connection, before TLS.
enum Incoming {
    Clear(LinkStream),
    Tls(tokio::net::TcpStream, TlsAcceptor),
}

impl Incoming {
    async fn secure(self) -> Result<LinkStream, String> {
        match self {
            Self::Clear(stream) => Ok(stream),
            Self::Tls(stream, acceptor) => match acceptor.accept(stream).await {
                Ok(stream) => Ok(LinkStream::Tls(Box::new(TlsStream::Server(stream)))),
                Err(error) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                    Some(error) => tls::explain(error),
                    None => error.to_string(),
                }),
            },
        }
    }
}

/// A listener that accepts a connection only if a permit is available. Further connections wait in the kernel's queue.
struct LinkAcceptor {
    listener: Listener,
    permits: Arc<Semaphore>,
}

impl Acceptor for LinkAcceptor {
    type Connection = (Incoming, OwnedSemaphorePermit);

    async fn accept(&mut self) -> io::Result<Self::Connection> {
        let permit = self.permits.clone().acquire_owned().await.map_err(io::Error::other)?;
        let incoming = match &self.listener {
            Listener::Tcp(listener, acceptor) => {
                let (stream, _) = listener.accept().await?;
                // Nagle's algorithm would delay a reply until the previous one is acknowledged.
                let _ = stream.set_nodelay(true);
                match acceptor {
                    Some(acceptor) => Incoming::Tls(stream, acceptor.clone()),
                    None => Incoming::Clear(LinkStream::Tcp(stream)),
                }
            }
            Listener::Unix { listener, .. } => Incoming::Clear(LinkStream::Unix(listener.accept().await?.0)),
        };
        Ok((incoming, permit))
    }
}
