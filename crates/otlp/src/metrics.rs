//! Snapshots of metrics as messages.

use std::collections::BTreeMap;

use isomer_telemetry::metrics::{
    HistogramValue, MetricDescriptor, MetricFamily, MetricKind, MetricSeries, MetricValue, Snapshot,
};
use isomer_telemetry::semantics;
use prost::Message as _;

use crate::message::metrics::{
    CUMULATIVE, Exemplar, ExportMetricsRequest, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric,
};
use crate::message::{InstrumentationScope, KeyValue, Resource};
use crate::resource::{ResourceTemplate, ServiceIdentity, trace_bytes};

/// The maximum number of data points in a request. The data point of a histogram has up to 1 KiB.
const POINTS_MAX: usize = 2000;

/// The keys of the labels that name the app of a series. In OTLP, they belong to the resource.
const OF_RESOURCE: [&str; 2] = ["service.namespace", "service.name"];

/// The body of a request, and the number of its data points.
pub(crate) type EncodedMetrics = (Vec<u8>, usize);

/// The identity of this process in its exported metrics: the app that the process serves, or the name of the process if
/// it serves several apps.
#[derive(Clone)]
pub(crate) struct ProcessIdentity {
    app: String,
    version: Option<String>,
    apps: ServedApps,
}

/// The apps that a process serves.
#[derive(Debug, Clone, Copy)]
pub enum ServedApps {
    /// One app, to which all series belong, whatever their labels are.
    One,
    /// The apps of tenants. The labels of each series name its tenant and its app.
    ///
    /// Resources of apps have no `service.version`, unlike those of traces and logs: a total continues when another
    /// revision takes over. With the revision in the resource, the total would become another series, and the requests
    /// of earlier revisions would be counted again.
    Many,
}

/// The times of data points, in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) start_ns: u64,
    pub(crate) now_ns: u64,
}

impl ProcessIdentity {
    pub(crate) fn new(identity: &ServiceIdentity<'_>, apps: ServedApps) -> Self {
        Self { app: identity.app.to_owned(), version: identity.version.map(str::to_owned), apps }
    }

    /// Returns the resource of the app that a series belongs to. Series without a name of an app are about the process
    /// or a tenant.
    fn resource(&self, template: &ResourceTemplate, (tenant, app): (&str, &str)) -> Resource {
        let of_tenant = Some(tenant).filter(|tenant| !tenant.is_empty());
        let version = self.version.as_deref();
        match (self.apps, app) {
            (ServedApps::One, _) => template.of(&ServiceIdentity { app: &self.app, tenant: None, version }),
            (ServedApps::Many, "") => template.of(&ServiceIdentity { app: &self.app, tenant: of_tenant, version }),
            (ServedApps::Many, app) => template.of(&ServiceIdentity { app, tenant: of_tenant, version: None }),
        }
    }
}

/// Encodes a snapshot as the bodies of requests, each with at most [`POINTS_MAX`] data points.
pub(crate) fn encode(
    snapshot: &Snapshot,
    template: &ResourceTemplate,
    process: &ProcessIdentity,
    times: Times,
) -> Vec<EncodedMetrics> {
    let mut requests = Vec::new();
    let mut request = Request::default();
    for family in snapshot.families() {
        for series in &family.series {
            request.add(process.apps, family, series);
            if request.points == POINTS_MAX {
                requests.push(std::mem::take(&mut request).encode(template, process, times));
            }
        }
    }
    if request.points > 0 {
        requests.push(request.encode(template, process, times));
    }
    requests
}

/// The content of one export request: its metric series, grouped by tenant and app, and then by metric.
#[derive(Default)]
struct Request<'a> {
    resources: BTreeMap<(&'a str, &'a str), BTreeMap<&'static str, SeriesOfMetric<'a>>>,
    points: usize,
}

type SeriesOfMetric<'a> = (&'static MetricDescriptor, Vec<&'a MetricSeries>);

