//! `wasi:otel/metrics`: the metrics of guests.
//!
//! A counter becomes a total; a gauge, and a sum that may decrease, become a value. A histogram becomes totals: its count,
//! its sum, and for each bound of its buckets the number of values up to this bound, as in Prometheus. The buckets of
//! exponential histograms, and exemplars, are not stored.

use isomer_display::count;
use isomer_runtime::Guest;
use isomer_telemetry::metrics::{GUEST_METRIC_ATTRIBUTES_MAX, GuestMetrics, GuestSeries};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use super::totals::ReportedTotals;
use super::types::{
    HistogramPoint, KeyValue, Metric, MetricData, MetricNumber, NumberPoint, ResourceMetrics, Temporality,
};
use super::{state, values};

/// The maximum number of values that one call reports. Further values are dropped.
const POINTS_MAX: usize = 500;

/// The maximum number of bounds of a histogram. If there are more, its buckets are not stored, and count as one dropped
/// value.
const BOUNDS_MAX: usize = 32;

/// The attribute that has the bound of a bucket, as in Prometheus.
const BOUND: &str = "le";

/// Defines the function for the component of `metrics`.
pub(super) fn link(instance: &mut LinkerInstance<'_, Guest>, metrics: GuestMetrics) -> wasmtime::Result<()> {
    instance.func_wrap("export", move |mut store: StoreContextMut<'_, Guest>, (report,): (ResourceMetrics,)| {
        let Some(state) = state(store.data_mut()) else {
            return Ok((Err("the tenant has no memory left".to_owned()),));
        };
        let mut receiver = Receiver { metrics: &metrics, totals: &mut state.totals, points: 0, dropped: 0 };
        for metric in report.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            receiver.receive(metric);
        }
        Ok((receiver.result(),))
    })
}

/// Adds the values of one call to the series of the app.
struct Receiver<'a> {
    metrics: &'a GuestMetrics,
    totals: &'a mut ReportedTotals,
    points: usize,
    dropped: usize,
}

