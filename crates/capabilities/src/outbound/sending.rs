//! A request's body on its way out: its first piece may be looked at before the head is sent.
//!
//! A guest's body is a stream of which nothing is known, also where nothing will ever come. HTTP/1.1 can only send that in chunks, which
//! servers that need a length refuse. So the first piece is waited for, for a moment: a guest that reads the answer before it writes
//! goes on without.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty};
use wasmtime_wasi_http::{Error, WasiBody};

/// How long the first piece of a body of unknown length is waited for.
const FIRST_PIECE_WAIT: Duration = Duration::from_millis(100);

/// A request as it is sent.
pub(super) type Request = http::Request<Sending>;

/// The body of a request.
pub(super) struct Sending {
    first: Option<Result<Frame<Bytes>, Error>>,
    ended: bool,
    rest: WasiBody,
    over: Over,
}

/// Tells that a body is over: it was sent, or its sender was dropped.
#[derive(Debug, Clone, Default)]
pub(super) struct Over(Arc<AtomicBool>);

impl Over {
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The request with its length said as far as it is known.
pub(super) async fn prepare(request: http::Request<WasiBody>) -> Request {
    let (mut parts, body) = request.into_parts();
    let mut body = Sending { first: None, ended: false, rest: body, over: Over::default() };
    // GET and HEAD have no body, whatever a guest gives them, unless it says how long that is.
    let is_open = !matches!(parts.method, Method::GET | Method::HEAD)
        && !parts.headers.contains_key(header::CONTENT_LENGTH)
        && !body.is_end_stream()
        && body.size_hint().exact().is_none();
    if is_open {
        let _ = tokio::time::timeout(FIRST_PIECE_WAIT, body.begin()).await;
    }
    let says_length = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
    if says_length && (body.is_end_stream() || body.size_hint().exact() == Some(0)) {
        // RFC 9110, section 8.6: with these methods a server expects content.
        parts.headers.entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    http::Request::from_parts(parts, body)
}

/// May it be sent again, though a server may have seen it? It changes nothing, and there is nothing to send a second time.
pub(super) fn is_repeatable(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && request.body().is_end_stream()
}

/// The same request again, of one that [may be sent again](is_repeatable).
pub(super) fn repeated(parts: http::request::Parts) -> Request {
    let rest = Empty::new().map_err(|never| match never {}).boxed_unsync();
    http::Request::from_parts(parts, Sending { first: None, ended: true, rest, over: Over::default() })
}

impl Sending {
    /// Resolves when the first piece is there, or none will come.
    async fn begin(&mut self) {
        let first = self.rest.frame().await;
        self.ended = first.is_none();
        self.first = first;
    }

    /// Tells when it is over.
    pub(super) fn over(&self) -> Over {
        self.over.clone()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.over.0.store(true, Ordering::Release);
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && (self.ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.first {
            None if self.ended => SizeHint::with_exact(0),
            None => self.rest.size_hint(),
            // Only bodies of unknown length were looked into.
            Some(_) => SizeHint::new(),
        }
    }
}
