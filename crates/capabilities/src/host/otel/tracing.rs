//! `wasi:otel/tracing`: the spans of guests.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use isomer_runtime::{Guest, current_span};
use isomer_telemetry::{self as telemetry, Attribute, Severity, SpanId, SpanStatus, TraceContext, TraceId, semantics};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use super::spans::EndedSpan;
use super::types::{SpanContext, SpanData, SpanEvent, SpanKind, SpanLink, Status, TraceFlags};
use super::{state, values};
use crate::host::records::{self, RecordDraft, short};

/// The maximum number of events of one span. Each of them becomes a record in the log.
const EVENTS_MAX: usize = 16;

/// The maximum number of links of one span. Further links are dropped and counted.
const LINKS_MAX: usize = 8;

/// The keys that the platform sets in the spans of guests.
const PLATFORM_KEYS: [&str; 4] =
    [semantics::SCOPE_NAME, semantics::ATTRIBUTES_DROPPED, semantics::LINKS, semantics::LINKS_DROPPED];

/// The names of the function that returns the host's span. The release candidate is published with both names.
const CURRENT_SPAN: [&str; 2] = ["current-span-context", "outer-span-context"];

type Store<'a> = StoreContextMut<'a, Guest>;

/// Defines the functions for `component`.
pub(super) fn link(instance: &mut LinkerInstance<'_, Guest>, component: &Arc<str>) -> wasmtime::Result<()> {
    instance.func_wrap("on-start", |mut store: Store<'_>, (context,): (SpanContext,)| {
        if let Some(current) = current_trace(&mut store)
            && let Some(state) = state(store.data_mut())
        {
            state.spans.start(span_number(&context.span_id), current, Instant::now());
        }
        Ok(())
    })?;
    let component = component.clone();
    instance.func_wrap("on-end", move |mut store: Store<'_>, (span,): (SpanData,)| {
        end(&mut store, &component, span);
        Ok(())
    })?;
    for name in CURRENT_SPAN {
        instance.func_wrap(name, |store: Store<'_>, ()| Ok((current_context(store),)))?;
    }
    Ok(())
}

/// Returns the trace of the request, with the span in which the guest runs, if spans are recorded.
fn current_trace(store: &mut Store<'_>) -> Option<TraceContext> {
    current_span(store).filter(telemetry::SpanContext::is_recording).map(|current| current.trace())
}

/// Returns the span in which the guest runs. Outside of requests, the ids have only zeros, which means that there is no
/// span.
fn current_context(store: Store<'_>) -> SpanContext {
    let (trace_id, span_id, is_sampled) = match current_span(store) {
        Some(current) => {
            let trace = current.trace();
            (trace.trace_id.to_string(), trace.parent.to_string(), current.is_sampled())
        }
        None => ("0".repeat(32), "0".repeat(16), false),
    };
    let trace_flags = if is_sampled { TraceFlags::SAMPLED } else { TraceFlags::empty() };
    SpanContext { trace_id, span_id, trace_flags, is_remote: true, trace_state: Vec::new() }
}

/// Records a span that has ended.
fn end(store: &mut Store<'_>, component: &Arc<str>, span: SpanData) {
    let Some(current) = current_span(&mut *store).filter(telemetry::SpanContext::is_recording) else { return };
    let (now, trace) = (Instant::now(), current.trace());
    let stated = span_number(&span.span_context.span_id);
    let Some(state) = state(store.data_mut()) else { return };
    let Some(ended) = state.spans.end(stated, span_number(&span.parent_span_id), trace, now) else { return };
    let links = links(&span.links, |stated, trace_id| state.spans.id(stated, trace_id));
    let recording = current.recording_start().map_or(Duration::ZERO, |start| now.saturating_duration_since(start));
    let duration = duration(&ended, &span, now).min(recording);
    write_events(store, component, &span);
    current.record_span(to_span(&ended, span, links, component, duration));
}

/// Returns the text of [`semantics::LINKS`]. Links to other spans of the guest get the ids that the platform has given
/// them, which `known` returns. Links to other traces keep the ids that the guest states, because only the guest knows
/// these traces, for example from a message. Links that are not valid are left out.
fn links(links: &[SpanLink], known: impl Fn(u64, TraceId) -> Option<SpanId>) -> Vec<String> {
    let link = |link: &SpanLink| {
        let SpanContext { trace_id, span_id, .. } = &link.span_context;
        let trace_id = TraceId::parse(trace_id)?;
        let stated = span_number(span_id);
        let span_id = known(stated, trace_id).or_else(|| SpanId::from_raw(stated))?;
        Some(format!("{trace_id}-{span_id}"))
    };
    links.iter().filter_map(link).take(LINKS_MAX).collect()
}

