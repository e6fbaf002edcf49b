//! A record of the log, while the record waits to be written.

use isomer_display::excerpt::{NAME_BYTES_MAX, TEXT_BYTES_MAX, cut};
use isomer_telemetry::{
    AccessRecord, Attribute, Event, GuestRecord, Level, RecordSource, RequestId, Severity, StandardStream, TraceContext,
};

/// A record of the log. Texts in a record are copies of bounded length, because another thread writes the record.
#[derive(Debug)]
pub(crate) enum LogRecord {
    /// A line that a component printed.
    Output {
        component: String,
        stream: StandardStream,
        request: Option<RequestId>,
        trace: Option<TraceContext>,
        line: String,
    },
    /// A structured record that a component logged.
    Structured(StructuredRecord),
    /// A served request.
    Access(AccessRecord),
    /// A request that failed in a component.
    Failed {
        component: String,
        request: RequestId,
        trace: Option<TraceContext>,
        reason: String,
        backtrace: Vec<String>,
        response_cut_off: bool,
    },
    /// The callee of a call over a seam failed. Whether the request that made the call failed as well is not in this
    /// record; the caller reports it.
    CallFailed {
        component: String,
        request: Option<RequestId>,
        trace: Option<TraceContext>,
        reason: String,
        backtrace: Vec<String>,
    },
    /// A message of the platform.
    Message {
        level: Level,
        /// The module that wrote the message; `None` for a message about the whole process.
        target: Option<String>,
        text: String,
    },
}

/// A structured record that a component logged.
#[derive(Debug)]
pub(crate) struct StructuredRecord {
    pub(crate) component: String,
    pub(crate) source: RecordSource,
    pub(crate) request: Option<RequestId>,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) severity: Option<Severity>,
    pub(crate) time_ns: Option<u64>,
    pub(crate) message: String,
    pub(crate) attributes: Vec<Attribute>,
}

impl StructuredRecord {
    /// Returns the record as an event.
    pub(crate) fn as_event(&self) -> GuestRecord<'_> {
        let Self { component, source, request, trace, severity, time_ns, message, attributes } = self;
        GuestRecord {
            component,
            source: *source,
            request: *request,
            trace: *trace,
            severity: *severity,
            time_ns: *time_ns,
            message,
            attributes,
        }
    }
}

impl From<GuestRecord<'_>> for StructuredRecord {
    fn from(record: GuestRecord<'_>) -> Self {
        Self {
            component: record.component.to_owned(),
            source: record.source,
            request: record.request,
            trace: record.trace,
            severity: record.severity,
            time_ns: record.time_ns,
            message: record.message.to_owned(),
            attributes: record.attributes.to_vec(),
        }
    }
}

impl LogRecord {
    /// Converts an event to a record. A denied access becomes a warning.
    pub(crate) fn from_event(event: Event<'_>) -> Self {
        match event {
            Event::OutputLine { component, stream, request, trace, line } => {
                let line = String::from_utf8_lossy(line).into_owned();
                Self::Output { component: component.to_owned(), stream, request, trace, line }
            }
            Event::Record(record) => Self::Structured(record.into()),
            Event::RequestFailed { component, request, trace, reason, backtrace, response_cut_off } => Self::Failed {
                component: component.to_owned(),
                request,
                trace,
                reason: cut(reason, TEXT_BYTES_MAX),
                backtrace: backtrace.to_vec(),
                response_cut_off,
            },
            Event::CallFailed { component, request, trace, reason, backtrace } => Self::CallFailed {
                component: component.to_owned(),
                request,
                trace,
                reason: cut(reason, TEXT_BYTES_MAX),
                backtrace: backtrace.to_vec(),
            },
            Event::AccessDenied { component, text } => {
                Self::message(Level::Warning, None, format!("`{component}`: {text}"))
            }
        }
    }

