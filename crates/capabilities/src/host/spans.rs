//! The spans and the metrics of capability operations. They contain the names of stores, of configuration values and of
//! secrets. Spans also contain the texts of SQL statements. Neither contains keys or values of stores, parameters of
//! statements, or the values of secrets.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use isomer_runtime::{Guest, current_span};
use isomer_telemetry::metrics::{CallOutcome, SeriesGroup, StoreMetrics};
use isomer_telemetry::{ActiveSpan, SPAN_TEXT_BYTES_MAX, SpanKind, SpanTemplate, TraceId, semantics};
use wasmtime::AsContextMut;

use crate::kv::KvError;
use crate::sql::SqlError;

/// The properties of all spans of one operation, such as reading a key from a key-value store.
pub(super) struct OperationSpan {
    name: &'static str,
    system: &'static str,
    operation: &'static str,
    template: OnceLock<Arc<SpanTemplate>>,
}

/// A store, as spans and metrics describe it.
pub(super) struct StoreSubject {
    /// The template with the store's name and its owner.
    span: Arc<SpanTemplate>,
    metrics: StoreMetrics,
}

/// An operation that a guest has started, with its span, if spans are recorded.
pub(super) struct Operation {
    span: Option<ActiveSpan>,
    /// `None` if operations are not measured.
    meter: Option<OperationMeter>,
}

/// Measures an operation. Dropping this value before the operation has ended records a cancelled operation.
struct OperationMeter {
    subject: Arc<StoreSubject>,
    operation: &'static str,
    start: Instant,
    /// The trace of the request, if the request is sampled.
    trace: Option<TraceId>,
    outcome: CallOutcome,
    /// The duration of an operation that has ended.
    duration: Option<Duration>,
}

impl StoreSubject {
    /// Creates the template for the spans and the metrics of the store `name`. `span` already contains the store's name
    /// and its owner.
    pub(super) fn new(
        span: SpanTemplate,
        name: &str,
        series: &Arc<SeriesGroup>,
        operations: &[&OperationSpan],
    ) -> Self {
        let system = operations.first().map_or("", |operation| operation.system);
        let operations: Vec<_> = operations.iter().map(|operation| operation.operation).collect();
        Self { span: Arc::new(span), metrics: StoreMetrics::new(series.clone(), name, system, &operations) }
    }
}

impl Drop for OperationMeter {
    fn drop(&mut self) {
        let duration = self.duration.unwrap_or_else(|| self.start.elapsed());
        self.subject.metrics.record(self.operation, self.outcome, duration, self.trace);
    }
}

/// An error that a span can record. Spans contain only the kind of the error, because its text may contain data of the
/// guest.
pub(super) trait OperationError {
    /// Returns the kind of the error.
    fn kind(&self) -> &'static str;
}

impl OperationSpan {
    /// Returns the properties of `operation` on a store of the database system `system`.
    pub(super) const fn new(name: &'static str, system: &'static str, operation: &'static str) -> Self {
        Self { name, system, operation, template: OnceLock::new() }
    }

    fn template(&self) -> &Arc<SpanTemplate> {
        self.template.get_or_init(|| {
            let template = SpanTemplate::new(self.name, SpanKind::Client);
            let template = template.with(semantics::DB_SYSTEM, self.system);
            Arc::new(template.with(semantics::DB_OPERATION, self.operation))
        })
    }
}

impl Operation {
    /// Starts an operation on the store that `subject` describes. Must be called before the host function waits.
    pub(super) fn begin(
        store: impl AsContextMut<Data = Guest>,
        operation: &OperationSpan,
        subject: &Arc<StoreSubject>,
    ) -> Self {
        let span = current_span(store).map(|current| {
            current.begin_from(operation.template()).on(&subject.span).fails_unless_ended("the operation was cancelled")
        });
        let context = span.as_ref().map(ActiveSpan::context).filter(|context| context.is_sampled());
        let meter = subject.metrics.is_recorded().then(|| OperationMeter {
            subject: subject.clone(),
            operation: operation.operation,
            start: span.as_ref().and_then(ActiveSpan::start).unwrap_or_else(Instant::now),
            trace: context.map(|context| context.trace().trace_id),
            outcome: CallOutcome::Cancelled,
            duration: None,
        });
        Self { span, meter }
    }

