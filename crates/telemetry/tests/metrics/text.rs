//! Tests of the text formats of metrics, Prometheus and OpenMetrics. Our own parser and `promtool` check the texts.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_telemetry::metrics::{
    CallOutcome, InstanceMetrics, MethodClass, MetricScope, Metrics, RequestMeter, RouteMetrics, SeamLabels,
    SeamMetrics, StatusClass, StoreMetrics, TextFormat, catalog,
};
use isomer_telemetry::{AppIdentity, TraceId};

use crate::parser::{Sample, parse};

/// Returns metrics with series of all kinds, for two tenants.
fn metrics() -> Metrics {
    let metrics = Metrics::default();
    let trace = TraceId::from_raw(0xabc);
    for (tenant, app) in [("acme", "shop"), ("other", "a \"quoted\" \\ app\nname")] {
        let group = metrics.app(&AppIdentity { tenant: tenant.into(), app: app.into() });
        let route = RouteMetrics::of_route(group.clone(), "web", "/cart/*");
        route.record(MethodClass::Get, StatusClass::Success, Duration::from_micros(120), trace);
        route.record(MethodClass::Get, StatusClass::Success, Duration::from_secs(60), None);
        route.record(MethodClass::of("BREW"), StatusClass::of(418), Duration::from_millis(2), None);
        RouteMetrics::of_app(group.clone()).record(MethodClass::Get, StatusClass::of(404), Duration::ZERO, None);
        let labels = SeamLabels {
            caller: "web".into(),
            callee: "cart".into(),
            interface: "shop:cart/cart@1.0.0".into(),
            mode: "isolated",
            is_sampled: false,
        };
        SeamMetrics::new(group.clone(), labels).record(CallOutcome::Ok, Duration::from_nanos(1500), trace);
        InstanceMetrics::new(group.clone(), "web").record_start(CallOutcome::Ok, Duration::from_micros(70));
        let store = StoreMetrics::new(group, "carts", "redb", &["get", "set"]);
        store.record("get", CallOutcome::Ok, Duration::from_micros(3), None);
        store.record("unknown", CallOutcome::Ok, Duration::from_micros(3), None);
    }
    let process = metrics.process().clone();
    process.counter(&catalog::TELEMETRY_DROPPED, &["logs", "queue full"]).add(3);
    process.gauge(&catalog::CONNECTIONS, &[]).add(2);
    RouteMetrics::of_process(process).record(MethodClass::Get, StatusClass::ClientError, Duration::ZERO, None);
    metrics
}

fn find<'a>(samples: &'a [Sample], name: &str, labels: &[(&str, &str)]) -> &'a Sample {
    let matches = |sample: &&Sample| {
        sample.name == name
            && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
    };
    samples.iter().find(matches).unwrap_or_else(|| panic!("no sample {name} {labels:?}"))
}

#[test]
fn prometheus_text_is_valid_and_complete() {
    let samples = parse(&TextFormat::Prometheus.write(&metrics().snapshot(MetricScope::All)), false);
    let duration = "http_server_request_duration_seconds";
    let route = [("app", "shop"), ("route", "/cart/*"), ("method", "GET"), ("status", "2xx")];
    let count = find(&samples, &format!("{duration}_count"), &route);
    assert_eq!(count.labels.keys().collect::<Vec<_>>(), ["app", "component", "method", "route", "status", "tenant"]);
    assert!((count.value - 2.0).abs() < f64::EPSILON);
    let bucket = find(&samples, &format!("{duration}_bucket"), &[&route[..], &[("le", "0.000128")]].concat());
    assert!((bucket.value - 1.0).abs() < f64::EPSILON);
    let app = [("app", "a \"quoted\" \\ app\nname"), ("method", "_OTHER"), ("status", "4xx")];
    find(&samples, &format!("{duration}_sum"), &app);
    find(&samples, "isomer_telemetry_dropped_total", &[("signal", "logs")]);
    find(&samples, "rpc_client_call_duration_seconds_count", &[("mode", "isolated"), ("outcome", "ok")]);
    assert!(!samples.iter().any(|sample| sample.labels.get("operation").is_some_and(|name| name == "unknown")));
}

