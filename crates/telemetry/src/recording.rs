//! Recording spans while a request is served.
//!
//! Each app has a [`Tracer`]. For each request or call from another process, the tracer starts a recording, which
//! collects the spans in memory. When the last reference to the recording is dropped, the spans are passed to the
//! tracer's [`TraceSink`], or dropped if the request was not sampled, did not fail and was not slow. So no disk and no
//! other thread is involved while a request is served.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use crate::random::random_u64;
use crate::sampling::{Sampler, SamplingPolicy, TraceOrder};
use crate::span::{Attribute, SPAN_ATTRIBUTES_MAX, Span, SpanKind, SpanStatus, Text, TraceFragment, Value, unix_ns};
use crate::{AppIdentity, RequestId, SpanId, TraceContext};

/// The maximum number of spans of one request in one process.
pub const SPANS_PER_REQUEST_MAX: usize = 1000;

/// The maximum size in bytes of all spans of one app that are in memory because their requests have not ended.
const APP_BYTES_MAX: usize = 8 << 20;

/// A receiver of traces. Called when a request has ended, on the request's thread, and must not block.
pub trait TraceSink: Send + Sync + 'static {
    /// Receives the spans of a request in this process.
    fn record(&self, fragment: TraceFragment);
}

/// Starts the recordings of one app's requests. Cheap to clone. The default records nothing.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<AppTracer>>);

struct AppTracer {
    app: Option<AppIdentity>,
    sampler: Sampler,
    sink: Arc<dyn TraceSink>,
    /// The size of all spans of requests that have not ended.
    bytes: AtomicUsize,
    /// The number of spans that were dropped since the start.
    spans_dropped: AtomicU64,
}

/// The recording of one request in this process.
struct Recording {
    tracer: Arc<AppTracer>,
    context: TraceContext,
    request: RequestId,
    start: Instant,
    start_ns: u64,
    state: Mutex<RecordingState>,
}

#[derive(Default)]
struct RecordingState {
    spans: Vec<Span>,
    bytes: usize,
    dropped: u64,
    is_failed: bool,
}

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
    /// [`SPANS_PER_REQUEST_MAX`] spans, or because the requests in progress had too many spans together.
    pub fn spans_dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |tracer| tracer.spans_dropped.load(Ordering::Relaxed))
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
            return ActiveSpan::new(SpanContext { trace: context, recording: None }, parent, start);
        };
        let is_sampled = is_trusted && base.flags.is_sampled() || tracer.sampler.decide(path, start);
        let context = base.with_sampled(is_sampled);
        ActiveSpan::new(SpanContext::record(tracer, context, request, start), parent, start)
    }

    /// Starts the recording of a call from another process of the same app. `context` is the context that the caller
    /// sent; its `parent` is the caller's span.
    pub fn continue_call(&self, context: TraceContext, request: RequestId) -> SpanContext {
        match &self.0 {
            None => SpanContext { trace: context, recording: None },
            Some(tracer) => SpanContext::record(tracer, context, request, Instant::now()),
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("is_enabled", &self.is_enabled()).finish_non_exhaustive()
    }
}

/// A span as the parent of further spans, and the recording that they belong to. Cheap to clone.
#[derive(Clone)]
pub struct SpanContext {
    /// The trace; its `parent` is the span.
    trace: TraceContext,
    recording: Option<Arc<Recording>>,
}

impl SpanContext {
    /// Returns a context that records nothing, with the trace `trace`.
    pub fn unrecorded(trace: TraceContext) -> Self {
        Self { trace, recording: None }
    }

    fn record(tracer: &Arc<AppTracer>, trace: TraceContext, request: RequestId, start: Instant) -> Self {
        let start_ns = unix_ns(SystemTime::now()).saturating_sub(nanoseconds(start.elapsed()));
        let (tracer, state) = (tracer.clone(), Mutex::default());
        Self { trace, recording: Some(Arc::new(Recording { tracer, context: trace, request, start, start_ns, state })) }
    }

    /// Returns the trace context for operations that this span causes: the content of their `traceparent`.
    pub fn trace(&self) -> TraceContext {
        self.trace
    }

    /// Returns whether spans are collected.
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// Returns whether the request is sampled, and spans are collected. Calls between fused components are recorded
    /// only in this case.
    pub fn is_sampled(&self) -> bool {
        self.recording.is_some() && self.trace.flags.is_sampled()
    }

    /// Starts a span that this span causes. If nothing is recorded, the returned span has this span's context.
    #[must_use]
    pub fn begin(&self, name: impl Into<Text>, kind: SpanKind) -> ActiveSpan {
        self.begin_at(Instant::now(), name, kind)
    }

