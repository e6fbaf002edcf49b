//! A request on its way to a guest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_telemetry::RequestId;
use wasmtime_wasi_http::WasiBody;

use crate::guest::{TimeLimit, fields_bytes};

/// A request on its way to a guest.
pub struct GuestRequest {
    /// The head and the body. Errors of the body are passed to the guest.
    pub http: http::Request<WasiBody>,
    /// The request's identity in logs.
    pub id: RequestId,
    /// The deadline of the request.
    pub deadline: Instant,
    /// The whole time that the request is allowed, from its arrival to `deadline`, for messages.
    pub allowed: Duration,
    /// The time that the request is allowed, from its arrival, if its response is an event stream (server-sent events).
    pub stream_allowed: Duration,
    /// The position of the handler among those of the group.
    pub handler: usize,
    /// The component that exports the handler, for the log.
    pub component: Arc<str>,
    /// The bytes of the body that the server may hold while the guest does not read.
    pub buffer_bytes: usize,
}

/// The host memory of a request in bytes, without its head and its body: its run, and its part of the connection.
const REQUEST_BYTES: usize = 8 << 10;

impl GuestRequest {
    pub(crate) fn until(&self) -> TimeLimit {
        TimeLimit { deadline: self.deadline, allowed: self.allowed }
    }

    /// Returns the host memory that the request takes from the start, in bytes.
    pub(crate) fn host_bytes(&self) -> usize {
        let target = self.http.uri().path_and_query().map_or(0, |path| path.as_str().len());
        REQUEST_BYTES + fields_bytes(self.http.headers()) + target + self.buffer_bytes
    }
}
