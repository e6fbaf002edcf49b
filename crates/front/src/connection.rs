//! One connection: its client, its TLS handshake, its version of HTTP, its requests, and how it is closed.
//!
//! A draining front door does not close a connection on which the client may be sending a request. Over HTTP/1.1, the
//! next response has `connection: close`, and the connection ends after that response. An idle connection is closed
//! after the client has been silent for [`Limits::idle_grace`]. Over HTTP/2, the peer receives GOAWAY. The requests
//! that it had already sent are served, then the connection ends. Handshakes in progress are finished. Hyper's graceful
//! shutdown of HTTP/1.1 is not sufficient: it immediately closes idle connections and connections on which no byte has
//! arrived yet, so a request that is on its way would be lost.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use isomer_transport::AcceptedTcp;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::activity::{ActiveRequest, Activity, wait_idle, wait_silent};
use crate::forwarded::Endpoints;
use crate::handler::Handler;
use crate::limits::{BODY_WINDOW_BYTES, CONNECTION_WINDOW_BYTES, Limits, SEND_BUFFER_BYTES};
use crate::pipeline::Pipeline;
use crate::proxies::Proxies;
use crate::proxy_protocol::{self, ProxiedClient};
use crate::registry::ConnectionPermit;
use crate::request_body::BodySource;
use crate::response_body::ResponseBody;
use crate::response_deadline::{self, WatchedTasks};
use crate::socket::{LINGER_MAX, Opening, Socket, Version};
use crate::tls::{Certificates, TlsSession};

/// The maximum time for closing an idle connection gracefully, after which the connection is aborted.
const END_MAX: Duration = LINGER_MAX.saturating_mul(2);

/// An accepted connection, with the certificates of its listener.
type Accepted = AcceptedTcp<Option<Arc<Certificates>>>;

/// A phase of a front door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The front door accepts connections and requests.
    Serving,
    /// The front door finishes the requests in progress.
    Draining,
    /// The front door drains, and another one takes over its clients, so streams of events end.
    HandingOver,
    /// The grace period is over, and the remaining connections are closed.
    CutOff,
}

/// The settings and the pipeline that all connections share.
pub(crate) struct ConnectionServer<H: Handler> {
    http1: http1::Builder,
    http2: http2::Builder<WatchedTasks>,
    pipeline: Pipeline<H>,
    limits: Limits,
    proxies: Proxies,
    phase: watch::Receiver<Phase>,
}

