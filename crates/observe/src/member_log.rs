//! The log of one member, which becomes a part of the supervisor's log.
//!
//! A member writes its log as JSON lines to a pipe. The supervisor converts each line back to a record, and writes the
//! record with its original time and the member's name. Other text, such as the message of a panic, is logged as a
//! warning.

use std::time::SystemTime;

use isomer_telemetry::Level;

use crate::json;
use crate::log::Log;
use crate::member::MemberName;
use crate::record::LogRecord;

/// Writes records to the supervisor's log under the name of one member.
#[derive(Clone)]
pub struct MemberLog {
    log: Log,
    member: MemberName,
}

impl Log {
    /// Returns the writer for the member `name`. `width` is the length of the longest member name in characters.
    pub fn member(&self, name: &str, width: usize) -> MemberLog {
        MemberLog { log: self.clone(), member: MemberName { name: name.into(), width } }
    }
}

impl MemberLog {
    /// Writes a line that the member sent: as a record if the line is one, or as a warning.
    pub fn relay(&self, line: &str) {
        match json::parse(line) {
            Some((at, record)) => {
                record.with_event(|event| self.log.export(event));
                self.log.push(at, Some(self.member.clone()), record);
            }
            None => self.warn(line),
        }
    }

    /// Writes a message about the member with the level [`Level::Info`].
    pub fn note(&self, text: impl Into<String>) {
        self.push(Level::Info, text.into());
    }

    /// Writes a message about the member with the level [`Level::Warning`].
    pub fn warn(&self, text: impl Into<String>) {
        self.push(Level::Warning, text.into());
    }

    fn push(&self, level: Level, text: String) {
        if self.log.levels().includes(level) {
            let record = LogRecord::message(level, None, text);
            self.log.push(SystemTime::now(), Some(self.member.clone()), record);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use isomer_telemetry::{Event, EventSink, RequestId, StandardStream};

    use super::*;
    use crate::log::Format;

    #[derive(Default)]
    struct Events(Mutex<Vec<String>>);

    impl EventSink for Events {
        fn emit(&self, event: Event<'_>) {
            let text = match event {
                Event::OutputLine { component, line, .. } => format!("{component} {}", String::from_utf8_lossy(line)),
                Event::RequestFailed { component, reason, backtrace, .. } => {
                    format!("{component} {reason} {backtrace:?}")
                }
                Event::CallFailed { component, reason, .. } => format!("{component} call {reason}"),
                Event::AccessDenied { component, text } => format!("{component} denied {text}"),
            };
            self.0.lock().unwrap().push(text);
        }
    }

    #[test]
    fn events_of_the_process_and_of_members_are_exported() {
        let events = Arc::new(Events::default());
        let log = Log::start(std::io::sink(), Format::Json, true).unwrap();
        log.export_to(events.clone());
        let (stream, request) = (StandardStream::Stdout, RequestId::from_raw(7));
        log.emit(Event::OutputLine { component: "own", stream, request, line: b"a" });
        log.emit(Event::AccessDenied { component: "own", text: "b" });
        log.note("a message of the platform");
        let member = log.member("pages", 5);
        member.relay("the text of a panic");
        let sent = Event::RequestFailed {
            component: "cart",
            request: request.unwrap(),
            reason: &"a trap",
            backtrace: &["f".to_owned()],
            response_cut_off: false,
        };
        let calls = Event::CallFailed { component: "cart", request, reason: &"lost", backtrace: &[] };
        let printed = Event::OutputLine { component: "cart", stream, request: None, line: b"c" };
        for event in [sent, calls, printed] {
            member.relay(&json::to_json(&LogRecord::from_event(event), SystemTime::now(), None));
        }
        let expected = ["own a", "own denied b", "cart a trap [\"f\"]", "cart call lost", "cart c"];
        assert_eq!(*events.0.lock().unwrap(), expected);
    }
}
