//! The server of the admin API: its connections and their limits, and shutting down without cutting off an action.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use isomer_transport::{ResourceShortage, WriteTimeout, accept_until};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::address::AdminAddress;
use crate::admin::Admin;
use crate::audit::{AuditLog, Requester};
use crate::connection_registry::{ClientSource, ConnectionRegistry};
use crate::guard::Guard;
use crate::listener::{AdminSocket, ListenError, Listener, Stream};
use crate::operations;
use crate::refusals::Refusals;
use crate::service::{ACTIONS_MAX, ConnectionPeer, Service};
use crate::tenant_limits::{REQUESTS_OF_TENANTS_MAX, TenantLimits};
use crate::token::Token;

/// The limits of an admin API.
#[derive(Debug, Clone)]
pub struct AdminLimits {
    /// The maximum number of open connections on which a request was accepted. If all of them have a request in
    /// progress, a request on a further connection waits.
    pub connections_max: usize,
    /// The maximum time that such a request waits.
    pub permit_timeout: Duration,
    /// The maximum number of open connections on which no request was accepted. When it is reached, one of them is
    /// closed for a new one.
    pub unauthenticated_max: usize,
    /// The maximum time that a connection may be open on which no request was accepted.
    pub unauthenticated_timeout: Duration,
    /// Header fields of a request.
    pub headers_max: usize,
    /// The maximum size of a request's head in bytes.
    pub head_bytes_max: usize,
    /// The maximum time from the moment a connection waits for a request until the request's head is complete.
    pub head_timeout: Duration,
    /// The maximum time between two pieces of an upload, and for the whole of any other body.
    pub body_timeout: Duration,
    /// The maximum time that a client may read nothing while data waits to be sent to it.
    pub write_timeout: Duration,
    /// The maximum time that running actions may take to finish when the server shuts down.
    pub grace: Duration,
}

/// The default of [`AdminLimits::connections_max`].
const CONNECTIONS_MAX: usize = 128;

/// The default of [`AdminLimits::unauthenticated_max`].
const UNAUTHENTICATED_MAX: usize = 64;

/// The maximum time that a connection which is closed to make room may take to write the rest of a response.
const EVICTED_MAX: Duration = Duration::from_secs(1);

const _: () = assert!(REQUESTS_OF_TENANTS_MAX < CONNECTIONS_MAX, "the node's admins have connections left");

impl Default for AdminLimits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            permit_timeout: Duration::from_secs(30),
            unauthenticated_max: UNAUTHENTICATED_MAX,
            unauthenticated_timeout: Duration::from_secs(5),
            headers_max: 64,
            head_bytes_max: 32 << 10,
            head_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(30),
        }
    }
}

/// An admin API that listens. Connections wait in the kernel's queue until it serves.
pub struct AdminServer {
    listener: Listener,
    address: AdminAddress,
}

/// The dependencies of an admin API.
pub struct AdminService {
    /// The node.
    pub admin: Arc<dyn Admin>,
    /// The node's token.
    pub token: Token,
    /// The audit log.
    pub audit: AuditLog,
    /// Host names of the API, in addition to addresses and `localhost`.
    pub hosts: Vec<String>,
    /// The limits.
    pub limits: AdminLimits,
}

impl AdminServer {
    /// Listens on `address`. An address that other machines can reach is refused unless `remote`.
    ///
    /// # Errors
    /// When listening on it fails.
    pub async fn listen(address: &AdminAddress, remote: bool) -> Result<Self, ListenError> {
        let (listener, address) = Listener::open(address, remote).await?;
        Ok(Self { listener, address })
    }

    /// Uses a socket that a service manager also holds. A socket that other machines can reach is refused unless
    /// `remote`. Needs tokio's runtime.
    ///
    /// # Errors
    /// When listening on it fails.
    pub fn from_socket(socket: AdminSocket, remote: bool) -> Result<Self, ListenError> {
        let (listener, address) = Listener::inherited(socket, remote)?;
        Ok(Self { listener, address })
    }

