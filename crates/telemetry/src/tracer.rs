//! Starting the recordings of an app's requests.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::active_span::{ActiveSpan, SpanContext};
use crate::recording::{AppTracer, Origin, Recording, SpanMemory, TraceSink};
use crate::sampling::{Sampler, SamplingPolicy, TraceOrder};
use crate::sampling_limits::AppSampling;
use crate::{AppIdentity, RequestId, TraceContext};

/// Starts the recordings of one app's requests. Cheap to clone. The default records nothing.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<AppTracer>>);

impl Tracer {
    /// Returns a tracer that passes traces to `sink`.
    pub fn new(app: Option<AppIdentity>, policy: SamplingPolicy, sink: Arc<dyn TraceSink>) -> Self {
        let (bytes, spans_dropped) = (AtomicUsize::new(0), AtomicU64::new(0));
        let (sampler, memory) = (Sampler::new(policy), OnceLock::new());
        Self(Some(Arc::new(AppTracer { app, policy, sampler, sink, memory, bytes, spans_dropped })))
    }

    /// Charges the spans of requests that start from now on to `memory`, while the requests run. If the account has not
    /// enough memory, spans are dropped and counted. Only the first call has an effect.
    pub fn charge_to(&self, memory: Arc<dyn SpanMemory>) {
        if let Some(tracer) = &self.0 {
            let _ = tracer.memory.set(memory);
        }
    }

    /// Returns whether the tracer records anything.
    pub fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Returns whether requests are sampled without an order.
    pub fn samples_by_ratio(&self) -> bool {
        self.0.as_ref().is_some_and(|tracer| tracer.sampler.samples_by_ratio())
    }

    /// Replaces the policy for requests that arrive from now on.
    pub fn set_policy(&self, policy: SamplingPolicy) {
        if let Some(tracer) = &self.0 {
            tracer.sampler.set_policy(policy);
        }
    }

    /// Applies the settings of the app's own manifest to requests that arrive from now on, if the tracer was created with
    /// [`SamplingPolicy::LOCAL`]. Another policy was chosen on the command line, which takes precedence.
    pub fn apply(&self, app: &AppSampling) {
        if let Some(tracer) = self.0.as_ref().filter(|tracer| tracer.policy == SamplingPolicy::LOCAL) {
            tracer.sampler.set_policy(app.policy(tracer.policy));
        }
    }

    /// Replaces the orders that are not filled yet. At most 16 are kept, the last ones.
    pub fn set_orders(&self, orders: impl IntoIterator<Item = TraceOrder>) {
        if let Some(tracer) = &self.0 {
            tracer.sampler.set_orders(orders);
        }
    }

    /// Samples the next requests to a path.
    pub fn order(&self, order: TraceOrder) {
        if let Some(tracer) = &self.0 {
            tracer.sampler.order(order);
        }
    }

    /// Returns the number of spans that were dropped since the start, because a request had more than
    /// [`SPANS_PER_REQUEST_MAX`](crate::SPANS_PER_REQUEST_MAX) spans, or because there was not enough memory for the spans
    /// of the requests in progress.
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
        // A trusted proxy may pass on the flags of its own clients, so their number is limited.
        let is_sampled_by_client = is_trusted && base.flags.is_sampled() && tracer.sampler.is_within_rate(start);
        let is_sampled = is_sampled_by_client || tracer.sampler.decide(path, start);
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
