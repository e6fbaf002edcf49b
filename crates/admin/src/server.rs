//! The server of the admin API: its connections, their limits, and a shutdown that lets running actions finish.

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
use crate::app_api::AppApi;
use crate::app_operations;
use crate::audit::{AuditLog, Requester};
use crate::connection_registry::{ClientSource, ConnectionRegistry};
use crate::dashboard_access::{AdminDashboard, DashboardLinks};
use crate::guard::Guard;
use crate::listener::{AdminSocket, ListenError, Listener, Stream};
use crate::openapi;
use crate::operation::Operation;
use crate::operations;
use crate::refusals::Refusals;
use crate::service::{ACTIONS_MAX, ConnectionPeer, Service};
use crate::tenant_limits::{REQUESTS_OF_TENANTS_MAX, TenantLimits};
use crate::token::Token;

/// The limits of an admin API.
#[derive(Debug, Clone)]
pub struct AdminLimits {
    /// The maximum number of open connections on which a request has been accepted. If all of them have a request in
    /// progress, an accepted request on another connection waits.
    pub connections_max: usize,
    /// The maximum time that an accepted request waits because of `connections_max`.
    pub permit_timeout: Duration,
    /// The maximum number of open connections on which no request has been accepted. At the maximum, the server closes
    /// one of them for each new connection.
    pub unauthenticated_max: usize,
    /// The maximum time that a connection may stay open without an accepted request.
    pub unauthenticated_timeout: Duration,
    /// The maximum number of header fields of a request.
    pub headers_max: usize,
    /// The maximum size in bytes of a request's head.
    pub head_bytes_max: usize,
    /// The maximum time that a connection may wait for the complete head of its next request.
    pub head_timeout: Duration,
    /// For an upload, the maximum time between two chunks of the body. For other requests, the maximum time until the
    /// whole body has arrived.
    pub body_timeout: Duration,
    /// The maximum time that a client may read no data while the server has data to send.
    pub write_timeout: Duration,
    /// The maximum time that a shutdown waits for running actions.
    pub grace: Duration,
}

/// The default of [`AdminLimits::connections_max`].
const CONNECTIONS_MAX: usize = 128;

/// The default of [`AdminLimits::unauthenticated_max`].
const UNAUTHENTICATED_MAX: usize = 64;

/// If the registry closes a connection to make room for a new one, the connection has this time to finish its response.
const EVICTED_MAX: Duration = Duration::from_secs(1);

const _: () = assert!(REQUESTS_OF_TENANTS_MAX < CONNECTIONS_MAX, "connections are reserved for the node's admins");

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

/// The open listener of an admin API. Until [`AdminServer::serve`] is called, connections wait in the kernel's queue.
pub struct AdminServer {
    listener: Listener,
    address: AdminAddress,
    dashboard: Arc<AdminDashboard>,
}

/// The parts that an admin API needs to serve requests. `A` is `dyn Admin` for a node, and `dyn AppApi` for a process
/// that serves one app.
pub struct AdminService<A: ?Sized = dyn Admin> {
    /// The node or process whose operations the API calls.
    pub admin: Arc<A>,
    /// The process's own token.
    pub token: Token,
    /// The audit log; `None` if the API has no operation that changes something.
    pub audit: Option<AuditLog>,
    /// The host names under which clients may call the API, in addition to IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// The limits on connections, requests and times.
    pub limits: AdminLimits,
}

impl AdminServer {
    /// Listens on `address`. Refuses an address that other machines can reach, unless `remote` is true.
    ///
    /// # Errors
    /// If the address is refused, or listening fails.
    pub async fn listen(address: &AdminAddress, remote: bool) -> Result<Self, ListenError> {
        let (listener, address) = Listener::open(address, remote).await?;
        Ok(Self { listener, address, dashboard: Arc::default() })
    }

    /// Listens on a socket from a service manager. Refuses a socket that other machines can reach, unless `remote` is
    /// true. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// If the socket is refused, or does not listen.
    pub fn from_socket(socket: AdminSocket, remote: bool) -> Result<Self, ListenError> {
        let (listener, address) = Listener::inherited(socket, remote)?;
        Ok(Self { listener, address, dashboard: Arc::default() })
    }

    /// Returns the address at which the server listens. If port 0 was configured, the address has the actual port.
    #[must_use]
    pub fn address(&self) -> &AdminAddress {
        &self.address
    }

    /// Returns links to the dashboard of this server; `None` if browsers cannot connect to its address.
    #[must_use]
    pub fn dashboard(&self) -> Option<DashboardLinks> {
        DashboardLinks::new(&self.dashboard, &self.address)
    }

    /// Serves the operations of a node until `stop` resolves. Then accepts no more requests, and waits at most
    /// [`AdminLimits::grace`] for running actions.
    pub async fn serve(self, service: AdminService, stop: impl Future<Output = ()>) {
        self.serve_operations(operations::all(), service, stop).await;
    }

    /// Serves the operations of [`AppApi`] until `stop` resolves. Then accepts no more requests.
    pub async fn serve_app_api(self, service: AdminService<dyn AppApi>, stop: impl Future<Output = ()>) {
        self.serve_operations(app_operations::all(), service, stop).await;
    }

    async fn serve_operations<A: AppApi + ?Sized>(
        self,
        operations: Vec<Operation<A>>,
        service: AdminService<A>,
        stop: impl Future<Output = ()>,
    ) {
        let AdminService { admin, token, audit, hosts, limits } = service;
        let (running, watched) = watch::channel(());
        let actions = Arc::new(Semaphore::new(ACTIONS_MAX));
        let service = Arc::new(Service {
            document: openapi::document_of(&operations).to_string().into(),
            operations,
            admin,
            guard: Guard::new(token, hosts),
            audit,
            dashboard: self.dashboard,
            refusals: Refusals::new(),
            tenant_limits: TenantLimits::default(),
            actions: AtomicU64::new(1),
            body_timeout: limits.body_timeout,
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
        // Each connection holds a clone of the sender, so the channel is closed when the last connection ends.
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
        // Closing this channel ends the responses that follow a log.
        drop(running);
        let finished = async {
            // Wait for the running actions: each holds one of these permits.
            let _ = actions.acquire_many(ACTIONS_MAX as u32).await;
            drop(stopping);
            let _ = none_open.recv().await;
        };
        if tokio::time::timeout(limits.grace, finished).await.is_err() {
            tracing::warn!(
                "interrupted running actions, because they did not finish within the grace period of the shutdown"
            );
        }
        drop(cut_off);
    }
}
