//! Tests of the content of export requests for log records.

use isomer_otlp::Signal;
use isomer_telemetry::{
    AttributeList, Event, GuestRecord, RecordSource, RequestId, Severity, StandardStream, TraceContext,
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};

use crate::collector::Collector;
use crate::{SHOP, start, statistics};

fn text(value: Option<&AnyValue>) -> &str {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        other => panic!("no text: {other:?}"),
    }
}

fn attributes(record: &LogRecord) -> Vec<(&str, &str)> {
    record.attributes.iter().map(|attribute| (attribute.key.as_str(), text(attribute.value.as_ref()))).collect()
}

#[tokio::test]
async fn lines_and_failures_arrive_with_their_request() {
    let mut collector = Collector::start([]).await;
    let otlp = start(&[collector.variable()]);
    let logs = otlp.logs(&SHOP).unwrap();
    let request = RequestId::from_raw(0xab).unwrap();
    logs.emit(Event::OutputLine {
        component: "cart",
        stream: StandardStream::Stderr,
        request: Some(request),
        trace: None,
        line: b"a line \xff",
    });
    logs.emit(Event::RequestFailed {
        component: "cart",
        request,
        trace: None,
        reason: &"a trap",
        backtrace: &["one".into(), "two".into()],
        response_cut_off: true,
    });
    logs.emit(Event::AccessDenied { component: "cart", text: "no grant" });
    otlp.shutdown().await;
    assert_eq!(statistics(&otlp, Signal::Logs).exported, 3);

    let received = collector.next().await;
    assert_eq!(received.path, "/v1/logs");
    let decoded: ExportLogsServiceRequest = received.decode();
    let scope = &decoded.resource_logs[0].scope_logs[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, "isomer");
    let [line, failure, denied] = &scope.log_records[..] else { panic!("three records: {scope:?}") };
    assert_eq!((text(line.body.as_ref()), line.severity_number()), ("a line \u{fffd}", SeverityNumber::Unspecified));
    assert!(line.time_unix_nano > 0 && line.observed_time_unix_nano == line.time_unix_nano);
    let id = ("isomer.request.id", "00000000000000ab");
    assert_eq!(attributes(line), [("isomer.component", "cart"), ("log.iostream", "stderr"), id]);
    assert_eq!(text(failure.body.as_ref()), "a trap (the response was cut off)");
    assert_eq!((failure.severity_number(), failure.severity_text.as_str()), (SeverityNumber::Error, "ERROR"));
    assert_eq!(attributes(failure), [("isomer.component", "cart"), id, ("exception.stacktrace", "one\ntwo\n")]);
    assert_eq!((text(denied.body.as_ref()), denied.severity_number()), ("no grant", SeverityNumber::Warn));
}

#[tokio::test]
async fn a_record_of_a_request_names_its_trace_and_span() {
    let mut collector = Collector::start([]).await;
    let otlp = start(&[collector.variable()]);
    let logs = otlp.logs(&SHOP).unwrap();
    let trace = TraceContext::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
    let (stream, request) = (StandardStream::Stdout, RequestId::from_raw(0xab));
    for trace in [Some(trace), Some(trace.with_sampled(false)), None] {
        logs.emit(Event::OutputLine { component: "cart", stream, request, trace, line: b"a line" });
    }
    otlp.shutdown().await;
    let decoded: ExportLogsServiceRequest = collector.next().await.decode();
    let [sampled, other, none] = &decoded.resource_logs[0].scope_logs[0].log_records[..] else { panic!("{decoded:?}") };
    let (trace_id, span_id) = (trace.trace_id.get().to_be_bytes(), trace.parent.get().to_be_bytes());
    for record in [sampled, other] {
        assert_eq!((&record.trace_id[..], &record.span_id[..]), (&trace_id[..], &span_id[..]));
    }
    assert!(none.trace_id.is_empty() && none.span_id.is_empty());
    assert_eq!([sampled, other, none].map(|record| record.flags), [1, 0, 0]);
}

#[tokio::test]
async fn a_record_has_its_severity_its_time_and_its_span() {
    let mut collector = Collector::start([]).await;
    let otlp = start(&[collector.variable()]);
    let mut attributes = AttributeList::default();
    attributes.push("currency", "EUR".to_owned());
    attributes.push("log.iostream", "forged".to_owned());
    let trace = TraceContext::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    otlp.logs(&SHOP).unwrap().emit(Event::Record(GuestRecord {
        component: "cart",
        source: RecordSource::Interface,
        request: None,
        trace,
        severity: Some(Severity::Critical),
        time_ns: Some(7),
        message: "no payment",
        attributes: attributes.as_slice(),
    }));
    otlp.shutdown().await;
    let decoded: ExportLogsServiceRequest = collector.next().await.decode();
    let [record] = &decoded.resource_logs[0].scope_logs[0].log_records[..] else { panic!("{decoded:?}") };
    assert_eq!((text(record.body.as_ref()), record.severity_number()), ("no payment", SeverityNumber::Fatal));
    assert_eq!((record.time_unix_nano, record.observed_time_unix_nano > 7), (7, true));
    let own = [("isomer.component", "cart"), ("log.iostream", "log"), ("currency", "EUR")];
    assert_eq!(self::attributes(record), own);
    assert_eq!(record.span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!(record.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
}
