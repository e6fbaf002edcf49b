//! Tests of the content of the requests that send traces to the collector.

use isomer_telemetry::{Attribute, Span, SpanId, SpanKind, SpanStatus, Value};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as ProtoKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::collector::Collector;
use crate::{SHOP, fragment, outcome, start};

fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a any_value::Value> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    match value(attributes, key) {
        Some(AnyValue::StringValue(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test]
async fn spans_arrive_with_their_identities_attributes_and_outcomes() {
    let mut collector = Collector::start([]).await;
    let otlp = start(&[
        collector.variable(),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret".to_owned()),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test".to_owned()),
    ]);
    let attribute = |key: &'static str, value| Attribute { key: key.into(), value };
    let mut sent = fragment(2);
    sent.spans_dropped = 3;
    sent.spans[0] = Span {
        id: SpanId::from_raw(0x1122).unwrap(),
        name: "shop/cart.add".into(),
        kind: SpanKind::Client,
        status: SpanStatus::Failed("a trap".into()),
        attributes: vec![
            attribute("rpc.method", "add".into()),
            attribute("isomer.instance.cold", Value::Bool(true)),
            attribute("http.response.status_code", Value::Int(-7)),
            attribute("ratio", Value::Float(0.5)),
            attribute("isomer.links", "0000000000000000000000000000abcd-0000000000001122 x 1-y".into()),
        ],
        ..sent.spans[0].clone()
    };
    otlp.traces(&SHOP).unwrap().record(sent);
    let node = isomer_otlp::ServiceIdentity { app: "shop", tenant: Some("ann"), version: Some("f00d") };
    otlp.traces(&node).unwrap().record(fragment(1));
    otlp.shutdown().await;
    assert_eq!(outcome(&otlp), (3, vec![]));

    let request = collector.next().await;
    assert_eq!(request.path, "/v1/traces");
    assert_eq!(request.headers["authorization"], "Bearer s3cret");
    assert!(request.headers["user-agent"].to_str().unwrap().starts_with("OTel-OTLP-Exporter-Isomer/"));
    let decoded: ExportTraceServiceRequest = request.decode();
    let [shop, of_ann] = &decoded.resource_spans[..] else { panic!("two resources: {decoded:?}") };
    let resource = &shop.resource.as_ref().unwrap().attributes;
    assert_eq!(
        (text(resource, "service.name").as_str(), text(resource, "service.version").as_str()),
        ("shop", "1.2.3")
    );
    assert_eq!(text(resource, "deployment.environment.name"), "test");
    assert_eq!(value(resource, "process.pid"), Some(&AnyValue::IntValue(std::process::id().into())));
    assert_eq!(value(resource, "service.namespace"), None);
    assert_eq!(text(&of_ann.resource.as_ref().unwrap().attributes, "service.namespace"), "ann");

    let scope = &shop.scope_spans[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, "isomer");
    let [call, root] = &scope.spans[..] else { panic!("two spans: {scope:?}") };
    assert_eq!(call.trace_id, 0xabcd_u128.to_be_bytes());
    assert_eq!((&call.span_id[..], &call.parent_span_id[..]), (&0x1122_u64.to_be_bytes()[..], &root.span_id[..]));
    assert_eq!((call.name.as_str(), call.kind()), ("shop/cart.add", ProtoKind::Client));
    assert_eq!((call.start_time_unix_nano, call.end_time_unix_nano, call.flags), (1_001, 1_011, 1));
    let status = call.status.as_ref().unwrap();
    assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "a trap"));
    assert_eq!(text(&call.attributes, "isomer.component"), "cart");
    assert_eq!(text(&call.attributes, "rpc.method"), "add");
    assert_eq!(value(&call.attributes, "isomer.instance.cold"), Some(&AnyValue::BoolValue(true)));
    assert_eq!(value(&call.attributes, "http.response.status_code"), Some(&AnyValue::IntValue(-7)));
    assert_eq!(value(&call.attributes, "ratio"), Some(&AnyValue::DoubleValue(0.5)));
    let [link] = &call.links[..] else { panic!("one link: {call:?}") };
    assert_eq!((&link.trace_id[..], &link.span_id[..]), (&call.trace_id[..], &call.span_id[..]));
    assert_eq!(value(&call.attributes, "isomer.links"), None);
    assert_eq!((&root.parent_span_id[..], root.status.as_ref()), (&[][..], None));
    assert_eq!(text(&root.attributes, "isomer.request.id"), "0000000000000002");
    assert_eq!(value(&root.attributes, "isomer.spans_dropped"), Some(&AnyValue::IntValue(3)));
}

#[tokio::test]
async fn bodies_are_compressed_if_the_user_wants_it() {
    let mut collector = Collector::start([]).await;
    let otlp = start(&[collector.variable(), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip".to_owned())]);
    otlp.traces(&SHOP).unwrap().record(fragment(200));
    otlp.shutdown().await;
    let request = collector.next().await;
    assert_eq!(request.headers["content-encoding"], "gzip");
    assert!(request.body.len() < 200 * 30, "{} bytes", request.body.len());
    let decoded: ExportTraceServiceRequest = request.decode();
    assert_eq!(decoded.resource_spans[0].scope_spans[0].spans.len(), 200);
}