impl Receiver<'_> {
    fn receive(&mut self, metric: &Metric) {
        use MetricData::{
            FloatExponential, FloatGauge, FloatHistogram, FloatSum, SignedExponential, SignedGauge, SignedHistogram,
            SignedSum, UnsignedExponential, UnsignedGauge, UnsignedHistogram, UnsignedSum,
        };
        match &metric.data {
            FloatGauge(gauge) | UnsignedGauge(gauge) | SignedGauge(gauge) => {
                self.points(metric, &gauge.data_points, |it, series, number| it.metrics.set(series, number));
            }
            FloatSum(sum) | UnsignedSum(sum) | SignedSum(sum) if sum.is_monotonic => {
                let is_total = sum.temporality == Temporality::Cumulative;
                self.points(metric, &sum.data_points, |it, series, number| it.increase(series, number, is_total));
            }
            FloatSum(sum) | UnsignedSum(sum) | SignedSum(sum) => {
                let is_change = sum.temporality == Temporality::Delta;
                self.points(metric, &sum.data_points, |it, series, number| match is_change {
                    true => it.metrics.change(series, number),
                    false => it.metrics.set(series, number),
                });
            }
            FloatHistogram(histogram) | UnsignedHistogram(histogram) | SignedHistogram(histogram) => {
                let is_total = histogram.temporality == Temporality::Cumulative;
                for point in &histogram.data_points {
                    self.histogram(metric, &point.attributes, (point.count, point.sum), is_total);
                    self.buckets(metric, point, is_total);
                }
            }
            FloatExponential(histogram) | UnsignedExponential(histogram) | SignedExponential(histogram) => {
                let is_total = histogram.temporality == Temporality::Cumulative;
                for point in &histogram.data_points {
                    self.histogram(metric, &point.attributes, (point.count, point.sum), is_total);
                }
            }
        }
    }

    fn points(
        &mut self,
        metric: &Metric,
        points: &[NumberPoint],
        mut receive: impl FnMut(&mut Self, &GuestSeries, f64) -> bool,
    ) {
        for point in points {
            self.point(metric, &point.attributes, |it, series| receive(it, series, number(point.value)));
        }
    }

    fn histogram(
        &mut self,
        metric: &Metric,
        attributes: &[KeyValue],
        (count, sum): (u64, MetricNumber),
        is_total: bool,
    ) {
        self.point(metric, attributes, |it, series| {
            let is_counted = it.increase(&series.part("count"), number(MetricNumber::Unsigned(count)), is_total);
            is_counted && it.increase(&series.part("sum"), number(sum), is_total)
        });
    }

    /// Adds the buckets of a histogram to the totals. All its buckets together are one value of the report.
    fn buckets(&mut self, metric: &Metric, point: &HistogramPoint, is_total: bool) {
        let HistogramPoint { attributes, bounds, bucket_counts, .. } = point;
        if bounds.is_empty() {
            return;
        }
        self.points += 1;
        let is_bounded = self.points <= POINTS_MAX
            && bounds.len() <= BOUNDS_MAX
            && bucket_counts.len() == bounds.len() + 1
            && bounds.is_sorted_by(|one, next| one < next)
            && attributes.len() < GUEST_METRIC_ATTRIBUTES_MAX;
        let mut below = 0_u64;
        let is_received = is_bounded
            && bounds.iter().zip(bucket_counts).all(|(bound, count)| {
                below = below.saturating_add(*count);
                let own = attributes.iter().filter(|attribute| attribute.key != BOUND);
                let own = own.map(|attribute| (attribute.key.as_str(), text(&attribute.value)));
                let pairs: Vec<_> = own.chain([(BOUND, bound.to_string())]).collect();
                GuestSeries::new(&metric.name, &metric.unit, &pairs).is_some_and(|series| {
                    self.increase_bucket(&series.part("bucket"), number(MetricNumber::Unsigned(below)), is_total)
                })
            });
        self.dropped += usize::from(!is_received);
    }

    fn point(
        &mut self,
        metric: &Metric,
        attributes: &[KeyValue],
        receive: impl FnOnce(&mut Self, &GuestSeries) -> bool,
    ) {
        self.points += 1;
        let is_bounded = self.points <= POINTS_MAX && attributes.len() <= GUEST_METRIC_ATTRIBUTES_MAX;
        let is_received = is_bounded && {
            let pairs: Vec<_> = attributes.iter().map(|one| (one.key.as_str(), text(&one.value))).collect();
            GuestSeries::new(&metric.name, &metric.unit, &pairs).is_some_and(|series| receive(self, &series))
        };
        self.dropped += usize::from(!is_received);
    }

    /// Adds to a total. If `is_total`, `number` counts from the start of the instance.
    fn increase(&mut self, series: &GuestSeries, number: f64, is_total: bool) -> bool {
        let increase = if is_total { self.totals.increase(series, number) } else { Some(number) };
        increase.is_some_and(|increase| increase.is_finite() && self.metrics.increase(series, increase))
    }

    /// Adds to the total of a histogram's bucket.
    fn increase_bucket(&mut self, series: &GuestSeries, number: f64, is_total: bool) -> bool {
        let increase = if is_total { self.totals.increase_bucket(series, number) } else { Some(number) };
        increase.is_some_and(|increase| self.metrics.increase_bucket(series, increase))
    }

    fn result(&self) -> Result<(), String> {
        match self.dropped {
            0 => Ok(()),
            dropped => Err(format!(
                "dropped {}: a name or the attributes are too long or not valid, or there are too many",
                count(dropped as u64, "value")
            )),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are numbers with 53 significant bits")]
fn number(number: MetricNumber) -> f64 {
    match number {
        MetricNumber::Float(number) => number,
        MetricNumber::Signed(number) => number as f64,
        MetricNumber::Unsigned(number) => number as f64,
    }
}

/// Returns the text of an attribute's value.
fn text(value: &str) -> String {
    values::value(value).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use isomer_telemetry::AppIdentity;
    use isomer_telemetry::metrics::{MetricScope, Metrics};

    use super::super::types::{Datetime, Gauge, Histogram, Sum};
    use super::*;

    const TIME: Datetime = Datetime { seconds: 0, nanoseconds: 0 };

    fn point(number: f64) -> NumberPoint {
        let currency = KeyValue { key: "currency".to_owned(), value: "\"EUR\"".to_owned() };
        NumberPoint { attributes: vec![currency], value: MetricNumber::Float(number), exemplars: Vec::new() }
    }

    fn metric(name: &str, data: MetricData) -> Metric {
        Metric { name: name.to_owned(), description: String::new(), unit: "1".to_owned(), data }
    }

    fn sum(number: f64, temporality: Temporality, is_monotonic: bool) -> MetricData {
        MetricData::FloatSum(Sum {
            data_points: vec![point(number)],
            start_time: TIME,
            time: TIME,
            temporality,
            is_monotonic,
        })
    }

    #[test]
    fn metrics_become_series_of_the_app() {
        let registry = Metrics::default();
        let group = registry.app(&AppIdentity { tenant: "acme".into(), app: "shop".into() });
        let metrics = GuestMetrics::new(group, Arc::from("cart"));
        let mut totals = ReportedTotals::default();
        let mut receive = |metric: Metric| {
            let mut receiver = Receiver { metrics: &metrics, totals: &mut totals, points: 0, dropped: 0 };
            receiver.receive(&metric);
            receiver.result()
        };
        for total in [3.0, 5.0] {
            receive(metric("orders", sum(total, Temporality::Cumulative, true))).unwrap();
            receive(metric("bytes", sum(total, Temporality::Delta, true))).unwrap();
            receive(metric("open", sum(total, Temporality::Cumulative, false))).unwrap();
        }
        receive(metric("open", sum(-1.0, Temporality::Delta, false))).unwrap();
        let gauge = Gauge { data_points: vec![point(20.5)], start_time: None, time: TIME };
        receive(metric("temperature", MetricData::FloatGauge(gauge))).unwrap();
        let of_histogram = HistogramPoint {
            attributes: Vec::new(),
            count: 4,
            bounds: vec![1.0],
            bucket_counts: vec![1, 3],
            min: None,
            max: None,
            sum: MetricNumber::Unsigned(9),
            exemplars: Vec::new(),
        };
        let histogram_of = |data_points| {
            MetricData::UnsignedHistogram(Histogram {
                data_points,
                start_time: TIME,
                time: TIME,
                temporality: Temporality::Delta,
            })
        };
        let unsorted = HistogramPoint { bounds: vec![2.0, 1.0], bucket_counts: vec![0; 3], ..of_histogram.clone() };
        let many: Vec<_> = (0..=u32::try_from(BOUNDS_MAX).unwrap()).map(f64::from).collect();
        let many = HistogramPoint { bucket_counts: vec![0; many.len() + 1], bounds: many, ..of_histogram.clone() };
        let few = HistogramPoint { bucket_counts: vec![1], ..of_histogram.clone() };
        for refused in [unsorted, many, few] {
            let point = HistogramPoint { count: 0, sum: MetricNumber::Unsigned(0), ..refused };
            assert!(receive(metric("size", histogram_of(vec![point]))).is_err());
        }
        let of_histogram = HistogramPoint { bounds: vec![1.0, 2.5], bucket_counts: vec![1, 2, 1], ..of_histogram };
        receive(metric("size", histogram_of(vec![of_histogram]))).unwrap();
        let refused = receive(metric("a b", sum(1.0, Temporality::Delta, true)));
        assert!(refused.unwrap_err().starts_with("dropped 1 value: "));
        let snapshot = registry.snapshot(MetricScope::All);
        let mut values: Vec<_> = snapshot
            .families()
            .filter(|family| family.descriptor.name.starts_with("isomer.app."))
            .flat_map(|family| &family.series)
            .map(|series| format!("{} {}", series.labels[2..].join(" "), series.value.number().unwrap()))
            .collect();
        values.sort();
        assert_eq!(
            values,
            [
                "cart bytes 1 currency=EUR 8",
                "cart open 1 currency=EUR 4",
                "cart orders 1 currency=EUR 5",
                "cart size.bucket 1 le=1 1",
                "cart size.bucket 1 le=2.5 3",
                "cart size.count 1  4",
                "cart size.sum 1  9",
                "cart temperature 1 currency=EUR 20.5",
            ]
        );
    }
}
