//! The `traceparent` header field of requests to guests.

use http::{HeaderName, HeaderValue};
use isomer_telemetry::TraceContext;

/// The name of the header field.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Returns the field's value for `context`.
pub(crate) fn traceparent(context: TraceContext) -> HeaderValue {
    let value = HeaderValue::from_bytes(&context.to_traceparent());
    value.expect("hexadecimal digits and dashes are a header value")
}
