//! The types of the WIT package `wasi:otel`.
#![expect(dead_code, reason = "the records have all fields of the WIT types, because the engine compares the types")]

use wasmtime::component::{ComponentType, Lift, Lower, flags};

#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(record)]
pub(super) struct Datetime {
    pub(super) seconds: u64,
    pub(super) nanoseconds: u32,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct KeyValue {
    pub(super) key: String,
    pub(super) value: String,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct Resource {
    pub(super) attributes: Vec<KeyValue>,
    #[component(name = "schema-url")]
    pub(super) schema_url: Option<String>,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct InstrumentationScope {
    pub(super) name: String,
    pub(super) version: Option<String>,
    #[component(name = "schema-url")]
    pub(super) schema_url: Option<String>,
    pub(super) attributes: Vec<KeyValue>,
}

flags! {
    TraceFlags {
        #[component(name = "sampled")]
        const SAMPLED;
    }
}

#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(record)]
pub(super) struct SpanContext {
    #[component(name = "trace-id")]
    pub(super) trace_id: String,
    #[component(name = "span-id")]
    pub(super) span_id: String,
    #[component(name = "trace-flags")]
    pub(super) trace_flags: TraceFlags,
    #[component(name = "is-remote")]
    pub(super) is_remote: bool,
    #[component(name = "trace-state")]
    pub(super) trace_state: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub(super) enum SpanKind {
    #[component(name = "client")]
    Client,
    #[component(name = "server")]
    Server,
    #[component(name = "producer")]
    Producer,
    #[component(name = "consumer")]
    Consumer,
    #[component(name = "internal")]
    Internal,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct SpanEvent {
    pub(super) name: String,
    pub(super) time: Datetime,
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct SpanLink {
    #[component(name = "span-context")]
    pub(super) span_context: SpanContext,
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(variant)]
pub(super) enum Status {
    #[component(name = "unset")]
    Unset,
    #[component(name = "ok")]
    Ok,
    #[component(name = "error")]
    Error(String),
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct SpanData {
    #[component(name = "span-context")]
    pub(super) span_context: SpanContext,
    #[component(name = "parent-span-id")]
    pub(super) parent_span_id: String,
    #[component(name = "span-kind")]
    pub(super) span_kind: SpanKind,
    pub(super) name: String,
    #[component(name = "start-time")]
    pub(super) start_time: Datetime,
    #[component(name = "end-time")]
    pub(super) end_time: Datetime,
    pub(super) attributes: Vec<KeyValue>,
    pub(super) events: Vec<SpanEvent>,
    pub(super) links: Vec<SpanLink>,
    pub(super) status: Status,
    #[component(name = "instrumentation-scope")]
    pub(super) instrumentation_scope: InstrumentationScope,
    #[component(name = "dropped-attributes")]
    pub(super) dropped_attributes: u32,
    #[component(name = "dropped-events")]
    pub(super) dropped_events: u32,
    #[component(name = "dropped-links")]
    pub(super) dropped_links: u32,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct LogRecord {
    pub(super) timestamp: Option<Datetime>,
    #[component(name = "observed-timestamp")]
    pub(super) observed_timestamp: Option<Datetime>,
    #[component(name = "severity-text")]
    pub(super) severity_text: Option<String>,
    #[component(name = "severity-number")]
    pub(super) severity_number: Option<u8>,
    pub(super) body: Option<String>,
    pub(super) attributes: Option<Vec<KeyValue>>,
    #[component(name = "event-name")]
    pub(super) event_name: Option<String>,
    pub(super) resource: Option<Resource>,
    #[component(name = "instrumentation-scope")]
    pub(super) instrumentation_scope: Option<InstrumentationScope>,
    #[component(name = "trace-id")]
    pub(super) trace_id: Option<String>,
    #[component(name = "span-id")]
    pub(super) span_id: Option<String>,
    #[component(name = "trace-flags")]
    pub(super) trace_flags: Option<TraceFlags>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub(super) enum Temporality {
    #[component(name = "cumulative")]
    Cumulative,
    #[component(name = "delta")]
    Delta,
    #[component(name = "low-memory")]
    LowMemory,
}

#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(variant)]
pub(super) enum MetricNumber {
    #[component(name = "f64")]
    Float(f64),
    #[component(name = "s64")]
    Signed(i64),
    #[component(name = "u64")]
    Unsigned(u64),
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct Exemplar {
    #[component(name = "filtered-attributes")]
    pub(super) filtered_attributes: Vec<KeyValue>,
    pub(super) time: Datetime,
    pub(super) value: MetricNumber,
    #[component(name = "span-id")]
    pub(super) span_id: String,
    #[component(name = "trace-id")]
    pub(super) trace_id: String,
}

/// The WIT types `gauge-data-point` and `sum-data-point`, which have the same fields.
#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct NumberPoint {
    pub(super) attributes: Vec<KeyValue>,
    pub(super) value: MetricNumber,
    pub(super) exemplars: Vec<Exemplar>,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct Gauge {
    #[component(name = "data-points")]
    pub(super) data_points: Vec<NumberPoint>,
    #[component(name = "start-time")]
    pub(super) start_time: Option<Datetime>,
    pub(super) time: Datetime,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct Sum {
    #[component(name = "data-points")]
    pub(super) data_points: Vec<NumberPoint>,
    #[component(name = "start-time")]
    pub(super) start_time: Datetime,
    pub(super) time: Datetime,
    pub(super) temporality: Temporality,
    #[component(name = "is-monotonic")]
    pub(super) is_monotonic: bool,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct HistogramPoint {
    pub(super) attributes: Vec<KeyValue>,
    pub(super) count: u64,
    pub(super) bounds: Vec<f64>,
    #[component(name = "bucket-counts")]
    pub(super) bucket_counts: Vec<u64>,
    pub(super) min: Option<MetricNumber>,
    pub(super) max: Option<MetricNumber>,
    pub(super) sum: MetricNumber,
    pub(super) exemplars: Vec<Exemplar>,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct Histogram {
    #[component(name = "data-points")]
    pub(super) data_points: Vec<HistogramPoint>,
    #[component(name = "start-time")]
    pub(super) start_time: Datetime,
    pub(super) time: Datetime,
    pub(super) temporality: Temporality,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct ExponentialBucket {
    pub(super) offset: i32,
    pub(super) counts: Vec<u64>,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct ExponentialPoint {
    pub(super) attributes: Vec<KeyValue>,
    pub(super) count: u64,
    pub(super) min: Option<MetricNumber>,
    pub(super) max: Option<MetricNumber>,
    pub(super) sum: MetricNumber,
    pub(super) scale: i8,
    #[component(name = "zero-count")]
    pub(super) zero_count: u64,
    #[component(name = "positive-bucket")]
    pub(super) positive_bucket: ExponentialBucket,
    #[component(name = "negative-bucket")]
    pub(super) negative_bucket: ExponentialBucket,
    #[component(name = "zero-threshold")]
    pub(super) zero_threshold: f64,
    pub(super) exemplars: Vec<Exemplar>,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct ExponentialHistogram {
    #[component(name = "data-points")]
    pub(super) data_points: Vec<ExponentialPoint>,
    #[component(name = "start-time")]
    pub(super) start_time: Datetime,
    pub(super) time: Datetime,
    pub(super) temporality: Temporality,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(variant)]
pub(super) enum MetricData {
    #[component(name = "f64-gauge")]
    FloatGauge(Gauge),
    #[component(name = "f64-sum")]
    FloatSum(Sum),
    #[component(name = "f64-histogram")]
    FloatHistogram(Histogram),
    #[component(name = "f64-exponential-histogram")]
    FloatExponential(ExponentialHistogram),
    #[component(name = "u64-gauge")]
    UnsignedGauge(Gauge),
    #[component(name = "u64-sum")]
    UnsignedSum(Sum),
    #[component(name = "u64-histogram")]
    UnsignedHistogram(Histogram),
    #[component(name = "u64-exponential-histogram")]
    UnsignedExponential(ExponentialHistogram),
    #[component(name = "s64-gauge")]
    SignedGauge(Gauge),
    #[component(name = "s64-sum")]
    SignedSum(Sum),
    #[component(name = "s64-histogram")]
    SignedHistogram(Histogram),
    #[component(name = "s64-exponential-histogram")]
    SignedExponential(ExponentialHistogram),
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) unit: String,
    pub(super) data: MetricData,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct ScopeMetrics {
    pub(super) scope: InstrumentationScope,
    pub(super) metrics: Vec<Metric>,
}

#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
pub(super) struct ResourceMetrics {
    pub(super) resource: Resource,
    #[component(name = "scope-metrics")]
    pub(super) scope_metrics: Vec<ScopeMetrics>,
}
