//! Listening, the limits of connections, and stopping without hurting anyone.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use isomer_observe::Log;
use isomer_transport::{AcceptedTcp, IpNetwork, Limiter, ResourceShortage, TcpListeners, accept_until};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::connection::{Phase, Protocol};
use crate::door::Door;
use crate::places::{Connections, Places};
use crate::service::Service;
use crate::tls::Certificates;

/// What the front door takes on. Reaching one is answered or closed, never waited for without end.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections. For a further one, the connection is closed that has been without a request for the longest time; where all have
    /// one, the new one is.
    pub connections_max: usize,
    /// Open connections of one source: an IPv4 address, or the /64 of an IPv6 address. For a further one, one of its own is closed.
    pub connections_per_source_max: usize,
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
    /// How long the client of an idle connection may be silent when the front door stops: a request that it sent before it could know
    /// arrives in this time. Then the connection is closed.
    pub idle_grace: Duration,
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
            connections_per_source_max: Self::per_source(10_000),
            requests_max: 4_096,
            headers_max: 100,
            head_bytes_max: 64 << 10,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            idle_grace: Duration::from_secs(1),
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
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;

/// Bytes of a response that wait for a stream's client. Charged with the response.
pub(crate) const SEND_BUFFER_BYTES: usize = 32 << 10;

impl Limits {
    /// What one source may have of `connections_max` where nothing else is said: a quarter. Many clients behind one address have enough
    /// of it, and one source cannot have so many that others notice.
    #[must_use]
    pub fn per_source(connections_max: usize) -> usize {
        (connections_max / 4).max(1)
    }
}

/// Proxies in front of the front door.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Where they are. Their connections are not counted for their source, since they are of many clients, and what they say of a
    /// request's client in `X-Forwarded-For` or `Forwarded` is believed.
    pub trusted: Vec<IpNetwork>,
    /// Do they say whose each connection is, by the PROXY protocol? Then it is counted for that source, and a connection of theirs that
    /// does not begin with it is closed.
    pub proxy_protocol: bool,
}

impl Proxies {
    /// Does a connection from `address` begin with the PROXY protocol?
    pub(crate) fn says_whose(&self, address: IpAddr) -> bool {
        self.proxy_protocol && self.trusts(address)
    }

    /// Is `address` one of them?
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

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
    listeners: TcpListeners<Option<Arc<Certificates>>>,
    service: Arc<Service>,
    limits: Limits,
    proxies: Proxies,
    places: Arc<Places>,
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
            requests: Limiter::new(limits.requests_max),
            headers_max: limits.headers_max,
            body_pace: limits.body_timeout,
            load_timeout: limits.load_timeout,
        };
        let places = Places::new(limits.connections_max, limits.connections_per_source_max, Vec::new());
        Self {
            listeners: TcpListeners::default(),
            service: Arc::new(service),
            limits,
            proxies: Proxies::default(),
            places,
        }
    }

    /// Trusts these proxies.
    #[must_use]
    pub fn behind(mut self, proxies: Proxies) -> Self {
        let (max, per_source_max) = (self.limits.connections_max, self.limits.connections_per_source_max);
        self.places = Places::new(max, per_source_max, proxies.trusted.clone());
        Self { proxies, ..self }
    }

    /// Opens the door on one more socket that listens already: with TLS where there are certificates. Needs tokio's runtime.
    ///
    /// # Errors
    /// When it is no socket that listens.
    pub fn and_on(mut self, listener: std::net::TcpListener, tls: Option<Arc<Certificates>>) -> io::Result<Self> {
        self.listeners.push(listener, tls, false)?;
        Ok(self)
    }

    /// As [`Front::and_on`], with a socket that another process holds and goes on with, as a service manager does: when the front door
    /// stops, connections that it has not taken are left to that process.
    ///
    /// # Errors
    /// When it is no socket that listens.
    pub fn and_on_shared(
        mut self,
        listener: std::net::TcpListener,
        tls: Option<Arc<Certificates>>,
    ) -> io::Result<Self> {
        self.listeners.push(listener, tls, true)?;
        Ok(self)
    }

    /// Where it listens first: with the port that the system chose if 0 was asked for.
    ///
    /// # Panics
    /// When it listens nowhere.
    pub fn address(&self) -> SocketAddr {
        self.listeners.addresses().next().expect("a front door listens somewhere")
    }

    /// Where it listens, in the order in which it was told so.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses().collect()
    }

    /// Counts its connections, while it serves and after.
    pub fn connections(&self) -> Connections {
        Connections(self.places.clone())
    }

    /// Serves until `stop` resolves, then takes the connections that the kernel has made already, answers what clients have sent, tells
    /// them that it is the last answer, and closes: all within `grace`. Returns how many connections were cut off at its end.
    pub async fn serve(self, stop: impl Future<Output = ()>, grace: Duration) -> usize {
        let Self { mut listeners, service, limits, proxies, places } = self;
        let idle_grace = limits.idle_grace;
        let (phase, seen) = watch::channel(Phase::Serving);
        let protocol = Protocol::new(service, limits, proxies, seen);
        let serve = |accepted: AcceptedTcp<_>| match places.take(accepted.peer.ip()) {
            Some(place) => drop(tokio::spawn(protocol.clone().run(accepted, place))),
            None => tracing::debug!(peer = %accepted.peer, "a connection was refused: there is no place for it"),
        };
        // Connections that are accepted after the stop are told that their next response is the last one.
        accept_until(&mut listeners, stop, &mut ResourceShortage::closing(|| places.evict_any()), serve).await;
        phase.send_replace(Phase::Draining);
        let finished = async {
            // Idle connections are closed in order when their clients have been silent for `idle_grace`, which frees their descriptors.
            // Only those that do not end so are closed before their time.
            let mut shortage = ResourceShortage::closing_after(idle_grace.saturating_mul(3), || places.evict_any());
            listeners.drain(&mut shortage, serve).await;
            places.all_free().await;
        };
        let left = match tokio::time::timeout(grace, finished).await {
            Ok(()) => 0,
            Err(_) => places.counts().open,
        };
        phase.send_replace(Phase::CutOff);
        left
    }
}
