//! One connection to a server, HTTP/1.1 or HTTP/2. An exchange uses it, or it is idle between two exchanges.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, Shared};
use http::header::HOST;
use http::{HeaderValue, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use wasmtime_wasi_http::Error;

use super::connect::Connection;
use super::sending::{OutboundBody, OutboundRequest};
use crate::pool::locked;

/// The maximum number of headers of an HTTP/1.1 response.
const RESPONSE_HEADERS_MAX: usize = 200;
/// The maximum size of the header list of an HTTP/2 response, in bytes.
const RESPONSE_HEADER_BYTES_MAX: u32 = 64 << 10;

/// The size in bytes of the buffer for each direction. A buffer fills if its receiver does not read. Both buffers and
/// the frames in transit together need at most as many bytes as are charged for the exchange (`OUTBOUND_EXCHANGE_BYTES`
/// in `runtime/src/guest/outbound_hooks.rs`).
const BUFFER_BYTES: usize = 64 << 10;

/// The maximum time to wait until an idle connection has read the end of the previous response and accepts the next
/// request.
const READY_WAIT: Duration = Duration::from_millis(250);

/// The permit for a connection in use. The task of the connection holds it.
pub(super) type Permit = Arc<OwnedSemaphorePermit>;

/// A connection to a server. After this is dropped, the connection is closed as soon as its exchange has ended.
pub(super) struct HttpConnection {
    sender: Sender,
    permit: Arc<Mutex<Option<Permit>>>,
    pub(super) task: AbortHandle,
    pub(super) ended: Shared<BoxFuture<'static, ()>>,
    pub(super) failure: Arc<Mutex<Option<hyper::Error>>>,
    to: IpAddr,
}

enum Sender {
    Http1(http1::SendRequest<OutboundBody>),
    Http2(http2::SendRequest<OutboundBody>),
}

impl HttpConnection {
    /// Performs the HTTP handshake, and starts the task that drives the connection.
    pub(super) async fn open(connection: Connection, to: IpAddr, permit: Permit) -> Result<Self, Error> {
        let permit = Arc::new(Mutex::new(Some(permit)));
        let failure = Arc::new(Mutex::new(None));
        let (held, failed) = (permit.clone(), failure.clone());
        let end = move |ended: Result<(), hyper::Error>| {
            *locked(&failed) = ended.err();
            drop(held);
        };
        let (sender, task) = if connection.is_http2() {
            let (sender, driver) = http2::Builder::new(TokioExecutor::new())
                .max_header_list_size(RESPONSE_HEADER_BYTES_MAX)
                .initial_stream_window_size(BUFFER_BYTES as u32)
                .initial_connection_window_size(BUFFER_BYTES as u32)
                .max_send_buf_size(BUFFER_BYTES)
                .handshake(TokioIo::new(connection))
                .await?;
            (Sender::Http2(sender), tokio::spawn(driver.map(end)))
        } else {
            let (sender, driver) = http1::Builder::new()
                .max_headers(RESPONSE_HEADERS_MAX)
                .max_buf_size(BUFFER_BYTES)
                .handshake(TokioIo::new(connection))
                .await?;
            (Sender::Http1(sender), tokio::spawn(driver.map(end)))
        };
        let abort = task.abort_handle();
        Ok(Self { sender, permit, task: abort, ended: task.map(|_| ()).boxed().shared(), failure, to })
    }

    /// Returns the address of the server.
    pub(super) fn address(&self) -> IpAddr {
        self.to
    }

    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Releases the connection's permit, because the connection is now idle.
    pub(super) fn release_permit(&self) {
        drop(locked(&self.permit).take());
    }

    /// Gives an idle connection a permit, and waits until it is ready for the next exchange. Returns `None` if the
    /// connection does not become ready.
    pub(super) async fn reserve(mut self, permit: &Permit) -> Option<Self> {
        *locked(&self.permit) = Some(permit.clone());
        let ready = async {
            match &mut self.sender {
                Sender::Http1(sender) => sender.ready().await.is_ok(),
                Sender::Http2(sender) => sender.ready().await.is_ok(),
            }
        };
        let is_ready = tokio::time::timeout(READY_WAIT, ready).await.unwrap_or(false);
        is_ready.then_some(self)
    }

    pub(super) fn send(
        &mut self,
        request: OutboundRequest,
    ) -> BoxFuture<'static, Result<http::Response<Incoming>, TrySendError<OutboundRequest>>> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).boxed(),
            Sender::Http2(sender) => sender.try_send_request(request).boxed(),
        }
    }

    /// Converts the URI and the `Host` header of a request into the form that the connection's HTTP version requires.
    pub(super) fn with_address_form(&self, mut request: OutboundRequest) -> Result<OutboundRequest, Error> {
        match &self.sender {
            Sender::Http1(_) => to_origin_form(&mut request)?,
            // In HTTP/2, the authority of the URI replaces the `Host` header.
            Sender::Http2(_) => drop(request.headers_mut().remove(HOST)),
        }
        Ok(request)
    }
}

/// Reduces the URI to its path and query, as HTTP/1.1 requires in a request to an origin server. Sets the `Host` header
/// to the authority of the URI, which was checked against the grants.
fn to_origin_form(request: &mut OutboundRequest) -> Result<(), Error> {
    let authority = request.uri().authority().ok_or(Error::HttpRequestUriInvalid)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri: Uri = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    *request.uri_mut() = uri;
    request.headers_mut().insert(HOST, host);
    Ok(())
}
