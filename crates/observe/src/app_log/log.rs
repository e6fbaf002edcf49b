//! One app's log: writing and reading it.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Instant, SystemTime};

use isomer_api::{LogLevel, LogLine, TraceValue};
use isomer_display::excerpt::cut;
use isomer_telemetry::{AccessRecord, Event, EventSink, RecordSource, RequestId, TraceContext};

use super::follower::{self, Followed};
use super::line::{TEXT_BYTES_MAX, frames, node_line, of_record, of_request};
use super::queue::{AppLogError, OpenLog};
use super::segments::{Position, last_lines};
use crate::json_lines::with_record;

/// The assumed number of bytes that a line has in addition to its text: names, time and quotes.
const LINE_OVERHEAD_BYTES: usize = 128;

/// The number of bytes that a trace id and a span id take in a line, including the names of both fields.
const TRACE_IDS_BYTES: usize = 80;

/// The value of [`LogLine::stream`] in the lines of an access log.
const ACCESS: &str = "access";

/// An app's log. Cheap to clone. Writing to the log never blocks.
#[derive(Clone)]
pub struct AppLog {
    pub(super) open: Arc<OpenLog>,
    /// The log of lines that tabs send, if it is a separate one.
    tabs: Option<Arc<OpenLog>>,
    /// A sink that also receives the events, such as an exporter.
    export: Option<Arc<dyn EventSink>>,
}

impl AppLog {
    pub(super) fn new(open: Arc<OpenLog>) -> Self {
        Self { open, tabs: None, export: None }
    }

    /// Returns the same log, which writes lines of tabs to `tabs` instead. Visitors decide how many there are, and a
    /// log has a maximum size, so they would displace the lines of the app.
    #[must_use]
    pub fn with_tabs(self, tabs: &Self) -> Self {
        Self { tabs: Some(tabs.open.clone()), ..self }
    }

    /// Returns the same log, which also passes events to `sink`.
    #[must_use]
    pub fn exported_to(self, sink: Arc<dyn EventSink>) -> Self {
        Self { export: Some(sink), ..self }
    }

    /// Writes a message from the node about the app. `trace` contains the ids of the trace that the message belongs to.
    pub fn note(&self, level: LogLevel, trace: Option<TraceContext>, text: impl Into<String>) {
        let text: String = text.into();
        self.push(LogLine { level: Some(level), ..of_request(cut(text, TEXT_BYTES_MAX), None, trace) });
    }

    /// Writes a line that states that the front door refused a request to the app, with the status code and the reason.
    /// `trace` contains the ids of the request's trace and span.
    pub fn refused(&self, component: &str, request: RequestId, trace: TraceContext, status: u16, why: &str) {
        let text = format!("responded with {status}: {why}");
        let line = of_request(text, Some(request), Some(trace));
        self.push(LogLine { component: Some(component.to_owned()), level: Some(LogLevel::Warning), ..line });
    }

    /// Writes a served request. This log must be the app's access log.
    pub(crate) fn access(&self, access: &AccessRecord) {
        let AccessRecord { id, method, target, status, body_bytes, took, component, host, client, cut_off, .. } =
            access;
        let took_ms = took.as_secs_f64() * 1e3;
        let mut text = format!("{status} {method} {target} {body_bytes} B {took_ms:.1} ms");
        if let Some(host) = host {
            text.push(' ');
            text.push_str(host);
        }
        if let Some(client) = client {
            let _ = write!(text, " from {client}");
        }
        if let Some(why) = cut_off {
            let _ = write!(text, " cut off: {why}");
        }
        let component = component.as_deref().map(ToOwned::to_owned);
        let line = of_request(cut(text, TEXT_BYTES_MAX), Some(*id), access.trace);
        self.push(LogLine { component, stream: ACCESS.to_owned(), ..line });
    }

    /// Returns the last `lines` lines, the oldest first, including everything that was written before this call. Blocks
    /// while it reads files.
    ///
    /// # Errors
    /// If the log's files cannot be read, or the log is closed.
    pub fn last(&self, lines: usize) -> Result<Vec<LogLine>, AppLogError> {
        let end = self.open.queue.end(&self.open, None)?;
        self.read(lines, end)
    }

