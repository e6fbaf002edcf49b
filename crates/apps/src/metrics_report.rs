//! Snapshots of metrics as the admin API returns them: as JSON and as text.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use isomer_api::{ExemplarReport, MetricKind, MetricReport, MetricsQuery, MetricsReport, SeriesReport};
use isomer_ids::TenantName;
use isomer_telemetry::metrics::{
    self, Buckets, MetricFamily, MetricScope, MetricSeries, MetricValue, Metrics, TextFormat,
};

use crate::tenancy::process_start;

/// The start of the process as the time since the Unix epoch.
static PROCESS_STARTED: LazyLock<Option<Duration>> = LazyLock::new(process_start);

/// Returns the metrics that match `query`.
#[must_use]
pub fn metrics_report(metrics: &Metrics, query: &MetricsQuery) -> MetricsReport {
    let snapshot = metrics.snapshot(scope(query.tenant.as_ref()));
    let is_named = |family: &&MetricFamily| {
        query.name.as_ref().is_none_or(|prefix| family.descriptor.name.starts_with(prefix.as_str()))
    };
    let reports = snapshot.families().filter(is_named).map(|family| report(family, query));
    let started_ms = PROCESS_STARTED.and_then(|started| u64::try_from(started.as_millis()).ok());
    MetricsReport { at_ms: now_ms(), started_ms, metrics: reports.filter(|metric| !metric.series.is_empty()).collect() }
}

/// Returns the content type and the text of all metrics, or of the metrics of one tenant. `accept` is the value of the
/// request's `Accept` header, which selects Prometheus' format or OpenMetrics.
#[must_use]
pub fn metrics_text(metrics: &Metrics, tenant: Option<&TenantName>, accept: Option<&str>) -> (&'static str, String) {
    let format = TextFormat::of_accept(accept);
    (format.content_type(), format.write(&metrics.snapshot(scope(tenant))))
}

fn scope(tenant: Option<&TenantName>) -> MetricScope {
    tenant.map_or(MetricScope::All, |tenant| MetricScope::Tenant(tenant.shared()))
}

fn report(family: &MetricFamily, query: &MetricsQuery) -> MetricReport {
    let metric = family.descriptor;
    let (kind, buckets) = match metric.kind {
        metrics::MetricKind::Counter => (MetricKind::Counter, None),
        metrics::MetricKind::Gauge => (MetricKind::Gauge, None),
        metrics::MetricKind::Histogram(buckets) => (MetricKind::Histogram, Some(buckets)),
    };
    let bounds = |buckets: Buckets| (0..buckets.bounds()).map(|index| buckets.bound_s(index)).collect();
    let series = family.series.iter().map(|series| series_report(family, series));
    let is_of_app = |series: &SeriesReport| query.app.as_ref().is_none_or(|app| series.label("app") == app);
    MetricReport {
        name: metric.name.to_owned(),
        kind,
        unit: metric.unit.word().to_owned(),
        help: metric.help.to_owned(),
        bounds: buckets.map(bounds).unwrap_or_default(),
        series: series.filter(is_of_app).collect(),
    }
}

fn series_report(family: &MetricFamily, series: &MetricSeries) -> SeriesReport {
    let labels = series.labels_of(family.descriptor);
    let labels: BTreeMap<_, _> = labels.map(|(label, value)| (label.name.to_owned(), value.to_string())).collect();
    match &series.value {
        MetricValue::Number(value) => SeriesReport { labels, value: *value, ..SeriesReport::default() },
        MetricValue::Histogram(histogram) => SeriesReport {
            labels,
            value: histogram.sum_s,
            counts: histogram.counts.clone(),
            exemplars: histogram.exemplars.iter().map(|(_, exemplar)| exemplar_report(exemplar)).collect(),
        },
    }
}

fn exemplar_report(exemplar: &metrics::Exemplar) -> ExemplarReport {
    ExemplarReport {
        trace_id: exemplar.trace_id.to_string(),
        value: exemplar.value_s,
        at_ms: exemplar.at_ns / 1_000_000,
    }
}

fn now_ms() -> u64 {
    isomer_telemetry::unix_ns(std::time::SystemTime::now()) / 1_000_000
}

#[cfg(test)]
mod tests {
    use isomer_telemetry::metrics::{MethodClass, RouteMetrics, StatusClass};
    use isomer_telemetry::{AppIdentity, TraceId};

    use super::*;

    #[test]
    fn a_report_has_the_series_that_the_query_names() {
        let metrics = Metrics::default();
        for (tenant, app) in [("acme", "shop"), ("acme", "blog"), ("other", "shop")] {
            let group = metrics.app(&AppIdentity { tenant: tenant.into(), app: app.into() });
            let route = RouteMetrics::of_route(group, "web", "/");
            let took = Duration::from_millis(1);
            route.record(MethodClass::Get, StatusClass::Success, took, TraceId::from_raw(7));
        }
        let query = MetricsQuery {
            name: Some("http.server.request".to_owned()),
            tenant: Some("acme".parse().unwrap()),
            app: Some("shop".to_owned()),
        };
        let report = metrics_report(&metrics, &query);
        assert_eq!(report.metrics.len(), 1);
        assert!(report.started_ms.is_some_and(|started| started <= report.at_ms), "a tenant sees the start, too");
        let metric = report.metric("http.server.request.duration").unwrap();
        let [series] = report.series("http.server.request.duration") else { panic!("{report:?}") };
        assert_eq!((series.label("tenant"), series.label("route"), series.count()), ("acme", "/", 1));
        assert_eq!(series.exemplars[0].trace_id, format!("{:032x}", 7));
        let median = isomer_api::metrics::quantile(&metric.bounds, &series.counts, 0.5).unwrap();
        assert!((0.000_512..=0.001_024).contains(&median), "{median}");
        assert_eq!(metrics_report(&metrics, &MetricsQuery::default()).series("http.server.request.duration").len(), 3);
        let (content_type, text) = metrics_text(&metrics, query.tenant.as_ref(), Some("application/openmetrics-text"));
        assert!(content_type.starts_with("application/openmetrics-text") && text.ends_with("# EOF\n"));
        assert!(!text.contains("other"));
    }
}
