//! One connection: whose it is, its handshake, its version of HTTP, its requests, its end.
//!
//! A front door that stops closes no connection that its client may just be sending a request on. Over HTTP/1.1 the next answer says
//! `connection: close`, and the connection ends behind it; a client that sends nothing any more is given [`Limits::idle_grace`]. Over
//! HTTP/2 the peer is told (GOAWAY), requests that it sent before it heard so are answered, then the connection ends. Handshakes that
//! have begun are finished. Hyper's own graceful end does not do for HTTP/1.1: it closes idle connections, and those without a
//! byte so far, at once, so a request that is on its way is lost.

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

use crate::deadline::{self, WatchedTasks};
use crate::forwarded::Ends;
use crate::outgoing::OutgoingBody;
use crate::places::Place;
use crate::proxy::{self, Told};
use crate::server::{BODY_WINDOW_BYTES, CONNECTION_WINDOW_BYTES, Limits, Proxies, SEND_BUFFER_BYTES};
use crate::service::Service;
use crate::socket::{LINGER_MAX, Opening, Socket, Version};
use crate::tls::{Certificates, Secured};
use crate::traffic::{InProgress, Traffic, idle, quiet};

/// How long a connection that nobody uses may take to end in order. Reaching it closes the connection.
const END_MAX: Duration = LINGER_MAX.saturating_mul(2);

/// An accepted connection, with the certificates of its listener.
type Accepted = AcceptedTcp<Option<Arc<Certificates>>>;

/// What a front door is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It serves.
    Serving,
    /// It finishes what it has.
    Draining,
    /// Its time to finish is over.
    CutOff,
}

/// What all connections have in common.
pub(crate) struct Protocol {
    http1: http1::Builder,
    http2: http2::Builder<WatchedTasks>,
    service: Arc<Service>,
    limits: Limits,
    proxies: Proxies,
    phase: watch::Receiver<Phase>,
}

impl Protocol {
    pub(crate) fn new(
        service: Arc<Service>,
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
        Arc::new(Self { http1, http2, service, limits, proxies, phase })
    }

    /// Runs one connection to its end.
    pub(crate) async fn run(self: Arc<Self>, accepted: Accepted, place: Place) {
        let mut phase = self.phase.clone();
        tokio::select! {
            biased;
            () = self.clone().converse(accepted, &place) => {}
            _ = phase.wait_for(|phase| *phase == Phase::CutOff) => {}
            () = place.traffic.evicted() => tracing::debug!("a connection was closed for another one"),
        }
    }

    async fn converse(self: Arc<Self>, AcceptedTcp { stream, peer, settings: tls }: Accepted, place: &Place) {
        // Nagle's algorithm makes keep-alive clients wait for their own delayed acknowledgements.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or(peer);
        let mut socket = Socket::new(stream, self.limits.write_timeout);
        let told = match self.client(&mut socket, peer).await {
            Ok(told) => told,
            Err(()) => return,
        };
        if let Some(address) = told
            && !place.move_to(address)
        {
            tracing::debug!(%address, "too many connections of one source");
            return;
        }
        let is_trusted = match told {
            Some(address) => self.proxies.trusts(address),
            // A proxy that speaks the PROXY protocol passes on what its clients send, their fields too.
            None => self.proxies.trusts(peer.ip()) && !self.proxies.proxy_protocol,
        };
        place.traffic.set_ends(Ends::new(told.unwrap_or(peer.ip()), is_trusted, local));
        match tls {
            None => self.speak(socket, &place.traffic).await,
            Some(certificates) => self.secure(socket, &certificates, &place.traffic).await,
        }
    }

    /// Whose connection it is, where a proxy says so.
    async fn client(&self, socket: &mut Socket, peer: SocketAddr) -> Result<Option<IpAddr>, ()> {
        if !self.proxies.says_whose(peer.ip()) {
            return Ok(None);
        }
        match tokio::time::timeout(self.limits.handshake_timeout, proxy::read(socket)).await {
            Ok(Ok(Told::Client(address))) => Ok(Some(address)),
            Ok(Ok(Told::Proxy)) => Ok(None),
            Ok(Err(error)) => {
                tracing::warn!(%peer, %error, "a trusted proxy does not say whose connection it is");
                Err(())
            }
            Err(_) => {
                tracing::debug!(%peer, "the header of the PROXY protocol took too long");
                Err(())
            }
        }
    }

