//! The telemetry that guests emit themselves: records, spans and metrics. What a hostile guest emits is harmless.

use std::sync::Arc;

use http::Method;
use isomer_api::MetricsQuery;
use isomer_apps::metrics_report;
use isomer_telemetry::metrics::{GUEST_SERIES_PER_APP_MAX, Metrics};
use isomer_telemetry::{SPAN_ATTRIBUTES_MAX, SPANS_PER_REQUEST_MAX, SpanKind, TraceContext, TraceFragment};
use serde_json::{Value, json};

use crate::harness::body::whole;
use crate::harness::client::TestResponse;
use crate::harness::traces::{MemoryTraces, attribute, find, new_trace, tree};
use crate::harness::{Setup, TestNode, one};

/// An app with the component `telemetry-probe`. All requests are traced.
struct Probe {
    node: TestNode,
    traces: Arc<MemoryTraces>,
    metrics: Metrics,
}

impl Probe {
    async fn start(lines: &str) -> Self {
        let (traces, tracer) = MemoryTraces::new(1.0);
        let metrics = Metrics::default();
        let registry = metrics.clone();
        let setup = Setup::new(&one("telemetry-probe", lines)).options(|options| {
            options.metrics = registry;
            options.instances_max = Some(1);
        });
        Self { node: setup.traced_by(tracer).start().await, traces, metrics }
    }

    /// Sends a request as a part of `trace`.
    async fn send_in(&self, trace: TraceContext, target: &str, contents: &str) -> (TestResponse, TraceFragment) {
        let mut connection = self.node.connect().await;
        let traceparent = trace.to_traceparent();
        let request = connection.request(Method::POST, target).header("traceparent", &traceparent[..]);
        let response = connection.exchange(request.body(whole(contents.to_owned())).expect("a valid request")).await;
        let fragment = self.traces.fragments(trace.trace_id, 1).await.remove(0);
        (response, fragment)
    }

    async fn send(&self, target: &str, contents: &str) -> (TestResponse, TraceFragment) {
        self.send_in(new_trace().0, target, contents).await
    }

