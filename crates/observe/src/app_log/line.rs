//! Lines of an app's log.

use std::time::{SystemTime, UNIX_EPOCH};

use isomer_api::LogLine;
use isomer_telemetry::{RequestId, TraceContext};

/// The maximum number of bytes in a call stack, and in the text of a line that the node writes.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 10;

/// Returns a line that the node writes, with the current time.
pub(super) fn node_line(text: String) -> LogLine {
    of_request(text, None, None)
}

/// Returns a line that belongs to `request` and to the span of `trace`, with the current time.
pub(super) fn of_request(text: String, request: Option<RequestId>, trace: Option<TraceContext>) -> LogLine {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    LogLine {
        at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        component: None,
        stream: "node".to_owned(),
        request: request.map(|id| id.to_string()),
        trace_id: trace.map(|trace| trace.trace_id.to_string()),
        span_id: trace.map(|trace| trace.parent.to_string()),
        text,
        backtrace: Vec::new(),
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
