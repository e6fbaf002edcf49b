//! The interface between the front door and what runs the requests of an app.
//!
//! The node implements [`Handler`] for its engine, tests for a fake. The front door is generic over it, so this interface adds no
//! dynamic dispatch of its own.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body;
use isomer_telemetry::RequestId;

use crate::failure_kind::FailureKind;
use crate::request_body::RequestBody;

/// Runs the requests of one component, and provides the account that they are charged to. Cheap to clone.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of a response.
    type Body: HandlerBody;
    /// The error when there is no response.
    type Failure: HandlerFailure;
    /// A charge of memory to the account. Dropping it releases the memory.
    type Memory: Send + 'static;

    /// Runs a request until the head of its response is available. The guest continues to run while the body is read,
    /// and is cancelled when the body is dropped.
    fn handle(
        &self,
        request: HandlerRequest,
    ) -> impl Future<Output = Result<http::Response<Self::Body>, Self::Failure>> + Send;

    /// Returns the name of the tenant whose account is charged.
    fn tenant(&self) -> &Arc<str>;

    /// Charges memory that the front door uses for a response. Returns `None` if the account has no memory left.
    fn charge_memory(&self, bytes: usize) -> Option<Self::Memory>;

    /// Charges processor time that the front door spent on a response.
    fn charge_cpu(&self, used: Duration);
}

/// A request for a handler.
pub struct HandlerRequest {
    /// The request, with an absolute URI and its own `traceparent`.
    pub http: http::Request<RequestBody>,
    /// The request's identity in logs.
    pub id: RequestId,
    /// The time at which the request has to be finished.
    pub deadline: Instant,
    /// The time from the request's arrival to `deadline`, for messages.
    pub allowed: Duration,
    /// The time from the request's arrival to its deadline if the response is a stream of server-sent events.
    pub stream_allowed: Duration,
    /// The component that handles the request.
    pub component: Arc<str>,
    /// The maximum number of bytes of the body that the server buffers while the handler does not read.
    pub buffer_bytes: usize,
}

/// The body of a handler's response.
pub trait HandlerBody:
    Body<Data = Bytes, Error: Error + Send + Sync + Unpin + 'static> + Unpin + Send + 'static
{
    /// Returns whether the whole body was read, so that a server can drop it without losing unsent data.
    fn is_complete(&self) -> bool;

    /// Returns the reason why the body ended in an error.
    fn failure(&self) -> BodyFailure;
}

/// The reason why a response's body ended in an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyFailure {
    /// The reason, for logs.
    pub reason: String,
    /// Whether the handler has already emitted an event about the failure.
    pub is_reported: bool,
}

/// The error when a handler has no response. Its `Display` is for logs.
pub trait HandlerFailure: Error + Send + Sync + 'static {
    /// Returns the kind of failure, from which the front door chooses the response.
    fn kind(&self) -> FailureKind;

    /// Returns the guest's call stack, the innermost frame first; empty if there is none.
    fn backtrace(&self) -> &[String];
}
