//! The traces of a member, which the member sends to its supervisor in the same pipe as its log.
//!
//! A trace is a line of JSON, like a record of the log, but begins with [`LINE_START`]. Guests cannot write such a
//! line, because their output is a field of a record. The supervisor does not trust the member, because the member runs
//! guests: the supervisor limits everything that a line contains.

use serde::{Deserialize, Serialize};

use isomer_telemetry::{
    RequestId, SPAN_ATTRIBUTES_MAX, SPAN_TEXT_BYTES_MAX, SPANS_PER_REQUEST_MAX, Span, SpanStatus, Text, TraceFragment,
    TraceId, Value,
};

/// The start of each line that contains a trace. No record of the log begins like this.
const LINE_START: &str = "{\"trace\":\"";

/// The maximum length of a line in bytes. It is less than the length from which the supervisor splits a line. If the
/// spans of a trace do not fit into a line, the spans that ended first are dropped.
const LINE_BYTES_MAX: usize = 512 << 10;

/// A trace that the supervisor received.
#[derive(Debug, PartialEq)]
pub(crate) struct ReceivedTrace {
    pub(crate) fragment: TraceFragment,
    /// The number of traces that the member dropped since its last trace.
    pub(crate) lost: u64,
}

/// The content of the line with which a member sends a trace to the supervisor. The spans are in the reverse order of
/// their ends, so the request's first span usually comes first.
#[derive(Serialize, Deserialize)]
struct TraceLine<S> {
    trace: String,
    request: String,
    sampled: bool,
    dropped: u64,
    lost: u64,
    spans: Vec<S>,
}

/// Returns the line, without a line ending, that contains `fragment`. `lost` is the number of traces that were dropped
/// since the last line.
pub(crate) fn to_line(fragment: &TraceFragment, lost: u64) -> String {
    let mut bytes = 0;
    let mut spans = Vec::with_capacity(fragment.spans.len());
    for span in fragment.spans.iter().rev() {
        let json = serde_json::value::to_raw_value(span).expect("a span is plain data");
        bytes += json.get().len() + 1;
        // In addition to its spans, a line contains less than 256 bytes.
        if bytes > LINE_BYTES_MAX - 256 {
            break;
        }
        spans.push(json);
    }
    let line = TraceLine {
        trace: fragment.trace_id.to_string(),
        request: fragment.request.to_string(),
        sampled: fragment.is_sampled,
        dropped: fragment.spans_dropped.saturating_add((fragment.spans.len() - spans.len()) as u64),
        lost,
        spans,
    };
    serde_json::to_string(&line).expect("a line is plain data")
}

/// Returns whether the line is a trace, even if it is not valid.
pub(crate) fn is_trace(line: &str) -> bool {
    line.starts_with(LINE_START)
}

/// Reads a line that [`to_line`] returned. Returns `None` for another text.
pub(crate) fn parse(line: &str) -> Option<ReceivedTrace> {
    let line: TraceLine<Span> = serde_json::from_str(line).ok()?;
    let digits = |text: &str, count| {
        let is_hex = text.len() == count && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
    };
    let request = u64::try_from(digits(&line.request, 16)?).ok()?;
    let mut spans = line.spans;
    // A recording can have one span more than the maximum: the request's first span.
    spans.truncate(SPANS_PER_REQUEST_MAX + 1);
    spans.iter_mut().for_each(limit);
    spans.reverse();
    let fragment = TraceFragment {
        trace_id: TraceId::from_raw(digits(&line.trace, 32)?)?,
        request: RequestId::from_raw(request)?,
        app: None,
        is_sampled: line.sampled,
        spans,
        spans_dropped: line.dropped,
    };
    Some(ReceivedTrace { fragment, lost: line.lost })
}

/// Cuts off what exceeds the limits of a recorded span.
fn limit(span: &mut Span) {
    span.attributes.truncate(SPAN_ATTRIBUTES_MAX);
    cut(&mut span.name);
    if let Some(component) = &mut span.component {
        cut(component);
    }
    if let SpanStatus::Failed(reason) = &mut span.status {
        cut(reason);
    }
    for attribute in &mut span.attributes {
        cut(&mut attribute.key);
        if let Value::Text(text) = &mut attribute.value {
            cut(text);
        }
    }
}

