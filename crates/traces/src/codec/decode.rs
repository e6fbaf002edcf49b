//! Decoding records into fragments.

use std::sync::Arc;

use isomer_telemetry::{AppIdentity, Attribute, Span, SpanId, SpanKind, SpanStatus, Text, TraceFragment, Value};

use super::bytes::ByteReader;
use super::dictionary::{OWN_TEXTS_START, text_of};
use super::encode::{
    FALSE, FLOAT, HAS_APP, HAS_COMPONENT, HAS_PARENT, HAS_PROCESS, INT, IS_FAILED, TEXT, TRUE, has_number,
};
use super::record::Record;

/// A fragment, and the process that recorded it, if it is not the process with the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredFragment {
    pub(crate) fragment: TraceFragment,
    pub(crate) process: Option<Text>,
}

/// Decodes the spans of a record. Returns `None` if they are not valid, because another version wrote them.
pub(crate) fn decode(record: &Record<'_>) -> Option<StoredFragment> {
    let header = &record.header;
    let mut reader = RecordReader { bytes: ByteReader(record.payload), texts: Vec::new(), start_ns: header.start_ns };
    let flags = reader.bytes.byte()?;
    let app = if flags & HAS_APP != 0 {
        Some(AppIdentity { tenant: shared(&reader.text()?), app: shared(&reader.text()?) })
    } else {
        None
    };
    let process = if flags & HAS_PROCESS != 0 { Some(reader.text()?) } else { None };
    // A span has at least 14 bytes, so a wrong number cannot reserve more memory than the record justifies.
    let mut spans = Vec::with_capacity((header.spans as usize).min(record.payload.len() / 14));
    for _ in 0..header.spans {
        spans.push(reader.span()?);
    }
    spans.reverse();
    let (trace_id, request, is_sampled) = (header.trace_id, header.request, header.is_sampled);
    let spans_dropped = reader.bytes.number()?;
    let fragment = TraceFragment { trace_id, request, app, is_sampled, spans, spans_dropped };
    Some(StoredFragment { fragment, process })
}

fn shared(text: &Text) -> Arc<str> {
    match text {
        Text::Shared(text) => text.clone(),
        other => other.as_str().into(),
    }
}

struct RecordReader<'a> {
    bytes: ByteReader<'a>,
    /// The texts of the record's table.
    texts: Vec<Arc<str>>,
    start_ns: u64,
}

impl RecordReader<'_> {
    fn span(&mut self) -> Option<Span> {
        let flags = self.bytes.byte()?;
        let id = self.id()?;
        let parent = if flags & HAS_PARENT != 0 { Some(self.id()?) } else { None };
        let start_ns = self.start_ns.wrapping_add(self.bytes.signed()? as u64);
        let duration_ns = self.bytes.number()?;
        let name = self.text()?;
        let component = if flags & HAS_COMPONENT != 0 { Some(self.text()?) } else { None };
        let status = if flags & IS_FAILED != 0 { SpanStatus::Failed(self.text()?) } else { SpanStatus::Ok };
        let count = usize::try_from(self.bytes.number()?).ok()?;
        // An attribute has at least two bytes.
        let mut attributes = Vec::with_capacity(count.min(self.bytes.0.len() / 2));
        for _ in 0..count {
            attributes.push(Attribute { key: self.text()?, value: self.value()? });
        }
        Some(Span { id, parent, name, kind: kind_of(flags), component, start_ns, duration_ns, status, attributes })
    }

    fn id(&mut self) -> Option<SpanId> {
        SpanId::from_raw(u64::from_le_bytes(self.bytes.array()?))
    }

    fn value(&mut self) -> Option<Value> {
        Some(match self.bytes.byte()? {
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            INT => Value::Int(self.bytes.signed()?),
            FLOAT => Value::Float(f64::from_bits(u64::from_le_bytes(self.bytes.array()?))),
            TEXT => Value::Text(self.text()?),
            _ => return None,
        })
    }

    fn text(&mut self) -> Option<Text> {
        match self.bytes.number()? {
            0 => {
                let length = usize::try_from(self.bytes.number()?).ok()?;
                let text = std::str::from_utf8(self.bytes.take(length)?).ok()?;
                if !has_number(text, self.texts.len()) {
                    return Some(Text::Own(text.into()));
                }
                self.texts.push(text.into());
                self.texts.last().cloned().map(Text::Shared)
            }
            number if number < OWN_TEXTS_START => text_of(number).map(Text::Static),
            number => {
                let index = usize::try_from(number - OWN_TEXTS_START).ok()?;
                self.texts.get(index).cloned().map(Text::Shared)
            }
        }
    }
}

