//! Traces in memory, and their form as text.

#![allow(dead_code, reason = "not every test binary records traces")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use isomer_telemetry::{
    RequestId, SamplingPolicy, Span, SpanId, SpanKind, SpanStatus, TraceContext, TraceFragment, TraceId, TraceSink,
    Tracer,
};
use tokio::sync::watch;

use super::within;

/// Receives traces and keeps them.
pub(crate) struct MemoryTraces(watch::Sender<Vec<TraceFragment>>);

impl TraceSink for MemoryTraces {
    fn record(&self, fragment: TraceFragment) {
        self.0.send_modify(|fragments| fragments.push(fragment));
    }
}

impl MemoryTraces {
    /// Returns an empty trace sink in memory, and a tracer that records into it. The tracer samples the fraction
    /// `ratio` of the requests, and treats no request as slow.
    pub(crate) fn new(ratio: f64) -> (Arc<Self>, Tracer) {
        let traces = Arc::new(Self(watch::Sender::default()));
        let policy = SamplingPolicy { ratio, slow: Duration::MAX, ..SamplingPolicy::LOCAL };
        (traces.clone(), Tracer::new(None, policy, traces))
    }

    /// Returns an empty memory, and a tracer that samples all requests, however many arrive in a second.
    pub(crate) fn of_all() -> (Arc<Self>, Tracer) {
        let traces = Arc::new(Self(watch::Sender::default()));
        let policy = SamplingPolicy { ratio: 1.0, per_second_max: u32::MAX, slow: Duration::MAX };
        (traces.clone(), Tracer::new(None, policy, traces))
    }

    /// Returns whether a call between fused components was recorded.
    pub(crate) fn has_fused_calls(&self) -> bool {
        let is_fused = |span: &Span| span.attribute("isomer.seam.mode").is_some_and(|mode| mode.to_string() == "fused");
        self.0.borrow().iter().flat_map(|fragment| &fragment.spans).any(is_fused)
    }

    /// Waits until `count` processes have recorded their spans of a trace, and returns these fragments.
    pub(crate) async fn fragments(&self, trace: TraceId, count: usize) -> Vec<TraceFragment> {
        let of_trace = |fragments: &Vec<TraceFragment>| {
            fragments.iter().filter(|fragment| fragment.trace_id == trace).cloned().collect::<Vec<_>>()
        };
        let mut receiver = self.0.subscribe();
        let received = receiver.wait_for(|fragments| of_trace(fragments).len() >= count);
        let received = within("the end of a trace", received).await.expect("the memory exists");
        of_trace(&received)
    }

    /// Returns the traces that were recorded so far.
    pub(crate) fn recorded(&self) -> Vec<TraceId> {
        self.0.borrow().iter().map(|fragment| fragment.trace_id).collect()
    }
}

/// Returns a new sampled trace, and the `traceparent` of a request in it.
pub(crate) fn new_trace() -> (TraceContext, String) {
    let context = TraceContext::start(RequestId::random().into()).with_sampled(true);
    (context, String::from_utf8(context.to_traceparent().to_vec()).expect("hexadecimal digits"))
}

/// Returns the spans as a text with one line for each span, indented below the line of its parent: name, kind,
/// component, and the reason if the span has failed.
pub(crate) fn tree(spans: &[Span]) -> String {
    let mut spans: Vec<_> = spans.iter().collect();
    spans.sort_by_key(|span| span.start_ns);
    let is_root = |span: &&&Span| spans.iter().all(|other| Some(other.id) != span.parent);
    let mut text = String::new();
    for root in spans.iter().filter(is_root) {
        write_tree(&mut text, &spans, root, 0);
    }
    text
}

fn write_tree(text: &mut String, spans: &[&Span], span: &Span, depth: usize) {
    let kind = match span.kind {
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        _ => "internal",
    };
    let component = span.component.as_ref().map(|component| format!(" {component}")).unwrap_or_default();
    let failure = match &span.status {
        SpanStatus::Ok => String::new(),
        SpanStatus::Failed(reason) => format!(" failed: {reason}"),
    };
    writeln!(text, "{:indent$}{} [{kind}{component}]{failure}", "", span.name, indent = 2 * depth)
        .expect("a string accepts all text");
    for child in spans.iter().filter(|child| child.parent == Some(span.id)) {
        write_tree(text, spans, child, depth + 1);
    }
}

/// Returns the only span with this name and kind.
pub(crate) fn find<'a>(spans: &'a [Span], name: &str, kind: SpanKind) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == *name && span.kind == kind);
    match (found.next(), found.next()) {
        (Some(span), None) => span,
        _ => panic!("one span `{name}` in:\n{}", tree(spans)),
    }
}

/// Returns the text of an attribute.
pub(crate) fn attribute(span: &Span, key: &str) -> String {
    span.attribute(key).unwrap_or_else(|| panic!("{key} in {span:?}")).to_string()
}

/// Returns the id of the parent span that a `traceparent` contains.
pub(crate) fn parent_in(traceparent: &str) -> SpanId {
    TraceContext::parse(traceparent.as_bytes()).expect("a valid field").parent
}
