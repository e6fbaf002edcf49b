//! Fragments for unit tests.

use isomer_telemetry::{RequestId, Span, SpanId, SpanKind, SpanStatus, TraceFragment, TraceId, semantics};

/// Returns a span of the component `component`, from `start_ns` to `end_ns`.
pub(crate) fn span(id: u64, parent: Option<u64>, component: &'static str, (start_ns, end_ns): (u64, u64)) -> Span {
    Span {
        id: SpanId::from_raw(id).expect("not zero"),
        parent: parent.and_then(SpanId::from_raw),
        name: "work".into(),
        kind: SpanKind::Internal,
        component: Some(component.into()),
        start_ns,
        duration_ns: end_ns - start_ns,
        status: SpanStatus::Ok,
        attributes: Vec::new(),
    }
}

/// Returns a fragment with the given spans. `request` is the number of both its request id and its trace id.
pub(crate) fn fragment_of(request: u64, spans: Vec<Span>) -> TraceFragment {
    TraceFragment {
        trace_id: TraceId::from_raw(request.into()).expect("not zero"),
        request: RequestId::from_raw(request).expect("not zero"),
        app: None,
        is_sampled: true,
        spans,
        spans_dropped: 0,
    }
}

/// Returns a fragment with one span: the request's first span.
pub(crate) fn fragment(request: u64) -> TraceFragment {
    let mut root = span(request, None, "pages", (1000 * request, 1000 * request + 500));
    root.name = "GET /cart".into();
    root.kind = SpanKind::Server;
    root.attributes = [(semantics::HTTP_ROUTE, "/cart".into()), (semantics::HTTP_STATUS, 200_u16.into())]
        .map(|(key, value)| isomer_telemetry::Attribute { key: key.into(), value })
        .into();
    fragment_of(request, vec![root])
}
