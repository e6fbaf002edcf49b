//! The front door: its listeners, serving, and draining.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use isomer_observe::Log;
use isomer_telemetry::metrics::Metrics;
use isomer_transport::{AcceptedTcp, ResourceShortage, TcpListeners, accept_until};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::connection::{ConnectionServer, Phase};
use crate::handler::Handler;
use crate::limits::Limits;
use crate::pipeline::Pipeline;
use crate::proxies::Proxies;
use crate::registry::{ConnectionRegistry, Connections, OwnConnections};
use crate::resolver::SiteResolver;
use crate::tls::Certificates;

/// The reason why a front door cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// Another process listens on the address.
    #[error("cannot listen on `{address}`: the address is already in use")]
    InUse {
        /// The address of the listener.
        address: SocketAddr,
    },
    /// The operating system refused to listen on the address, with an error other than "address already in use".
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address of the listener.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

/// A front door: one listener or several, with or without TLS, for the apps of a [`SiteResolver`].
pub struct Front<H: Handler> {
    listeners: TcpListeners<Option<Arc<Certificates>>>,
    pipeline: Pipeline<H>,
    limits: Limits,
    proxies: Proxies,
    registry: Arc<ConnectionRegistry>,
    metrics: Option<Metrics>,
}

/// Listens on `address`. Returns a socket that can be passed to another process. Connections wait in the kernel's queue
/// until a process accepts them.
///
/// # Errors
/// If listening on `address` fails.
pub async fn bind(address: SocketAddr) -> Result<std::net::TcpListener, FrontError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => FrontError::InUse { address },
        _ => FrontError::Listen { address, source },
    };
    TcpListener::bind(address).await.and_then(TcpListener::into_std).map_err(failed)
}

impl<H: Handler> Front<H> {
    /// Creates a front door that listens on `address`. Connections wait in the kernel's queue until [`Front::serve`]
    /// runs.
    ///
    /// # Errors
    /// If listening on `address` fails.
    pub async fn listen(
        address: SocketAddr,
        limits: Limits,
        resolver: Arc<dyn SiteResolver<H>>,
        log: Log,
    ) -> Result<Self, FrontError> {
        let listener = bind(address).await?;
        Self::from_listener(listener, limits, resolver, log).map_err(|source| FrontError::Listen { address, source })
    }

    /// Creates a front door from a listening socket, such as [`bind`] returns. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If `listener` cannot be registered with the tokio runtime.
    pub fn from_listener(
        listener: std::net::TcpListener,
        limits: Limits,
        resolver: Arc<dyn SiteResolver<H>>,
        log: Log,
    ) -> io::Result<Self> {
        Self::new(limits, resolver, log).with_listener(listener, None)
    }

    /// Creates a front door without a listener. Add listeners with [`Front::with_listener`].
    #[must_use]
    pub fn new(limits: Limits, resolver: Arc<dyn SiteResolver<H>>, log: Log) -> Self {
        let registry = ConnectionRegistry::new(limits.connections_max, limits.connections_per_source_max, Vec::new());
        let metrics = resolver.metrics().cloned();
        if let Some(metrics) = &metrics {
            registry.report_to(metrics);
        }
        Self {
            listeners: TcpListeners::default(),
            pipeline: Pipeline::new(&limits, resolver, log),
            metrics,
            limits,
            proxies: Proxies::default(),
            registry,
        }
    }

    /// Sets the trusted proxies.
    #[must_use]
    pub fn with_proxies(mut self, proxies: Proxies) -> Self {
        let (max, per_source_max) = (self.limits.connections_max, self.limits.connections_per_source_max);
        self.registry = ConnectionRegistry::new(max, per_source_max, proxies.trusted.clone());
        if let Some(metrics) = &self.metrics {
            self.registry.report_to(metrics);
        }
        Self { proxies, ..self }
    }

    /// Adds a listening socket. Uses TLS if `tls` is set. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If `listener` cannot be registered with the tokio runtime.
    pub fn with_listener(
        mut self,
        listener: std::net::TcpListener,
        tls: Option<Arc<Certificates>>,
    ) -> io::Result<Self> {
        self.listeners.push(listener, tls, false)?;
        Ok(self)
    }