    /// Returns the last `lines` lines, and a stream of all later lines. No line is missing or repeated between the two.
    /// Blocks while it reads files.
    ///
    /// # Errors
    /// If the log's files cannot be read, the log is closed, or the log has the maximum number of followers.
    pub fn follow(&self, lines: usize) -> Result<(Vec<LogLine>, Followed), AppLogError> {
        let (follower, followed) = follower::pair(self.open.clone());
        let end = self.open.queue.end(&self.open, Some(follower))?;
        Ok((self.read(lines, end)?, followed))
    }

    /// Closes the log: later messages are dropped, and the streams of followers end. Blocks until the last write to the
    /// log's folder has ended.
    pub fn close(&self) {
        self.open.closed.store(true, Ordering::Release);
        // Waits until earlier messages were processed. The result is always an error, because the log is closed.
        let _ = self.open.queue.end(&self.open, None);
        self.open.written.lock().unwrap_or_else(PoisonError::into_inner).followers.clear();
    }

    fn read(&self, lines: usize, end: Position) -> Result<Vec<LogLine>, AppLogError> {
        let failed = |source| AppLogError::Read { folder: self.open.folder.clone(), source };
        last_lines(&self.open.folder, lines, end).map_err(failed)
    }

    /// Writes a line of another log to this log.
    pub(crate) fn write(&self, line: LogLine) {
        self.push(line);
    }

    fn push(&self, line: LogLine) {
        let is_of_tab = line.stream == RecordSource::TAB;
        let app = self.tabs.as_ref().filter(|_| is_of_tab).unwrap_or(&self.open);
        if app.closed.load(Ordering::Acquire) {
            return;
        }
        let frames: usize = line.backtrace.iter().map(String::len).sum();
        let ids = if line.trace_id.is_some() { TRACE_IDS_BYTES } else { 0 };
        let attributes: usize = line.attributes.iter().map(|(key, value)| key.len() + value_bytes(value)).sum();
        let bytes = line.text.len() + frames + ids + attributes + LINE_OVERHEAD_BYTES;
        let is_of_clients = is_of_tab || line.stream == ACCESS;
        if !app.quota.take(bytes as u64, is_of_clients, Instant::now()) {
            lost(app, &app.over_quota);
        } else if !app.queue.push(app, line, bytes) {
            lost(app, &app.too_fast);
        }
    }
}

fn lost(app: &Arc<OpenLog>, counter: &AtomicU64) {
    if counter.fetch_add(1, Ordering::Relaxed) == 0 {
        app.queue.record_loss(app);
    }
}

/// Returns the number of bytes that a value takes in a file, approximately.
fn value_bytes(value: &TraceValue) -> usize {
    match value {
        TraceValue::Text(text) => text.len(),
        _ => size_of::<u64>(),
    }
}

impl std::fmt::Debug for AppLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppLog").field("folder", &self.open.folder).finish_non_exhaustive()
    }
}

impl EventSink for AppLog {
    fn emit(&self, event: Event<'_>) {
        with_record(event, |event| self.write_event(event));
    }
}

impl AppLog {
    fn write_event(&self, event: Event<'_>) {
        if let Some(sink) = &self.export {
            sink.emit(event);
        }
        let named = |component: &str, line: LogLine| LogLine { component: Some(component.to_owned()), ..line };
        match event {
            Event::OutputLine { component, stream, request, trace, line } => {
                let line = of_request(String::from_utf8_lossy(line).into_owned(), request, trace);
                self.push(named(component, LogLine { stream: stream.name().to_owned(), ..line }));
            }
            Event::Record(record) => self.push(of_record(&record, SystemTime::now())),
            Event::RequestFailed { component, request, trace, reason, backtrace, response_cut_off } => {
                let cut_off = if response_cut_off { " (the response was cut off)" } else { "" };
                let text = cut(format_args!("{reason}{cut_off}"), TEXT_BYTES_MAX);
                let line = LogLine { level: Some(LogLevel::Error), ..of_request(text, Some(request), trace) };
                self.push(named(component, LogLine { backtrace: frames(backtrace), ..line }));
            }
            Event::CallFailed { component, request, trace, reason, backtrace } => {
                let text = cut(reason, TEXT_BYTES_MAX);
                let line = LogLine { level: Some(LogLevel::Error), ..of_request(text, request, trace) };
                self.push(named(component, LogLine { backtrace: frames(backtrace), ..line }));
            }
            Event::AccessDenied { component, text } => {
                self.push(named(component, node_line(LogLevel::Warning, cut(text, TEXT_BYTES_MAX))));
            }
        }
    }
}
