//! Recording spans while a request is served.
//!
//! Each app has a [`Tracer`](crate::Tracer). For each request or call from another process, the tracer starts a
//! recording, which collects the spans in memory. When the last reference to the recording is dropped, the spans are
//! passed to the tracer's [`TraceSink`], or dropped if the request was not sampled, did not fail and was not slow. So
//! no disk and no other thread is involved while a request is served.
//!
//! Most requests are not kept. So an ended span refers to its [`SpanTemplate`], and is converted to a [`Span`] with
//! its name and its attributes only if it is kept.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::metrics::SPANS_DROPPED;
use crate::sampling::{Sampler, SamplingPolicy};
use crate::span::{Attribute, Span, TraceFragment, unix_ns};
use crate::span_details::{self, SpanDetails};
use crate::span_template::SpanTemplate;
use crate::{AppIdentity, RequestId, SpanId, TraceContext, semantics};

/// The maximum number of spans of one request in one process.
pub const SPANS_PER_REQUEST_MAX: usize = 1000;

/// The number of spans for which space is allocated when a request has a second span.
const MORE_SPANS: usize = 15;

/// The maximum size in bytes of all spans of one app that are in memory because their requests have not ended.
const APP_BYTES_MAX: usize = 8 << 20;

/// The amount of memory in bytes by which the charge for a recording grows, so that most spans change no shared counter
/// of the account.
const CHARGE_STEP_BYTES: usize = 1 << 10;

/// The account that the spans in memory are charged to. Called while requests are served, and must not block.
pub trait SpanMemory: Send + Sync + 'static {
    /// Charges `bytes`. Returns `false`, and charges nothing, if the account has not enough memory left.
    fn charge(&self, bytes: usize) -> bool;

    /// Releases `bytes` that were charged.
    fn release(&self, bytes: usize);
}

/// A receiver of traces. Called when a request has ended, on the request's thread, and must not block.
pub trait TraceSink: Send + Sync + 'static {
    /// Receives the spans of a request in this process.
    fn record(&self, fragment: TraceFragment);
}

/// The state that all recordings of an app share.
pub(crate) struct AppTracer {
    pub(crate) app: Option<AppIdentity>,
    /// The policy that the tracer was created with.
    pub(crate) policy: SamplingPolicy,
    pub(crate) sampler: Sampler,
    pub(crate) sink: Arc<dyn TraceSink>,
    /// The account that spans are charged to; not set if they are charged to none.
    pub(crate) memory: OnceLock<Arc<dyn SpanMemory>>,
    /// The size in bytes of all spans of requests that have not ended.
    pub(crate) bytes: AtomicUsize,
    /// The number of spans that were dropped since the start.
    pub(crate) spans_dropped: AtomicU64,
}

/// Sets the details of a span when its request has ended. Called only if the request's spans are kept.
pub(crate) type DescribeSpan = Box<dyn FnOnce(&mut SpanDetails) + Send>;

/// The recording of one request in this process.
pub(crate) struct Recording {
    tracer: Arc<AppTracer>,
    context: TraceContext,
    origin: Origin,
    request: RequestId,
    start: Instant,
    state: Mutex<RecordingState>,
}

/// Where the first span of a recording comes from. The first span ends last and describes the whole request, so it is
/// recorded even if there are too many spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A request of a client. The parent id in the recording's trace context is the id of the first span itself.
    Request,
    /// A call from another process. The parent id in the recording's trace context is the id of a span of the caller,
    /// and the first span is a child of that span.
    Call,
}

#[derive(Default)]
struct RecordingState {
    /// The span that ended first. Most requests that are not kept have only this one, and so allocate no list.
    first: Option<EndedSpan>,
    spans: Vec<EndedSpan>,
    /// The time from the start of the recording to the last end of a span.
    duration: Duration,
    bytes: usize,
    /// The number of bytes that are charged to the account.
    charged: usize,
    dropped: u64,
    is_failed: bool,
    /// Whether fused calls of the request are not reported, although it is sampled.
    lacks_fused_calls: bool,
}

enum EndedSpan {
    Recorded(RecordedSpan),
    Complete(Box<Span>),
}

/// A span that has ended.
pub(crate) struct RecordedSpan {
    pub(crate) id: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) start: Instant,
    pub(crate) duration: Duration,
    pub(crate) template: Option<Arc<SpanTemplate>>,
    /// A second template, whose component and attributes are added to those of `template`.
    pub(crate) subject: Option<Arc<SpanTemplate>>,
    pub(crate) details: Option<Box<SpanDetails>>,
    pub(crate) describe: Option<DescribeSpan>,
}

/// Converts times to nanoseconds since the Unix epoch. All times of a recording are derived from one reading of the
/// system's clock. So even if the clock is set in the meantime, no span appears to start before its parent.
struct Clock {
    now: Instant,
    now_ns: u64,
}

impl Recording {
    pub(crate) fn new(
        tracer: Arc<AppTracer>,
        context: TraceContext,
        origin: Origin,
        request: RequestId,
        start: Instant,
    ) -> Arc<Self> {
        Arc::new(Self { tracer, context, origin, request, start, state: Mutex::default() })
    }

