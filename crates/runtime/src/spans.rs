//! The spans and the metrics of calls across seams, and of waiting for an instance.
//!
//! The span of an operation that is cancelled by dropping its future is marked as failed.

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use isomer_telemetry::metrics::{CallOutcome, InstanceMetrics, SeamMetrics};
use isomer_telemetry::{ActiveSpan, SpanContext, SpanKind, SpanTemplate, TraceId, semantics};
use isomer_wire::call::CallResult;
use isomer_wire::{CallError, CallFailure};

/// The reason with which the span of an operation fails if the operation was cancelled.
pub(crate) const CANCELLED: &str = "it was cancelled";

static WAIT_SPAN: LazyLock<Arc<SpanTemplate>> =
    LazyLock::new(|| Arc::new(SpanTemplate::new(semantics::WAIT_FOR_INSTANCE, SpanKind::Internal)));

/// Runs `wait`, which waits for a permit or for room in the engine's pool. If `wait` is not ready immediately, records
/// a span that `current` causes, and adds the duration to `metrics`.
pub(crate) async fn record_wait<T, E: Display>(
    current: Option<&SpanContext>,
    metrics: &InstanceMetrics,
    wait: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let (mut wait, mut span, mut meter) = (pin!(wait), None, None);
    let result = poll_fn(|cx| {
        let polled = wait.as_mut().poll(cx);
        if polled.is_pending() && meter.is_none() {
            meter = Some(WaitMeter { metrics, start: Instant::now(), outcome: CallOutcome::Cancelled });
            span = current.map(|current| current.begin_from(&WAIT_SPAN).fails_unless_ended(CANCELLED));
        }
        polled
    })
    .await;
    if let Some(meter) = &mut meter {
        meter.outcome = if result.is_ok() { CallOutcome::Ok } else { CallOutcome::Overloaded };
    }
    if let Some(mut span) = span {
        span.fail_if(&result);
        span.end();
    }
    result
}

/// Measures how long a request waits. Dropping this value records the duration.
struct WaitMeter<'a> {
    metrics: &'a InstanceMetrics,
    start: Instant,
    outcome: CallOutcome,
}

impl Drop for WaitMeter<'_> {
    fn drop(&mut self) {
        self.metrics.record_wait(self.outcome, self.start.elapsed());
    }
}

/// Measures a call, for the metrics of its seam. Dropping this value before the call has ended records a cancelled call.
struct CallMeter {
    metrics: Arc<SeamMetrics>,
    start: Instant,
    /// The trace of the request, if the request is sampled.
    trace: Option<TraceId>,
    is_ended: bool,
}

impl CallMeter {
    /// Records the call, and returns its duration.
    fn end(mut self, outcome: CallOutcome) -> Duration {
        self.is_ended = true;
        let duration = self.start.elapsed();
        self.metrics.record(outcome, duration, self.trace);
        duration
    }
}

impl Drop for CallMeter {
    fn drop(&mut self) {
        if !self.is_ended {
            self.metrics.record(CallOutcome::Cancelled, self.start.elapsed(), self.trace);
        }
    }
}

/// The span of one side of a call across a seam. On the caller's side, it also measures the call.
pub(crate) struct CallSpan {
    span: Option<ActiveSpan>,
    meter: Option<CallMeter>,
}

impl CallSpan {
    /// Starts the span of a call that `current` causes.
    pub(crate) fn begin(current: Option<&SpanContext>, template: &Arc<SpanTemplate>) -> Self {
        let span = current.map(|current| current.begin_from(template).fails_unless_ended(CANCELLED));
        Self { span, meter: None }
    }

    /// Measures the call in `metrics`, if these metrics are exported at all.
    pub(crate) fn measured_in(self, metrics: &Arc<SeamMetrics>) -> Self {
        if !metrics.is_recorded() {
            return self;
        }
        let context = self.context().filter(|context| context.is_sampled());
        let meter = CallMeter {
            metrics: metrics.clone(),
            start: self.span.as_ref().and_then(ActiveSpan::start).unwrap_or_else(Instant::now),
            trace: context.map(|context| context.trace().trace_id),
            is_ended: false,
        };
        Self { meter: Some(meter), ..self }
    }

    /// Returns the context of the span: the parent of the spans of all operations that the call causes.
    pub(crate) fn context(&self) -> Option<&SpanContext> {
        self.span.as_ref().map(ActiveSpan::context)
    }

    /// Records the size in bytes of the image of the call's arguments. The sizes of images are recorded only for
    /// sampled requests, because recording them allocates memory.
    pub(crate) fn set_argument_bytes(&mut self, bytes: usize) {
        if let Some(span) = self.span.as_mut().filter(|span| span.context().is_sampled()) {
            span.set(semantics::ARGUMENT_BYTES, bytes);
        }
    }

    /// Records that an instance was created for the call.
    pub(crate) fn set_cold(&mut self) {
        if let Some(span) = &mut self.span {
            span.set(semantics::COLD_START, true);
        }
    }

    /// Ends the span of a call with the result `result`.
    pub(crate) fn end(self, result: &CallResult) {
        match result {
            Ok(image) => {
                let duration = self.meter.map(|meter| meter.end(CallOutcome::Ok));
                let Some(mut span) = self.span else { return };
                if span.context().is_sampled() {
                    span.set(semantics::RESULT_BYTES, image.len());
                }
                end_span(span, duration);
            }
            Err(failure) => self.fail(failure),
        }
    }

    /// Ends the span of a call that returned a result of unknown size.
    pub(crate) fn succeed(self) {
        let duration = self.meter.map(|meter| meter.end(CallOutcome::Ok));
        if let Some(span) = self.span {
            end_span(span, duration);
        }
    }