    /// Adds the text of an SQL statement.
    pub(super) fn set_query(&mut self, statement: &str) {
        if let Some(span) = self.span.as_mut().filter(|span| span.is_recording()) {
            // Truncate the statement before it is copied, because it may be long.
            let end = statement.floor_char_boundary(SPAN_TEXT_BYTES_MAX);
            span.set(semantics::DB_QUERY, statement[..end].to_owned());
        }
    }

    /// Runs the operation to its end.
    pub(super) async fn run<T, E: OperationError>(self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let result = work.await;
        self.end(result.as_ref().map(drop));
        result
    }

    /// Runs a query to its end. `count` returns the number of rows in its result.
    pub(super) async fn run_query<T, E: OperationError>(
        mut self,
        query: impl Future<Output = Result<T, E>>,
        count: impl FnOnce(&T) -> usize,
    ) -> Result<T, E> {
        let result = query.await;
        if let (Some(span), Ok(rows)) = (&mut self.span, &result) {
            span.set(semantics::DB_ROWS, count(rows));
        }
        self.end(result.as_ref().map(drop));
        result
    }

    fn end<E: OperationError>(self, result: Result<(), &E>) {
        let Self { span, meter } = self;
        let duration = meter.map(|mut meter| {
            let duration = meter.start.elapsed();
            meter.duration = Some(duration);
            meter.outcome = if result.is_ok() { CallOutcome::Ok } else { CallOutcome::Failed };
            duration
        });
        let Some(mut span) = span else { return };
        if let Err(error) = result {
            span.set(semantics::ERROR_TYPE, error.kind());
            span.fail(error.kind());
        }
        match duration {
            Some(duration) => span.end_after(duration),
            None => span.end(),
        }
    }
}

impl OperationError for KvError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Name(_) => "invalid store name",
            Self::KeyTooLong { .. } => "key too long",
            Self::ValueTooLong { .. } => "value too long",
            Self::BatchTooLong { .. } | Self::BatchTooLarge { .. } => "batch too large",
            Self::NotANumber { .. } => "not a number",
            Self::Overflow { .. } => "overflow",
            Self::CursorExpired { .. } => "cursor expired",
            Self::Overloaded => "overloaded",
            Self::Quota { .. } => "storage quota",
            Self::Memory { .. } => "memory quota",
            Self::DiskFull => "disk full",
            Self::Storage { .. } => "storage failure",
        }
    }
}

impl OperationError for SqlError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Statement(_) => "invalid statement",
            Self::Parameters(_) => "invalid parameters",
            Self::Constraint(_) => "constraint",
            Self::Timeout => "timeout",
            Self::TooLarge(_) => "too large",
            Self::Overloaded => "overloaded",
            Self::Quota { .. } => "storage quota",
            Self::DiskFull => "disk full",
            Self::Memory { .. } => "memory quota",
            Self::Cpu => "cpu quota",
            Self::Store(_) => "storage failure",
        }
    }
}

/// Records that a guest has read a resource. `name` is a pair: the key of a span attribute, and its value, which is the
/// name of the resource.
pub(super) fn record_read(
    store: impl AsContextMut<Data = Guest>,
    template: &Arc<SpanTemplate>,
    name: Option<(&'static str, &str)>,
    is_denied: bool,
) {
    let Some(current) = current_span(store).filter(|current| current.is_recording()) else { return };
    let mut span = current.begin_from(template);
    if let Some((key, name)) = name {
        span.set(key, name[..name.floor_char_boundary(SPAN_TEXT_BYTES_MAX)].to_owned());
    }
    if is_denied {
        span.fail("access denied");
    }
}
