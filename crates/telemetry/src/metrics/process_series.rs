//! The series of another process of the same app, which sends their values.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::descriptor::{MetricDescriptor, MetricKind};
use super::histogram::HistogramValue;
use super::snapshot::{MetricValue, Snapshot};

/// The maximum number of series of one process. Further series are ignored and counted.
pub const SERIES_PER_PROCESS_MAX: usize = 4000;

/// The series of all processes that run the same part of an app, one after the other or at the same time. Counters and
/// histograms of a new process start at 0. The totals here contain those of earlier processes, so they never decrease.
#[derive(Debug)]
pub struct ProcessSeries {
    name: Arc<str>,
    series: BTreeMap<SeriesKey, AccumulatedValue>,
    refused: u64,
}

/// The name of a metric, and the values of its labels.
type SeriesKey = (&'static str, Vec<Arc<str>>);

#[derive(Debug)]
struct AccumulatedValue {
    metric: &'static MetricDescriptor,
    /// The sum of the last values of all processes that have ended; `None` for gauges.
    before: Option<MetricValue>,
    /// The last values that the running processes sent, with the numbers of the processes.
    current: Vec<(u64, MetricValue)>,
}

impl ProcessSeries {
    /// Creates the series of processes that snapshots call `name`.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), series: BTreeMap::new(), refused: 0 }
    }

    /// Replaces the value of a series of the process with the number `process`. Returns `false` if the value or the
    /// labels do not fit the metric; they are ignored.
    pub fn set(
        &mut self,
        process: u64,
        metric: &'static MetricDescriptor,
        labels: Vec<Arc<str>>,
        value: MetricValue,
    ) -> bool {
        if labels.len() != metric.labels.len() || !fits(metric.kind, &value) {
            return false;
        }
        let key = (metric.name, labels);
        if self.series.len() >= SERIES_PER_PROCESS_MAX && !self.series.contains_key(&key) {
            self.refused += 1;
            return true;
        }
        let new = || AccumulatedValue { metric, before: None, current: Vec::new() };
        let current = &mut self.series.entry(key).or_insert_with(new).current;
        match current.iter_mut().find(|(number, _)| *number == process) {
            Some((_, last)) => *last = value,
            None => current.push((process, value)),
        }
        true
    }

    /// Ends a process: its totals are kept, and its gauges are removed. Later values with the same number are those of
    /// another process.
    pub fn end_process(&mut self, process: u64) {
        self.series.retain(|_, series| {
            if let Some(index) = series.current.iter().position(|(number, _)| *number == process) {
                let (_, last) = series.current.swap_remove(index);
                if series.metric.kind != MetricKind::Gauge {
                    series.before = Some(match &series.before {
                        Some(before) => sum(before, &last),
                        None => last,
                    });
                }
            }
            series.before.is_some() || !series.current.is_empty()
        });
    }

    /// Returns the number of values that were ignored because there were too many series.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Adds the series to a snapshot.
    pub fn collect(&self, snapshot: &mut Snapshot) {
        for ((_, labels), series) in &self.series {
            if let Some(total) = series.total() {
                snapshot.push_of_process(&self.name, series.metric, labels.clone(), total);
            }
        }
    }
}

impl AccumulatedValue {
    fn total(&self) -> Option<MetricValue> {
        let values = self.before.iter().chain(self.current.iter().map(|(_, value)| value));
        values.fold(None, |total, value| Some(total.map_or_else(|| value.clone(), |total| sum(&total, value))))
    }
}

/// Returns whether a metric of the given kind can have this value.
fn fits(kind: MetricKind, value: &MetricValue) -> bool {
    match (kind, value) {
        (MetricKind::Counter, MetricValue::Number(number)) => number.is_finite() && *number >= 0.0,
        (MetricKind::Gauge, MetricValue::Number(number)) => number.is_finite(),
        (MetricKind::Histogram(buckets), MetricValue::Histogram(value)) => {
            let has_buckets = value.buckets == buckets && value.counts.len() == buckets.bounds() + 1;
            has_buckets && value.sum_s.is_finite() && value.sum_s >= 0.0
        }
        _ => false,
    }
}