    /// Starts a span like [`begin`](Self::begin) that started at `start`.
    #[must_use]
    pub fn begin_at(&self, start: Instant, name: impl Into<Text>, kind: SpanKind) -> ActiveSpan {
        if self.recording.is_none() {
            return ActiveSpan::new(self.clone(), None, start);
        }
        let id = SpanId::from_raw(random_u64() | 1).expect("the lowest bit is set");
        let context = Self { trace: self.trace.child_of(id), recording: self.recording.clone() };
        let mut span = ActiveSpan::new(context, Some(self.trace.parent), start);
        span.rename(name);
        span.set_kind(kind);
        span
    }

    /// Records a complete span that this span causes, for an emitter that knows its times only afterwards, such as a
    /// guest. Times are not checked.
    pub fn record_span(&self, span: Span) {
        if let Some(recording) = &self.recording {
            recording.push(span);
        }
    }
}

impl fmt::Debug for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanContext")
            .field("trace", &self.trace)
            .field("is_recording", &self.is_recording())
            .finish_non_exhaustive()
    }
}

/// A span that has not ended. It ends when it is dropped.
#[derive(Debug)]
pub struct ActiveSpan {
    context: SpanContext,
    start: Instant,
    /// The span; `None` if nothing is recorded.
    span: Option<Box<Span>>,
}

impl ActiveSpan {
    fn new(context: SpanContext, parent: Option<SpanId>, start: Instant) -> Self {
        let span = context.recording.as_ref().map(|_| {
            Box::new(Span {
                id: context.trace.parent,
                parent,
                name: Text::Static(""),
                kind: SpanKind::default(),
                component: None,
                start_ns: 0,
                duration_ns: 0,
                status: SpanStatus::default(),
                attributes: Vec::new(),
            })
        });
        Self { context, start, span }
    }

    /// Returns the context for operations that this span causes.
    pub fn context(&self) -> &SpanContext {
        &self.context
    }

    /// Returns whether the span will be recorded. If not, callers can skip the work for its attributes.
    pub fn is_recording(&self) -> bool {
        self.span.is_some()
    }

    /// Replaces the name.
    pub fn rename(&mut self, name: impl Into<Text>) {
        if let Some(span) = &mut self.span {
            span.name = name.into().cut();
        }
    }

    /// Sets the side of a call that the span describes.
    pub fn set_kind(&mut self, kind: SpanKind) {
        if let Some(span) = &mut self.span {
            span.kind = kind;
        }
    }

    /// Sets the component that does the work.
    pub fn set_component(&mut self, component: impl Into<Text>) {
        if let Some(span) = &mut self.span {
            span.component = Some(component.into());
        }
    }

    /// Sets an attribute. `key` is one of the keys in [`semantics`](crate::semantics).
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        let Some(span) = &mut self.span else { return };
        let value = match value.into() {
            Value::Text(text) => Value::Text(text.cut()),
            value => value,
        };
        if let Some(attribute) = span.attributes.iter_mut().find(|attribute| attribute.key == *key) {
            attribute.value = value;
        } else if span.attributes.len() < SPAN_ATTRIBUTES_MAX {
            span.attributes.push(Attribute { key: key.into(), value });
        }
    }

    /// Marks the operation as failed.
    pub fn fail(&mut self, reason: impl Into<Text>) {
        if let Some(span) = &mut self.span {
            span.status = SpanStatus::Failed(reason.into().cut());
        }
    }

    /// Marks the operation as failed if `result` is an error. The error is formatted only if the span is recorded.
    pub fn fail_if<T, E: fmt::Display>(&mut self, result: &Result<T, E>) {
        if let Err(error) = result
            && self.is_recording()
        {
            self.fail(error.to_string());
        }
    }
}

impl Drop for ActiveSpan {
    fn drop(&mut self) {
        if let (Some(mut span), Some(recording)) = (self.span.take(), &self.context.recording) {
            span.start_ns = recording.ns_at(self.start);
            span.duration_ns = nanoseconds(self.start.elapsed());
            recording.push(*span);
        }
    }
}

impl Recording {
    /// Converts a time to nanoseconds since the Unix epoch. All times of a recording are derived from one reading of
    /// the system's clock, so that a span never starts before its parent because the clock was set.
    fn ns_at(&self, time: Instant) -> u64 {
        match time.checked_duration_since(self.start) {
            Some(since) => self.start_ns.saturating_add(nanoseconds(since)),
            None => self.start_ns.saturating_sub(nanoseconds(self.start - time)),
        }
    }

