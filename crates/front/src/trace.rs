//! The `traceparent` header of requests to guests.

use http::{HeaderName, HeaderValue};
use isomer_telemetry::{RequestId, TraceContext};

/// The header's name.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Returns the header for the guest: the caller's trace with the request `id` as the parent, or a new trace if
/// `incoming` is not valid.
pub(crate) fn traceparent(incoming: Option<&HeaderValue>, id: RequestId) -> HeaderValue {
    let context = match incoming.and_then(|value| TraceContext::parse(value.as_bytes())) {
        Some(context) => context.child_of(id.into()),
        None => TraceContext::start(id.into()),
    };
    HeaderValue::from_bytes(&context.to_traceparent()).expect("hexadecimal digits and dashes are a header value")
}