/// Returns the sum of two values of the same series. The exemplars are those of `current`, if there are any.
fn sum(before: &MetricValue, current: &MetricValue) -> MetricValue {
    match (before, current) {
        (MetricValue::Number(before), MetricValue::Number(current)) => MetricValue::Number(before + current),
        (MetricValue::Histogram(before), MetricValue::Histogram(current)) => {
            let counts = before.counts.iter().zip(&current.counts);
            let exemplars = if current.exemplars.is_empty() { &before.exemplars } else { &current.exemplars };
            MetricValue::Histogram(HistogramValue {
                buckets: current.buckets,
                counts: counts.map(|(before, current)| before.saturating_add(*current)).collect(),
                sum_s: before.sum_s + current.sum_s,
                exemplars: exemplars.clone(),
            })
        }
        // `ProcessSeries::set` admits only values of the metric's kind.
        _ => current.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::buckets::Buckets;
    use super::super::catalog;
    use super::super::snapshot::MetricScope;
    use super::*;

    fn labels(values: &[&str]) -> Vec<Arc<str>> {
        values.iter().map(|value| Arc::from(*value)).collect()
    }

    fn numbers(series: &ProcessSeries) -> Vec<(&'static str, f64)> {
        let mut snapshot = Snapshot::new(MetricScope::All);
        series.collect(&mut snapshot);
        let of_family = snapshot.families().flat_map(|family| {
            let number = |value: &MetricValue| match value {
                MetricValue::Number(number) => *number,
                MetricValue::Histogram(histogram) => histogram.sum_s,
            };
            family.series.iter().map(move |series| (family.descriptor.name, number(&series.value)))
        });
        of_family.collect()
    }

    fn histogram(first: u64, sum_s: f64) -> MetricValue {
        let buckets = Buckets::REQUEST;
        let mut counts = vec![0; buckets.bounds() + 1];
        counts[0] = first;
        MetricValue::Histogram(HistogramValue { buckets, counts, sum_s, exemplars: Vec::new() })
    }

    #[test]
    fn totals_continue_after_a_restart_and_gauges_do_not() {
        let mut series = ProcessSeries::new("cart");
        let route = || labels(&["default", "app", "web", "/"]);
        let duration = || labels(&["default", "app", "web", "/", "GET", "2xx"]);
        // Processes of one part of the app run one after the other with the same number, and with another number.
        for (round, number) in [(1, 0), (2, 0), (3, 1)] {
            assert!(series.set(number, &catalog::APP_LOADS, vec![], MetricValue::integer(2)));
            assert!(series.set(number, &catalog::APP_LOADS, vec![], MetricValue::integer(5)));
            assert!(series.set(number, &catalog::HTTP_SERVER_ACTIVE, route(), MetricValue::integer(3)));
            assert!(series.set(number, &catalog::HTTP_SERVER_DURATION, duration(), histogram(4, 0.5)));
            let total = f64::from(round);
            let (active, took) = (("http.server.active_requests", 3.0), ("http.server.request.duration", 0.5 * total));
            assert_eq!(numbers(&series), [active, took, ("isomer.apps.loads", 5.0 * total)]);
            series.end_process(number);
            assert_eq!(numbers(&series), [took, ("isomer.apps.loads", 5.0 * total)]);
        }
        let found = series.series.values().find_map(|series| match series.total() {
            Some(MetricValue::Histogram(histogram)) => Some(histogram.counts[0]),
            _ => None,
        });
        assert_eq!(found, Some(12));
    }

    #[test]
    fn two_processes_at_the_same_time_add_up() {
        let mut series = ProcessSeries::new("cart");
        for (process, loads) in [(1, 2), (2, 3)] {
            assert!(series.set(process, &catalog::APP_LOADS, vec![], MetricValue::integer(loads)));
            assert!(series.set(process, &catalog::APPS, vec![], MetricValue::integer(1)));
        }
        assert_eq!(numbers(&series), [("isomer.apps", 2.0), ("isomer.apps.loads", 5.0)]);
        series.end_process(1);
        assert_eq!(numbers(&series), [("isomer.apps", 1.0), ("isomer.apps.loads", 5.0)]);
    }

    #[test]
    fn values_that_do_not_fit_are_ignored() {
        let mut series = ProcessSeries::new("cart");
        assert!(!series.set(0, &catalog::APP_LOADS, labels(&["a"]), MetricValue::integer(1)));
        assert!(!series.set(0, &catalog::APP_LOADS, vec![], MetricValue::Number(-1.0)));
        assert!(!series.set(0, &catalog::APP_LOADS, vec![], MetricValue::Number(f64::NAN)));
        assert!(!series.set(0, &catalog::APP_LOADS, vec![], histogram(1, 1.0)));
        let duration = labels(&["default", "app", "web", "/", "GET", "2xx"]);
        let short = HistogramValue { buckets: Buckets::REQUEST, counts: vec![1], sum_s: 1.0, exemplars: Vec::new() };
        assert!(!series.set(0, &catalog::HTTP_SERVER_DURATION, duration, MetricValue::Histogram(short)));
        assert_eq!(numbers(&series), []);
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let mut series = ProcessSeries::new("cart");
        for number in 0..SERIES_PER_PROCESS_MAX + 2 {
            let route = labels(&["default", "app", "web", &number.to_string()]);
            assert!(series.set(0, &catalog::HTTP_SERVER_ACTIVE, route, MetricValue::integer(1)));
        }
        assert_eq!((numbers(&series).len(), series.refused()), (SERIES_PER_PROCESS_MAX, 2));
    }
}
