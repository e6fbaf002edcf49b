//! Listening, connections and their limits, and stopping without hurting anyone.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use isomer_observe::Log;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::deadline::{self, WatchedTasks};
use crate::door::Door;
use crate::idle::{Traffic, idle};
use crate::service::Service;
use crate::socket::{Opening, Socket};
use crate::tls::{Certificates, Secured};

/// What the front door takes on. Reaching one is answered or closed, never waited for without end.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections. Further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Requests that are being served. Further ones are answered with 503.
    pub requests_max: usize,
    /// Header fields of a request.
    pub headers_max: usize,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// For the whole of a TLS handshake.
    pub handshake_timeout: Duration,
    /// From the moment a connection waits for a request until its head is complete: slow heads and idle connections.
    pub head_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_timeout: Duration,
    /// How long a client may not read while there is something to write.
    pub write_timeout: Duration,
    /// Streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// How long a request waits for an app that has to come from disk.
    pub load_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            requests_max: 4_096,
            headers_max: 100,
            head_bytes_max: 64 << 10,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            streams_max: 128,
            load_timeout: Duration::from_secs(30),
        }
    }
}

/// Bytes of a request's body that the server holds while nobody reads them: the window of a stream, or what is read from a connection
/// of HTTP/1.1 at once. Charged to the account of the app that the request is for.
pub(crate) const BODY_WINDOW_BYTES: usize = 64 << 10;

/// The same for all streams of a connection together: what a connection can make the server hold whatever becomes of its requests.
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;

/// Bytes of a response that wait for a stream's client. Charged with the response.
const SEND_BUFFER_BYTES: usize = 32 << 10;

/// Why the front door does not open.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// Someone else listens there.
    #[error("cannot listen on `{address}`: another process does")]
    InUse {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// An open front door: one listener or several, with TLS or without.
pub struct Front {
    listeners: Vec<Listener>,
    service: Arc<Service>,
    limits: Limits,
}

struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Certificates>>,
}

impl Listener {
    fn new(socket: std::net::TcpListener, tls: Option<Arc<Certificates>>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, tls })
    }
}

/// Listens on `address`, with a socket that another process can be given: who holds it decides who answers, and connections
/// wait in the kernel's queue while nobody does.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn bind(address: SocketAddr) -> Result<std::net::TcpListener, FrontError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => FrontError::InUse { address },
        _ => FrontError::Listen { address, source },
    };
    TcpListener::bind(address).await.and_then(TcpListener::into_std).map_err(failed)
}

impl Front {
    /// Starts listening: `door` says who serves what comes. Connections are taken when [`Front::serve`] runs; until then they wait in the kernel's queue.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn listen(
        address: SocketAddr,
        limits: Limits,
        door: Arc<dyn Door>,
        log: Log,
    ) -> Result<Self, FrontError> {
        let listener = bind(address).await?;
        Self::on(listener, limits, door, log).map_err(|source| FrontError::Listen { address, source })
    }

    /// Opens the door on a socket that listens already, as [`bind`] makes it. Needs tokio's runtime.
    ///
    /// # Errors
    /// When it is no socket that listens.
    pub fn on(listener: std::net::TcpListener, limits: Limits, door: Arc<dyn Door>, log: Log) -> io::Result<Self> {
        Self::new(limits, door, log).and_on(listener, None)
    }

    /// A door that is nowhere yet: see [`Front::and_on`].
    #[must_use]
    pub fn new(limits: Limits, door: Arc<dyn Door>, log: Log) -> Self {
        let service = Service {
            door,
            log,
            requests: Arc::default(),
            requests_max: limits.requests_max,
            body_pace: limits.body_timeout,
            load_timeout: limits.load_timeout,
        };
        Self { listeners: Vec::new(), service: Arc::new(service), limits }
    }

    /// Opens the door on one more socket that listens already: with TLS where there are certificates. Needs tokio's runtime.
    ///
    /// # Errors
    /// When it is no socket that listens.
    pub fn and_on(mut self, listener: std::net::TcpListener, tls: Option<Arc<Certificates>>) -> io::Result<Self> {
        self.listeners.push(Listener::new(listener, tls)?);
        Ok(self)
    }

    /// Where it listens first: with the port that the system chose if 0 was asked for.
    ///
    /// # Panics
    /// When it listens nowhere.
    pub fn address(&self) -> SocketAddr {
        self.listeners.first().expect("a front door listens somewhere").address
    }

    /// Where it listens, in the order in which it was told so.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }

    /// Serves until `stop` resolves, then takes no more connections and lets what runs finish for up to `grace`.
    /// Returns how many connections were cut off at its end.
    pub async fn serve(self, stop: impl Future<Output = ()>, grace: Duration) -> usize {
        let places = Arc::new(Semaphore::new(self.limits.connections_max));
        let graceful = GracefulShutdown::new();
        // Connections hold receivers: those that are left when this function ends see that the sender is gone.
        let (cut_off, cut_off_seen) = watch::channel(());
        let connections = Arc::new(Connections {
            protocol: protocol(&self.limits),
            service: self.service,
            limits: self.limits.clone(),
            cut_off: cut_off_seen,
        });
        let mut stop = std::pin::pin!(stop);
        let mut turn = 0;
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listeners, &mut turn, &places) => accepted,
                () = &mut stop => break,
            };
            let Some((stream, tls, place)) = accepted else { continue };
            tokio::spawn(connections.clone().run(stream, tls, graceful.watcher(), place));
        }
        drop(self.listeners);
        let open = || self.limits.connections_max - places.available_permits();
        let left = match tokio::time::timeout(grace, graceful.shutdown()).await {
            Ok(()) => 0,
            Err(_) => open(),
        };
        drop(cut_off);
        left
    }
}