    fn push(&self, span: Span) {
        let bytes = span.bytes();
        let in_use = self.tracer.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_failed |= span.status.is_failed();
        let is_full = in_use + bytes > APP_BYTES_MAX || state.spans.len() >= SPANS_PER_REQUEST_MAX;
        // The first span, which ends last, describes the whole request.
        if is_full && span.id != self.context.parent {
            state.dropped += 1;
            drop(state);
            self.tracer.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.tracer.spans_dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            state.bytes += bytes;
            state.spans.push(span);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let state = std::mem::take(self.state.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.tracer.bytes.fetch_sub(state.bytes, Ordering::Relaxed);
        let is_sampled = self.context.flags.is_sampled();
        let is_kept = is_sampled || state.is_failed || self.start.elapsed() >= self.tracer.sampler.policy().slow;
        if is_kept && !state.spans.is_empty() {
            self.tracer.sink.record(TraceFragment {
                trace_id: self.context.trace_id,
                request: self.request,
                app: self.tracer.app.clone(),
                is_sampled,
                spans: state.spans,
                spans_dropped: state.dropped,
            });
        }
    }
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Memory(Mutex<Vec<TraceFragment>>);

    impl TraceSink for Memory {
        fn record(&self, fragment: TraceFragment) {
            self.0.lock().unwrap().push(fragment);
        }
    }

    fn tracer(ratio: f64) -> (Tracer, Arc<Memory>) {
        let memory = Arc::new(Memory::default());
        let policy = SamplingPolicy { ratio, slow: Duration::MAX, ..SamplingPolicy::LOCAL };
        (Tracer::new(None, policy, memory.clone()), memory)
    }

    fn request(tracer: &Tracer) -> ActiveSpan {
        tracer.begin_request(None, false, RequestId::random(), "/", Instant::now())
    }

    #[test]
    fn spans_are_children_of_the_span_that_caused_them() {
        let (tracer, memory) = tracer(1.0);
        let mut root = request(&tracer);
        root.rename("GET /");
        let mut call = root.context().begin("shop/cart.add", SpanKind::Client);
        call.set("rpc.method", "add");
        call.set("rpc.method", "remove");
        let read = call.context().begin("get", SpanKind::Client);
        assert!(read.context().is_sampled());
        drop((read, call));
        assert_eq!(memory.0.lock().unwrap().len(), 0, "the request has not ended");
        drop(root);
        let fragments = memory.0.lock().unwrap();
        let [fragment] = &fragments[..] else { panic!("one fragment: {fragments:?}") };
        let [read, call, root] = &fragment.spans[..] else { panic!("three spans: {fragment:?}") };
        assert_eq!((read.parent, call.parent, root.parent), (Some(call.id), Some(root.id), None));
        assert_eq!((root.name.as_str(), root.id), ("GET /", fragment.request.into()));
        assert_eq!(call.attribute("rpc.method"), Some(&"remove".into()));
        assert!(root.start_ns <= call.start_ns && call.end_ns() <= root.end_ns());
    }

    #[test]
    fn a_request_that_is_not_sampled_is_kept_if_it_fails() {
        let (tracer, memory) = tracer(0.0);
        drop(request(&tracer));
        assert_eq!(memory.0.lock().unwrap().len(), 0);
        let root = request(&tracer);
        assert!(root.is_recording() && !root.context().is_sampled());
        root.context().begin("charge", SpanKind::Client).fail("a trap");
        drop(root);
        let fragments = memory.0.lock().unwrap();
        assert!(!fragments[0].is_sampled && fragments[0].spans[0].status == SpanStatus::Failed("a trap".into()));
    }

    #[test]
    fn a_slow_request_is_kept() {
        let (tracer, memory) = tracer(0.0);
        tracer.set_policy(SamplingPolicy { ratio: 0.0, slow: Duration::ZERO, ..SamplingPolicy::LOCAL });
        drop(request(&tracer));
        assert_eq!(memory.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn the_sampled_flag_of_a_client_counts_only_if_the_client_is_trusted() {
        let header = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let incoming = TraceContext::parse(header);
        let (tracer, _) = tracer(0.0);
        let begin = |is_trusted| {
            tracer.begin_request(incoming, is_trusted, RequestId::random(), "/", Instant::now()).context().trace()
        };
        assert!(begin(true).flags.is_sampled() && !begin(false).flags.is_sampled());
        assert_eq!(begin(false).trace_id, incoming.unwrap().trace_id);
        let off = Tracer::default().begin_request(incoming, false, RequestId::random(), "/", Instant::now());
        assert!(!off.is_recording() && !off.context().trace().flags.is_sampled());
    }

    #[test]
    fn spans_are_bounded() {
        let (tracer, memory) = tracer(1.0);
        let root = request(&tracer);
        for _ in 0..SPANS_PER_REQUEST_MAX + 5 {
            drop(root.context().begin("x".repeat(5000), SpanKind::Internal));
        }
        drop(root);
        let fragments = memory.0.lock().unwrap();
        assert_eq!((fragments[0].spans.len(), fragments[0].spans_dropped), (SPANS_PER_REQUEST_MAX + 1, 5));
        assert_eq!(tracer.spans_dropped(), 5);
        assert!(fragments[0].spans.iter().all(|span| span.name.as_str().len() <= 1024));
        assert_eq!(tracer.0.unwrap().bytes.load(Ordering::Relaxed), 0);
    }
}