    /// Returns the time at which the request or call arrived.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// Records that fused calls of the request are not reported, although it is sampled.
    pub(crate) fn lack_fused_calls(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).lacks_fused_calls = true;
    }

    /// Returns whether the span with this id and this parent is the first span of the recording.
    fn is_first(&self, id: SpanId, parent: Option<SpanId>) -> bool {
        match self.origin {
            Origin::Request => id == self.context.parent,
            Origin::Call => parent == Some(self.context.parent),
        }
    }

    /// Adds a span that has ended.
    pub(crate) fn push(&self, span: RecordedSpan) {
        let is_failed = span.details.as_ref().is_some_and(|details| details.status.is_failed());
        let is_first = self.is_first(span.id, span.parent);
        let bytes = span.own_bytes();
        let end = span.start.saturating_duration_since(self.start) + span.duration;
        self.add(EndedSpan::Recorded(span), bytes, end, is_failed, is_first);
    }

    /// Adds a span whose properties and times the emitter has already determined.
    pub(crate) fn push_complete(&self, span: Span) {
        let (bytes, is_failed) = (span.bytes(), span.status.is_failed());
        self.add(EndedSpan::Complete(Box::new(span)), bytes, Duration::ZERO, is_failed, false);
    }

    fn add(&self, span: EndedSpan, own_bytes: usize, end: Duration, is_failed: bool, is_first: bool) {
        let bytes = size_of::<EndedSpan>() + own_bytes;
        let in_use = self.tracer.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_failed |= is_failed;
        state.duration = state.duration.max(end);
        // The first span is not charged: most requests that are not kept have only this one.
        let is_full = in_use + bytes > APP_BYTES_MAX
            || state.len() >= SPANS_PER_REQUEST_MAX
            || state.first.is_some() && !self.tracer.charge(&mut state, bytes);
        if is_full && !(is_first && state.len() <= SPANS_PER_REQUEST_MAX) {
            state.dropped += 1;
            drop(state);
            self.tracer.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.tracer.spans_dropped.fetch_add(1, Ordering::Relaxed);
            SPANS_DROPPED.add(1);
        } else {
            state.bytes += bytes;
            state.push(span);
        }
    }
}

impl RecordingState {
    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.spans.len()
    }

    fn push(&mut self, span: EndedSpan) {
        if self.first.is_none() {
            self.first = Some(span);
        } else {
            if self.spans.is_empty() {
                self.spans.reserve_exact(MORE_SPANS);
            }
            self.spans.push(span);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let state = std::mem::take(self.state.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.tracer.bytes.fetch_sub(state.bytes, Ordering::Relaxed);
        if let Some(memory) = self.tracer.memory.get().filter(|_| state.charged > 0) {
            memory.release(state.charged);
        }
        let is_sampled = self.context.flags.is_sampled();
        let is_slow = || self.tracer.sampler.is_slow(nanoseconds(state.duration));
        if state.first.is_none() || !(is_sampled || state.is_failed || is_slow()) {
            return;
        }
        let clock = Clock { now: Instant::now(), now_ns: unix_ns(SystemTime::now()) };
        let spans = state.first.into_iter().chain(state.spans).map(|span| match span {
            EndedSpan::Recorded(span) => span.into_span(&clock),
            EndedSpan::Complete(span) => *span,
        });
        let mut spans: Vec<Span> = spans.collect();
        if let Some(first) =
            spans.iter_mut().find(|span| state.lacks_fused_calls && self.is_first(span.id, span.parent))
        {
            let missing = Attribute { key: semantics::FUSED_CALLS.into(), value: semantics::MISSING.into() };
            span_details::set(&mut first.attributes, missing);
        }
        self.tracer.sink.record(TraceFragment {
            trace_id: self.context.trace_id,
            request: self.request,
            app: self.tracer.app.clone(),
            is_sampled,
            spans,
            spans_dropped: state.dropped,
        });
    }
}

impl AppTracer {
    /// Charges `bytes` more bytes of a recording to the account. Returns `false` if the account has not enough memory.
    fn charge(&self, state: &mut RecordingState, bytes: usize) -> bool {
        let Some(memory) = self.memory.get() else { return true };
        let missing = (state.bytes + bytes).saturating_sub(state.charged);
        let step = missing.next_multiple_of(CHARGE_STEP_BYTES);
        let is_charged = missing == 0 || memory.charge(step);
        if is_charged && missing > 0 {
            state.charged += step;
        }
        is_charged
    }
}

impl RecordedSpan {
    /// Returns the number of bytes on the heap that belong to this span only.
    fn own_bytes(&self) -> usize {
        let details = self.details.as_ref().map_or(0, |details| size_of::<SpanDetails>() + details.own_bytes());
        details + self.describe.as_ref().map_or(0, |describe| size_of_val(&**describe))
    }

    fn into_span(self, clock: &Clock) -> Span {
        let mut details = self.details.map_or_else(SpanDetails::default, |details| *details);
        if let Some(describe) = self.describe {
            describe(&mut details);
        }
        let (template, subject) = (self.template.as_deref(), self.subject.as_deref());
        let shared = [template, subject].into_iter().flatten().flat_map(|template| &template.attributes);
        let mut attributes = Vec::with_capacity(shared.clone().count() + details.attributes.len());
        for attribute in shared.cloned().chain(details.attributes) {
            span_details::set(&mut attributes, attribute);
        }
        Span {
            id: self.id,
            parent: self.parent,
            name: details.name.or_else(|| Some(template?.name.clone())).unwrap_or("".into()),
            kind: details.kind.or_else(|| Some(template?.kind)).unwrap_or_default(),
            component: details.component.or_else(|| subject?.component.clone()).or_else(|| template?.component.clone()),
            start_ns: clock.ns_at(self.start),
            duration_ns: nanoseconds(self.duration),
            status: details.status,
            attributes,
        }
    }
}

impl Clock {
    fn ns_at(&self, time: Instant) -> u64 {
        self.now_ns.saturating_sub(nanoseconds(self.now.saturating_duration_since(time)))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
