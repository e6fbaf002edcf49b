//! The body of an outgoing request, whose beginning may be read before the head is sent.
//!
//! A guest's body is a stream of unknown length, even if it turns out to be empty. HTTP/1.1 can only send such a stream
//! in chunks, which servers that need a length refuse (for example S3). So sending waits for the end of the body, for a
//! short time and up to a number of bytes. A small body is sent with its length. A guest that reads the response before
//! it writes its body is not blocked, as the wait is short.

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

/// The maximum time to wait for the end of a body of unknown length. After it, the body is sent without a length.
const END_WAIT: Duration = Duration::from_millis(100);

/// The maximum bytes of a body of unknown length that are held back until its end. A larger body is sent without a
/// length. The memory is already charged: the exchange pays for a buffer of this size for its connection
/// (`BUFFER_BYTES` in `http_connection.rs`), which is only allocated afterwards.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// A request as it is sent.
pub(super) type OutboundRequest = http::Request<OutboundBody>;

/// The body of a request.
pub(super) struct OutboundBody {
    /// The beginning of the body, which was read before the request was sent.
    taken: BodyStart,
    rest: WasiBody,
    over: BodyEnd,
}

/// The beginning of a body.
#[derive(Default)]
struct BodyStart {
    data: BytesMut,
    /// The frame or error after these bytes: data beyond the held-back size, trailers, or an error.
    next: Option<Result<Frame<Bytes>, Error>>,
    /// Whether the body has ended.
    ended: bool,
}

/// Tells whether a body has ended: it was sent completely, or dropped.
#[derive(Debug, Clone, Default)]
pub(super) struct BodyEnd(Arc<AtomicBool>);

impl BodyEnd {
    pub(super) fn is_reached(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Returns the request with the length of its body, if the length is known or can be found by waiting briefly.
pub(super) async fn prepare(request: http::Request<WasiBody>) -> OutboundRequest {
    let (mut parts, rest) = request.into_parts();
    let mut body = OutboundBody { taken: BodyStart::default(), rest, over: BodyEnd::default() };
    let is_open = !parts.headers.contains_key(header::CONTENT_LENGTH)
        && !body.is_end_stream()
        && body.size_hint().exact().is_none();
    if is_open && matches!(parts.method, Method::GET | Method::HEAD) {
        // Requests with these methods have no body unless the guest states a length. A body that the guest supplies is
        // ignored.
        (body.rest, body.taken.ended) = (nothing(), true);
    } else if is_open {
        let _ = tokio::time::timeout(END_WAIT, body.take()).await;
    }
    let says_length = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
    if says_length && (body.is_end_stream() || body.size_hint().exact() == Some(0)) {
        // RFC 9110, section 8.6: for these methods a server expects content, so the length 0 is stated.
        parts.headers.entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    http::Request::from_parts(parts, body)
}

fn nothing() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Returns whether the request may be sent again although a server may have processed it: it changes nothing, and has
/// no body.
pub(super) fn is_repeatable(request: &OutboundRequest) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && request.body().is_end_stream()
}

/// Builds a copy of a request that [may be sent again](is_repeatable).
pub(super) fn repeated(parts: http::request::Parts) -> OutboundRequest {
    let taken = BodyStart { ended: true, ..BodyStart::default() };
    http::Request::from_parts(parts, OutboundBody { taken, rest: nothing(), over: BodyEnd::default() })
}

impl OutboundBody {
    /// Reads the body until its end, or until it exceeds [`SMALL_BODY_BYTES`]. If this future is dropped, the body
    /// keeps the frames that were read.
    async fn take(&mut self) {
        loop {
            let frame = self.rest.frame().await;
            let taken = &mut self.taken;
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(piece))) if taken.data.len() + piece.len() <= SMALL_BODY_BYTES => {
                    taken.data.extend_from_slice(&piece);
                    continue;
                }
                Some(Ok(Ok(piece))) => taken.next = Some(Ok(Frame::data(piece))),
                Some(Ok(Err(trailers))) => (taken.next, taken.ended) = (Some(Ok(trailers)), true),
                Some(Err(error)) => (taken.next, taken.ended) = (Some(Err(error)), true),
                None => taken.ended = true,
            }
            return;
        }
    }

    /// Returns an observer of the end of the body.
    pub(super) fn over(&self) -> BodyEnd {
        self.over.clone()
    }
}

impl Drop for OutboundBody {
    fn drop(&mut self) {
        self.over.0.store(true, Ordering::Release);
    }
}

impl Body for OutboundBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let taken = &mut self.taken;
        if !taken.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(taken.data.split().freeze()))));
        }
        if let Some(next) = taken.next.take() {
            return Poll::Ready(Some(next));
        }
        if taken.ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        let BodyStart { data, next, ended } = &self.taken;
        data.is_empty() && next.is_none() && (*ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.taken {
            // The length is exact only without trailers, which need chunks, and without an error, which is not an end.
            BodyStart { data, next: None, ended: true } => SizeHint::with_exact(data.len() as u64),
            BodyStart { data, next: None, ended: false } if data.is_empty() => self.rest.size_hint(),
            // Only bodies of unknown length were read in advance.
            _ => SizeHint::new(),
        }
    }
}
