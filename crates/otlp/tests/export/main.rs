//! Exports telemetry to a collector in this process, which decodes requests with the generated messages of
//! `opentelemetry-proto`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod collector;
mod delivery;
mod logs;
mod metrics;
mod tls;
mod traces;

use isomer_otlp::settings::FileSettings;
use isomer_otlp::{DropReason, Otlp, OtlpSettings, ServiceIdentity, Signal, SignalStatistics};
use isomer_telemetry::{RequestId, Span, SpanId, SpanKind, SpanStatus, TraceFragment, TraceId};

const SHOP: ServiceIdentity<'static> = ServiceIdentity { app: "shop", tenant: None, version: Some("1.2.3") };

/// Starts an export with the settings of `variables`.
fn start(variables: &[(&str, String)]) -> Otlp {
    let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let settings = OtlpSettings::read(&value, &FileSettings::default()).unwrap();
    Otlp::start(&settings).unwrap()
}

/// The variable that makes the exporter send batches of traces without a delay.
fn at_once() -> (&'static str, String) {
    ("OTEL_BSP_SCHEDULE_DELAY", "0".to_owned())
}

/// A part of a trace with `spans` spans.
fn fragment(spans: u64) -> TraceFragment {
    let span = |number| Span {
        id: SpanId::from_raw(number).unwrap(),
        parent: SpanId::from_raw(number + 1).filter(|_| number < spans),
        name: "work".into(),
        kind: SpanKind::Internal,
        component: Some("cart".into()),
        start_ns: 1_000 + number,
        duration_ns: 10,
        status: SpanStatus::Ok,
        attributes: Vec::new(),
    };
    TraceFragment {
        trace_id: TraceId::from_raw(0xabcd).unwrap(),
        request: RequestId::from_raw(spans).unwrap(),
        app: None,
        is_sampled: true,
        spans: (1..=spans).map(span).collect(),
        spans_dropped: 0,
    }
}

fn statistics(otlp: &Otlp, signal: Signal) -> SignalStatistics {
    otlp.statistics().into_iter().find(|statistics| statistics.signal == signal).unwrap()
}

/// Returns the number of exported spans, and the reasons for which spans were dropped.
fn outcome(otlp: &Otlp) -> (u64, Vec<(DropReason, u64)>) {
    let traces = statistics(otlp, Signal::Traces);
    (traces.exported, traces.dropped.into_iter().filter(|(_, records)| *records > 0).collect())
}
