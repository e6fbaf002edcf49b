//! The `traceparent` header field of requests to guests.

use http::{HeaderName, HeaderValue};
use isomer_telemetry::{RequestId, TraceContext};

/// The name of the header field.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Returns the field's value for the guest: the trace of `incoming` with the request `id` as the parent, or a new trace
/// if `incoming` is missing or not valid.
pub(crate) fn traceparent(incoming: Option<&HeaderValue>, id: RequestId) -> HeaderValue {
    let context = match incoming.and_then(|value| TraceContext::parse(value.as_bytes())) {
        Some(context) => context.child_of(id.into()),
        None => TraceContext::start(id.into()),
    };
    HeaderValue::from_bytes(&context.to_traceparent()).expect("hexadecimal digits and dashes are a header value")
}
