//! The log of one member, which becomes a part of the supervisor's log.
//!
//! A member writes its log as JSON lines to a pipe. The supervisor converts each line back to a record, and writes the
//! record with its original time and the member's name. Lines with traces and metrics go to their receivers. Other text,
//! such as the message of a panic, is logged as a warning.

use std::sync::Arc;
use std::time::SystemTime;

use isomer_display::count;
use isomer_telemetry::{Level, TraceSink};

use crate::json;
use crate::log::Log;
use crate::member::MemberName;
use crate::member_metrics::{MemberMetrics, is_metrics};
use crate::member_traces::{ReceivedTrace, is_trace, parse};
use crate::record::LogRecord;

/// Writes records to the supervisor's log under the name of one member, and passes on the member's traces and metrics.
#[derive(Clone)]
pub struct MemberLog {
    log: Log,
    member: MemberName,
    traces: Option<Arc<dyn TraceSink>>,
    metrics: Option<Arc<MemberMetrics>>,
}

impl Log {
    /// Returns the writer for the member `name`. `width` is the length of the longest member name in characters.
    pub fn member(&self, name: &str, width: usize) -> MemberLog {
        MemberLog { log: self.clone(), member: MemberName { name: name.into(), width }, traces: None, metrics: None }
    }
}

impl MemberLog {
    /// Sets the sink that receives the member's traces. Without a sink, traces are ignored.
    #[must_use]
    pub fn with_traces(self, traces: Arc<dyn TraceSink>) -> Self {
        Self { traces: Some(traces), ..self }
    }

    /// Sets the receiver of the member's metrics. Without a receiver, metrics are ignored.
    #[must_use]
    pub fn with_metrics(self, metrics: Arc<MemberMetrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Records that the member's process has ended. The metrics of the next process start at 0.
    pub fn end_process(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.end_process();
        }
    }

    /// Writes a line that the member sent: a record as a record, other text as a warning. If the line contains a trace
    /// or metrics, passes them on instead.
    pub fn relay(&self, line: &str) {
        if is_metrics(line) {
            return self.relay_metrics(line);
        }
        if is_trace(line) {
            return self.relay_trace(line);
        }
        match json::parse(line) {
            Some((at, record)) => {
                record.with_event(|event| self.log.export(event));
                self.log.push(at, Some(self.member.clone()), record);
            }
            None => self.warn(line),
        }
    }

    fn relay_trace(&self, line: &str) {
        let Some(ReceivedTrace { fragment, lost }) = parse(line) else { return self.warn("sent an invalid trace") };
        if lost > 0 {
            let traces = count(lost, "trace");
            self.warn(format!("dropped {traces}: traces were recorded faster than they could be sent"));
        }
        if let Some(traces) = &self.traces {
            traces.record(fragment);
        }
    }

    fn relay_metrics(&self, line: &str) {
        if self.metrics.as_ref().is_some_and(|metrics| !metrics.receive(line)) {
            self.warn("sent invalid metrics");
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
    use std::sync::Mutex;

    use isomer_telemetry::{Event, EventSink, RequestId, StandardStream, TraceFragment, TraceId};

    use super::*;
    use crate::json_lines::with_record;
    use crate::log::Format;
    use crate::test_output::Output;

    #[derive(Default)]
    struct Events(Mutex<Vec<String>>);

    impl EventSink for Events {
        fn emit(&self, event: Event<'_>) {
            let text = match event {
                Event::OutputLine { component, line, .. } => format!("{component} {}", String::from_utf8_lossy(line)),
                Event::Record(record) => format!("{} record {}", record.component, record.message),
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
        let (stream, request, trace) = (StandardStream::Stdout, RequestId::from_raw(7), None);
        log.emit(Event::OutputLine { component: "own", stream, request, trace, line: b"a" });
        log.emit(Event::AccessDenied { component: "own", text: "b" });
        log.note("a message of the platform");
        let member = log.member("pages", 5);
        member.relay("the text of a panic");
        let sent = Event::RequestFailed {
            component: "cart",
            request: request.unwrap(),
            trace,
            reason: &"a trap",
            backtrace: &["f".to_owned()],
            response_cut_off: false,
        };
        let calls = Event::CallFailed { component: "cart", request, trace, reason: &"lost", backtrace: &[] };
        let line = |line| Event::OutputLine { component: "cart", stream, request: None, trace, line };
        let printed = line(b"c".as_slice());
        let mut record = None;
        with_record(line(b"{\"msg\":\"d\"}"), |event| record = Some(LogRecord::from_event(event)));
        member.relay(&json::to_json(&record.unwrap(), SystemTime::now(), None));
        for event in [sent, calls, printed] {
            member.relay(&json::to_json(&LogRecord::from_event(event), SystemTime::now(), None));
        }
        let expected = ["own a", "own denied b", "cart record d", "cart a trap [\"f\"]", "cart call lost", "cart c"];
        assert_eq!(*events.0.lock().unwrap(), expected);
    }

    #[derive(Default)]
    struct Received(Mutex<Vec<TraceFragment>>);

    impl TraceSink for Received {
        fn record(&self, fragment: TraceFragment) {
            self.0.lock().unwrap().push(fragment);
        }
    }

    #[test]
    fn a_member_sends_its_traces_with_its_log() {
        let (pipe, received, out) = (Output::default(), Arc::new(Received::default()), Output::default());
        let member = Log::start(pipe.clone(), Format::Json, false).unwrap();
        let (trace_id, request) = (TraceId::random(), RequestId::from_raw(7).unwrap());
        let fragment =
            TraceFragment { trace_id, request, app: None, is_sampled: true, spans: vec![], spans_dropped: 0 };
        member.note("before");
        member.member_traces().record(fragment.clone());
        member.note("after");
        member.flush();
        let log = Log::start(out.clone(), Format::Text { colour: false }, false).unwrap();
        let supervisor = log.member("pages", 5).with_traces(received.clone());
        pipe.take().lines().for_each(|line| supervisor.relay(line));
        supervisor.relay("{\"trace\":\"0\"}");
        log.flush();
        assert_eq!(*received.0.lock().unwrap(), [fragment]);
        let text = out.take();
        assert!(text.contains("before") && text.contains("after") && text.contains("invalid trace"), "{text}");
        assert_eq!(text.lines().count(), 3);
    }
}
