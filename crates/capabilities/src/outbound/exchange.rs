//! One request and its response over one connection, HTTP/1.1 or HTTP/2, both bodies streamed.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::header::HOST;
use http::{HeaderValue, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::Outgoing;
use super::connect::Connection;

/// Most headers of an HTTP/1.1 response.
const RESPONSE_HEADERS_MAX: usize = 200;
/// Bytes of the header list of an HTTP/2 response.
const RESPONSE_HEADER_BYTES_MAX: u32 = 64 << 10;

/// What a connection holds of each direction while neither side reads or writes: together with the pieces that are on their way, no more than
/// the exchange is charged (`OUTBOUND_EXCHANGE_BYTES` in `runtime/src/guest.rs`).
const BUFFER_BYTES: usize = 64 << 10;

pub(super) struct Timeouts {
    pub(super) first_byte: Duration,
    pub(super) between_bytes: Duration,
}

/// The task that moves a connection's bytes; it ends with this.
struct Driver(JoinHandle<Result<(), hyper::Error>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Driver {
    fn start(
        connection: impl Future<Output = Result<(), hyper::Error>> + Send + 'static,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self(tokio::spawn(async move {
            let _permit = permit;
            connection.await
        }))
    }

    async fn finish(mut self) -> Result<(), Error> {
        match (&mut self.0).await {
            Ok(result) => result.map_err(Error::from),
            Err(_) => Err(Error::ConnectionTerminated),
        }
    }
}

pub(super) async fn run(
    connection: Connection,
    mut request: http::Request<WasiBody>,
    timeouts: Timeouts,
    permit: OwnedSemaphorePermit,
) -> Result<Outgoing, Error> {
    let (driver, response) = if connection.is_http2() {
        // The authority of the URI takes the place of this header.
        request.headers_mut().remove(HOST);
        let (mut sender, driver) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .max_header_list_size(RESPONSE_HEADER_BYTES_MAX)
            .initial_stream_window_size(BUFFER_BYTES as u32)
            .initial_connection_window_size(BUFFER_BYTES as u32)
            .max_send_buf_size(BUFFER_BYTES)
            .handshake(TokioIo::new(connection))
            .await?;
        (Driver::start(driver, permit), async move { sender.send_request(request).await }.boxed())
    } else {
        to_origin_form(&mut request)?;
        let (mut sender, driver) = hyper::client::conn::http1::Builder::new()
            .max_headers(RESPONSE_HEADERS_MAX)
            .max_buf_size(BUFFER_BYTES)
            .handshake(TokioIo::new(connection))
            .await?;
        (Driver::start(driver, permit), async move { sender.send_request(request).await }.boxed())
    };
    let response =
        tokio::time::timeout(timeouts.first_byte, response).await.map_err(|_| Error::ConnectionReadTimeout)??;
    let response = response.map(|incoming| ResponseBody::new(incoming, timeouts.between_bytes).boxed_unsync());
    Ok((response, driver.finish().boxed()))
}

/// A server takes only the path; the host that was checked stands in the `Host` header, whatever was there before.
fn to_origin_form(request: &mut http::Request<WasiBody>) -> Result<(), Error> {
    let authority = request.uri().authority().ok_or(Error::HttpRequestUriInvalid)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri: Uri = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    *request.uri_mut() = uri;
    request.headers_mut().insert(HOST, host);
    Ok(())
}

/// A response's body that fails when its next piece takes too long.
struct ResponseBody {
    incoming: Incoming,
    between_bytes: Duration,
    limit: Pin<Box<Sleep>>,
    waiting: bool,
}

impl ResponseBody {
    fn new(incoming: Incoming, between_bytes: Duration) -> Self {
        Self { incoming, between_bytes, limit: Box::pin(tokio::time::sleep(between_bytes)), waiting: false }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        // The time counts while somebody waits for a piece: a reader that takes its time is not the server's fault.
        if !self.waiting {
            self.waiting = true;
            let until = Instant::now() + self.between_bytes;
            self.limit.as_mut().reset(until);
        }
        self.limit.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
