//! Copies the log of a process to the log of its only app. `isomer run` and `isomer dev` do this, so that printed lines
//! can be read later from the app's log.

use std::time::SystemTime;

use isomer_api::{LogLevel, LogLine};
use isomer_telemetry::{Level, RequestId};

use crate::app_log::{AppLog, of_record, unix_ms};
use crate::record::LogRecord;

/// Writes records of a process's log to the logs of the only app of the process: its log and, if it has one, its access
/// log.
pub(crate) struct AppCopy {
    output: AppLog,
    access: Option<AppLog>,
}

impl AppCopy {
    pub(crate) fn new(output: AppLog, access: Option<AppLog>) -> Self {
        Self { output, access }
    }

    /// Writes a record. Debug messages are left out.
    pub(crate) fn write(&self, at: SystemTime, record: &LogRecord) {
        match (record, &self.access) {
            (LogRecord::Access(access), Some(log)) => log.access(access),
            (LogRecord::Access(_), None) => {}
            _ => {
                if let Some(line) = line_of(at, record) {
                    self.output.write(line);
                }
            }
        }
    }
}

/// Converts a record to a line of an app's log. Returns `None` for debug messages, and for served requests, which only
/// the access log contains.
fn line_of(at: SystemTime, record: &LogRecord) -> Option<LogLine> {
    let line = |component: Option<&String>, request: Option<RequestId>, text: String| LogLine {
        at_ms: unix_ms(at),
        component: component.cloned(),
        stream: "node".to_owned(),
        request: request.map(|id| id.to_string()),
        trace_id: record.trace().map(|trace| trace.trace_id.to_string()),
        span_id: record.trace().map(|trace| trace.parent.to_string()),
        text,
        ..LogLine::default()
    };
    match record {
        LogRecord::Output { component, stream, request, line: text, .. } => {
            let line = line(Some(component), *request, text.clone());
            Some(LogLine { stream: stream.name().to_owned(), ..line })
        }
        LogRecord::Structured(record) => Some(of_record(&record.as_event(), at)),
        LogRecord::Failed { component, request, reason, backtrace, response_cut_off, .. } => {
            let cut_off = if *response_cut_off { " (the response was cut off)" } else { "" };
            let line = line(Some(component), Some(*request), format!("{reason}{cut_off}"));
            Some(LogLine { level: Some(LogLevel::Error), backtrace: backtrace.clone(), ..line })
        }
        LogRecord::CallFailed { component, request, reason, backtrace, .. } => {
            let line = line(Some(component), *request, reason.clone());
            Some(LogLine { level: Some(LogLevel::Error), backtrace: backtrace.clone(), ..line })
        }
        LogRecord::Message { level, text, .. } => {
            let level = match level {
                Level::Error => LogLevel::Error,
                Level::Warning => LogLevel::Warning,
                Level::Info => LogLevel::Info,
                Level::Debug | Level::Trace => return None,
            };
            Some(LogLine { level: Some(level), ..line(None, None, text.clone()) })
        }
        LogRecord::Access(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use isomer_telemetry::TraceContext;

    use super::*;

    #[test]
    fn failures_and_messages_are_lines_and_debug_messages_are_not() {
        let request = RequestId::from_raw(1).unwrap();
        let failed = LogRecord::Failed {
            component: "cart".to_owned(),
            request,
            trace: TraceContext::from_ids("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"),
            reason: "a trap".to_owned(),
            backtrace: vec!["f".to_owned()],
            response_cut_off: true,
        };
        let line = line_of(UNIX_EPOCH, &failed).unwrap();
        assert_eq!((line.at_ms, line.stream.as_str(), line.request), (0, "node", Some(request.to_string())));
        assert_eq!((line.text.as_str(), line.backtrace.len()), ("a trap (the response was cut off)", 1));
        assert_eq!(line.level, Some(LogLevel::Error));
        assert_eq!(line.trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(line.span_id.as_deref(), Some("b7ad6b7169203331"));
        let message = |level| line_of(UNIX_EPOCH, &LogRecord::message(level, None, "it".to_owned()));
        let warning = message(Level::Warning).unwrap();
        assert_eq!((warning.text.as_str(), warning.level), ("it", Some(LogLevel::Warning)));
        assert!(message(Level::Debug).is_none());
    }
}
