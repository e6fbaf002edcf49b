//! Properties of a response that its head determines, as defined by HTTP. The runtime applies the same rules to guests'
//! responses.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

/// Returns whether a response with this status has no content (RFC 9110, sections 6.4.1 and 15.3.6), even if the guest
/// sends some.
pub(crate) fn has_no_content(status: StatusCode) -> bool {
    let without = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    status.is_informational() || without.contains(&status)
}

/// Returns whether a response with these header fields is a stream of server-sent events.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_stream_of_events_is_one() {
        for (value, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("text/event-streams", false),
            ("text/html", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_event_stream(&headers), expected, "{value}");
        }
        assert!(!is_event_stream(&HeaderMap::new()));
    }
}
