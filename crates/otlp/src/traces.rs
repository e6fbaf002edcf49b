//! The export of traces.

use std::sync::Arc;

use isomer_telemetry::{Attribute, Span, SpanKind, SpanStatus, TraceFragment, TraceSink, Value, semantics};
use prost::Message as _;

use crate::delivery::Item;
use crate::message::{self, AnyValue, InstrumentationScope, KeyValue, Resource, any_value, status_code};
use crate::queue::{QueueSender, TenantSlot, Weight};
use crate::resource::{span_bytes, trace_bytes};

/// The flag of a sampled trace.
const SAMPLED: u32 = 1;

/// Receives the traces of one app, and queues them for the export. Never waits.
pub(crate) struct OtlpTraces {
    resource: Arc<Resource>,
    tenant: Option<TenantSlot>,
    queue: QueueSender<TraceItem>,
}

/// A part of a trace, and the app that it belongs to.
pub(crate) struct TraceItem {
    resource: Arc<Resource>,
    fragment: TraceFragment,
}

impl OtlpTraces {
    pub(crate) fn new(resource: Resource, tenant: Option<&str>, queue: QueueSender<TraceItem>) -> Self {
        Self { resource: Arc::new(resource), tenant: tenant.map(TenantSlot::of), queue }
    }
}

impl TraceSink for OtlpTraces {
    fn record(&self, fragment: TraceFragment) {
        let bytes = size_of::<TraceItem>() + fragment.spans.iter().map(Span::bytes).sum::<usize>();
        let weight = Weight { records: fragment.spans.len(), bytes, tenant: self.tenant };
        self.queue.push(TraceItem { resource: self.resource.clone(), fragment }, weight);
    }
}

impl Item for TraceItem {
    fn encode(items: &[&Self]) -> Vec<u8> {
        let mut groups: Vec<(&Arc<Resource>, Vec<message::Span>)> = Vec::new();
        for item in items {
            let index = groups.iter().position(|(resource, _)| Arc::ptr_eq(resource, &item.resource));
            let index = index.unwrap_or_else(|| {
                groups.push((&item.resource, Vec::new()));
                groups.len() - 1
            });
            groups[index].1.extend(spans(&item.fragment));
        }
        let of_resource = |(resource, spans): (&Arc<Resource>, _)| message::ResourceSpans {
            resource: Some(Resource::clone(resource)),
            scope_spans: vec![message::ScopeSpans { scope: Some(InstrumentationScope::platform()), spans }],
        };
        message::ExportTraceRequest { resource_spans: groups.into_iter().map(of_resource).collect() }.encode_to_vec()
    }
}

fn spans(fragment: &TraceFragment) -> impl Iterator<Item = message::Span> + '_ {
    let last = fragment.spans.len().saturating_sub(1);
    let flags = if fragment.is_sampled { SAMPLED } else { 0 };
    fragment.spans.iter().enumerate().map(move |(index, span)| {
        let mut attributes = attributes(span);
        // The last span describes the whole request in this process.
        if index == last {
            attributes.push(KeyValue::new(semantics::REQUEST_ID, fragment.request.to_string()));
            if fragment.spans_dropped > 0 {
                let dropped = i64::try_from(fragment.spans_dropped).unwrap_or(i64::MAX);
                attributes.push(KeyValue::new(semantics::SPANS_DROPPED, dropped));
            }
        }
        message::Span {
            trace_id: trace_bytes(fragment.trace_id),
            span_id: span_bytes(span.id),
            parent_span_id: span.parent.map(span_bytes).unwrap_or_default(),
            name: span.name.as_str().to_owned(),
            kind: kind(span.kind),
            start_time_unix_nano: span.start_ns,
            end_time_unix_nano: span.end_ns(),
            attributes,
            links: links(span),
            status: status(&span.status),
            flags,
        }
    })
}

fn attributes(span: &Span) -> Vec<KeyValue> {
    let component = span.component.iter().map(|component| KeyValue::new(semantics::COMPONENT, component.as_str()));
    let is_own = |attribute: &&Attribute| ![semantics::COMPONENT, semantics::LINKS].contains(&attribute.key.as_str());
    let own = span.attributes.iter().filter(is_own);
    component.chain(own.map(attribute)).collect()
}

/// Returns the links of a component's own span.
fn links(span: &Span) -> Vec<message::Link> {
    let stored = span.attributes.iter().find(|attribute| attribute.key == *semantics::LINKS);
    let Some(Attribute { value: Value::Text(links), .. }) = stored else { return Vec::new() };
    let link = |link: &str| {
        let (trace_id, span_id) = link.split_once('-')?;
        let trace_id = u128::from_str_radix(trace_id, 16).ok()?.to_be_bytes().to_vec();
        let span_id = u64::from_str_radix(span_id, 16).ok()?.to_be_bytes().to_vec();
        Some(message::Link { trace_id, span_id })
    };
    links.as_str().split(' ').filter_map(link).collect()
}

pub(crate) fn attribute(Attribute { key, value }: &Attribute) -> KeyValue {
    let value = match value {
        Value::Bool(value) => AnyValue::from(*value),
        Value::Int(value) => AnyValue::from(*value),
        Value::Float(value) => any_value::Value::Float(*value).into(),
        Value::Text(value) => AnyValue::from(value.as_str()),
    };
    KeyValue::new(key.as_str(), value)
}

fn kind(kind: SpanKind) -> i32 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

/// Returns the status of a failed span. The status of other spans stays unset, as the conventions for HTTP and RPC
/// require.
fn status(status: &SpanStatus) -> Option<message::Status> {
    match status {
        SpanStatus::Ok => None,
        SpanStatus::Failed(reason) => {
            Some(message::Status { message: reason.as_str().to_owned(), code: status_code::ERROR })
        }
    }
}
