//! What is recorded about a request: its access-log line, its span and its metrics.

use isomer_telemetry::metrics::RequestMeter;

use crate::access_log::AccessLine;
use crate::request_span::RequestSpan;

/// The records of a request in progress. They are completed when this value is dropped, with the same duration in the
/// span and in the metrics.
pub(crate) struct RequestRecord {
    /// The access-log line; `None` if access logging is off.
    pub(crate) access: Option<Box<AccessLine>>,
    /// The span; `None` if the request has no route, or if nothing is recorded.
    pub(crate) span: Option<Box<RequestSpan>>,
    pub(crate) meter: RequestMeter,
}

impl RequestRecord {
    /// Records the status of the response.
    pub(crate) fn set_status(&mut self, status: u16) {
        self.meter.set_status(status);
        if let Some(line) = &mut self.access {
            line.record().status = status;
        }
        if let Some(span) = &mut self.span {
            span.set_status(status);
        }
    }

    /// Counts bytes of the response's body that were passed to the connection.
    pub(crate) fn add_body_bytes(&mut self, bytes: usize) {
        if let Some(line) = &mut self.access {
            line.record().body_bytes += bytes as u64;
        }
        if let Some(span) = &mut self.span {
            span.add_body_bytes(bytes as u64);
        }
    }

    /// Records that the client did not get the whole response.
    pub(crate) fn set_cut_off(&mut self, why: String) {
        self.meter.set_cut_off();
        if let Some(span) = &mut self.span {
            span.fail(why.clone());
        }
        if let Some(line) = &mut self.access {
            line.record().cut_off = Some(why);
        }
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        if let Some(span) = &mut self.span {
            span.set_duration(self.meter.end());
        }
    }
}
