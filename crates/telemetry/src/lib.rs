//! Events and log messages that the platform's crates emit, and the ids that connect events and messages of one
//! request.
//!
//! This crate lies below the engine (`runtime`) and the transport (`link`), so that both sides of a call can report the
//! call. The crate contains only plain types and traits: no file, no thread, no output format. `isomer-observe`
//! receives events and messages, formats and stores them.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`mod@trace`] | W3C Trace Context: trace and span ids, flags, the `traceparent` header |
//! | [`RequestId`] | the identity of a request in the logs of this platform |
//! | [`GuestRecord`], [`Severity`], [`AttributeList`] | structured records that components log |
//! | [`Event`], [`EventSink`] | events while apps are served, and the trait that receives events |
//! | [`AccessRecord`] | a served request |
//! | [`Span`], [`TraceFragment`] | the operations of a trace |
//! | [`Tracer`], [`SpanContext`], [`ActiveSpan`], [`SpanTemplate`] | recording spans while a request is served |
//! | [`Tee`] | passing traces or events to several sinks |
//! | [`SamplingPolicy`], [`SamplingLimits`] | which requests are traced; the settings of an app, and the limits of its node |
//! | [`semantics`] | the names of spans and the keys of their attributes |
//! | [`metrics`] | counters, gauges and histograms, with their series |
//! | [`Level`], [`Levels`] | the importance of log messages, and the filter that operators set |
//!
//! Log messages of the platform are `tracing` events. The macros are re-exported ([`error!`], [`warn!`], [`info!`],
//! [`debug!`], [`trace!`](trace!)): a message that the filter excludes costs one relaxed load and a comparison.
#![forbid(unsafe_code)]

mod access;
mod active_span;
mod attribute_list;
mod event;
mod hex_ids;
mod level;
mod levels;
pub mod metrics;
mod random;
mod recording;
mod request_id;
mod sampling;
mod sampling_limits;
pub mod semantics;
mod severity;
mod span;
mod span_details;
mod span_template;
mod tee;
pub mod trace;
mod tracer;

pub use access::{AccessRecord, AppIdentity};
pub use active_span::{ActiveSpan, SpanContext};
pub use attribute_list::{ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_LIST_BYTES_MAX, AttributeList};
pub use event::{DiscardEvents, Event, EventSink, GuestRecord, RecordSource, StandardStream};
pub use level::Level;
pub use levels::{InvalidLevels, Levels, PARTS, PLATFORM_TARGET};
pub use recording::{SPANS_PER_REQUEST_MAX, SpanMemory, TraceSink};
pub use request_id::RequestId;
pub use sampling::{SamplingPolicy, TraceOrder, is_path_below};
pub use sampling_limits::{AppSampling, SamplingLimits};
pub use severity::Severity;
pub use span::{
    Attribute, SPAN_ATTRIBUTES_MAX, SPAN_TEXT_BYTES_MAX, Span, SpanKind, SpanStatus, Text, TraceFragment, Value,
    unix_ns,
};
pub use span_details::SpanDetails;
pub use span_template::SpanTemplate;
pub use tee::Tee;
pub use trace::{SpanId, TraceContext, TraceFlags, TraceId};
pub use tracer::Tracer;
pub use tracing::{debug, error, info, trace, warn};
