//! The spans of calls across seams, and of waiting for an instance.
//!
//! The span of an operation that is cancelled by dropping its future is marked as failed.

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, LazyLock};

use isomer_telemetry::{ActiveSpan, SpanContext, SpanKind, SpanTemplate, semantics};
use isomer_wire::call::CallResult;
use isomer_wire::{CallError, CallFailure};

/// The reason with which the span of an operation fails if the operation was cancelled.
pub(crate) const CANCELLED: &str = "it was cancelled";

static WAIT_SPAN: LazyLock<Arc<SpanTemplate>> =
    LazyLock::new(|| Arc::new(SpanTemplate::new(semantics::WAIT_FOR_INSTANCE, SpanKind::Internal)));

/// Runs `wait`, which waits for something that an instance needs. Records a span, caused by `current`, unless `wait` is
/// ready immediately.
pub(crate) async fn record_wait<T, E: Display>(
    current: Option<&SpanContext>,
    wait: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let (mut wait, mut span) = (pin!(wait), None);
    let result = poll_fn(|cx| {
        let polled = wait.as_mut().poll(cx);
        if polled.is_pending() && span.is_none() {
            span = current.map(|current| current.begin_from(&WAIT_SPAN).fails_unless_ended(CANCELLED));
        }
        polled
    })
    .await;
    if let Some(mut span) = span {
        span.fail_if(&result);
        span.end();
    }
    result
}

/// The span of one side of a call across a seam.
pub(crate) struct CallSpan(Option<ActiveSpan>);

impl CallSpan {
    /// Starts the span of a call that `current` causes.
    pub(crate) fn begin(current: Option<&SpanContext>, template: &Arc<SpanTemplate>) -> Self {
        Self(current.map(|current| current.begin_from(template).fails_unless_ended(CANCELLED)))
    }

    /// Returns the context of the operations that the call causes.
    pub(crate) fn context(&self) -> Option<&SpanContext> {
        self.0.as_ref().map(ActiveSpan::context)
    }

    /// Records the size in bytes of the image of the call's arguments. The sizes of images are recorded only for
    /// sampled requests, because recording them allocates memory.
    pub(crate) fn set_argument_bytes(&mut self, bytes: usize) {
        if let Some(span) = self.0.as_mut().filter(|span| span.context().is_sampled()) {
            span.set(semantics::ARGUMENT_BYTES, bytes);
        }
    }

    /// Records that an instance was created for the call.
    pub(crate) fn set_cold(&mut self) {
        if let Some(span) = &mut self.0 {
            span.set(semantics::COLD_START, true);
        }
    }

    /// Ends the span of a call with the result `result`.
    pub(crate) fn end(self, result: &CallResult) {
        match result {
            Ok(image) => {
                let Some(mut span) = self.0 else { return };
                if span.context().is_sampled() {
                    span.set(semantics::RESULT_BYTES, image.len());
                }
                span.end();
            }
            Err(failure) => self.fail(failure),
        }
    }

    /// Ends the span of a call that failed.
    pub(crate) fn fail(self, failure: &CallFailure) {
        let Some(mut span) = self.0 else { return };
        if span.is_recording() {
            span.set(semantics::ERROR_TYPE, kind(failure));
            span.fail(failure.to_string());
        }
        span.end();
    }
}

fn kind(failure: &CallFailure) -> &'static str {
    match failure {
        CallFailure::Trap { .. } => "trap",
        CallFailure::Lost { error, .. } => match error {
            CallError::Unreachable => "unreachable",
            CallError::Deadline => "deadline",
            CallError::Overloaded => "overloaded",
            CallError::Refused => "refused",
        },
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;
    use std::time::Instant;

    use futures::FutureExt as _;
    use isomer_telemetry::{RequestId, SamplingPolicy, Span, TraceFragment, TraceSink, Tracer};
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
            assert_eq!(record_wait(Some(current), ready).now_or_never(), Some(Ok(1)));
        });
        assert_eq!(names, [("root".to_owned(), false)]);
        let names = recorded(|current| {
            let (sender, receiver) = oneshot::channel();
            let mut wait = Box::pin(record_wait(Some(current), receiver));
            assert!(wait.as_mut().now_or_never().is_none());
            sender.send(1).unwrap();
            assert_eq!(wait.now_or_never(), Some(Ok(1)));
            let (_sender, receiver) = oneshot::channel::<()>();
            assert!(record_wait(Some(current), receiver).now_or_never().is_none());
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
}