    /// Ends the span of a call that failed.
    pub(crate) fn fail(self, failure: &CallFailure) {
        let outcome = outcome(failure);
        let duration = self.meter.map(|meter| meter.end(outcome));
        let Some(mut span) = self.span else { return };
        if span.is_recording() {
            span.set(semantics::ERROR_TYPE, outcome.name());
            span.fail(failure.to_string());
        }
        end_span(span, duration);
    }
}

fn end_span(span: ActiveSpan, duration: Option<Duration>) {
    match duration {
        Some(duration) => span.end_after(duration),
        None => span.end(),
    }
}

fn outcome(failure: &CallFailure) -> CallOutcome {
    match failure {
        CallFailure::Trap { .. } => CallOutcome::Trap,
        CallFailure::Lost { error, .. } => match error {
            CallError::Unreachable => CallOutcome::Unreachable,
            CallError::Deadline => CallOutcome::Deadline,
            CallError::Overloaded => CallOutcome::Overloaded,
            CallError::Refused => CallOutcome::Refused,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use futures::FutureExt as _;
    use isomer_telemetry::metrics::{MetricScope, MetricValue, Metrics, SeamLabels};
    use isomer_telemetry::{AppIdentity, RequestId, SamplingPolicy, Span, TraceFragment, TraceSink, Tracer};
    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Spans(Mutex<Vec<Span>>);

    impl TraceSink for Spans {
        fn record(&self, fragment: TraceFragment) {
            self.0.lock().unwrap().extend(fragment.spans);
        }
    }

    /// Returns the names of the spans that `work` records for a request, and whether each has failed.
    fn recorded(work: impl FnOnce(&SpanContext)) -> Vec<(String, bool)> {
        let spans = Arc::new(Spans::default());
        let tracer = Tracer::new(None, SamplingPolicy::LOCAL, spans.clone());
        let mut root = tracer.begin_request(None, false, RequestId::random(), "/", Instant::now());
        root.rename("root");
        work(root.context());
        drop(root);
        let spans = spans.0.lock().unwrap();
        spans.iter().map(|span| (span.name.to_string(), span.status.is_failed())).collect()
    }

    #[test]
    fn waiting_is_recorded_only_if_the_request_waits() {
        let names = recorded(|current| {
            let ready = async { Ok::<_, Infallible>(1) };
            assert_eq!(record_wait(Some(current), &InstanceMetrics::default(), ready).now_or_never(), Some(Ok(1)));
        });
        assert_eq!(names, [("root".to_owned(), false)]);
        let names = recorded(|current| {
            let (sender, receiver) = oneshot::channel();
            let metrics = InstanceMetrics::default();
            let mut wait = Box::pin(record_wait(Some(current), &metrics, receiver));
            assert!(wait.as_mut().now_or_never().is_none());
            sender.send(1).unwrap();
            assert_eq!(wait.now_or_never(), Some(Ok(1)));
            let (_sender, receiver) = oneshot::channel::<()>();
            assert!(record_wait(Some(current), &InstanceMetrics::default(), receiver).now_or_never().is_none());
        });
        let wait = |is_failed| ("wait for instance".to_owned(), is_failed);
        assert_eq!(names, [wait(false), wait(true), ("root".to_owned(), false)]);
    }

    #[test]
    fn a_call_that_is_dropped_has_failed() {
        let template = Arc::new(SpanTemplate::new("call", SpanKind::Client));
        let names = recorded(|current| {
            CallSpan::begin(Some(current), &template).end(&Ok(vec![1]));
            CallSpan::begin(Some(current), &template).end(&Err(CallFailure::trap("unreachable")));
            drop(CallSpan::begin(Some(current), &template));
            CallSpan::begin(None, &template).end(&Ok(vec![]));
        });
        let call = |is_failed| ("call".to_owned(), is_failed);
        assert_eq!(names, [call(false), call(true), call(true), ("root".to_owned(), false)]);
    }

    #[test]
    fn calls_and_waits_are_measured_with_their_outcomes() {
        let registry = Metrics::default();
        let series = registry.app(&AppIdentity { tenant: "acme".into(), app: "shop".into() });
        let seam = SeamMetrics::new(series.clone(), SeamLabels { mode: "isolated", ..SeamLabels::default() });
        let instances = InstanceMetrics::new(series, "web");
        let template = Arc::new(SpanTemplate::new("call", SpanKind::Client));
        recorded(|current| {
            for current in [Some(current), None] {
                CallSpan::begin(current, &template).measured_in(&seam).end(&Ok(vec![1]));
            }
            CallSpan::begin(None, &template).measured_in(&seam).end(&Err(CallFailure::trap("unreachable")));
            drop(CallSpan::begin(None, &template).measured_in(&seam));
            let ready = async { Ok::<_, Infallible>(1) };
            assert_eq!(record_wait(None, &instances, ready).now_or_never(), Some(Ok(1)));
            let (_sender, receiver) = oneshot::channel::<()>();
            assert!(record_wait(None, &instances, receiver).now_or_never().is_none());
        });
        let snapshot = registry.snapshot(MetricScope::All);
        let counts = snapshot.families().flat_map(|family| &family.series).filter_map(|series| match &series.value {
            MetricValue::Histogram(histogram) => Some((series.labels.last()?.to_string(), histogram.count())),
            MetricValue::Number(_) => None,
        });
        let mut counts: Vec<_> = counts.collect();
        counts.sort();
        let count = |outcome: &str, count| (outcome.to_owned(), count);
        assert_eq!(counts, [count("cancelled", 1), count("cancelled", 1), count("ok", 2), count("trap", 1)]);
    }
}
