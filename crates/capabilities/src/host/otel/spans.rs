//! The spans that a guest has started.
//!
//! A guest chooses the ids of its spans, and could choose the id of a span of the platform or of another request. So each
//! span gets an id of the platform, and ids that the guest states are looked up here. A parent must have started before
//! its child and in the same trace. So the parents form no cycle, and no span has a parent in another request.

use std::collections::VecDeque;
use std::time::Instant;

use isomer_telemetry::{SpanId, TraceContext, TraceId};

/// The maximum number of a guest's spans that are known at the same time. The oldest ones are forgotten.
pub(super) const SPANS_MAX: usize = 256;

/// The spans that a guest has started, the oldest first. Spans that have ended stay, because a child may end later.
#[derive(Debug, Default)]
pub(super) struct GuestSpans(VecDeque<StartedSpan>);

#[derive(Debug)]
struct StartedSpan {
    /// The id that the guest states.
    stated: u64,
    id: SpanId,
    trace_id: TraceId,
    /// The span of the platform in which the span started.
    outer: SpanId,
    start: Instant,
    is_ended: bool,
}

/// A span that has ended.
#[derive(Debug, PartialEq)]
pub(super) struct EndedSpan {
    pub(super) id: SpanId,
    pub(super) parent: SpanId,
    /// The start; `None` if the guest did not report it.
    pub(super) start: Option<Instant>,
}

impl GuestSpans {
    /// Starts the span with the id `stated`. `current` is the trace of the request, with the span in which the guest
    /// runs.
    pub(super) fn start(&mut self, stated: u64, current: TraceContext, at: Instant) {
        if self.position(stated, current.trace_id).is_none() {
            self.push(stated, current, at);
        }
    }

    /// Ends the span with the id `stated`. `parent` is the id of the parent that the guest states. Returns `None` if the
    /// span has ended before.
    pub(super) fn end(&mut self, stated: u64, parent: u64, current: TraceContext, at: Instant) -> Option<EndedSpan> {
        let known = self.position(stated, current.trace_id);
        let start = known.map(|index| self.0[index].start);
        let index = known.unwrap_or_else(|| {
            self.push(stated, current, at);
            self.0.len() - 1
        });
        if self.0[index].is_ended {
            return None;
        }
        self.0[index].is_ended = true;
        let of_parent = self.position(parent, current.trace_id).filter(|parent| *parent < index);
        let span = &self.0[index];
        let parent = of_parent.map_or(span.outer, |parent| self.0[parent].id);
        Some(EndedSpan { id: span.id, parent, start })
    }

    /// Returns the id of the span with the id `stated` in the trace `trace_id`.
    pub(super) fn id(&self, stated: u64, trace_id: TraceId) -> Option<SpanId> {
        self.position(stated, trace_id).map(|index| self.0[index].id)
    }

    fn position(&self, stated: u64, trace_id: TraceId) -> Option<usize> {
        self.0.iter().position(|span| span.stated == stated && span.trace_id == trace_id)
    }

    fn push(&mut self, stated: u64, current: TraceContext, start: Instant) {
        if self.0.len() == SPANS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(StartedSpan {
            stated,
            id: SpanId::random(),
            trace_id: current.trace_id,
            outer: current.parent,
            start,
            is_ended: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(number: u128) -> TraceContext {
        let outer = SpanId::from_raw(0xff).unwrap();
        TraceContext { trace_id: TraceId::from_raw(number).unwrap(), ..TraceContext::start(outer) }
    }

    #[test]
    fn spans_get_ids_of_the_platform_and_keep_their_order() {
        let (mut spans, now, current) = (GuestSpans::default(), Instant::now(), trace(1));
        spans.start(1, current, now);
        spans.start(2, current, now);
        let child = spans.end(2, 1, current, now).unwrap();
        let parent = spans.end(1, 0, current, now).unwrap();
        assert_eq!((child.parent, parent.parent, child.start), (parent.id, current.parent, Some(now)));
        assert_eq!(spans.id(2, current.trace_id), Some(child.id));
        assert!(child.id.get() != 2 && spans.end(2, 1, current, now).is_none(), "a span ends once");
    }

    #[test]
    fn a_stated_parent_of_another_request_or_a_cycle_is_not_used() {
        let (mut spans, now, current) = (GuestSpans::default(), Instant::now(), trace(1));
        spans.start(7, trace(2), now);
        spans.start(1, current, now);
        spans.start(2, current, now);
        let parents = [(1, 2), (2, 7)].map(|(stated, parent)| spans.end(stated, parent, current, now).unwrap().parent);
        assert_eq!(parents, [current.parent; 2]);
        // An id of the platform's own spans is not known here either.
        let ended = spans.end(0xff, 0xff, current, now).unwrap();
        assert!(ended.id.get() != 0xff && ended.parent == current.parent && ended.start.is_none());
        assert_eq!(spans.id(7, current.trace_id), None);
    }

    #[test]
    fn the_number_of_spans_is_bounded() {
        let (mut spans, now, current) = (GuestSpans::default(), Instant::now(), trace(1));
        for stated in 0..10 * SPANS_MAX as u64 {
            spans.start(stated, current, now);
        }
        assert_eq!(spans.0.len(), SPANS_MAX);
        assert!(size_of::<StartedSpan>() * 2 * SPANS_MAX <= super::super::STATE_BYTES);
    }
}