fn kind_of(flags: u8) -> SpanKind {
    match flags & 7 {
        1 => SpanKind::Server,
        2 => SpanKind::Client,
        3 => SpanKind::Producer,
        4 => SpanKind::Consumer,
        _ => SpanKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use isomer_telemetry::{RequestId, SPAN_ATTRIBUTES_MAX, SPANS_PER_REQUEST_MAX, TraceId};
    use proptest::prelude::*;

    use super::super::encode::Encoder;
    use super::super::record::{RECORD_BYTES_MAX, records};
    use super::*;

    fn text() -> impl Strategy<Value = Text> {
        let long = || "[a-z]{90,120}".prop_map(Text::from);
        let few = prop::sample::select(vec!["cart", "mail", "http.route", "GET", "", "größe"]);
        prop_oneof![few.prop_map(Text::from), "\\PC{0,20}".prop_map(Text::from), long()]
    }

    fn value() -> impl Strategy<Value = Value> {
        let float = any::<f64>().prop_filter("NaN is not equal to itself", |value| !value.is_nan());
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            float.prop_map(Value::Float),
            text().prop_map(Value::Text),
        ]
    }

    fn span() -> impl Strategy<Value = Span> {
        let kinds =
            [SpanKind::Internal, SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer].to_vec();
        let attribute = (text(), value()).prop_map(|(key, value)| Attribute { key, value });
        let ids = (1_u64.., prop::option::of(1_u64..));
        let texts = (text(), prop::option::of(text()), prop::option::of(text()));
        let attributes = prop::collection::vec(attribute, 0..SPAN_ATTRIBUTES_MAX);
        (ids, prop::sample::select(kinds), any::<(u64, u64)>(), texts, attributes).prop_map(
            |((id, parent), kind, (start_ns, duration_ns), (name, component, reason), attributes)| Span {
                id: SpanId::from_raw(id).unwrap(),
                parent: parent.and_then(SpanId::from_raw),
                name,
                kind,
                component,
                start_ns,
                duration_ns,
                status: reason.map_or(SpanStatus::Ok, SpanStatus::Failed),
                attributes,
            },
        )
    }

    fn stored() -> impl Strategy<Value = StoredFragment> {
        let app = prop::option::of(Just(AppIdentity { tenant: "acme".into(), app: "shop".into() }));
        let spans = prop::collection::vec(span(), 0..12);
        let rest = (1_u128.., 1_u64.., app, any::<bool>(), any::<u64>(), prop::option::of(text()));
        (rest, spans).prop_map(|((trace, request, app, is_sampled, spans_dropped, process), spans)| {
            let (trace_id, request) = (TraceId::from_raw(trace).unwrap(), RequestId::from_raw(request).unwrap());
            let fragment = TraceFragment { trace_id, request, app, is_sampled, spans, spans_dropped };
            StoredFragment { fragment, process }
        })
    }

    fn encoded(fragments: &[StoredFragment]) -> Vec<u8> {
        let (encoder, mut bytes) = (Encoder::default(), Vec::new());
        for StoredFragment { fragment, process } in fragments {
            assert_eq!(encoder.append(&mut bytes, fragment, process.as_ref().map(Text::as_str)), 0);
        }
        bytes
    }

    proptest! {
        #[test]
        fn fragments_are_read_as_they_were_written(fragments in prop::collection::vec(stored(), 0..4)) {
            let bytes = encoded(&fragments);
            let read: Vec<_> = records(&bytes, 0).map(|record| decode(&record).unwrap()).collect();
            prop_assert_eq!(read, fragments);
        }

        #[test]
        fn damaged_spans_are_refused_without_a_panic(stored in stored(), at in any::<prop::sample::Index>(), byte: u8) {
            let bytes = encoded(&[stored]);
            let record = records(&bytes, 0).next().unwrap();
            let mut payload = record.payload.to_vec();
            let at = at.index(payload.len());
            payload[at] = byte;
            let _ = decode(&Record { payload: &payload, ..record });
            let _ = decode(&Record { payload: &payload[..at], ..record });
        }
    }

    #[test]
    fn spans_that_do_not_fit_are_dropped_and_counted() {
        let id = RequestId::from_raw(7).unwrap();
        let span = |number: u64| Span {
            id: SpanId::from_raw(number).unwrap(),
            parent: None,
            name: "x".repeat(1000).into(),
            kind: SpanKind::Internal,
            component: None,
            start_ns: 0,
            duration_ns: 0,
            status: SpanStatus::Ok,
            attributes: Vec::new(),
        };
        // The request's first span ends last.
        let spans: Vec<_> = (100..).take(SPANS_PER_REQUEST_MAX).map(span).chain([span(7)]).collect();
        let (trace_id, all) = (TraceId::random(), spans.len());
        let fragment = TraceFragment { trace_id, request: id, app: None, is_sampled: true, spans, spans_dropped: 2 };
        let mut bytes = Vec::new();
        let dropped = Encoder::default().append(&mut bytes, &fragment, None);
        assert!(dropped > 0 && bytes.len() <= RECORD_BYTES_MAX && bytes.len() > RECORD_BYTES_MAX - 2000);
        let record = records(&bytes, 0).next().unwrap();
        assert!(record.header.is_root);
        let read = decode(&record).unwrap().fragment;
        assert_eq!((read.spans.len() as u64 + dropped, read.spans_dropped), (all as u64, dropped + 2));
        assert_eq!(read.spans.last().map(|span| span.id.get()), Some(7));
    }
}
