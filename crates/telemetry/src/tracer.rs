//! Starting the recordings of an app's requests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crate::active_span::{ActiveSpan, SpanContext};
use crate::recording::{AppTracer, Origin, Recording, TraceSink};
use crate::sampling::{Sampler, SamplingPolicy, TraceOrder};
use crate::{AppIdentity, RequestId, TraceContext};

/// Starts the recordings of one app's requests. Cheap to clone. The default records nothing.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<AppTracer>>);

impl Tracer {
    /// Returns a tracer that passes traces to `sink`.
    pub fn new(app: Option<AppIdentity>, policy: SamplingPolicy, sink: Arc<dyn TraceSink>) -> Self {
        let (bytes, spans_dropped) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self(Some(Arc::new(AppTracer { app, sampler: Sampler::new(policy), sink, bytes, spans_dropped })))
    }

    /// Returns whether the tracer records anything.
    pub fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Replaces the policy for requests that arrive from now on.
    pub fn set_policy(&self, policy: SamplingPolicy) {
        if let Some(tracer) = &self.0 {
            tracer.sampler.set_policy(policy);
        }
    }

    /// Samples the next requests to a path.
    pub fn order(&self, order: TraceOrder) {
        if let Some(tracer) = &self.0 {
            tracer.sampler.order(order);
        }
    }

    /// Returns the number of spans that were dropped since the start, because a request had more than
    /// [`SPANS_PER_REQUEST_MAX`](crate::SPANS_PER_REQUEST_MAX) spans, or because the requests in progress had too many
    /// spans together.
    pub fn spans_dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |tracer| tracer.spans_dropped.load(Ordering::Relaxed))
    }

    /// Returns the size in bytes of all spans of requests that have not ended.
    #[cfg(test)]
    pub(crate) fn bytes_in_use(&self) -> usize {
        self.0.as_ref().map_or(0, |tracer| tracer.bytes.load(Ordering::Relaxed))
    }

    /// Starts the recording of a request for `path` that arrived at `start`. The returned span is the request's first
    /// span, and has the same number as `request`.
    ///
    /// `incoming` is the trace context that the client sent. The request stays in the client's trace. The client's
    /// sampled flag is honoured only if the client is trusted, because tracing a request costs time and storage.
    pub fn begin_request(
        &self,
        incoming: Option<TraceContext>,
        is_trusted: bool,
        request: RequestId,
        path: &str,
        start: Instant,
    ) -> ActiveSpan {
        let parent = incoming.map(|context| context.parent);
        let base = incoming.unwrap_or_else(|| TraceContext::start(request.into())).child_of(request.into());
        let Some(tracer) = &self.0 else {
            let context = if is_trusted { base } else { base.with_sampled(false) };
            return ActiveSpan::unrecorded(SpanContext::unrecorded(context));
        };
        let is_sampled = is_trusted && base.flags.is_sampled() || tracer.sampler.decide(path, start);
        let context = SpanContext::record(tracer, base.with_sampled(is_sampled), Origin::Request, request, start);
        ActiveSpan::root(context, parent, start)
    }

    /// Starts the recording of a call from another process of the same app. `context` is the context that the caller
    /// sent; its `parent` is the caller's span.
    pub fn continue_call(&self, context: TraceContext, request: RequestId) -> SpanContext {
        match &self.0 {
            None => SpanContext::unrecorded(context),
            Some(tracer) => SpanContext::record(tracer, context, Origin::Call, request, Instant::now()),
        }
    }
}

impl SpanContext {
    fn record(
        tracer: &Arc<AppTracer>,
        trace: TraceContext,
        origin: Origin,
        request: RequestId,
        start: Instant,
    ) -> Self {
        Self::recorded(trace, Recording::new(tracer.clone(), trace, origin, request, start))
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("is_enabled", &self.is_enabled()).finish_non_exhaustive()
    }
}
