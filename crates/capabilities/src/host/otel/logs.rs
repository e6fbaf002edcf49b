//! `wasi:otel/logs`: the records of guests.

use std::sync::Arc;

use isomer_runtime::Guest;
use isomer_telemetry::{Severity, Value, semantics};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use super::tracing::span_number;
use super::types::LogRecord;
use super::{state, values};
use crate::host::records::{self, RecordDraft, short};

/// The key of the attribute for the name of an event, as in OpenTelemetry's semantic conventions.
const EVENT_NAME: &str = "event.name";

/// Defines the functions for `component`.
pub(super) fn link(instance: &mut LinkerInstance<'_, Guest>, component: &Arc<str>) -> wasmtime::Result<()> {
    let component = component.clone();
    instance.func_wrap("on-emit", move |mut store: StoreContextMut<'_, Guest>, (record,): (LogRecord,)| {
        let message = message(&record);
        let stated = record.span_id.as_deref().map_or(0, span_number);
        let draft = draft(&record, &message);
        records::write(&mut store, &component, &draft, |guest, trace| state(guest)?.spans.id(stated, trace.trace_id));
        Ok(())
    })
}

/// Returns the body as a text: the text itself, or any other value as JSON.
fn message(record: &LogRecord) -> String {
    let body = record.body.as_deref().unwrap_or_default();
    serde_json::from_str::<String>(body).unwrap_or_else(|_| body.to_owned())
}

fn draft<'a>(record: &LogRecord, message: &'a str) -> RecordDraft<'a> {
    let mut attributes = values::attributes(record.attributes.as_deref().unwrap_or_default());
    let scope = record.instrumentation_scope.as_ref().map(|scope| scope.name.as_str());
    let more = [(EVENT_NAME, record.event_name.as_deref()), (semantics::SCOPE_NAME, scope)];
    for (key, text) in more {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            attributes.push(key, Value::from(short(text)));
        }
    }
    let of_text = || record.severity_text.as_deref().and_then(Severity::from_name);
    RecordDraft {
        severity: record.severity_number.and_then(Severity::from_otel).or_else(of_text),
        time_ns: record.timestamp.map(values::unix_ns),
        message,
        attributes,
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::{Datetime, KeyValue};
    use super::*;

    #[test]
    fn a_record_keeps_its_severity_and_its_attributes() {
        let record = LogRecord {
            timestamp: Some(Datetime { seconds: 2, nanoseconds: 1 }),
            observed_timestamp: None,
            severity_text: Some("LOUD".to_owned()),
            severity_number: Some(13),
            body: Some("\"paid\"".to_owned()),
            attributes: Some(vec![
                KeyValue { key: "order".to_owned(), value: "7".to_owned() },
                KeyValue { key: "isomer.component".to_owned(), value: "\"forged\"".to_owned() },
            ]),
            event_name: Some("payment".to_owned()),
            resource: None,
            instrumentation_scope: None,
            trace_id: None,
            span_id: None,
            trace_flags: None,
        };
        let message = message(&record);
        let draft = draft(&record, &message);
        assert_eq!(
            (draft.severity, draft.time_ns, draft.message),
            (Some(Severity::Warning), Some(2_000_000_001), "paid")
        );
        let attributes = draft.attributes.as_slice().iter().map(|one| format!("{}={}", one.key, one.value));
        assert_eq!(attributes.collect::<Vec<_>>(), ["order=7", "event.name=payment"]);
        let body = |body: &str| super::message(&LogRecord { body: Some(body.to_owned()), ..record.clone() });
        assert_eq!([body("{\"a\":1}"), body("not JSON")], ["{\"a\":1}", "not JSON"]);
    }
}