#[test]
fn open_metrics_have_exemplars() {
    let samples = parse(&TextFormat::OpenMetrics.write(&metrics().snapshot(MetricScope::All)), true);
    let bucket = [("app", "shop"), ("route", "/cart/*"), ("le", "0.000128")];
    let exemplar = find(&samples, "http_server_request_duration_seconds_bucket", &bucket).exemplar.clone();
    let (labels, value, at) = exemplar.expect("a sampled request is in the bucket");
    assert_eq!(labels["trace_id"], "00000000000000000000000000000abc");
    assert!((value - 0.000_12).abs() < 1e-9 && at > 1.7e9);
}

#[test]
fn a_tenant_sees_only_its_own_series() {
    let samples = parse(&TextFormat::Prometheus.write(&metrics().snapshot(MetricScope::Tenant("acme".into()))), false);
    assert!(samples.iter().all(|sample| sample.labels["tenant"] == "acme") && !samples.is_empty());
}

#[test]
fn a_request_is_in_progress_until_its_meter_is_dropped() {
    let metrics = Metrics::default();
    let group = metrics.app(&AppIdentity { tenant: "acme".into(), app: "shop".into() });
    let (app, route) = (RouteMetrics::of_app(group.clone()), RouteMetrics::of_route(group, "web", "/"));
    let samples = || parse(&TextFormat::Prometheus.write(&metrics.snapshot(MetricScope::All)), false);
    let mut meter = RequestMeter::begin(MethodClass::Get, Instant::now());
    meter.set_metrics(&route);
    meter.set_metrics(&app);
    meter.set_status(200);
    assert!((find(&samples(), "http_server_active_requests", &[("route", "/")]).value - 1.0).abs() < f64::EPSILON);
    meter.set_cut_off();
    drop(meter);
    let samples = samples();
    assert!(find(&samples, "http_server_active_requests", &[("route", "/")]).value.abs() < f64::EPSILON);
    find(&samples, "http_server_request_duration_seconds_count", &[("status", "cut_off"), ("route", "/")]);
}

#[test]
fn the_format_is_the_one_that_the_client_accepts() {
    let format = |accept| TextFormat::of_accept(Some(accept));
    assert_eq!(TextFormat::of_accept(None), TextFormat::Prometheus);
    assert_eq!(format("text/plain;version=0.0.4;q=0.5,*/*;q=0.1"), TextFormat::Prometheus);
    assert_eq!(format("application/openmetrics-text; version=1.0.0; charset=utf-8"), TextFormat::OpenMetrics);
    assert_eq!(format("text/plain, application/openmetrics-text;q=0"), TextFormat::Prometheus);
}

/// `promtool check metrics` parses Prometheus text, and also checks conventions of names. It is part of Debian's package
/// `prometheus`, from which `cargo xtask setup` takes it. Without `promtool`, only our own parser checks the text.
#[test]
fn promtool_accepts_the_text() {
    let command =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut promtool) = command else { return };
    let text = TextFormat::Prometheus.write(&metrics().snapshot(MetricScope::All));
    promtool.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("promtool reads its input");
    let output = promtool.wait_with_output().expect("promtool ends");
    let problems = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && problems.is_empty(), "{problems}");
}

#[test]
fn values_that_are_recorded_at_the_same_time_all_count() {
    let metrics = Arc::new(metrics());
    let group = metrics.app(&AppIdentity { tenant: "acme".into(), app: "load".into() });
    let route = RouteMetrics::of_route(group, "web", "/");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let trace = TraceId::from_raw(1);
                    route.record(MethodClass::Get, StatusClass::Success, Duration::from_micros(100), trace);
                }
            });
        }
    });
    let samples = parse(&TextFormat::OpenMetrics.write(&metrics.snapshot(MetricScope::All)), true);
    let count = find(&samples, "http_server_request_duration_seconds_count", &[("app", "load")]);
    assert!((count.value - 4000.0).abs() < f64::EPSILON);
}