/// What all connections have in common.
struct Connections {
    protocol: auto::Builder<WatchedTasks>,
    service: Arc<Service>,
    limits: Limits,
    cut_off: watch::Receiver<()>,
}

impl Connections {
    /// Runs one connection to its end.
    async fn run(
        self: Arc<Self>,
        stream: TcpStream,
        tls: Option<Arc<Certificates>>,
        watcher: Watcher,
        place: OwnedSemaphorePermit,
    ) {
        let socket = Socket::new(stream, self.limits.write_timeout);
        let mut cut_off = self.cut_off.clone();
        tokio::select! {
            () = async {
                match tls {
                    None => self.speak(socket, None, watcher).await,
                    Some(certificates) => {
                        let handshake = TlsAcceptor::from(certificates.config.clone()).accept(socket);
                        match tokio::time::timeout(self.limits.handshake_timeout, handshake).await {
                            Ok(Ok(stream)) => {
                                let secured = Secured::new(stream.get_ref().1, &certificates);
                                self.speak(stream, Some(secured), watcher).await;
                            }
                            Ok(Err(error)) => tracing::debug!(%error, "no handshake"),
                            Err(_) => tracing::debug!("the handshake took too long"),
                        }
                    }
                }
            } => {}
            _ = cut_off.changed() => {}
        }
        drop(place);
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        secured: Option<Secured>,
        watcher: Watcher,
    ) {
        let traffic = Traffic::new(secured);
        // The service and the watch itself hold one.
        let idle = idle(traffic.clone(), 2, self.limits.head_timeout);
        let service = self.service.clone();
        let answer = service_fn(move |request| {
            let (service, connection) = (service.clone(), Traffic::begin(&traffic));
            async move { Ok::<_, std::convert::Infallible>(service.answer(request, connection).await) }
        });
        let stream = TokioIo::new(Opening::new(stream, self.limits.head_timeout));
        let connection = watcher.watch(self.protocol.serve_connection(stream, answer));
        tokio::select! {
            ended = deadline::watch(connection) => if let Some(Err(error)) = ended {
                tracing::debug!(error = &*error, "connection ended");
            },
            () = idle => tracing::debug!("connection was idle"),
        }
    }
}

fn protocol(limits: &Limits) -> auto::Builder<WatchedTasks> {
    let mut builder = auto::Builder::new(WatchedTasks);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(limits.headers_max)
        .max_buf_size(limits.head_bytes_max)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(Some(u32::try_from(BODY_WINDOW_BYTES).unwrap_or(u32::MAX)))
        .initial_connection_window_size(Some(CONNECTION_WINDOW_BYTES))
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.head_timeout)
        .keep_alive_timeout(limits.head_timeout);
    builder
}

/// The next connection of any listener, once there is a place for it. `None` after an error that passes. `turn` keeps a busy listener
/// from keeping the others waiting.
async fn accept(
    listeners: &[Listener],
    turn: &mut usize,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, Option<Arc<Certificates>>, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    *turn = turn.wrapping_add(1);
    let accepted = poll_fn(|cx| {
        for number in 0..listeners.len() {
            let listener = &listeners[turn.wrapping_add(number) % listeners.len()];
            if let Poll::Ready(accepted) = listener.socket.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| (stream, listener.tls.clone())));
            }
        }
        Poll::Pending
    });
    match accepted.await {
        Ok((stream, tls)) => {
            // Nagle's algorithm makes keep-alive clients wait for their own delayed acknowledgements.
            let _ = stream.set_nodelay(true);
            Some((stream, tls, place))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            // Most likely out of descriptors: they come back when connections end.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// How long to wait after a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
