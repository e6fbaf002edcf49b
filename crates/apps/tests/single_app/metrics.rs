//! The metrics of requests, of calls between components and of instances.

use isomer_api::{MetricsQuery, MetricsReport, SeriesReport};
use isomer_apps::{metrics_report, metrics_text};
use isomer_telemetry::metrics::Metrics;

use crate::harness::{Setup, TestNode, one, until};

/// A node with one app, and the node's metrics, which a test reads.
struct MeasuredNode {
    node: TestNode,
    metrics: Metrics,
}

impl MeasuredNode {
    async fn start(manifest: &str) -> Self {
        let metrics = Metrics::default();
        let registry = metrics.clone();
        let setup = Setup::new(manifest).options(|options| options.metrics = registry);
        Self { node: setup.start().await, metrics }
    }

    fn report(&self) -> MetricsReport {
        metrics_report(&self.metrics, &MetricsQuery::default())
    }

    /// Waits until the histogram `name` has `count` values with these labels, and returns the series. A request is
    /// recorded shortly after its client has read the response.
    async fn series(&self, name: &str, labels: &[(&str, &str)], count: u64) -> SeriesReport {
        let has_labels = |series: &&SeriesReport| labels.iter().all(|(label, value)| series.label(label) == *value);
        until(&format!("{count} values of {name} {labels:?}"), async || {
            let report = self.report();
            report.series(name).iter().find(has_labels).filter(|series| series.count() == count).cloned()
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_calls_and_instances_are_measured() {
    let manifest =
        format!("{}\n[components.seam-callee]\nwasm = \"seam-callee\"\nisolate = true\n", one("seam-caller", ""));
    let measured = MeasuredNode::start(&manifest).await;
    for _ in 0..3 {
        measured.node.get("/add?a=1&b=2").await.ok();
    }
    // The trap drops both instances, so their memory is read before it.
    let memory = measured.report().series("isomer.tenant.memory.usage").iter().map(|series| series.value).sum::<f64>();
    assert!(memory > 0.0, "{memory} bytes");
    measured.node.get("/act?what=trap").await.problem(500);
    let request = [("component", "seam-caller"), ("route", "/..."), ("method", "GET")];
    let duration = "http.server.request.duration";
    let served = measured.series(duration, &[&request[..], &[("status", "2xx")]].concat(), 3).await;
    assert_eq!(served.label("tenant"), "default");
    assert!(served.value > 0.0);
    measured.series(duration, &[&request[..], &[("status", "5xx")]].concat(), 1).await;
    let seam = [
        ("caller", "seam-caller"),
        ("callee", "seam-callee"),
        ("interface", "guest:seam/work"),
        ("mode", "isolated"),
        ("sampled", "false"),
    ];
    let calls = "rpc.client.call.duration";
    measured.series(calls, &[&seam[..], &[("outcome", "ok")]].concat(), 3).await;
    measured.series(calls, &[&seam[..], &[("outcome", "trap")]].concat(), 1).await;
    let report = measured.report();
    let starts: u64 = report.series("isomer.instance.start.duration").iter().map(SeriesReport::count).sum();
    assert!(starts >= 2, "both groups were warmed up: {starts}");
    assert_eq!(report.series("isomer.instance.live").len(), 2);
    let total = |name: &str| report.series(name).iter().map(|series| series.value).sum::<f64>();
    assert!(total("isomer.tenant.requests") >= 4.0);
    assert!(total("process.memory.usage") > 0.0);
    assert!(report.series("isomer.tenant.memory.limit").is_empty(), "the only tenant of a process has no quotas");
    let (_, text) = metrics_text(&measured.metrics, None, None);
    assert!(text.contains("http_server_request_duration_seconds_count{tenant=\"default\","), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_continue_after_a_take_over() {
    let manifest = one("http-hello", "");
    let measured = MeasuredNode::start(&manifest).await;
    measured.node.get("/").await.ok();
    measured.series("http.server.request.duration", &[("status", "2xx")], 1).await;
    measured.node.take_over(&manifest).await;
    measured.node.get("/").await.ok();
    measured.series("http.server.request.duration", &[("status", "2xx")], 2).await;
    let waiting = measured.report();
    assert_eq!(waiting.series("http.server.active_requests").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_route_belong_to_the_app() {
    let manifest = one("http-hello", "").replace("\"/...\"", "\"/hello\"");
    let measured = MeasuredNode::start(&manifest).await;
    measured.node.get("/elsewhere").await.problem(404);
    let series = measured.series("http.server.request.duration", &[("status", "4xx"), ("method", "GET")], 1).await;
    assert_eq!((series.label("tenant"), series.label("route"), series.label("component")), ("default", "", ""));
}
