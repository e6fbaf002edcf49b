//! The interface between the front door and the code that runs the requests of an app.
//!
//! The node implements [`Handler`] for its engine, and tests implement it for a fake handler. The front door is generic
//! over the implementation, so the interface needs no dynamic dispatch.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body;
use isomer_telemetry::{RequestId, SpanContext};

use crate::failure_kind::FailureKind;
use crate::request_body::RequestBody;

/// Runs the requests for one component, and charges the account of the app. Cheap to clone.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The type of a response's body.
    type Body: HandlerBody;
    /// The error of a request that gets no response from the handler.
    type Failure: HandlerFailure;
    /// A charge of memory to the account. Dropping the charge releases the memory.
    type Memory: Send + 'static;

    /// Runs a request until the head of its response is available. The guest continues to run while the body is read,
    /// and is cancelled when the body is dropped.
    fn handle(
        &self,
        request: HandlerRequest,
    ) -> impl Future<Output = Result<http::Response<Self::Body>, Self::Failure>> + Send;

    /// Returns the name of the tenant whose account is charged.
    fn tenant(&self) -> &Arc<str>;

    /// Charges `bytes` bytes of memory that the front door uses for a response. Returns `None` if the account has no
    /// memory left.
    fn charge_memory(&self, bytes: usize) -> Option<Self::Memory>;

    /// Charges processor time that the front door spent on a response.
    fn charge_cpu(&self, used: Duration);
}

/// A request, with its limits, for a handler.
pub struct HandlerRequest {
    /// The request. It has an absolute URI, and a `traceparent` field whose parent is `span`.
    pub http: http::Request<RequestBody>,
    /// The request's identity in logs.
    pub id: RequestId,
    /// The span of the request, which is the parent of the spans that the handler records.
    pub span: SpanContext,
    /// The time by which the response must be complete.
    pub deadline: Instant,
    /// The time from the request's arrival to `deadline`, for messages.
    pub allowed: Duration,
    /// The time from the request's arrival to the deadline of a response that is a stream of server-sent events.
    pub stream_allowed: Duration,
    /// The name of the component that handles the request.
    pub component: Arc<str>,
    /// The maximum number of bytes of the request's body that the server buffers while the handler does not read.
    pub buffer_bytes: usize,
}

/// The body of a handler's response.
pub trait HandlerBody:
    Body<Data = Bytes, Error: Error + Send + Sync + Unpin + 'static> + Unpin + Send + 'static
{
    /// Returns whether all frames have been taken from the body. If not, dropping the body loses data that the client
    /// has not received.
    fn is_complete(&self) -> bool;

    /// Returns the reason why the body ended in an error.
    fn failure(&self) -> BodyFailure;
}

/// The reason why a response's body ended in an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyFailure {
    /// The reason as a text for logs.
    pub reason: String,
    /// Whether the handler has already emitted an event for the failure.
    pub is_reported: bool,
}

/// The error of a request that gets no response from a handler. Its `Display` text is for logs only.
pub trait HandlerFailure: Error + Send + Sync + 'static {
    /// Returns the kind of failure, from which the front door derives the response.
    fn kind(&self) -> FailureKind;

    /// Returns the guest's call stack, innermost frame first, or an empty slice if there is none.
    fn backtrace(&self) -> &[String];
}
