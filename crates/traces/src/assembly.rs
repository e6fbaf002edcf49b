//! One trace from the fragments of all processes.
//!
//! The clocks of two machines differ. So a fragment that starts before the span that caused it, or after the end of this
//! span, is moved into the span: a callee works while its caller waits.

use std::collections::HashMap;

use isomer_api::{Trace, TraceSpan, TraceSummary, TraceValue};
use isomer_telemetry::{Span, SpanId, SpanKind, SpanStatus, Text, Value};

use crate::codec::{StoredFragment, root_of};
use crate::summary::summary_of;

/// A span of a trace that is being assembled.
struct AssembledSpan<'a> {
    span: &'a Span,
    fragment: usize,
    /// The start time. It is corrected if the clock of the machine that recorded the span differs from the caller's
    /// clock.
    start_ns: u64,
    /// The index of the parent, if the trace contains the parent.
    parent: Option<usize>,
}

/// Returns the trace that consists of `fragments`, or `None` if there are none. `stopped_early` says whether fragments
/// may be missing.
pub(crate) fn assemble(fragments: Vec<StoredFragment>, stopped_early: bool) -> Option<Trace> {
    let mut summary = summary(&fragments)?;
    let mut spans = link(&fragments);
    let moved = move_fragments(&fragments, &mut spans);
    let start_ns = spans.iter().map(|span| span.start_ns).min().unwrap_or(0);
    summary.start_us = start_ns / 1000;
    let children = children(&spans);
    let shown = order(&spans, &children).into_iter().map(|(index, depth)| {
        let fragment = spans[index].fragment;
        let process = fragments[fragment].process.as_ref();
        let self_ns = self_ns(&spans, index, &children[index]);
        TraceSpan { depth, self_ns, ..show(&spans[index], start_ns, moved[fragment], process) }
    });
    let spans = shown.collect();
    let spans_dropped = fragments.iter().map(|it| it.fragment.spans_dropped).fold(0, u64::saturating_add);
    Some(Trace { summary, spans, spans_dropped, stopped_early })
}

/// Returns the summary of the trace. It describes one request of the trace: the earliest request whose first span is in
/// the trace or, if there is none, the earliest request.
fn summary(fragments: &[StoredFragment]) -> Option<TraceSummary> {
    let fragments = || fragments.iter().map(|it| &it.fragment);
    let first = fragments().min_by_key(|fragment| {
        let root = root_of(fragment);
        let first = root.map(|root| root.start_ns).or_else(|| fragment.spans.iter().map(|span| span.start_ns).min());
        (root.is_none(), first)
    })?;
    let mut summary = summary_of(first);
    summary.spans = fragments().map(|fragment| fragment.spans.len() as u64).sum();
    summary.failed = fragments().any(|fragment| fragment.spans.iter().any(|span| span.status.is_failed()));
    summary.sampled = fragments().any(|fragment| fragment.is_sampled);
    Some(summary)
}

/// Returns all spans, linked with their parents. If several spans have the same id, the first one is the parent of the
/// others' children.
fn link(fragments: &[StoredFragment]) -> Vec<AssembledSpan<'_>> {
    let mut spans = Vec::new();
    let mut by_id: HashMap<SpanId, usize> = HashMap::new();
    for (fragment, stored) in fragments.iter().enumerate() {
        for span in &stored.fragment.spans {
            by_id.entry(span.id).or_insert(spans.len());
            spans.push(AssembledSpan { span, fragment, start_ns: span.start_ns, parent: None });
        }
    }
    for (index, span) in spans.iter_mut().enumerate() {
        let parent = span.span.parent.and_then(|parent| by_id.get(&parent)).copied();
        span.parent = parent.filter(|parent| *parent != index);
    }
    spans
}

/// Moves fragments whose clocks differ from those of their callers. Returns the number of nanoseconds by which each
/// fragment was moved.
fn move_fragments(fragments: &[StoredFragment], spans: &mut [AssembledSpan<'_>]) -> Vec<i64> {
    let mut moved: Vec<Option<i64>> = vec![None; fragments.len()];
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); fragments.len()];
    for (index, span) in spans.iter().enumerate() {
        members[span.fragment].push(index);
    }
    // The calls that each fragment makes to other fragments: the caller's span and the callee's first span.
    let mut calls: Vec<Vec<(usize, usize)>> = vec![Vec::new(); fragments.len()];
    let mut is_called = vec![false; fragments.len()];
    for (index, span) in spans.iter().enumerate() {
        if let Some(parent) = span.parent
            && spans[parent].fragment != span.fragment
        {
            calls[spans[parent].fragment].push((parent, index));
            is_called[span.fragment] = true;
        }
    }
    // The times of fragments are corrected in order, each caller before its callees, because the correction of a callee
    // depends on the caller's times. Fragments that call each other in a cycle keep their times.
    let mut next: Vec<usize> = (0..fragments.len()).filter(|fragment| !is_called[*fragment]).collect();
    for fragment in &next {
        moved[*fragment] = Some(0);
    }
    while let Some(fragment) = next.pop() {
        for &(caller, callee) in &calls[fragment] {
            let called = spans[callee].fragment;
            if moved[called].is_some() {
                continue;
            }
            let by = displacement(&spans[caller], &spans[callee]);
            for &index in &members[called] {
                spans[index].start_ns = spans[index].start_ns.saturating_add_signed(by);
            }
            moved[called] = Some(by);
            next.push(called);
        }
    }
    moved.into_iter().map(Option::unwrap_or_default).collect()
}

