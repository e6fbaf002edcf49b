//! The request that is passed to a guest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_telemetry::{RequestId, SpanContext};
use wasmtime_wasi_http::WasiBody;

use crate::guest::{TimeLimit, fields_bytes};

/// A request that is passed to a guest.
pub struct GuestRequest {
    /// The head and the body of the request. Errors of the body are passed to the guest.
    pub http: http::Request<WasiBody>,
    /// The id of the request, which identifies it in logs.
    pub id: RequestId,
    /// The span of the request, which is the parent of all spans of its guest. The field `traceparent` of `http` has the
    /// same content.
    pub span: SpanContext,
    /// The time at which the request fails if it has not finished.
    pub deadline: Instant,
    /// The time from the request's arrival to `deadline`, for messages.
    pub allowed: Duration,
    /// The time that the request may take, from its arrival, if its response is an event stream (server-sent events).
    pub stream_allowed: Duration,
    /// The index of the handler among the handlers of the group.
    pub handler: usize,
    /// The name of the component that exports the handler, for the log.
    pub component: Arc<str>,
    /// The maximum number of bytes of the request's body that the server buffers while the guest does not read.
    pub buffer_bytes: usize,
}

/// The host memory of a request in bytes, without its head and its body: the future of its execution, and the part of
/// the connection's state that belongs to the request.
const REQUEST_BYTES: usize = 8 << 10;

impl GuestRequest {
    pub(crate) fn until(&self) -> TimeLimit {
        TimeLimit { deadline: self.deadline, allowed: self.allowed }
    }

    /// Returns the host memory in bytes that the request takes before its guest runs.
    pub(crate) fn host_bytes(&self) -> usize {
        let target = self.http.uri().path_and_query().map_or(0, |path| path.as_str().len());
        REQUEST_BYTES + fields_bytes(self.http.headers()) + target + self.buffer_bytes
    }
}