    /// Calls `receive` with the event from which the record was made. Does nothing for served requests and messages,
    /// which are not made from events.
    pub(crate) fn with_event(&self, receive: impl FnOnce(Event<'_>)) {
        match self {
            Self::Structured(record) => receive(Event::Record(record.as_event())),
            Self::Output { component, stream, request, trace, line } => receive(Event::OutputLine {
                component,
                stream: *stream,
                request: *request,
                trace: *trace,
                line: line.as_bytes(),
            }),
            Self::Failed { component, request, trace, reason, backtrace, response_cut_off } => {
                receive(Event::RequestFailed {
                    component,
                    request: *request,
                    trace: *trace,
                    reason,
                    backtrace,
                    response_cut_off: *response_cut_off,
                });
            }
            Self::CallFailed { component, request, trace, reason, backtrace } => {
                receive(Event::CallFailed { component, request: *request, trace: *trace, reason, backtrace });
            }
            Self::Access(_) | Self::Message { .. } => {}
        }
    }

    /// Converts a served request to a record. Texts from the client are shortened.
    pub(crate) fn access(access: AccessRecord) -> Self {
        Self::Access(AccessRecord {
            method: shortened(access.method, NAME_BYTES_MAX),
            target: shortened(access.target, TEXT_BYTES_MAX),
            cut_off: access.cut_off.map(|reason| shortened(reason, TEXT_BYTES_MAX)),
            ..access
        })
    }

    pub(crate) fn message(level: Level, target: Option<&str>, text: String) -> Self {
        Self::Message { level, target: target.map(str::to_owned), text: shortened(text, TEXT_BYTES_MAX) }
    }

    /// Returns the trace and the span that the record belongs to, if they are known.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        match self {
            Self::Output { trace, .. } | Self::Failed { trace, .. } | Self::CallFailed { trace, .. } => *trace,
            Self::Structured(record) => record.trace,
            Self::Access(access) => access.trace,
            Self::Message { .. } => None,
        }
    }

    /// Returns the number of bytes of memory that the record occupies.
    pub(crate) fn bytes(&self) -> usize {
        let frames = |frames: &[String]| frames.iter().map(|frame| size_of::<String>() + frame.len()).sum::<usize>();
        let text = match self {
            Self::Output { component, line, .. } => component.len() + line.len(),
            Self::Structured(record) => {
                let attributes = record.attributes.iter().map(Attribute::bytes).sum::<usize>();
                record.component.len() + record.message.len() + attributes
            }
            Self::Access(access) => {
                let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
                access.method.len() + access.target.len() + length(&access.host) + length(&access.cut_off)
            }
            Self::Failed { component, reason, backtrace, .. }
            | Self::CallFailed { component, reason, backtrace, .. } => {
                component.len() + reason.len() + frames(backtrace)
            }
            Self::Message { target, text, .. } => target.as_ref().map_or(0, String::len) + text.len(),
        };
        size_of::<Self>() + text
    }

    /// Returns whether guests and clients, rather than the platform, decide how many records of this kind are written.
    pub(crate) fn is_of_guest(&self) -> bool {
        !matches!(self, Self::Message { level: Level::Error | Level::Warning | Level::Info, .. })
    }

    /// Returns the tenant whose app served the request. Returns `None` for other kinds of records.
    pub(crate) fn tenant(&self) -> Option<&str> {
        match self {
            Self::Access(access) => access.app.as_ref().map(|app| &*app.tenant),
            _ => None,
        }
    }
}

fn shortened(text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max { cut(text, bytes_max) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_guest_is_cut() {
        let (request, reason) = (RequestId::from_raw(1).unwrap(), "é".repeat(1 << 20));
        let (trace, reason, backtrace, response_cut_off) = (None, &reason, &[], false);
        let failed = Event::RequestFailed { component: "cart", request, trace, reason, backtrace, response_cut_off };
        let LogRecord::Failed { reason, .. } = LogRecord::from_event(failed) else { panic!("not a failed request") };
        assert!(reason.len() < TEXT_BYTES_MAX * 2 && reason.ends_with("é…"), "{} bytes", reason.len());
    }

    #[test]
    fn a_denied_access_is_a_warning_that_guests_do_not_crowd_out() {
        let record = LogRecord::from_event(Event::AccessDenied { component: "cart", text: "no" });
        assert!(!record.is_of_guest());
        assert!(matches!(record, LogRecord::Message { level: Level::Warning, text, .. } if text == "`cart`: no"));
    }
}