    /// Returns the event of the log of this kind and this request.
    async fn event_of(&self, kind: &str, fragment: &TraceFragment) -> Value {
        let request = fragment.request.to_string();
        self.node.event(kind, |event| event["request"] == request.as_str()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_has_its_level_and_belongs_to_its_request() {
    let probe = Probe::start("").await;
    let (_, fragment) = probe.send("/log", "3 left\nof order 7").await;
    let record = probe.event_of("record", &fragment).await;
    assert_eq!((&record["level"], &record["message"]), (&json!("warning"), &json!("3 left\nof order 7")));
    assert_eq!(record["attributes"], json!({ "context": "stock" }));
    assert_eq!((&record["component"], &record["stream"]), (&json!("telemetry-probe"), &json!("log")));
    assert_eq!(record["trace_id"], fragment.trace_id.to_string());
    assert_eq!(record["span_id"], fragment.request.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_json_become_records_and_other_lines_stay_as_they_are() {
    let probe = Probe::start("").await;
    let line = r#"{"level":"WARN","msg":"slow\u001b[2J","took":{"ms":7},"event":"failed","component":"node"}"#;
    let (_, fragment) = probe.send("/print", line).await;
    let record = probe.event_of("record", &fragment).await;
    assert_eq!((&record["level"], &record["stream"]), (&json!("warning"), &json!("stdout")));
    assert_eq!((&record["message"], &record["component"]), (&json!("slow\u{1b}[2J"), &json!("telemetry-probe")));
    assert_eq!(record["attributes"], json!({ "took.ms": 7, "event": "failed", "component": "node" }));
    let nested = format!("{{\"msg\":\"x\",\"a\":{}}}", "[".repeat(3000));
    for line in [" {\"a\":1} ", "{\"msg\":\"x\",\"msg\":\"y\"}", &nested, "{\"event\":\"access\",\"request\":\"0\"}x"] {
        let (_, fragment) = probe.send("/print", line).await;
        assert_eq!(probe.event_of("output", &fragment).await["line"], line);
    }
    let (_, fragment) = probe.send("/print", &format!("{{\"msg\":\"{}\"}}", "x".repeat(1 << 20))).await;
    let first = probe.event_of("output", &fragment).await;
    assert!(first["line"].as_str().expect("a text").len() <= 8 << 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_a_guest_are_children_of_the_span_in_which_it_runs() {
    let probe = Probe::start("").await;
    let (response, fragment) = probe.send("/spans", "").await;
    assert_eq!(response.text(), fragment.trace_id.to_string(), "the guest sees the trace");
    let expected = "POST /... [server telemetry-probe]
  outer [internal telemetry-probe]
    inner [client telemetry-probe] failed: declined
";
    assert_eq!(tree(&fragment.spans), expected);
    let (root, inner) =
        (find(&fragment.spans, "POST /...", SpanKind::Server), find(&fragment.spans, "inner", SpanKind::Client));
    assert_eq!([attribute(inner, "order"), attribute(inner, "otel.scope.name")], ["7", "probe"]);
    assert_eq!(attribute(inner, "otel.dropped_attributes_count"), "1");
    assert!(inner.attribute("isomer.component").is_none());
    assert!(root.start_ns <= inner.start_ns && inner.end_ns() <= root.end_ns());
    let request = fragment.request.to_string();
    for (message, level, attributes) in
        [("declined", "error", json!({ "order": 7 })), ("retried", "info", json!({ "attempt": 2 }))]
    {
        let is_wanted = |event: &Value| event["message"] == message && event["request"] == request.as_str();
        let record = probe.node.event("record", is_wanted).await;
        assert_eq!((&record["level"], &record["attributes"]), (&json!(level), &attributes));
        assert_eq!(record["span_id"], inner.id.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_cannot_forge_a_trace_or_a_parent() {
    let probe = Probe::start("").await;
    let (other, _) = probe.send("/log", "another request").await;
    assert_eq!(other.text(), "logged");
    let (trace, _) = new_trace();
    for target in [
        format!("/forge?trace={}&parent={}", trace.trace_id, trace.parent),
        format!("/forge?trace={:032x}&parent=00000000000000ff", 0xabc),
        "/forge?trace=&parent=x".to_owned(),
    ] {
        let (trace, _) = new_trace();
        let (_, fragment) = probe.send_in(trace, &target, "").await;
        let of_probe = "[internal telemetry-probe]";
        let expected = format!(
            "POST /... [server telemetry-probe]\n  forged {of_probe}\n  one {of_probe}\n    other {of_probe}\n"
        );
        assert_eq!(tree(&fragment.spans), expected, "{target}");
        let forged = find(&fragment.spans, "forged", SpanKind::Internal);
        assert!(forged.id != trace.parent && forged.id.get() != 0xff);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_telemetry_is_bounded() {
    let probe = Probe::start("").await;
    let (response, fragment) = probe.send("/flood", "").await;
    assert_eq!(response.text(), "flooded");
    assert!(fragment.spans.len() <= SPANS_PER_REQUEST_MAX + 1 && fragment.spans_dropped >= 1000);
    let flood = &fragment.spans[0];
    assert_eq!(attribute(flood, "otel.dropped_attributes_count"), (200 - SPAN_ATTRIBUTES_MAX).to_string());
    assert!(flood.attributes.len() <= SPAN_ATTRIBUTES_MAX + 2);
    let record = probe.event_of("record", &fragment).await;
    let length = |value: &Value| value.as_str().expect("a text").len();
    assert_eq!((length(&record["message"]), length(&record["attributes"]["context"])), (8 << 10, 1 << 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_guests_are_bounded_series_of_the_app() {
    let probe = Probe::start("").await;
    for total in [3, 5] {
        assert_eq!(probe.send(&format!("/metrics?total={total}"), "").await.0.text(), "reported");
    }
    let report = || metrics_report(&probe.metrics, &MetricsQuery::default());
    let report_of = |name: &str| report().series(name).to_vec();
    let [orders] = &report_of("isomer.app.amount")[..] else { panic!("one total") };
    assert_eq!((orders.label("name"), orders.label("attributes"), orders.value), ("orders", "currency=EUR", 5.0));
    assert_eq!((orders.label("component"), orders.label("app")), ("telemetry-probe", "test"));
    let [open] = &report_of("isomer.app.value")[..] else { panic!("one value") };
    assert_eq!((open.label("name"), open.value), ("open", 5.0));
    let (refused, _) = probe.send("/many-metrics", "").await;
    assert!(refused.text().contains("dropped "), "{}", refused.text());
    assert!(report_of("isomer.app.amount").len() <= GUEST_SERIES_PER_APP_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_belongs_to_its_request_if_an_instance_serves_several() {
    let probe = Probe::start("concurrency = 2").await;
    let send = async |name: &str| (name.to_owned(), probe.send(&format!("/meet?name={name}"), "").await.1);
    for (name, fragment) in futures::future::join_all([send("one"), send("other")]).await {
        let own: Vec<_> = fragment.spans.iter().filter(|span| span.attribute("otel.scope.name").is_some()).collect();
        let [span] = own[..] else { panic!("one span of the guest: {}", tree(&fragment.spans)) };
        assert_eq!((span.name.as_str(), span.parent), (name.as_str(), Some(fragment.request.into())));
        assert_eq!(probe.event_of("record", &fragment).await["message"], name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_of_fused_components_names_the_component() {
    let other = "[components.other]\nwasm = \"telemetry-probe\"\nroutes = [\"/other/...\"]";
    let probe = Probe::start(other).await;
    for (target, component) in [("/spans", "telemetry-probe"), ("/other/spans", "other")] {
        let (_, fragment) = probe.send(target, "").await;
        let expected = format!(
            "POST {route} [server {component}]\n  outer [internal {component}]\n    inner [client {component}] failed: declined\n",
            route = if component == "other" { "/other/..." } else { "/..." },
        );
        assert_eq!(tree(&fragment.spans), expected);
        assert_eq!(probe.event_of("record", &fragment).await["component"], component);
    }
}
