//! Tests of the content of the requests that send metrics to the collector.

use std::sync::Arc;
use std::time::Duration;

use isomer_otlp::{ServedApps, ServiceIdentity, Signal};
use isomer_telemetry::metrics::{MetricSource, Metrics, catalog};
use isomer_telemetry::{AppIdentity, TraceId};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric, ResourceMetrics, exemplar};

use crate::collector::{Collector, Planned};
use crate::{at_once, fragment, start, statistics};

const NODE: ServiceIdentity<'static> = ServiceIdentity { app: "isomer-node", tenant: None, version: Some("0.1.0") };

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match &attributes.iter().find(|attribute| attribute.key == key)?.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text),
        other => panic!("{key}: {other:?}"),
    }
}

fn of_app<'a>(request: &'a ExportMetricsServiceRequest, app: &str) -> &'a ResourceMetrics {
    let mut all = request.resource_metrics.iter();
    let is_of_app =
        |metrics: &&ResourceMetrics| text(&metrics.resource.as_ref().unwrap().attributes, "service.name") == Some(app);
    all.find(is_of_app).unwrap()
}

fn metric<'a>(resource: &'a ResourceMetrics, name: &str) -> &'a Metric {
    resource.scope_metrics[0].metrics.iter().find(|metric| metric.name == name).unwrap()
}

#[tokio::test]
async fn series_arrive_below_the_resource_of_their_app() {
    let mut collector = Collector::start([Planned::status(400)]).await;
    let otlp = Arc::new(start(&[collector.variable(), at_once()]));
    // The collector refuses these spans. The metric of dropped records counts a batch at the latest when the next batch
    // arrives at the collector.
    for spans in [3, 1] {
        otlp.traces(&NODE).unwrap().record(fragment(spans));
        collector.next().await;
    }
    let metrics = Metrics::default();
    let source: Arc<dyn MetricSource> = otlp.clone();
    metrics.add_source(Arc::downgrade(&source));
    let shop = metrics.app(&AppIdentity { tenant: "ann".into(), app: "shop".into() });
    shop.gauge(&catalog::HTTP_SERVER_ACTIVE, &["web", "/"]).add(0);
    let durations = shop.histogram(&catalog::HTTP_SERVER_DURATION, &["web", "/cart", "GET", "2xx"]);
    durations.record(Duration::from_micros(20), TraceId::from_raw(0xabcd));
    durations.record(Duration::from_secs(3600), None);
    let labels = ["catalog", "redb", "get", "ok"];
    shop.histogram(&catalog::STORE_OPERATION_DURATION, &labels).record(Duration::ZERO, None);
    otlp.export_metrics(&metrics, &NODE, ServedApps::Many);
    otlp.shutdown().await;
    assert!(statistics(&otlp, Signal::Metrics).exported >= 4);

    let received = collector.next().await;
    assert_eq!(received.path, "/v1/metrics");
    let request: ExportMetricsServiceRequest = received.decode();
    let shop = of_app(&request, "shop");
    assert_eq!(text(&shop.resource.as_ref().unwrap().attributes, "service.namespace"), Some("ann"));
    let version = text(&shop.resource.as_ref().unwrap().attributes, "service.version");
    assert_eq!(version, None, "totals continue when another revision takes over");
    let active = metric(shop, "http.server.active_requests");
    let Some(Data::Gauge(gauge)) = &active.data else { panic!("a gauge: {active:?}") };
    assert_eq!((active.unit.as_str(), gauge.data_points[0].value), ("{request}", Some(Number::AsDouble(0.0))));
    assert_eq!(text(&gauge.data_points[0].attributes, "http.route"), Some("/"));
    assert_eq!(text(&gauge.data_points[0].attributes, "service.name"), None);

    let durations = metric(shop, "http.server.request.duration");
    let Some(Data::Histogram(histogram)) = &durations.data else { panic!("a histogram: {durations:?}") };
    assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative);
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.bucket_counts.len()), (2, point.explicit_bounds.len() + 1));
    assert_eq!((point.bucket_counts[1], point.bucket_counts.last()), (1, Some(&1)));
    assert!((point.explicit_bounds[0] - 16e-6).abs() < 1e-12 && point.sum.unwrap() > 3600.0);
    assert!(0 < point.start_time_unix_nano && point.start_time_unix_nano <= point.time_unix_nano);
    assert_eq!(point.exemplars[0].trace_id, 0xabcd_u128.to_be_bytes());
    assert_eq!(point.exemplars[0].value, Some(exemplar::Value::AsDouble(20e-6)));
    let operations = metric(shop, "db.client.operation.duration");
    let Some(Data::Histogram(histogram)) = &operations.data else { panic!("a histogram: {operations:?}") };
    assert_eq!(text(&histogram.data_points[0].attributes, "error.type"), None, "there is no error");

    let dropped = metric(of_app(&request, "isomer-node"), "isomer.telemetry.dropped");
    let Some(Data::Sum(sum)) = &dropped.data else { panic!("a counter: {dropped:?}") };
    assert!(sum.is_monotonic && sum.aggregation_temporality() == AggregationTemporality::Cumulative);
    let mut points = sum.data_points.iter();
    let refused = points.find(|point| text(&point.attributes, "isomer.telemetry.reason") == Some("export: refused"));
    assert_eq!(refused.unwrap().value, Some(Number::AsDouble(3.0)));
}

