//! Spans that have not ended, and their contexts.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::recording::{DescribeSpan, RecordedSpan, Recording};
use crate::span::{Span, SpanKind, Text, Value};
use crate::span_details::SpanDetails;
use crate::span_template::SpanTemplate;
use crate::{SpanId, TraceContext};

/// A span as the parent of further spans, and the recording that they belong to. Cheap to clone.
#[derive(Clone)]
pub struct SpanContext {
    /// The trace context for work that this span causes: its `parent` is this span.
    trace: TraceContext,
    recording: Option<Arc<Recording>>,
}

impl SpanContext {
    /// Returns a context that records nothing, with the trace `trace`.
    pub fn unrecorded(trace: TraceContext) -> Self {
        Self { trace, recording: None }
    }

    pub(crate) fn recorded(trace: TraceContext, recording: Arc<Recording>) -> Self {
        Self { trace, recording: Some(recording) }
    }

    /// Returns the trace context for operations that this span causes: the content of their `traceparent`.
    pub fn trace(&self) -> TraceContext {
        self.trace
    }

    /// Returns whether spans are collected.
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// Returns `true` if spans are collected and the request is sampled. Calls between fused components are recorded
    /// only in this case.
    pub fn is_sampled(&self) -> bool {
        self.recording.is_some() && self.trace.flags.is_sampled()
    }

    /// Records in the trace that fused calls of the request are not reported, although the request is sampled.
    pub fn lack_fused_calls(&self) {
        if let Some(recording) = self.recording.as_ref().filter(|_| self.is_sampled()) {
            recording.lack_fused_calls();
        }
    }

    /// Starts a span that this span causes. If nothing is recorded, the returned span has this span's context.
    #[must_use]
    pub fn begin(&self, name: impl Into<Text>, kind: SpanKind) -> ActiveSpan {
        let mut span = self.begin_at(self.now(), None);
        span.rename(name);
        span.set_kind(kind);
        span
    }

    /// Starts a span like [`begin`](Self::begin) with the properties of `template`. Allocates no memory.
    #[must_use]
    pub fn begin_from(&self, template: &Arc<SpanTemplate>) -> ActiveSpan {
        self.begin_at(self.now(), Some(template))
    }

    /// Returns the time at which the request or call arrived in this process; `None` if spans are not collected.
    pub fn recording_start(&self) -> Option<Instant> {
        self.recording.as_ref().map(|recording| recording.start())
    }

    /// Records a span that has already ended and that this span caused. For emitters that know the times of a span only
    /// afterwards, such as guests. The times are not checked.
    pub fn record_span(&self, span: Span) {
        if let Some(recording) = &self.recording {
            recording.push_complete(span);
        }
    }

    /// Returns the current time if spans are recorded.
    fn now(&self) -> Option<Instant> {
        self.is_recording().then(Instant::now)
    }

    fn begin_at(&self, start: Option<Instant>, template: Option<&Arc<SpanTemplate>>) -> ActiveSpan {
        let Some(start) = start else { return ActiveSpan::unrecorded(self.clone()) };
        let id = SpanId::random();
        let context = Self { trace: self.trace.child_of(id), recording: self.recording.clone() };
        ActiveSpan::new(context, Some(self.trace.parent), start, template.cloned())
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
    /// The span; `None` if nothing is recorded.
    open: Option<OpenSpan>,
}

struct OpenSpan {
    parent: Option<SpanId>,
    start: Instant,
    /// The duration, if the emitter has measured it.
    duration: Option<Duration>,
    template: Option<Arc<SpanTemplate>>,
    subject: Option<Arc<SpanTemplate>>,
    details: Option<Box<SpanDetails>>,
    describe: Option<DescribeSpan>,
    /// If the span is dropped now, it fails with this reason; `None` if dropping it is no failure.
    fails_unless_ended: Option<&'static str>,
}

impl ActiveSpan {
    pub(crate) fn unrecorded(context: SpanContext) -> Self {
        Self { context, open: None }
    }

    /// Creates the first span of a recording. `parent` is the client's span that caused it, if the client has sent a
    /// trace context.
    pub(crate) fn root(context: SpanContext, parent: Option<SpanId>, start: Instant) -> Self {
        Self::new(context, parent, start, None)
    }

    fn new(context: SpanContext, parent: Option<SpanId>, start: Instant, template: Option<Arc<SpanTemplate>>) -> Self {
        let open = OpenSpan {
            parent,
            start,
            duration: None,
            template,
            subject: None,
            details: None,
            describe: None,
            fails_unless_ended: None,
        };
        Self { context, open: Some(open) }
    }