    /// Adds a listening socket that another process, such as a service manager, also holds. When the front door drains,
    /// it leaves the connections that it has not accepted to the other process.
    ///
    /// # Errors
    /// If `listener` cannot be registered with the tokio runtime.
    pub fn with_shared_listener(
        mut self,
        listener: std::net::TcpListener,
        tls: Option<Arc<Certificates>>,
    ) -> io::Result<Self> {
        self.listeners.push(listener, tls, true)?;
        Ok(self)
    }

    /// Returns the address of the first listener, with the port that the system chose for port 0.
    ///
    /// # Panics
    /// If there is no listener.
    pub fn address(&self) -> SocketAddr {
        self.listeners.addresses().next().expect("a front door listens somewhere")
    }

    /// Returns the addresses of the listeners, in the order in which they were added.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses().collect()
    }

    /// Returns a handle to the statistics of connections, which can be read while the front door serves and later.
    pub fn connections(&self) -> Connections {
        Connections(self.registry.clone())
    }

    /// Counts the front door's connections together with those of the front door that `connections` belongs to: the
    /// limits apply to both together. Each drains until it has no connection of its own.
    #[must_use]
    pub fn with_connections(self, connections: &Connections) -> Self {
        Self { registry: connections.0.clone(), ..self }
    }

    /// Serves until `stop` resolves. Then accepts the connections that the kernel has already established, responds to
    /// the requests that clients have sent, notifies the clients that these are the last responses, and closes the
    /// connections. All this takes at most `grace`. Returns the number of connections that were still open after
    /// `grace`.
    pub async fn serve(self, stop: impl Future<Output = ()>, grace: Duration) -> usize {
        // `serve_until` first polls `cut_off` when `stop` has resolved.
        self.serve_until(stop, async { tokio::time::sleep(grace).await }).await
    }

    /// Serves like [`Front::serve`], except that the connections that are still open are closed when `cut_off` resolves.
    /// `cut_off` is not polled before `stop` has resolved.
    pub async fn serve_until(self, stop: impl Future<Output = ()>, cut_off: impl Future<Output = ()>) -> usize {
        self.serve_until_handed_over(stop, std::future::pending(), cut_off).await
    }

    /// Serves like [`Front::serve_until`], and ends the streams of server-sent events when `handed_over` resolves. Their
    /// clients then connect to the front door that takes over. `handed_over` is not polled before `stop` has resolved.
    pub async fn serve_until_handed_over(
        self,
        stop: impl Future<Output = ()>,
        handed_over: impl Future<Output = ()>,
        cut_off: impl Future<Output = ()>,
    ) -> usize {
        let Self { mut listeners, pipeline, limits, proxies, registry, metrics: _ } = self;
        let idle_grace = limits.idle_grace;
        let (phase, observed) = watch::channel(Phase::Serving);
        let server = ConnectionServer::new(pipeline, limits, proxies, observed);
        let own = OwnConnections::default();
        let serve = |accepted: AcceptedTcp<_>| match registry.accept(accepted.peer.ip()) {
            Some(permit) => {
                let (counted, connection) = (own.begin(), server.clone().run(accepted, permit));
                drop(tokio::spawn(async move {
                    let _counted = counted;
                    connection.await;
                }));
            }
            None => {
                tracing::debug!(peer = %accepted.peer, "a connection was refused because too many connections are open")
            }
        };
        // Clients whose connections are accepted after `stop` are also notified that their next response is the last
        // one.
        accept_until(
            &mut listeners,
            stop,
            &mut ResourceShortage::closing("front door", || registry.evict_any()),
            serve,
        )
        .await;
        phase.send_replace(Phase::Draining);
        let finished = async {
            // Draining frees file descriptors: an idle connection is closed gracefully after its client has been silent
            // for `idle_grace`. Only if too few descriptors are free even after three times `idle_grace`, connections
            // are closed without waiting for this silence.
            let mut shortage =
                ResourceShortage::closing_after("front door", idle_grace.saturating_mul(3), || registry.evict_any());
            listeners.drain(&mut shortage, serve).await;
            own.wait_none().await;
        };
        let handing_over = async {
            handed_over.await;
            phase.send_replace(Phase::HandingOver);
            std::future::pending::<()>().await;
        };
        let left = tokio::select! {
            () = finished => 0,
            () = handing_over => 0,
            () = cut_off => own.count(),
        };
        phase.send_replace(Phase::CutOff);
        left
    }
}