    async fn secure(self: Arc<Self>, socket: Socket, certificates: &Certificates, traffic: &Arc<Traffic>) {
        let handshake = TlsAcceptor::from(certificates.config.clone()).accept(socket);
        match tokio::time::timeout(self.limits.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => {
                traffic.set_secured(Secured::new(stream.get_ref().1, certificates));
                self.speak(stream, traffic).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "no handshake"),
            Err(_) => tracing::debug!("the handshake took too long"),
        }
    }

    async fn speak(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        traffic: &Arc<Traffic>,
    ) {
        let mut stream = Opening::new(stream, traffic.clone());
        let version = tokio::select! {
            biased;
            version = stream.version() => version,
            () = self.unused(traffic) => {
                // The peer is told so (by TLS, too), and the socket is closed when it has heard it.
                let _ = tokio::time::timeout(END_MAX, stream.shutdown()).await;
                return;
            }
        };
        let version = match version {
            Ok(Some(version)) => version,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "connection ended before its first request");
                return;
            }
        };
        let (protocol, progress) = (self.clone(), traffic.clone());
        let answer = service_fn(move |request| {
            let answer = protocol.clone().answer(request, Traffic::begin(&progress));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let stream = TokioIo::new(stream);
        match version {
            Version::Http1 => {
                let connection = pin!(self.http1.serve_connection(stream, answer));
                deadline::watch(self.serve(connection, traffic)).await;
            }
            Version::Http2 => {
                let connection = pin!(self.http2.serve_connection(stream, answer));
                deadline::watch(self.serve(connection, traffic)).await;
            }
        }
    }

    /// Polls a connection of HTTP to its end, which comes when nobody uses it any more.
    async fn serve<C: Connection>(&self, mut connection: Pin<&mut C>, traffic: &Traffic) {
        let mut told = !C::TOLD_TO_END;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended");
                    }
                    return;
                }
                () = self.draining(), if !told => {
                    connection.as_mut().end();
                    told = true;
                }
                () = self.unused(traffic) => break,
            }
        }
        connection.as_mut().end();
        if tokio::time::timeout(END_MAX, connection).await.is_err() {
            tracing::debug!("an unused connection did not end in order");
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, progress: InProgress) -> Response<OutgoingBody> {
        let version = request.version();
        let mut response = self.service.answer(request, progress, &self.proxies.trusted).await;
        if version < http::Version::HTTP_2 && self.is_draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Does the front door finish what it has? Asked for every answer, so without a lock: this receiver has seen `Serving` only.
    fn is_draining(&self) -> bool {
        !matches!(self.phase.has_changed(), Ok(false))
    }

    /// Resolves when the front door finishes what it has.
    async fn draining(&self) {
        // The sender is kept until all connections have ended.
        let _ = self.phase.clone().wait_for(|phase| *phase >= Phase::Draining).await;
    }

    /// Resolves when a connection has had no request for too long.
    async fn unused(&self, traffic: &Traffic) {
        tokio::select! {
            () = idle(traffic, self.limits.head_timeout) => {}
            () = async {
                self.draining().await;
                quiet(traffic, self.limits.idle_grace).await;
            } => {}
        }
    }
}

/// A connection of either version of HTTP.
trait Connection: Future<Output = hyper::Result<()>> {
    /// Is there something to tell the peer when the front door stops? Else its next answer says so.
    const TOLD_TO_END: bool;

    /// Ends it after the requests in progress.
    fn end(self: Pin<&mut Self>);
}

impl<I, S> Connection for http1::Connection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = OutgoingBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const TOLD_TO_END: bool = false;

    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Connection for http2::Connection<I, S, WatchedTasks>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = OutgoingBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
    WatchedTasks: hyper::rt::bounds::Http2ServerConnExec<S::Future, OutgoingBody>,
{
    const TOLD_TO_END: bool = true;

    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