fn cut(text: &mut Text) {
    let all = text.as_str();
    if all.len() > SPAN_TEXT_BYTES_MAX {
        *text = all[..all.floor_char_boundary(SPAN_TEXT_BYTES_MAX)].to_owned().into();
    }
}

#[cfg(test)]
mod tests {
    use isomer_telemetry::{Attribute, SpanId, SpanKind};

    use super::*;

    fn span(id: u64, text: &str, attributes: usize) -> Span {
        let attribute =
            |number: usize| Attribute { key: format!("{number}{text}").into(), value: text.to_owned().into() };
        Span {
            id: SpanId::from_raw(id).unwrap(),
            parent: SpanId::from_raw(1),
            name: text.to_owned().into(),
            kind: SpanKind::Client,
            component: Some(text.to_owned().into()),
            start_ns: u64::MAX,
            duration_ns: 5,
            status: SpanStatus::Failed(text.to_owned().into()),
            attributes: (0..attributes).map(attribute).collect(),
        }
    }

    fn fragment(spans: Vec<Span>) -> TraceFragment {
        TraceFragment {
            trace_id: TraceId::from_raw(0xab << 64).unwrap(),
            request: RequestId::from_raw(u64::MAX).unwrap(),
            app: None,
            is_sampled: true,
            spans,
            spans_dropped: 3,
        }
    }

    #[test]
    fn a_trace_is_one_line_and_read_as_it_was_written() {
        let mut second = span(3, "b", 0);
        second.attributes = [Value::Bool(true), Value::Int(-1), Value::Float(0.5)]
            .map(|value| Attribute { key: "key".into(), value })
            .into();
        let fragment = fragment(vec![span(2, "a\n\"ä", 2), second]);
        let line = to_line(&fragment, 7);
        assert!(!line.contains('\n') && is_trace(&line));
        assert_eq!(parse(&line), Some(ReceivedTrace { fragment, lost: 7 }));
    }

    #[test]
    fn the_length_of_a_line_is_bounded() {
        let spans: Vec<_> = (2..502).map(|id| span(id, &"x".repeat(SPAN_TEXT_BYTES_MAX), 1)).collect();
        let line = to_line(&fragment(spans), 0);
        assert!(line.len() <= LINE_BYTES_MAX && line.len() > LINE_BYTES_MAX - 8 * 1024);
        let read = parse(&line).unwrap().fragment;
        assert_eq!(read.spans.last().map(|span| span.id.get()), Some(501));
        assert_eq!(read.spans_dropped, 3 + 500 - read.spans.len() as u64);
    }

    #[test]
    fn the_supervisor_limits_what_a_member_sends() {
        let mut spans = vec![span(2, "", 0); SPANS_PER_REQUEST_MAX * 2];
        spans.push(span(9, &"ä".repeat(SPAN_TEXT_BYTES_MAX), SPAN_ATTRIBUTES_MAX + 1));
        let read = parse(&to_line(&fragment(spans), 0)).unwrap().fragment;
        assert_eq!(read.spans.len(), SPANS_PER_REQUEST_MAX + 1);
        let last = read.spans.last().unwrap();
        assert_eq!((last.attributes.len(), last.name.as_str().len()), (SPAN_ATTRIBUTES_MAX, SPAN_TEXT_BYTES_MAX));
        assert!(last.attributes.iter().all(|attribute| attribute.key.as_str().len() <= SPAN_TEXT_BYTES_MAX));
    }

    #[test]
    fn other_lines_are_no_traces() {
        let valid = to_line(&fragment(Vec::new()), 0);
        let zero = valid.replace("ffffffffffffffff", "0000000000000000");
        let sign = valid.replace("ffffffffffffffff", "+fffffffffffffff");
        for line in ["", "{\"trace\":\"", "{\"event\":\"note\"}", &zero, &sign, &valid[..valid.len() - 1]] {
            assert_eq!(parse(line), None, "{line}");
        }
        assert!(!is_trace("{\"event\":\"note\"}"));
    }
}
