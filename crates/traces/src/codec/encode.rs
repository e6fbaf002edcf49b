//! Encoding fragments as records.
//!
//! Spans are written in the reverse order of their ends, so the request's first span comes first. If a record would
//! become too long, the spans at the end are dropped: those that ended first.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use isomer_telemetry::{Span, SpanId, SpanKind, SpanStatus, TraceFragment, Value, semantics};

use super::bytes::{put, put_signed};
use super::dictionary::{OWN_TEXTS_START, number_of};
use super::record::{HEADER_BYTES, RECORD_BYTES_MAX, RecordHeader};

/// The maximum number of texts that a record's table contains. Limits the time that encoding takes if a guest chooses
/// texts whose hashes collide.
pub(super) const OWN_TEXTS_MAX: usize = 512;

/// The maximum length of a text in the table. Longer texts are rarely repeated.
pub(super) const OWN_TEXT_BYTES_MAX: usize = 96;

/// The flags in the first byte of an encoded span (`HAS_PARENT`, `HAS_COMPONENT`, `IS_FAILED`). The lowest three bits
/// of this byte are the kind of the span.
pub(super) const HAS_PARENT: u8 = 8;
pub(super) const HAS_COMPONENT: u8 = 16;
pub(super) const IS_FAILED: u8 = 32;

/// The flags in the first byte of a payload (`HAS_APP`, `HAS_PROCESS`).
pub(super) const HAS_APP: u8 = 1;
pub(super) const HAS_PROCESS: u8 = 2;

/// The kinds of values of attributes.
pub(super) const FALSE: u8 = 0;
pub(super) const TRUE: u8 = 1;
pub(super) const INT: u8 = 2;
pub(super) const FLOAT: u8 = 3;
pub(super) const TEXT: u8 = 4;

/// Writes records. Keeps the hash's random state, whose creation is expensive.
#[derive(Default)]
pub(crate) struct Encoder {
    hash: RandomState,
}

/// Returns the start and the duration of the request's first span, if the fragment contains it. Otherwise, the start
/// and the duration of all of the fragment's spans together.
pub(crate) fn fragment_times(fragment: &TraceFragment) -> (u64, u64) {
    if let Some(root) = root_of(fragment) {
        return (root.start_ns, root.duration_ns);
    }
    let start = fragment.spans.iter().map(|span| span.start_ns).min().unwrap_or(0);
    let end = fragment.spans.iter().map(Span::end_ns).max().unwrap_or(0);
    (start, end.saturating_sub(start))
}

/// Returns the request's first span, if the fragment contains it.
pub(crate) fn root_of(fragment: &TraceFragment) -> Option<&Span> {
    let id = SpanId::from(fragment.request);
    // Searches from the end, because the first span usually ended last.
    fragment.spans.iter().rev().find(|span| span.id == id)
}

/// Returns the status code in the attributes of a request's first span.
pub(crate) fn status_of(root: &Span) -> Option<u16> {
    match root.attribute(semantics::HTTP_STATUS) {
        Some(Value::Int(status)) => u16::try_from(*status).ok(),
        _ => None,
    }
}

impl Encoder {
    /// Appends the record of `fragment` to `out`. Returns the number of spans that did not fit. `process` is the process
    /// that recorded the fragment, if it is not this process.
    pub(crate) fn append(&self, out: &mut Vec<u8>, fragment: &TraceFragment, process: Option<&str>) -> u64 {
        let at = out.len();
        out.resize(at + HEADER_BYTES, 0);
        let (start_ns, duration_ns) = fragment_times(fragment);
        let mut record =
            RecordEncoder { texts: HashMap::with_capacity_and_hasher(64, self.hash.clone()), start_ns, out };
        let (mut spans, mut dropped) = (0, 0);
        record.start(fragment, process);
        for span in fragment.spans.iter().rev() {
            let before = record.out.len();
            if dropped == 0 {
                record.span(span);
            }
            // Reserves the last 16 bytes for the number of dropped spans.
            if dropped > 0 || record.out.len() - at > RECORD_BYTES_MAX - 16 {
                record.out.truncate(before);
                dropped += 1;
            } else {
                spans += 1;
            }
        }
        put(record.out, fragment.spans_dropped.saturating_add(dropped));
        let root = root_of(fragment);
        let header = RecordHeader {
            trace_id: fragment.trace_id,
            request: fragment.request,
            start_ns,
            duration_ns,
            status: root.and_then(status_of),
            is_failed: fragment.spans.iter().any(|span| span.status.is_failed()),
            is_sampled: fragment.is_sampled,
            is_root: root.is_some(),
            spans,
        };
        header.write(&mut out[at..]);
        dropped
    }
}