impl<H: Handler> ConnectionServer<H> {
    pub(crate) fn new(
        pipeline: Pipeline<H>,
        limits: Limits,
        proxies: Proxies,
        phase: watch::Receiver<Phase>,
    ) -> Arc<Self> {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_headers(limits.headers_max)
            .max_buf_size(limits.head_bytes_max)
            .keep_alive(true);
        let mut http2 = http2::Builder::new(WatchedTasks);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_max)
            .initial_stream_window_size(u32::try_from(BODY_WINDOW_BYTES).unwrap_or(u32::MAX))
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(limits.head_timeout)
            .keep_alive_timeout(limits.head_timeout);
        Arc::new(Self { http1, http2, pipeline, limits, proxies, phase })
    }

    /// Runs one connection until it is closed.
    pub(crate) async fn run(self: Arc<Self>, accepted: Accepted, permit: ConnectionPermit) {
        let mut phase = self.phase.clone();
        tokio::select! {
            biased;
            () = self.clone().serve(accepted, &permit) => {}
            _ = phase.wait_for(|phase| *phase == Phase::CutOff) => {}
            () = permit.activity.evicted() => tracing::debug!("a connection was closed to make room for another one"),
        }
    }

    async fn serve(self: Arc<Self>, AcceptedTcp { stream, peer, settings: tls }: Accepted, permit: &ConnectionPermit) {
        // Disables Nagle's algorithm, with which a response would wait for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or(peer);
        let mut socket = Socket::new(stream, self.limits.write_timeout);
        let client = match self.proxied_client(&mut socket, peer).await {
            Ok(client) => client,
            Err(()) => return,
        };
        if let Some(address) = client
            && !permit.move_to(address)
        {
            tracing::debug!(%address, "a connection was refused because the client has too many connections");
            return;
        }
        let is_trusted = match client {
            Some(address) => self.proxies.trusts(address),
            // A proxy that uses the PROXY protocol forwards its clients' header fields unchanged, so they are not
            // trusted.
            None => self.proxies.trusts(peer.ip()) && !self.proxies.proxy_protocol,
        };
        permit.activity.set_endpoints(Endpoints::new(client.unwrap_or(peer.ip()), is_trusted, local));
        match tls {
            None => self.serve_http(socket, &permit.activity).await,
            Some(certificates) => self.serve_tls(socket, &certificates, &permit.activity).await,
        }
    }

    /// Returns the client address that a trusted proxy announces for the connection, or `None` if no address is
    /// announced.
    async fn proxied_client(&self, socket: &mut Socket, peer: SocketAddr) -> Result<Option<IpAddr>, ()> {
        if !self.proxies.sends_header(peer.ip()) {
            return Ok(None);
        }
        match tokio::time::timeout(self.limits.handshake_timeout, proxy_protocol::read(socket)).await {
            Ok(Ok(ProxiedClient::Address(address))) => Ok(Some(address)),
            Ok(Ok(ProxiedClient::Proxy)) => Ok(None),
            Ok(Err(error)) => {
                tracing::warn!(%peer, %error, "a connection of a trusted proxy has no valid PROXY header");
                Err(())
            }
            Err(_) => {
                tracing::debug!(%peer, "the PROXY header took too long");
                Err(())
            }
        }
    }

    async fn serve_tls(self: Arc<Self>, socket: Socket, certificates: &Certificates, activity: &Arc<Activity>) {
        let handshake = TlsAcceptor::from(certificates.config.clone()).accept(socket);
        match tokio::time::timeout(self.limits.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => {
                activity.set_tls(TlsSession::new(stream.get_ref().1, certificates));
                self.serve_http(stream, activity).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "the TLS handshake failed"),
            Err(_) => tracing::debug!("the TLS handshake took too long"),
        }
    }

    async fn serve_http(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        activity: &Arc<Activity>,
    ) {
        let mut stream = Opening::new(stream, activity.clone());
        let version = tokio::select! {
            biased;
            version = stream.version() => version,
            () = self.wait_unused(activity) => {
                // Closes the stream (over TLS with `close_notify`), and waits until the peer has closed its side.
                let _ = tokio::time::timeout(END_MAX, stream.shutdown()).await;
                return;
            }
        };
        let version = match version {
            Ok(Some(version)) => version,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "a connection ended before its first request");
                return;
            }
        };
        let (server, connection) = (self.clone(), activity.clone());
        let respond = service_fn(move |request| {
            let response = server.clone().respond(request, Activity::begin(&connection));
            async move { Ok::<_, Infallible>(response.await) }
        });
        let stream = TokioIo::new(stream);
        match version {
            Version::Http1 => {
                let connection = pin!(self.http1.serve_connection(stream, respond));
                response_deadline::watch(self.drive(connection, activity)).await;
            }
            Version::Http2 => {
                let connection = pin!(self.http2.serve_connection(stream, respond));
                response_deadline::watch(self.drive(connection, activity)).await;
            }
        }
    }

    /// Polls an HTTP connection until it ends or has been idle for too long.
    async fn drive<C: HttpConnection>(&self, mut connection: Pin<&mut C>, activity: &Activity) {
        let mut is_notified = !C::NOTIFIES_PEER;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended");
                    }
                    return;
                }
                () = self.draining(), if !is_notified => {
                    connection.as_mut().end();
                    is_notified = true;
                }
                () = self.wait_unused(activity) => break,
            }
        }
        connection.as_mut().end();
        if tokio::time::timeout(END_MAX, connection).await.is_err() {
            tracing::debug!("an unused connection did not end in time");
        }
    }

    async fn respond(self: Arc<Self>, request: Request<Incoming>, active: ActiveRequest) -> Response<ResponseBody<H>> {
        let version = request.version();
        let mut response = self.pipeline.respond(request.map(BodySource::Connection), active, &self.proxies).await;
        response.body_mut().end_events_when(|| {
            let mut phase = self.phase.clone();
            async move {
                if phase.wait_for(|phase| *phase >= Phase::HandingOver).await.is_err() {
                    // The front door has ended, and cuts off its connections itself.
                    std::future::pending::<()>().await;
                }
            }
        });
        if version < http::Version::HTTP_2 && self.is_draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Returns whether the front door drains. Takes no lock, since this method is called for every response. The
    /// receiver `phase` has only seen `Serving`, so any change means that the front door drains.
    fn is_draining(&self) -> bool {
        !matches!(self.phase.has_changed(), Ok(false))
    }

    /// Waits until the front door starts to drain.
    async fn draining(&self) {
        // `wait_for` fails only if the sender is dropped, but the sender lives until all connections have ended.
        let _ = self.phase.clone().wait_for(|phase| *phase >= Phase::Draining).await;
    }

    /// Waits until the connection is no longer needed: until no request has been in progress for `head_timeout`. If the
    /// front door drains, it is sufficient that the connection is idle and its client has been silent for `idle_grace`.
    async fn wait_unused(&self, activity: &Activity) {
        tokio::select! {
            () = wait_idle(activity, self.limits.head_timeout) => {}
            () = async {
                self.draining().await;
                wait_silent(activity, self.limits.idle_grace).await;
            } => {}
        }
    }
}

/// An HTTP/1.1 or HTTP/2 connection of hyper.
trait HttpConnection: Future<Output = hyper::Result<()>> {
    /// Whether the protocol can notify the peer of the drain. If not, the next response has `connection: close`.
    const NOTIFIES_PEER: bool;

    /// Starts a graceful shutdown: the connection ends after the requests in progress.
    fn end(self: Pin<&mut Self>);
}

impl<H, I, S> HttpConnection for http1::Connection<I, S>
where
    H: Handler,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = ResponseBody<H>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const NOTIFIES_PEER: bool = false;

    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<H, I, S> HttpConnection for http2::Connection<I, S, WatchedTasks>
where
    H: Handler,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = ResponseBody<H>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
    WatchedTasks: hyper::rt::bounds::Http2ServerConnExec<S::Future, ResponseBody<H>>,
{
    const NOTIFIES_PEER: bool = true;

    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