#[tokio::test]
async fn metrics_are_sent_at_intervals_in_requests_of_bounded_size() {
    let mut collector = Collector::start([]).await;
    let otlp = start(&[collector.variable(), ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned())]);
    let metrics = Metrics::default();
    for number in 0..5 {
        let app = metrics.app(&AppIdentity { tenant: "ann".into(), app: format!("a{number}").into() });
        for route in 0..900 {
            app.gauge(&catalog::HTTP_SERVER_ACTIVE, &["web", &route.to_string()]).add(1);
        }
    }
    otlp.export_metrics(&metrics, &NODE, ServedApps::Many);
    let mut points = Vec::new();
    for _ in 0..3 {
        let request: ExportMetricsServiceRequest = collector.next().await.decode();
        let metrics = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics[0].metrics);
        let count = |metric: &Metric| match &metric.data {
            Some(Data::Gauge(gauge)) => gauge.data_points.len(),
            Some(Data::Sum(sum)) => sum.data_points.len(),
            other => panic!("{other:?}"),
        };
        points.push(metrics.map(count).sum::<usize>());
    }
    assert_eq!(points[..2], [2000, 2000]);
    assert!((500..600).contains(&points[2]), "{points:?}");
    otlp.shutdown().await;
}

#[tokio::test]
async fn the_series_of_a_process_with_one_app_have_its_resource() {
    let mut collector = Collector::start([]).await;
    let otlp = start(&[collector.variable()]);
    let metrics = Metrics::default();
    // A process with one app registers its series under these names, whatever the app's name is.
    let app = metrics.app(&AppIdentity { tenant: "default".into(), app: "app".into() });
    app.gauge(&catalog::HTTP_SERVER_ACTIVE, &["web", "/"]).add(2);
    otlp.export_metrics(&metrics, &crate::SHOP, ServedApps::One);
    otlp.shutdown().await;
    let request: ExportMetricsServiceRequest = collector.next().await.decode();
    let [resource] = &request.resource_metrics[..] else { panic!("one resource: {request:?}") };
    let names = &resource.resource.as_ref().unwrap().attributes;
    assert_eq!((text(names, "service.name"), text(names, "service.version")), (Some("shop"), Some("1.2.3")));
    assert_eq!(names.iter().find(|attribute| attribute.key == "service.namespace"), None);
    let active = metric(resource, "http.server.active_requests");
    let Some(Data::Gauge(gauge)) = &active.data else { panic!("a gauge: {active:?}") };
    assert_eq!(text(&gauge.data_points[0].attributes, "service.name"), None);
}

#[tokio::test]
async fn a_node_with_a_thousand_apps_sends_a_bounded_number_of_series() {
    let mut collector = Collector::start([]).await;
    let otlp = start(&[collector.variable(), ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned())]);
    let (metrics, mut apps) = (Metrics::default(), Vec::new());
    let methods = ["GET", "POST", "PUT", "DELETE", "HEAD"];
    for number in 0..1000 {
        let app =
            metrics.app(&AppIdentity { tenant: format!("t{}", number % 10).into(), app: format!("a{number}").into() });
        for (route, method) in (0..10).flat_map(|route| methods.map(|method| (format!("/{route}"), method))) {
            for status in ["2xx", "5xx"] {
                let series = app.histogram(&catalog::HTTP_SERVER_DURATION, &["web", &route, method, status]);
                series.record(Duration::from_millis(1), None);
            }
        }
        // The series of apps in memory are not removed to make room.
        apps.push(app);
    }
    otlp.export_metrics(&metrics, &NODE, ServedApps::Many);
    // Each request has a part of the points.
    let series_max = isomer_telemetry::metrics::SERIES_MAX;
    let (mut points, mut keys) = (0, std::collections::BTreeSet::new());
    while points < series_max {
        let request: ExportMetricsServiceRequest = collector.next().await.decode();
        for metric in request.resource_metrics.iter().flat_map(|it| &it.scope_metrics).flat_map(|it| &it.metrics) {
            let Some(Data::Histogram(histogram)) = &metric.data else { continue };
            points += histogram.data_points.len();
            keys.extend(histogram.data_points.iter().flat_map(|it| &it.attributes).map(|it| it.key.clone()));
        }
    }
    otlp.shutdown().await;
    assert_eq!(points, series_max, "100,000 combinations of labels were used");
    let expected = ["http.request.method", "http.route", "isomer.component", "isomer.http.status_class"];
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), expected);
}