/// Returns the duration of a span that ends now. The platform measures it, because a guest's clock may be that of test
/// mode; if the guest has not reported the start, the duration is the one that the guest states.
fn duration(ended: &EndedSpan, span: &SpanData, now: Instant) -> Duration {
    let stated = || values::unix_ns(span.end_time).saturating_sub(values::unix_ns(span.start_time));
    ended.start.map_or_else(|| Duration::from_nanos(stated()), |start| now.saturating_duration_since(start))
}

fn to_span(
    ended: &EndedSpan,
    span: SpanData,
    links: Vec<String>,
    component: &Arc<str>,
    duration: Duration,
) -> telemetry::Span {
    let stated = values::attributes(&span.attributes);
    let dropped = stated.dropped() + u64::from(span.dropped_attributes);
    let links_dropped = (span.links.len() - links.len()) as u64 + u64::from(span.dropped_links);
    let scope = short(&span.instrumentation_scope.name);
    let mut attributes: Vec<Attribute> = Vec::new();
    let platform = [
        (semantics::SCOPE_NAME, (!scope.is_empty()).then(|| scope.into())),
        (semantics::ATTRIBUTES_DROPPED, (dropped > 0).then(|| dropped.into())),
        (semantics::LINKS, (!links.is_empty()).then(|| links.join(" ").into())),
        (semantics::LINKS_DROPPED, (links_dropped > 0).then(|| links_dropped.into())),
    ];
    attributes
        .extend(platform.into_iter().filter_map(|(key, value)| Some(Attribute { key: key.into(), value: value? })));
    let is_platform = |own: &Attribute| PLATFORM_KEYS.contains(&own.key.as_str());
    attributes.extend(stated.into_vec().into_iter().filter(|own| !is_platform(own)));
    let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    telemetry::Span {
        id: ended.id,
        parent: Some(ended.parent),
        name: short(&span.name).into(),
        kind: match span.span_kind {
            SpanKind::Client => telemetry::SpanKind::Client,
            SpanKind::Server => telemetry::SpanKind::Server,
            SpanKind::Producer => telemetry::SpanKind::Producer,
            SpanKind::Consumer => telemetry::SpanKind::Consumer,
            SpanKind::Internal => telemetry::SpanKind::Internal,
        },
        component: Some(component.into()),
        start_ns: telemetry::unix_ns(SystemTime::now()).saturating_sub(duration_ns),
        duration_ns,
        status: match span.status {
            Status::Error(reason) => SpanStatus::Failed(short(&reason).into()),
            Status::Unset | Status::Ok => SpanStatus::Ok,
        },
        attributes,
    }
}

/// Writes the events of a span to the log. Events of failures, which libraries name `exception`, are errors.
fn write_events(store: &mut Store<'_>, component: &Arc<str>, span: &SpanData) {
    let stated = span_number(&span.span_context.span_id);
    for SpanEvent { name, time, attributes } in span.events.iter().take(EVENTS_MAX) {
        let severity = if name == "exception" { Severity::Error } else { Severity::Info };
        let draft = RecordDraft {
            severity: Some(severity),
            time_ns: Some(values::unix_ns(*time)),
            message: name,
            attributes: values::attributes(attributes),
        };
        records::write(store, component, &draft, |guest, trace| state(guest)?.spans.id(stated, trace.trace_id));
    }
}

/// Returns the number of a span's id; 0, which no span has, if the text is not an id.
pub(super) fn span_number(id: &str) -> u64 {
    let is_id = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { u64::from_str_radix(id, 16).unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_have_the_ids_of_the_platform_and_are_bounded() {
        let link = |trace_id: &str, span_id: &str| SpanLink {
            span_context: SpanContext {
                trace_id: trace_id.to_owned(),
                span_id: span_id.to_owned(),
                trace_flags: TraceFlags::empty(),
                is_remote: false,
                trace_state: Vec::new(),
            },
            attributes: Vec::new(),
        };
        let (own, other) = ("0".repeat(31) + "1", "0".repeat(31) + "2");
        let known = |stated, trace_id: TraceId| {
            (stated == 7 && trace_id.to_string() == own).then(|| SpanId::from_raw(0xff).unwrap())
        };
        let stated = "0000000000000007";
        let all =
            [link(&own, stated), link(&other, stated), link("", stated), link(&own, &"0".repeat(16)), link("x", "y")];
        assert_eq!(links(&all, known), [format!("{own}-00000000000000ff"), format!("{other}-{stated}")]);
        let many: Vec<_> = (0..3 * LINKS_MAX).map(|_| link(&other, stated)).collect();
        assert_eq!(links(&many, known).len(), LINKS_MAX);
    }

    #[test]
    fn only_16_digits_are_an_id() {
        assert_eq!(span_number("00000000000000aB"), 0xab);
        for text in ["", "ab", "+000000000000001", "000000000000000g", &"0".repeat(17)] {
            assert_eq!(span_number(text), 0, "{text}");
        }
    }
}
