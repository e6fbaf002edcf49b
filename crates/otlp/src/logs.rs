//! The export of logs: lines that components print, failed requests and calls, denied access.

use std::sync::Arc;
use std::time::SystemTime;

use isomer_display::excerpt;
use isomer_telemetry::{Event, EventSink, Level, RequestId, TraceContext, semantics, unix_ns};
use prost::Message as _;

use crate::delivery::Item;
use crate::message::{self, InstrumentationScope, KeyValue, Resource};
use crate::queue::{QueueSender, TenantSlot, Weight};
use crate::resource::{span_bytes, trace_bytes};

/// The maximum size of a call stack in bytes. Further frames are left out.
const STACK_BYTES_MAX: usize = 8 << 10;

/// The maximum size of a line in bytes.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Receives the events of one app, and queues them for the export. Never waits.
pub(crate) struct OtlpLogs {
    resource: Arc<Resource>,
    tenant: Option<TenantSlot>,
    queue: QueueSender<LogItem>,
}

/// A log record, and the app that it belongs to.
pub(crate) struct LogItem {
    resource: Arc<Resource>,
    time_ns: u64,
    /// The importance; `None` for lines that components print.
    level: Option<Level>,
    component: String,
    /// The stream that a component printed the line to.
    stream: Option<&'static str>,
    request: Option<RequestId>,
    trace: Option<TraceContext>,
    text: String,
    /// The call stack, one frame per line.
    stack: String,
}

impl OtlpLogs {
    pub(crate) fn new(resource: Resource, tenant: Option<&str>, queue: QueueSender<LogItem>) -> Self {
        Self { resource: Arc::new(resource), tenant: tenant.map(TenantSlot::of), queue }
    }
}

impl EventSink for OtlpLogs {
    fn emit(&self, event: Event<'_>) {
        let (resource, time_ns) = (self.resource.clone(), unix_ns(SystemTime::now()));
        let item = |level, component: &str, request, trace, text| LogItem {
            resource,
            time_ns,
            level,
            component: component.to_owned(),
            stream: None,
            request,
            trace,
            text,
            stack: String::new(),
        };
        let reason = |reason| excerpt::cut(reason, excerpt::TEXT_BYTES_MAX);
        let item = match event {
            Event::OutputLine { component, stream, request, trace, line } => {
                let line = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]).into_owned();
                LogItem { stream: Some(stream.name()), ..item(None, component, request, trace, line) }
            }
            Event::RequestFailed { component, request, trace, reason: why, backtrace, response_cut_off } => {
                let cut_off = if response_cut_off { " (the response was cut off)" } else { "" };
                let text = format!("{}{cut_off}", reason(why));
                LogItem { stack: stack(backtrace), ..item(Some(Level::Error), component, Some(request), trace, text) }
            }
            Event::CallFailed { component, request, trace, reason: why, backtrace } => {
                LogItem { stack: stack(backtrace), ..item(Some(Level::Error), component, request, trace, reason(why)) }
            }
            Event::AccessDenied { component, text } => {
                item(Some(Level::Warning), component, None, None, excerpt::cut(text, excerpt::TEXT_BYTES_MAX))
            }
        };
        let bytes = size_of::<LogItem>() + item.component.len() + item.text.len() + item.stack.len();
        self.queue.push(item, Weight { records: 1, bytes, tenant: self.tenant });
    }
}

/// Returns the first frames that fit into [`STACK_BYTES_MAX`], one per line.
fn stack(frames: &[String]) -> String {
    let mut stack = String::new();
    for (index, frame) in frames.iter().enumerate() {
        if stack.len() + frame.len() > STACK_BYTES_MAX {
            stack.push_str(&format!("… {} more", frames.len() - index));
            break;
        }
        stack.push_str(frame);
        stack.push('\n');
    }
    stack
}

impl Item for LogItem {
    fn encode(items: &[&Self]) -> Vec<u8> {
        let mut groups: Vec<(&Arc<Resource>, Vec<message::LogRecord>)> = Vec::new();
        for item in items {
            let index = groups.iter().position(|(resource, _)| Arc::ptr_eq(resource, &item.resource));
            let index = index.unwrap_or_else(|| {
                groups.push((&item.resource, Vec::new()));
                groups.len() - 1
            });
            groups[index].1.push(record(item));
        }
        let of_resource = |(resource, log_records): (&Arc<Resource>, _)| message::ResourceLogs {
            resource: Some(Resource::clone(resource)),
            scope_logs: vec![message::ScopeLogs { scope: Some(InstrumentationScope::platform()), log_records }],
        };
        message::ExportLogsRequest { resource_logs: groups.into_iter().map(of_resource).collect() }.encode_to_vec()
    }
}

fn record(item: &LogItem) -> message::LogRecord {
    let mut attributes = vec![KeyValue::new(semantics::COMPONENT, item.component.as_str())];
    attributes.extend(item.stream.map(|stream| KeyValue::new("log.iostream", stream)));
    attributes.extend(item.request.map(|request| KeyValue::new(semantics::REQUEST_ID, request.to_string())));
    if !item.stack.is_empty() {
        attributes.push(KeyValue::new("exception.stacktrace", item.stack.as_str()));
    }
    let (severity_number, severity_text) = item.level.map_or((0, ""), severity);
    message::LogRecord {
        time_unix_nano: item.time_ns,
        observed_time_unix_nano: item.time_ns,
        severity_number,
        severity_text: severity_text.to_owned(),
        body: Some(item.text.as_str().into()),
        attributes,
        // The flags of W3C Trace Context. The sampled flag tells the collector that all spans of the trace are
        // exported.
        flags: item.trace.map_or(0, |trace| u32::from(trace.flags.is_sampled())),
        trace_id: item.trace.map(|trace| trace_bytes(trace.trace_id)).unwrap_or_default(),
        span_id: item.trace.map(|trace| span_bytes(trace.parent)).unwrap_or_default(),
    }
}

fn severity(level: Level) -> (i32, &'static str) {
    match level {
        Level::Trace => (1, "TRACE"),
        Level::Debug => (5, "DEBUG"),
        Level::Info => (9, "INFO"),
        Level::Warning => (13, "WARN"),
        Level::Error => (17, "ERROR"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_call_stack_is_cut_between_two_frames() {
        let text = stack(&vec!["f".repeat(1000); 20]);
        assert!(text.len() <= STACK_BYTES_MAX + 20 && text.ends_with("\n… 12 more"), "{}", text.len());
        assert_eq!(stack(&["a".into(), "b".into()]), "a\nb\n");
    }
}