    /// Returns the address, with the port that the system chose for port 0.
    #[must_use]
    pub fn address(&self) -> &AdminAddress {
        &self.address
    }

    /// Serves until `stop` resolves, then accepts no further request and lets running actions finish within
    /// [`AdminLimits::grace`].
    pub async fn serve(self, service: AdminService, stop: impl Future<Output = ()>) {
        let AdminService { admin, token, audit, hosts, limits } = service;
        let (running, watched) = watch::channel(());
        let actions = Arc::new(Semaphore::new(ACTIONS_MAX));
        let service = Arc::new(Service {
            operations: operations::all(),
            admin,
            guard: Guard::new(token, hosts),
            audit,
            refusals: Refusals::new(),
            tenant_limits: TenantLimits::default(),
            actions: AtomicU64::new(1),
            body_pace: limits.body_timeout,
            action_permits: actions.clone(),
            running: watched,
        });
        let mut protocol = http1::Builder::new();
        protocol
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_headers(limits.headers_max)
            .max_buf_size(limits.head_bytes_max);
        let connections =
            ConnectionRegistry::new(limits.connections_max, limits.unauthenticated_max, limits.permit_timeout);
        // Each connection has a sender, so the channel closes with the last connection.
        let (open, mut none_open) = mpsc::channel::<Infallible>(1);
        let (stopping, stopping_seen) = watch::channel(());
        let (cut_off, cut_off_seen) = watch::channel(());
        let mut listener = self.listener;
        let serve = |(stream, who): (Stream, Requester)| {
            let Some(permit) = connections.enter(ClientSource::of(&who)) else { return };
            let service = service.clone();
            let connection_permit = permit.clone();
            let answer = service_fn(move |mut request| {
                let service = service.clone();
                request.extensions_mut().insert(ConnectionPeer(who.clone()));
                request.extensions_mut().insert(connection_permit.clone());
                async move { Ok::<_, Infallible>(service.call(request).await) }
            });
            let socket = TokioIo::new(WriteTimeout::new(stream, limits.write_timeout));
            let connection = protocol.serve_connection(socket, answer);
            let (mut cut_off, mut stopping, open) = (cut_off_seen.clone(), stopping_seen.clone(), open.clone());
            tokio::spawn(async move {
                let _open = open;
                let mut connection = pin!(connection);
                let mut late = pin!(tokio::time::sleep(limits.unauthenticated_timeout));
                let (mut is_known, mut is_evicted, mut is_stopping) = (false, false, false);
                loop {
                    tokio::select! {
                        ended = &mut connection => {
                            if let Err(error) = ended {
                                tracing::debug!(%error, "a connection of the admin API ended");
                            }
                            break;
                        }
                        _ = cut_off.changed() => break,
                        _ = stopping.changed(), if !is_stopping => {
                            is_stopping = true;
                            connection.as_mut().graceful_shutdown();
                        }
                        was_unauthenticated = permit.evicted(), if !is_evicted => {
                            if was_unauthenticated {
                                break;
                            }
                            is_evicted = true;
                            connection.as_mut().graceful_shutdown();
                            late.as_mut().reset(Instant::now() + EVICTED_MAX);
                        }
                        () = &mut late, if is_evicted || !is_known => {
                            if is_evicted || permit.is_unauthenticated() {
                                break;
                            }
                            is_known = true;
                        }
                    }
                }
            });
        };
        accept_until(&mut listener, stop, &mut ResourceShortage::waiting("admin API"), serve).await;
        drop(open);
        drop(listener);
        // Ends responses that follow a log.
        drop(running);
        let finished = async {
            // All permits are free when no action is running.
            let _ = actions.acquire_many(ACTIONS_MAX as u32).await;
            drop(stopping);
            let _ = none_open.recv().await;
        };
        if tokio::time::timeout(limits.grace, finished).await.is_err() {
            tracing::warn!("actions of admins were cut off when their time to finish was over");
        }
        drop(cut_off);
    }
}
