//! The structured records that guests log through an interface. They belong to the span in which they are logged.

use std::sync::Arc;

use isomer_runtime::output::LINE_BYTES_MAX;
use isomer_runtime::{Guest, current_request};
use isomer_telemetry::{
    AttributeList, Event, GuestRecord, RecordSource, SPAN_TEXT_BYTES_MAX, Severity, SpanId, TraceContext,
};
use wasmtime::StoreContextMut;

/// A record, before the platform adds the component, the request and the span.
pub(super) struct RecordDraft<'a> {
    pub(super) severity: Option<Severity>,
    pub(super) time_ns: Option<u64>,
    pub(super) message: &'a str,
    pub(super) attributes: AttributeList,
}

/// Writes a record of `component` to the log of the app. `span` returns the guest's own span that the record belongs to,
/// if it does not belong to the span that the platform has recorded.
pub(super) fn write(
    store: &mut StoreContextMut<'_, Guest>,
    component: &Arc<str>,
    draft: &RecordDraft<'_>,
    span: impl FnOnce(&mut Guest, TraceContext) -> Option<SpanId>,
) {
    let (request, context) = current_request(&mut *store);
    let trace = context.map(|context| context.trace());
    let trace = trace.map(|trace| span(store.data_mut(), trace).map_or(trace, |span| trace.child_of(span)));
    let RecordDraft { severity, time_ns, message, attributes } = draft;
    store.data().emit(Event::Record(GuestRecord {
        component,
        source: RecordSource::Interface,
        request,
        trace,
        severity: *severity,
        time_ns: *time_ns,
        message: start(message, LINE_BYTES_MAX),
        attributes: attributes.as_slice(),
    }));
}

/// Returns the start of a text that is stored with a span or a record.
pub(super) fn short(text: &str) -> String {
    start(text, SPAN_TEXT_BYTES_MAX).to_owned()
}

/// Returns the first characters of `text` that fit into `bytes_max` bytes.
fn start(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