struct RecordEncoder<'a, 'o> {
    /// The texts of the record's table, each with its number.
    texts: HashMap<&'a str, u64, RandomState>,
    start_ns: u64,
    out: &'o mut Vec<u8>,
}

impl<'a> RecordEncoder<'a, '_> {
    fn start(&mut self, fragment: &'a TraceFragment, process: Option<&'a str>) {
        let mut flags = 0;
        flags |= if fragment.app.is_some() { HAS_APP } else { 0 };
        flags |= if process.is_some() { HAS_PROCESS } else { 0 };
        self.out.push(flags);
        if let Some(app) = &fragment.app {
            self.text(&app.tenant);
            self.text(&app.app);
        }
        if let Some(process) = process {
            self.text(process);
        }
    }

    fn span(&mut self, span: &'a Span) {
        let mut flags = kind_number(span.kind);
        flags |= if span.parent.is_some() { HAS_PARENT } else { 0 };
        flags |= if span.component.is_some() { HAS_COMPONENT } else { 0 };
        flags |= if span.status.is_failed() { IS_FAILED } else { 0 };
        self.out.push(flags);
        self.out.extend_from_slice(&span.id.get().to_le_bytes());
        if let Some(parent) = span.parent {
            self.out.extend_from_slice(&parent.get().to_le_bytes());
        }
        // Wraps around, like the addition of the decoder.
        put_signed(self.out, span.start_ns.wrapping_sub(self.start_ns) as i64);
        put(self.out, span.duration_ns);
        self.text(span.name.as_str());
        if let Some(component) = &span.component {
            self.text(component.as_str());
        }
        if let SpanStatus::Failed(reason) = &span.status {
            self.text(reason.as_str());
        }
        put(self.out, span.attributes.len() as u64);
        for attribute in &span.attributes {
            self.text(attribute.key.as_str());
            self.value(&attribute.value);
        }
    }

    fn value(&mut self, value: &'a Value) {
        match value {
            Value::Bool(value) => self.out.push(if *value { TRUE } else { FALSE }),
            Value::Int(value) => {
                self.out.push(INT);
                put_signed(self.out, *value);
            }
            Value::Float(value) => {
                self.out.push(FLOAT);
                self.out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
            Value::Text(value) => {
                self.out.push(TEXT);
                self.text(value.as_str());
            }
        }
    }

    /// Writes a text: as its number if the text has one, otherwise in full. [`has_number`] decides whether a text that
    /// is written in full gets the next number.
    fn text(&mut self, text: &'a str) {
        let number = number_of(text).or_else(|| self.texts.get(text).copied());
        put(self.out, number.unwrap_or(0));
        if number.is_none() {
            put(self.out, text.len() as u64);
            self.out.extend_from_slice(text.as_bytes());
            if has_number(text, self.texts.len()) {
                self.texts.insert(text, OWN_TEXTS_START + self.texts.len() as u64);
            }
        }
    }
}

/// Returns whether a new text gets a number: whether the table of the record's texts, which has `texts` entries, still
/// accepts it.
pub(super) fn has_number(text: &str, texts: usize) -> bool {
    text.len() <= OWN_TEXT_BYTES_MAX && texts < OWN_TEXTS_MAX
}

fn kind_number(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Internal => 0,
        SpanKind::Server => 1,
        SpanKind::Client => 2,
        SpanKind::Producer => 3,
        SpanKind::Consumer => 4,
    }
}
