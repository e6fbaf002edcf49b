//! A handler for unit tests. Tests set its response and read what was charged to its account.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};

use crate::failure_kind::FailureKind;
use crate::handler::{BodyFailure, Handler, HandlerBody, HandlerFailure, HandlerRequest};
use crate::site::{RouteTarget, StreamLimits};

/// The response of the fake handler.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FakeResponse {
    /// A text that can be compressed.
    Text(&'static str),
    /// An HTML page, and a line of `set-cookie` if it is not empty.
    Page(&'static str, &'static str),
    /// The request's body.
    Echo,
    /// A failure of this kind.
    Failure(FailureKind),
    /// No response: the handler's future stays pending.
    Never,
}

/// A handler with a fixed response. Clones share their state.
#[derive(Debug, Clone)]
pub(crate) struct FakeHandler {
    response: FakeResponse,
    tenant: Arc<str>,
    /// The maximum number of bytes of memory that can be charged.
    memory_max: usize,
    /// The URIs and header fields of the handled requests.
    pub(crate) requests: Arc<Mutex<Vec<(Uri, HeaderMap)>>>,
}

/// The failure that a fake handler returns.
#[derive(Debug, thiserror::Error)]
#[error("the fake failed")]
pub(crate) struct FakeFailure(FailureKind);

/// The body of a fake handler's response.
#[derive(Debug)]
pub(crate) struct FakeBody(Full<Bytes>);

/// Returns a route to a handler that responds with `ok`.
pub(crate) fn target(component: &str) -> RouteTarget<FakeHandler> {
    target_with(component, FakeResponse::Text("ok"))
}

/// Returns a route to a handler that responds with `response`.
pub(crate) fn target_with(component: &str, response: FakeResponse) -> RouteTarget<FakeHandler> {
    RouteTarget {
        handler: FakeHandler {
            response,
            tenant: format!("tenant of {component}").into(),
            memory_max: usize::MAX,
            requests: Arc::default(),
        },
        component: component.into(),
        deadline: Duration::from_secs(30),
        stream: StreamLimits { max: Duration::from_secs(60), idle_max: Duration::from_secs(30) },
        compress: false,
        body_bytes_max: 1 << 20,
    }
}

impl FakeHandler {
    /// Returns a handler whose account has no memory left.
    pub(crate) fn without_memory(self) -> Self {
        self.with_memory(0)
    }

    /// Returns a handler whose account can be charged at most `bytes` at once.
    pub(crate) fn with_memory(self, bytes: usize) -> Self {
        Self { memory_max: bytes, ..self }
    }
}

impl Handler for FakeHandler {
    type Body = FakeBody;
    type Failure = FakeFailure;
    type Memory = ();

    async fn handle(&self, request: HandlerRequest) -> Result<Response<FakeBody>, FakeFailure> {
        let (head, body) = request.http.into_parts();
        self.requests.lock().expect("no test panics with it").push((head.uri, head.headers));
        let contents = match self.response {
            FakeResponse::Text(text) | FakeResponse::Page(text, _) => Bytes::from_static(text.as_bytes()),
            FakeResponse::Echo => match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(_) => return Err(FakeFailure(FailureKind::Failed)),
            },
            FakeResponse::Failure(kind) => return Err(FakeFailure(kind)),
            FakeResponse::Never => std::future::pending().await,
        };
        let mut response = Response::builder();
        if let FakeResponse::Page(_, cookie) = self.response {
            response = response.header("content-type", "text/html").header("content-length", contents.len());
            if !cookie.is_empty() {
                response = response.header("set-cookie", cookie);
            }
        } else {
            response = response.header("content-type", "text/plain");
        }
        Ok(response.body(FakeBody(Full::new(contents))).expect("a valid response"))
    }

    fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    fn charge_memory(&self, bytes: usize) -> Option<()> {
        (bytes <= self.memory_max).then_some(())
    }

    fn charge_cpu(&self, _: Duration) {}
}

impl HandlerFailure for FakeFailure {
    fn kind(&self) -> FailureKind {
        self.0
    }

    fn backtrace(&self) -> &[String] {
        &[]
    }
}

impl Body for FakeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl HandlerBody for FakeBody {
    fn is_complete(&self) -> bool {
        self.0.is_end_stream()
    }

    fn failure(&self) -> BodyFailure {
        BodyFailure { reason: "the fake's body failed".to_owned(), is_reported: false }
    }
}