impl<'a> Request<'a> {
    fn add(&mut self, apps: ServedApps, family: &'a MetricFamily, series: &'a MetricSeries) {
        let metric = family.descriptor;
        let value = |key: &str| {
            let index = metric.labels.iter().position(|label| label.attribute == key);
            index.and_then(|index| series.labels.get(index)).map_or("", |value| &**value)
        };
        let names = match apps {
            ServedApps::One => ("", ""),
            ServedApps::Many => OF_RESOURCE.map(value).into(),
        };
        let metrics = self.resources.entry(names).or_default();
        metrics.entry(metric.name).or_insert_with(|| (metric, Vec::new())).1.push(series);
        self.points += 1;
    }

    fn encode(self, template: &ResourceTemplate, process: &ProcessIdentity, times: Times) -> EncodedMetrics {
        let of_resource = |(names, metrics): ((&str, &str), BTreeMap<_, SeriesOfMetric<'_>>)| ResourceMetrics {
            resource: Some(process.resource(template, names)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope::platform()),
                metrics: metrics.into_values().map(|(metric, series)| message(metric, &series, times)).collect(),
            }],
        };
        let resource_metrics = self.resources.into_iter().map(of_resource).collect();
        (ExportMetricsRequest { resource_metrics }.encode_to_vec(), self.points)
    }
}

fn message(metric: &MetricDescriptor, series: &[&MetricSeries], times: Times) -> Metric {
    let numbers = || series.iter().filter_map(|series| number(metric, series, times)).collect();
    let data = match metric.kind {
        MetricKind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers() }),
        MetricKind::Counter => {
            metric::Data::Sum(Sum { data_points: numbers(), aggregation_temporality: CUMULATIVE, is_monotonic: true })
        }
        MetricKind::Histogram(_) => metric::Data::Histogram(Histogram {
            data_points: series.iter().filter_map(|series| histogram(metric, series, times)).collect(),
            aggregation_temporality: CUMULATIVE,
        }),
    };
    Metric {
        name: metric.name.to_owned(),
        description: metric.help.to_owned(),
        unit: metric.unit.ucum(),
        data: Some(data),
    }
}

fn number(metric: &MetricDescriptor, series: &MetricSeries, times: Times) -> Option<NumberDataPoint> {
    Some(NumberDataPoint {
        start_time_unix_nano: if metric.kind == MetricKind::Counter { times.start_ns } else { 0 },
        time_unix_nano: times.now_ns,
        as_double: Some(series.value.number()?),
        attributes: attributes(metric, series),
    })
}

fn histogram(metric: &MetricDescriptor, series: &MetricSeries, times: Times) -> Option<HistogramDataPoint> {
    let MetricValue::Histogram(value) = &series.value else { return None };
    let HistogramValue { buckets, counts, sum_s, exemplars } = value;
    let exemplars = exemplars.iter().map(|(_, exemplar)| Exemplar {
        time_unix_nano: exemplar.at_ns,
        as_double: Some(exemplar.value_s),
        trace_id: trace_bytes(exemplar.trace_id),
    });
    Some(HistogramDataPoint {
        start_time_unix_nano: times.start_ns,
        time_unix_nano: times.now_ns,
        count: value.count(),
        sum: Some(*sum_s),
        bucket_counts: counts.clone(),
        explicit_bounds: (0..buckets.bounds()).map(|index| buckets.bound_s(index)).collect(),
        exemplars: exemplars.collect(),
        attributes: attributes(metric, series),
    })
}

fn attributes(metric: &MetricDescriptor, series: &MetricSeries) -> Vec<KeyValue> {
    let labels = series.labels_of(metric).filter(|(label, value)| {
        // The conventions require that the attribute `error.type` is absent if there is no error.
        let is_no_error = label.attribute == semantics::ERROR_TYPE && ***value == *"ok";
        !is_no_error && !OF_RESOURCE.contains(&label.attribute)
    });
    labels.map(|(label, value)| KeyValue::new(label.attribute, &**value)).collect()
}
