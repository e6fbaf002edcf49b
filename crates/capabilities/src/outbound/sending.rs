//! A request's body on its way out: its beginning may be looked at before the head is sent.
//!
//! A guest's body is a stream of which nothing is known, also where nothing will ever come. HTTP/1.1 can only send that in chunks, which
//! servers that need a length refuse (S3 is one). So its end is waited for, for a moment and up to some bytes: a small body is sent with its
//! length, and a guest that reads the answer before it writes goes on without.

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

/// How long the end of a body of unknown length is waited for. What has come by then is sent without a length.
const END_WAIT: Duration = Duration::from_millis(100);

/// What is held back of a body of unknown length until its end is there. One with more is sent without a length. The exchange is charged for as
/// much: what its connection will hold of a body (`BUFFER_BYTES` in `exchange.rs`), which is only made then.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// A request as it is sent.
pub(super) type OutboundRequest = http::Request<OutboundBody>;

/// The body of a request.
pub(super) struct OutboundBody {
    /// What was taken of it before it was sent.
    taken: BodyStart,
    rest: WasiBody,
    over: BodyEnd,
}

/// The beginning of a body.
#[derive(Default)]
struct BodyStart {
    data: BytesMut,
    /// What came behind these bytes: more than is held back, trailers, or an error.
    next: Option<Result<Frame<Bytes>, Error>>,
    /// Nothing more comes.
    ended: bool,
}

/// Tells that a body is over: it was sent, or its sender was dropped.
#[derive(Debug, Clone, Default)]
pub(super) struct BodyEnd(Arc<AtomicBool>);

impl BodyEnd {
    pub(super) fn is_reached(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The request with its length said as far as it is known.
pub(super) async fn prepare(request: http::Request<WasiBody>) -> OutboundRequest {
    let (mut parts, rest) = request.into_parts();
    let mut body = OutboundBody { taken: BodyStart::default(), rest, over: BodyEnd::default() };
    let is_open = !parts.headers.contains_key(header::CONTENT_LENGTH)
        && !body.is_end_stream()
        && body.size_hint().exact().is_none();
    if is_open && matches!(parts.method, Method::GET | Method::HEAD) {
        // They have no body, whatever a guest gives them, unless it says how long that is.
        (body.rest, body.taken.ended) = (nothing(), true);
    } else if is_open {
        let _ = tokio::time::timeout(END_WAIT, body.take()).await;
    }
    let says_length = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
    if says_length && (body.is_end_stream() || body.size_hint().exact() == Some(0)) {
        // RFC 9110, section 8.6: with these methods a server expects content.
        parts.headers.entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    http::Request::from_parts(parts, body)
}

fn nothing() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// May it be sent again, though a server may have seen it? It changes nothing, and there is nothing to send a second time.
pub(super) fn is_repeatable(request: &OutboundRequest) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && request.body().is_end_stream()
}

/// The same request again, of one that [may be sent again](is_repeatable).
pub(super) fn repeated(parts: http::request::Parts) -> OutboundRequest {
    let taken = BodyStart { ended: true, ..BodyStart::default() };
    http::Request::from_parts(parts, OutboundBody { taken, rest: nothing(), over: BodyEnd::default() })
}

impl OutboundBody {
    /// Takes what comes until its end, but no more than [`SMALL_BODY_BYTES`] and a piece. What was taken stays if this is dropped.
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

    /// Tells when it is over.
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
            // Trailers need chunks, and an error is no end.
            BodyStart { data, next: None, ended: true } => SizeHint::with_exact(data.len() as u64),
            BodyStart { data, next: None, ended: false } if data.is_empty() => self.rest.size_hint(),
            // Only bodies of unknown length were looked into.
            _ => SizeHint::new(),
        }
    }
}
