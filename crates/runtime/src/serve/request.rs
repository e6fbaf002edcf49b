//! A request on its way to a guest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_telemetry::RequestId;
use wasmtime_wasi_http::WasiBody;

use crate::guest::{TimeLimit, fields_bytes};

/// A request on its way to a guest.
pub struct GuestRequest {
    /// HeadSender and body. The body's errors end up with the guest.
    pub http: http::Request<WasiBody>,
    /// Its identity in logs.
    pub id: RequestId,
    /// When it must be over.
    pub deadline: Instant,
    /// How long that is from when it came, for messages.
    pub allowed: Duration,
    /// How long it may take instead, from when it came, if its response is a stream of server-sent events.
    pub stream_allowed: Duration,
    /// Which of the group's handlers, by position.
    pub handler: usize,
    /// The component that has it, for the log.
    pub component: Arc<str>,
    /// Bytes of its body that the server may hold while the guest does not read.
    pub buffer_bytes: usize,
}

/// What a request takes of the host beside its head and its body: what runs it, and its part of the connection.
const REQUEST_BYTES: usize = 8 << 10;

impl GuestRequest {
    pub(crate) fn until(&self) -> TimeLimit {
        TimeLimit { deadline: self.deadline, allowed: self.allowed }
    }

    /// What the host holds for it from the beginning on.
    pub(crate) fn host_bytes(&self) -> usize {
        let target = self.http.uri().path_and_query().map_or(0, |path| path.as_str().len());
        REQUEST_BYTES + fields_bytes(self.http.headers()) + target + self.buffer_bytes
    }
}
