//! Lines of an app's log.

use std::time::{SystemTime, UNIX_EPOCH};

use isomer_api::{LogLevel, LogLine, TraceValue};
use isomer_telemetry::{GuestRecord, RequestId, Severity, TraceContext, Value};

/// The maximum number of bytes in a call stack, and in the text of a line that the node writes.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 10;

/// The value of [`LogLine::stream`] in lines that the node writes.
pub(super) const PLATFORM: &str = "node";

/// Returns a line that the node writes, with the current time.
pub(super) fn node_line(level: LogLevel, text: String) -> LogLine {
    LogLine { level: Some(level), ..of_request(text, None, None) }
}

/// Returns a line that belongs to `request` and to the span of `trace`, with the current time.
pub(super) fn of_request(text: String, request: Option<RequestId>, trace: Option<TraceContext>) -> LogLine {
    LogLine {
        at_ms: unix_ms(SystemTime::now()),
        stream: PLATFORM.to_owned(),
        request: request.map(|id| id.to_string()),
        trace_id: trace.map(|trace| trace.trace_id.to_string()),
        span_id: trace.map(|trace| trace.parent.to_string()),
        text,
        ..LogLine::default()
    }
}

/// Returns the line for a structured record that arrived at `at`.
pub(crate) fn of_record(record: &GuestRecord<'_>, at: SystemTime) -> LogLine {
    let attributes = record.attributes.iter().map(|one| (one.key.to_string(), trace_value(&one.value)));
    LogLine {
        at_ms: unix_ms(at),
        component: Some(record.component.to_owned()),
        stream: record.source.name().to_owned(),
        request: record.request.map(|id| id.to_string()),
        text: record.message.to_owned(),
        level: record.severity.map(level_of),
        time_ms: record.time_ns.map(|ns| ns / 1_000_000),
        trace_id: record.trace.map(|trace| trace.trace_id.to_string()),
        span_id: record.trace.map(|trace| trace.parent.to_string()),
        attributes: attributes.collect(),
        backtrace: Vec::new(),
    }
}

/// Converts a time to milliseconds since the Unix epoch. Times before the epoch become 0.
pub(crate) fn unix_ms(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn level_of(severity: Severity) -> LogLevel {
    match severity {
        Severity::Trace => LogLevel::Trace,
        Severity::Debug => LogLevel::Debug,
        Severity::Info => LogLevel::Info,
        Severity::Warning => LogLevel::Warning,
        Severity::Error => LogLevel::Error,
        Severity::Critical => LogLevel::Critical,
    }
}

fn trace_value(value: &Value) -> TraceValue {
    match value {
        Value::Bool(value) => TraceValue::Bool(*value),
        Value::Int(value) => TraceValue::Int(*value),
        Value::Float(value) => TraceValue::Float(*value),
        Value::Text(text) => TraceValue::Text(text.to_string()),
    }
}

/// Returns the first frames of the call stack `all` that fit into [`TEXT_BYTES_MAX`]. If frames are left out, the last
/// element of the result says how many.
pub(super) fn frames(all: &[String]) -> Vec<String> {
    let mut bytes = 0;
    let fits = |frame: &&String| {
        bytes += frame.len();
        bytes <= TEXT_BYTES_MAX
    };
    let mut frames: Vec<String> = all.iter().take_while(fits).cloned().collect();
    if frames.len() < all.len() {
        frames.push(format!("… {} more", all.len() - frames.len()));
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_call_stack_is_cut_between_two_frames() {
        let all = vec!["f".repeat(1000); 40];
        let shown = frames(&all);
        assert_eq!((shown.len(), shown[15].len(), shown[16].as_str()), (17, 1000, "… 24 more"));
        assert_eq!(frames(&all[..16]), all[..16]);
    }
}