/// Returns the number of nanoseconds by which a callee must be moved so that it starts while its caller waits.
fn displacement(caller: &AssembledSpan<'_>, callee: &AssembledSpan<'_>) -> i64 {
    let caller_end = caller.start_ns.saturating_add(caller.span.duration_ns);
    if (caller.start_ns..=caller_end).contains(&callee.start_ns) {
        return 0;
    }
    // The part of the caller's duration that exceeds the callee's duration is divided equally between the transmission
    // of the call and that of its result.
    let slack = caller.span.duration_ns.saturating_sub(callee.span.duration_ns) / 2;
    caller.start_ns.saturating_add(slack).wrapping_sub(callee.start_ns) as i64
}

/// Returns the indexes of each span's children, sorted by their start.
fn children(spans: &[AssembledSpan<'_>]) -> Vec<Vec<usize>> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    for (index, span) in spans.iter().enumerate() {
        if let Some(parent) = span.parent {
            children[parent].push(index);
        }
    }
    for children in &mut children {
        children.sort_by_key(|index| spans[*index].start_ns);
    }
    children
}

/// Returns the indexes of all spans with their depths, each span after its parent.
fn order(spans: &[AssembledSpan<'_>], children: &[Vec<usize>]) -> Vec<(usize, u32)> {
    let mut tops: Vec<usize> = (0..spans.len()).filter(|index| spans[*index].parent.is_none()).collect();
    tops.sort_by_key(|index| spans[*index].start_ns);
    let mut order = Vec::with_capacity(spans.len());
    let mut is_placed = vec![false; spans.len()];
    // Spans that are their own ancestors follow at the end. Isomer never records such spans, but a fragment that
    // another process sends may contain them.
    for top in tops.into_iter().chain(0..spans.len()) {
        let mut next = vec![(top, 0)];
        while let Some((index, depth)) = next.pop() {
            if !std::mem::replace(&mut is_placed[index], true) {
                order.push((index, depth));
                next.extend(children[index].iter().rev().map(|child| (*child, depth + 1)));
            }
        }
    }
    order
}

/// Returns the part of a span's duration in which none of its children was running.
fn self_ns(spans: &[AssembledSpan<'_>], index: usize, children: &[usize]) -> u64 {
    let (start, duration) = (spans[index].start_ns, spans[index].span.duration_ns);
    let end = start.saturating_add(duration);
    let (mut covered, mut until) = (0, start);
    for child in children.iter().map(|child| &spans[*child]) {
        let child_end = child.start_ns.saturating_add(child.span.duration_ns).min(end);
        let child_start = child.start_ns.max(until);
        if child_end > child_start {
            covered += child_end - child_start;
            until = child_end;
        }
    }
    duration.saturating_sub(covered)
}

/// Returns a span in the form that is sent to clients. Its depth is 0; the caller sets it.
fn show(it: &AssembledSpan<'_>, start_ns: u64, moved_ns: i64, process: Option<&Text>) -> TraceSpan {
    let AssembledSpan { span, parent, .. } = it;
    let owned = |text: &Text| text.as_str().to_owned();
    TraceSpan {
        id: span.id.to_string(),
        parent: span.parent.map(|parent| parent.to_string()),
        parent_missing: span.parent.is_some() && parent.is_none(),
        depth: 0,
        name: owned(&span.name),
        kind: kind_name(span.kind).to_owned(),
        component: span.component.as_ref().map(owned),
        process: process.map(owned),
        offset_ns: it.start_ns - start_ns,
        duration_ns: span.duration_ns,
        self_ns: span.duration_ns,
        moved_ns: (moved_ns != 0).then_some(moved_ns),
        failure: match &span.status {
            SpanStatus::Failed(reason) => Some(owned(reason)),
            SpanStatus::Ok => None,
        },
        attributes: span.attributes.iter().map(|it| (owned(&it.key), value_of(&it.value))).collect(),
    }
}

fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

fn value_of(value: &Value) -> TraceValue {
    match value {
        Value::Bool(value) => TraceValue::Bool(*value),
        Value::Int(value) => TraceValue::Int(*value),
        Value::Float(value) => TraceValue::Float(*value),
        Value::Text(value) => TraceValue::Text(value.as_str().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{fragment_of, span};

    fn stored(process: Option<&'static str>, spans: Vec<Span>) -> StoredFragment {
        StoredFragment { fragment: fragment_of(1, spans), process: process.map(Text::from) }
    }

    /// Returns each span of a trace as its id, depth, start and end.
    fn shape(trace: &Trace) -> Vec<(u64, u32, u64, u64)> {
        let of = |span: &TraceSpan| {
            let id = u64::from_str_radix(&span.id, 16).unwrap();
            (id, span.depth, span.offset_ns, span.offset_ns + span.duration_ns)
        };
        trace.spans.iter().map(of).collect()
    }

    #[test]
    fn fragments_of_two_processes_become_one_tree() {
        let pages = vec![
            span(3, Some(1), "pages", (5100, 5400)),
            span(2, Some(1), "pages", (5000, 5090)),
            span(1, None, "pages", (5000, 6000)),
        ];
        let mut callee = span(9, Some(3), "cart", (5150, 5350));
        callee.status = SpanStatus::Failed("it trapped".into());
        let cart = vec![span(8, Some(9), "cart", (5200, 5300)), callee];
        let fragments = vec![stored(Some("services"), cart), stored(Some("pages"), pages)];
        let trace = assemble(fragments, false).unwrap();
        let expected = [(1, 0, 0, 1000), (2, 1, 0, 90), (3, 1, 100, 400), (9, 2, 150, 350), (8, 3, 200, 300)];
        assert_eq!(shape(&trace), expected);
        let own: Vec<_> = trace.spans.iter().map(|span| span.self_ns).collect();
        assert_eq!(own, [610, 90, 100, 100, 100]);
        let TraceSummary { spans, failed, partial, duration_ns, start_us, .. } = &trace.summary;
        assert_eq!((*spans, *failed, *partial, *duration_ns, *start_us), (5, true, false, 1000, 5));
        let called = &trace.spans[3];
        assert_eq!((called.process.as_deref(), called.failure.as_deref()), (Some("services"), Some("it trapped")));
        assert!(trace.spans.iter().all(|span| span.moved_ns.is_none() && !span.parent_missing));
    }

    #[test]
    fn a_fragment_of_a_machine_with_another_clock_is_moved_into_its_caller() {
        let caller = || vec![span(2, Some(1), "pages", (5100, 5500)), span(1, None, "pages", (5000, 6000))];
        // The start of the first callee's span by the clock of its machine: this clock is first ahead of the caller's
        // clock, and then behind it. The first callee calls `mail`.
        for clock in [100_000_u64, 0] {
            let callee = vec![
                span(4, Some(3), "cart", (clock + 50, clock + 60)),
                span(3, Some(2), "cart", (clock, clock + 200)),
            ];
            let third = vec![span(5, Some(4), "mail", (7_000_000, 7_000_010))];
            let fragments = [None, Some("cart"), Some("mail")].into_iter().zip([caller(), callee, third]);
            let trace = assemble(fragments.map(|(process, spans)| stored(process, spans)).collect(), false).unwrap();
            let expected = [(1, 0, 0, 1000), (2, 1, 100, 500), (3, 2, 200, 400), (4, 3, 250, 260), (5, 4, 250, 260)];
            assert_eq!(shape(&trace), expected);
            assert_eq!(trace.spans[2].moved_ns, Some(5200 - i64::try_from(clock).unwrap()));
            assert_eq!(trace.spans[2].moved_ns, trace.spans[3].moved_ns);
            assert_eq!((trace.spans[0].moved_ns, trace.spans[1].moved_ns), (None, None));
        }
    }

    #[test]
    fn spans_without_their_parents_are_shown() {
        let trace = assemble(vec![stored(None, vec![span(5, Some(4), "cart", (100, 200))])], true).unwrap();
        assert!(trace.spans[0].parent_missing && trace.summary.partial && trace.stopped_early);
        assert_eq!(trace.spans[0].parent.as_deref(), Some("0000000000000004"));
        assert_eq!(assemble(Vec::new(), false), None);
    }

    #[test]
    fn wrong_ids_and_times_do_no_harm() {
        let circle = vec![
            span(5, Some(6), "cart", (u64::MAX - 1, u64::MAX)),
            span(6, Some(5), "cart", (0, u64::MAX)),
            span(7, Some(7), "cart", (1, 2)),
            span(7, Some(7), "cart", (1, 2)),
        ];
        let mut long = span(1, None, "pages", (u64::MAX, u64::MAX));
        long.duration_ns = u64::MAX;
        let other = vec![span(9, Some(5), "mail", (3, 4)), span(8, Some(1), "mail", (3, 4))];
        let fragments = vec![stored(None, circle), stored(None, vec![long]), stored(None, other)];
        let trace = assemble(fragments, false).unwrap();
        assert_eq!((trace.spans.len(), trace.summary.spans), (7, 7));
    }
}
