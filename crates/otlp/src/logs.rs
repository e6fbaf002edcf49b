//! The export of logs: lines that components print, records that they log, failed requests and calls, denied access.

use std::sync::Arc;
use std::time::SystemTime;

use isomer_display::excerpt;
use isomer_telemetry::{Attribute, Event, EventSink, RequestId, Severity, TraceContext, semantics, unix_ns};
use prost::Message as _;

use crate::delivery::Item;
use crate::message::{self, InstrumentationScope, KeyValue, Resource};
use crate::queue::{QueueSender, TenantSlot, Weight};
use crate::resource::{span_bytes, trace_bytes};
use crate::traces::attribute;

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
    /// The time at which the record arrived.
    observed_ns: u64,
    /// The time that the component states.
    time_ns: Option<u64>,
    /// The severity; `None` for lines that components print.
    severity: Option<Severity>,
    component: String,
    /// The stream that a component printed the line to.
    stream: Option<&'static str>,
    request: Option<RequestId>,
    trace: Option<TraceContext>,
    /// The fields of a structured record.
    attributes: Vec<Attribute>,
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
        let (resource, observed_ns) = (self.resource.clone(), unix_ns(SystemTime::now()));
        let item = |severity, component: &str, request, trace, text| LogItem {
            resource,
            observed_ns,
            time_ns: None,
            severity,
            component: component.to_owned(),
            stream: None,
            request,
            trace,
            attributes: Vec::new(),
            text,
            stack: String::new(),
        };
        let reason = |reason| excerpt::cut(reason, excerpt::TEXT_BYTES_MAX);
        let item = match event {
            Event::OutputLine { component, stream, request, trace, line } => {
                let line = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]).into_owned();
                LogItem { stream: Some(stream.name()), ..item(None, component, request, trace, line) }
            }
            Event::Record(record) => LogItem {
                stream: Some(record.source.name()),
                time_ns: record.time_ns,
                attributes: record.attributes.to_vec(),
                ..item(record.severity, record.component, record.request, record.trace, record.message.to_owned())
            },
            Event::RequestFailed { component, request, trace, reason: why, backtrace, response_cut_off } => {
                let cut_off = if response_cut_off { " (the response was cut off)" } else { "" };
                let text = format!("{}{cut_off}", reason(why));
                LogItem {
                    stack: stack(backtrace),
                    ..item(Some(Severity::Error), component, Some(request), trace, text)
                }
            }
            Event::CallFailed { component, request, trace, reason: why, backtrace } => LogItem {
                stack: stack(backtrace),
                ..item(Some(Severity::Error), component, request, trace, reason(why))
            },
            Event::AccessDenied { component, text } => {
                item(Some(Severity::Warning), component, None, None, excerpt::cut(text, excerpt::TEXT_BYTES_MAX))
            }
        };
        let attributes: usize = item.attributes.iter().map(Attribute::bytes).sum();
        let bytes = size_of::<LogItem>() + item.component.len() + item.text.len() + item.stack.len() + attributes;
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
    // The collector must not find a key twice: the platform's attributes win.
    let is_own = |key: &str| !attributes.iter().any(|platform| platform.key == key);
    let own: Vec<_> = item.attributes.iter().filter(|own| is_own(own.key.as_str())).map(attribute).collect();
    attributes.extend(own);
    let (severity_number, severity_text) = item.severity.map_or((0, ""), severity);
    message::LogRecord {
        time_unix_nano: item.time_ns.unwrap_or(item.observed_ns),
        observed_time_unix_nano: item.observed_ns,
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

fn severity(severity: Severity) -> (i32, &'static str) {
    match severity {
        Severity::Trace => (1, "TRACE"),
        Severity::Debug => (5, "DEBUG"),
        Severity::Info => (9, "INFO"),
        Severity::Warning => (13, "WARN"),
        Severity::Error => (17, "ERROR"),
        Severity::Critical => (21, "FATAL"),
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
