//! Events that happen while apps are served, and the trait that receives events.
//!
//! An event borrows its data: emitting an event to a sink that ignores it allocates nothing. A sink is called while a
//! request is being served, so it must not block. If a sink keeps an event's data, it copies the data and limits the
//! size of the copies.

use std::fmt::Display;

use crate::{Attribute, RequestId, Severity, TraceContext};

/// One of the two output streams of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandardStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl StandardStream {
    /// Returns the name that logs show: `stdout` or `stderr`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The interface through which a component logged a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordSource {
    /// A line of JSON on an output stream.
    Stream(StandardStream),
    /// A call of `wasi:logging` or `wasi:otel`.
    Interface,
    /// A tab, in which the component runs. A visitor can send any record, so it proves nothing.
    Tab,
}

impl RecordSource {
    /// The name that logs show for records that were logged through an interface.
    pub const INTERFACE: &'static str = "log";

    /// The name that logs show for records that tabs sent.
    pub const TAB: &'static str = "tab";

    /// Returns the name that logs show: `stdout`, `stderr`, `log` or `tab`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stream(stream) => stream.name(),
            Self::Interface => Self::INTERFACE,
            Self::Tab => Self::TAB,
        }
    }
}

/// A structured record that a component logged. Emitters bound the length of the message; the attributes come from an
/// [`AttributeList`](crate::AttributeList).
#[derive(Debug, Clone, Copy)]
pub struct GuestRecord<'a> {
    /// The component that logged the record.
    pub component: &'a str,
    /// The interface through which the record was logged.
    pub source: RecordSource,
    /// The request for which the component logged the record, if the request is known.
    pub request: Option<RequestId>,
    /// The trace of the request, and the span in which the record was logged, as the `parent`, if they are known.
    pub trace: Option<TraceContext>,
    /// The severity, if the component states one.
    pub severity: Option<Severity>,
    /// The time that the component states, in nanoseconds since the Unix epoch.
    pub time_ns: Option<u64>,
    /// The message.
    pub message: &'a str,
    /// Further properties, each key at most once.
    pub attributes: &'a [Attribute],
}

/// An event that happened while an app was served. `component` is always the component in which the event happened.
#[derive(Clone, Copy)]
pub enum Event<'a> {
    /// A component printed a line.
    OutputLine {
        /// The component that printed the line.
        component: &'a str,
        /// The stream that the line was printed to.
        stream: StandardStream,
        /// The request that the instance was serving when it printed the line, if the request is known.
        request: Option<RequestId>,
        /// The trace of the request, and the span that the event belongs to, if they are known.
        trace: Option<TraceContext>,
        /// The line without its newline: any bytes, of bounded length.
        line: &'a [u8],
    },
    /// A component logged a structured record.
    Record(GuestRecord<'a>),
    /// A request failed.
    RequestFailed {
        /// The component that handled the request.
        component: &'a str,
        /// The failed request.
        request: RequestId,
        /// The trace of the request, and the span that the event belongs to, if they are known.
        trace: Option<TraceContext>,
        /// Why the request failed. The text may be long, so sinks shorten it.
        reason: &'a dyn Display,
        /// The guest's call stack, the innermost frame first; empty if there is none.
        backtrace: &'a [String],
        /// Whether the head of the response was already sent, so that the client sees a response that is cut off.
        response_cut_off: bool,
    },
    /// A call across a seam failed in the called component. The caller gets fewer details, and emits an event for its
    /// own failure.
    CallFailed {
        /// The component that was called.
        component: &'a str,
        /// The request that the call was made for, if the request is known.
        request: Option<RequestId>,
        /// The trace of the request, and the span that the event belongs to, if they are known.
        trace: Option<TraceContext>,
        /// Why the call failed. The text may be long, so sinks shorten it.
        reason: &'a dyn Display,
        /// The guest's call stack, the innermost frame first; empty if there is none.
        backtrace: &'a [String],
    },
    /// A component tried to use something for which it has no grant. Emitters limit the number and length of these
    /// events.
    AccessDenied {
        /// The component that was denied access.
        component: &'a str,
        /// A description of what the component tried to use, and of how to grant it.
        text: &'a str,
    },
}

/// A receiver of events. Its methods are called while requests are being served, and must not block.
pub trait EventSink: Send + Sync + 'static {
    /// Returns `false` if the sink ignores all events. Emitters can then skip work that only events need.
    fn is_enabled(&self) -> bool {
        true
    }

    /// Receives an event.
    fn emit(&self, event: Event<'_>);
}

/// A sink that ignores all events.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiscardEvents;

impl EventSink for DiscardEvents {
    fn is_enabled(&self) -> bool {
        false
    }

    fn emit(&self, _: Event<'_>) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Reasons(Mutex<Vec<String>>);

    impl EventSink for Reasons {
        fn emit(&self, event: Event<'_>) {
            if let Event::CallFailed { component, reason, .. } = event {
                self.0.lock().unwrap().push(format!("{component}: {reason}"));
            }
        }
    }

    #[test]
    fn a_sink_formats_only_what_it_keeps() {
        struct Unformattable;
        impl Display for Unformattable {
            fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                panic!("no sink needs the reason")
            }
        }
        let (request, trace, reason, backtrace) = (None, None, &Unformattable, &[]);
        assert!(!DiscardEvents.is_enabled());
        DiscardEvents.emit(Event::CallFailed { component: "cart", request, trace, reason, backtrace });
        let reasons = Reasons::default();
        assert!(reasons.is_enabled());
        reasons.emit(Event::CallFailed { component: "cart", request, trace, reason: &"a trap", backtrace });
        assert_eq!(*reasons.0.lock().unwrap(), ["cart: a trap"]);
    }
}