    /// Returns the context for operations that this span causes.
    pub fn context(&self) -> &SpanContext {
        &self.context
    }

    /// Returns whether the span will be recorded. If not, callers can skip the work for its attributes.
    pub fn is_recording(&self) -> bool {
        self.open.is_some()
    }

    /// Adds the component and the attributes of another template, such as the template of the store that an operation
    /// uses. Its name and its kind are ignored. Allocates no memory.
    #[must_use]
    pub fn on(mut self, subject: &Arc<SpanTemplate>) -> Self {
        if let Some(open) = &mut self.open {
            open.subject = Some(subject.clone());
        }
        self
    }

    /// Replaces the name.
    pub fn rename(&mut self, name: impl Into<Text>) {
        self.details(|details| details.rename(name));
    }

    /// Sets the side of a call that the span describes.
    pub fn set_kind(&mut self, kind: SpanKind) {
        self.details(|details| details.set_kind(kind));
    }

    /// Sets the component that does the work.
    pub fn set_component(&mut self, component: impl Into<Text>) {
        self.details(|details| details.set_component(component));
    }

    /// Sets an attribute. `key` is one of the keys in [`semantics`](crate::semantics).
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.details(|details| details.set(key, value));
    }

    /// Marks the operation as failed.
    pub fn fail(&mut self, reason: impl Into<Text>) {
        self.details(|details| details.fail(reason));
    }

    /// Marks the operation as failed if `result` is an error. The error is formatted only if the span is recorded.
    pub fn fail_if<T, E: fmt::Display>(&mut self, result: &Result<T, E>) {
        if let Err(error) = result
            && self.is_recording()
        {
            self.fail(error.to_string());
        }
    }

    /// Calls `describe` when the request has ended, and only if its spans are kept. For properties that are expensive
    /// to format. A failure that `describe` sets does not count as a failure of the request.
    pub fn describe(&mut self, describe: impl FnOnce(&mut SpanDetails) + Send + 'static) {
        if let Some(open) = &mut self.open {
            open.describe = Some(Box::new(describe));
        }
    }

    /// Makes the span fail with `reason` if it is dropped before [`ActiveSpan::end`] is called. For an operation that is
    /// cancelled by dropping its future.
    #[must_use]
    pub fn fails_unless_ended(mut self, reason: &'static str) -> Self {
        self.set_failure_if_dropped(Some(reason));
        self
    }

    /// Sets the reason with which the span fails if it is dropped before [`ActiveSpan::end`] is called. With `None`,
    /// dropping the span does not make it fail.
    pub fn set_failure_if_dropped(&mut self, reason: Option<&'static str>) {
        if let Some(open) = &mut self.open {
            open.fails_unless_ended = reason;
        }
    }

    /// Ends the span now.
    pub fn end(mut self) {
        self.set_failure_if_dropped(None);
    }

    /// Ends the span, which took `duration`. For emitters that measure the operation themselves: the clock is not read
    /// again.
    pub fn end_after(mut self, duration: Duration) {
        self.set_failure_if_dropped(None);
        self.set_duration(duration);
    }

    /// Sets the span's duration. For emitters that measure the operation themselves: the clock is not read again when the
    /// span ends.
    pub fn set_duration(&mut self, duration: Duration) {
        if let Some(open) = &mut self.open {
            open.duration = Some(duration);
        }
    }

    /// Returns the time at which the span started; `None` if the span will not be recorded.
    pub fn start(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.start)
    }

    /// Ends the span without recording it.
    pub fn discard(mut self) {
        self.open = None;
    }

    fn details(&mut self, set: impl FnOnce(&mut SpanDetails)) {
        if let Some(open) = &mut self.open {
            set(open.details.get_or_insert_default());
        }
    }
}

impl Drop for ActiveSpan {
    fn drop(&mut self) {
        let (Some(open), Some(recording)) = (self.open.take(), &self.context.recording) else { return };
        let OpenSpan { parent, start, duration, template, subject, mut details, describe, fails_unless_ended } = open;
        if let Some(reason) = fails_unless_ended {
            details.get_or_insert_default().fail(reason);
        }
        let id = self.context.trace.parent;
        let duration = duration.unwrap_or_else(|| start.elapsed());
        recording.push(RecordedSpan { id, parent, start, duration, template, subject, details, describe });
    }
}

impl fmt::Debug for OpenSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSpan")
            .field("template", &self.template)
            .field("details", &self.details)
            .finish_non_exhaustive()
    }
}
