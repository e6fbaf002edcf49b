//! The summary of one fragment: the spans of a trace that one process recorded.

use isomer_api::TraceSummary;
use isomer_telemetry::{Span, Text, TraceFragment, semantics};

use crate::codec::{fragment_times, root_of, status_of};

/// Returns whether this fragment by itself makes its trace appear in lists of traces. `is_of_member` says whether
/// another process of the app recorded the fragment. Such a fragment makes the trace appear only if it contains the
/// request's first span; otherwise, the trace appears because of the fragment that contains this span.
pub(crate) fn is_listed(fragment: &TraceFragment, is_of_member: bool) -> bool {
    !is_of_member || root_of(fragment).is_some()
}

/// Returns the summary of a fragment. If the request's first span is missing, the summary describes the fragment's
/// first span.
pub(crate) fn summary_of(fragment: &TraceFragment) -> TraceSummary {
    let root = root_of(fragment);
    let first = root.or_else(|| fragment.spans.iter().min_by_key(|span| span.start_ns));
    let (start_ns, duration_ns) = fragment_times(fragment);
    let owned = |text: &Text| text.as_str().to_owned();
    TraceSummary {
        id: fragment.trace_id.to_string(),
        request: fragment.request.to_string(),
        tenant: fragment.app.as_ref().map(|app| app.tenant.to_string()),
        app: fragment.app.as_ref().map(|app| app.app.to_string()),
        name: first.map(|span| owned(&span.name)).unwrap_or_default(),
        path: root.and_then(path_of).map(ToOwned::to_owned),
        component: first.and_then(|span| span.component.as_ref()).map(owned),
        start_us: start_ns / 1000,
        duration_ns,
        status: root.and_then(status_of),
        spans: fragment.spans.len() as u64,
        failed: fragment.spans.iter().any(|span| span.status.is_failed()),
        sampled: fragment.is_sampled,
        partial: root.is_none(),
    }
}

/// Returns the route that the request matched, from the attributes of its first span.
pub(crate) fn route_of(root: &Span) -> Option<&str> {
    text_of(root, semantics::HTTP_ROUTE)
}

/// Returns the path of the request, from the attributes of its first span. Texts of spans are bounded, so the path is
/// bounded as well.
pub(crate) fn path_of(root: &Span) -> Option<&str> {
    text_of(root, semantics::URL_PATH)
}

fn text_of<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    match span.attribute(key) {
        Some(isomer_telemetry::Value::Text(text)) => Some(text.as_str()),
        _ => None,
    }
}
