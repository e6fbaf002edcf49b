//! The body of an outgoing request, whose first part may be read before the head is sent.
//!
//! A guest's body is a stream of unknown length, even if it turns out to be empty. HTTP/1.1 can send such a stream only
//! in chunks, and servers that need a length (for example S3) refuse chunks. So the client waits for the end of the
//! body, until [`END_WAIT`] has passed or more than [`SMALL_BODY_BYTES`] have been read. A body that ends before that
//! is sent with its length. The wait is short, so that it does not block a guest that reads the response before it
//! writes its body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty};
use wasmtime_wasi_http::{Error, WasiBody};

/// The maximum time to wait for the end of a body of unknown length. After this time, the body is sent without a
/// length.
const END_WAIT: Duration = Duration::from_millis(100);

/// The maximum number of bytes of a body of unknown length that are read before the head is sent. A larger body is sent
/// without a length. No extra memory is charged, because the exchange is charged for a connection buffer of the same
/// size (`BUFFER_BYTES` in `http_connection.rs`), which is allocated later.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// A request with the body that is sent to the server.
pub(super) type OutboundRequest = http::Request<OutboundBody>;

/// The body of an outgoing request: a first part that was read in advance, and the rest.
pub(super) struct OutboundBody {
    /// The first part of the body, which is read before the head is sent.
    start: BodyStart,
    rest: WasiBody,
    end: BodyEnd,
}

/// The first part of a body.
#[derive(Default)]
struct BodyStart {
    data: BytesMut,
    /// The frame or error that follows `data`: data beyond [`SMALL_BODY_BYTES`], trailers, or an error.
    next: Option<Result<Frame<Bytes>, Error>>,
    /// Whether the body ends after `data` and `next`.
    ended: bool,
}

/// Shows whether a body has ended, that is, whether it was sent completely or dropped.
#[derive(Debug, Clone, Default)]
pub(super) struct BodyEnd(Arc<AtomicBool>);

impl BodyEnd {
    pub(super) fn is_reached(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Converts a guest's request. Adds the length of its body, if the length is known or becomes known during a short
/// wait.
pub(super) async fn prepare(request: http::Request<WasiBody>) -> OutboundRequest {
    let (mut parts, rest) = request.into_parts();
    let mut body = OutboundBody { start: BodyStart::default(), rest, end: BodyEnd::default() };
    let is_open = !parts.headers.contains_key(header::CONTENT_LENGTH)
        && !body.is_end_stream()
        && body.size_hint().exact().is_none();
    if is_open && matches!(parts.method, Method::GET | Method::HEAD) {
        // Ignores a body of unknown length, because GET and HEAD requests have a body only if the guest states its
        // length.
        (body.rest, body.start.ended) = (nothing(), true);
    } else if is_open {
        let _ = tokio::time::timeout(END_WAIT, body.take()).await;
    }
    let needs_length = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
    if needs_length && (body.is_end_stream() || body.size_hint().exact() == Some(0)) {
        // Servers expect POST, PUT and PATCH requests to have content, so an empty body is sent with the length 0 (RFC
        // 9110, section 8.6).
        parts.headers.entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    http::Request::from_parts(parts, body)
}

fn nothing() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Returns whether the request may be sent again even if a server has processed it, because it changes nothing and has
/// no body.
pub(super) fn is_repeatable(request: &OutboundRequest) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && request.body().is_end_stream()
}

/// Builds a copy of a [repeatable](is_repeatable) request from the parts of its head.
pub(super) fn repeated(parts: http::request::Parts) -> OutboundRequest {
    let start = BodyStart { ended: true, ..BodyStart::default() };
    http::Request::from_parts(parts, OutboundBody { start, rest: nothing(), end: BodyEnd::default() })
}

impl OutboundBody {
    /// Reads the first part of the body: until the body ends, or until it exceeds [`SMALL_BODY_BYTES`]. If this future
    /// is dropped, the body keeps the frames that were read.
    async fn take(&mut self) {
        loop {
            let frame = self.rest.frame().await;
            let start = &mut self.start;
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(piece))) if start.data.len() + piece.len() <= SMALL_BODY_BYTES => {
                    start.data.extend_from_slice(&piece);
                    continue;
                }
                Some(Ok(Ok(piece))) => start.next = Some(Ok(Frame::data(piece))),
                Some(Ok(Err(trailers))) => (start.next, start.ended) = (Some(Ok(trailers)), true),
                Some(Err(error)) => (start.next, start.ended) = (Some(Err(error)), true),
                None => start.ended = true,
            }
            return;
        }
    }

    /// Returns a handle that shows whether the body has ended.
    pub(super) fn end(&self) -> BodyEnd {
        self.end.clone()
    }
}

impl Drop for OutboundBody {
    fn drop(&mut self) {
        self.end.0.store(true, Ordering::Release);
    }
}

impl Body for OutboundBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let start = &mut self.start;
        if !start.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(start.data.split().freeze()))));
        }
        if let Some(next) = start.next.take() {
            return Poll::Ready(Some(next));
        }
        if start.ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        let BodyStart { data, next, ended } = &self.start;
        data.is_empty() && next.is_none() && (*ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.start {
            // The whole body is in `data`: no error follows, and no trailers, which would require chunked encoding. So
            // the length is known.
            BodyStart { data, next: None, ended: true } => SizeHint::with_exact(data.len() as u64),
            BodyStart { data, next: None, ended: false } if data.is_empty() => self.rest.size_hint(),
            // A part of the body was read in advance, which happens only if the length of the body is unknown.
            _ => SizeHint::new(),
        }
    }
}
