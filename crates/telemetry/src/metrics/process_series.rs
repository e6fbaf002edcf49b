//! The series of another process of the same app, which sends their values.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::accumulated_value::{AccumulatedValue, fits};
use super::descriptor::MetricDescriptor;
use super::snapshot::{MetricValue, Snapshot};

/// The maximum number of series of one process. A further series takes the place of one that no running process has, or
/// is dropped if there is none. Both are counted.
pub const SERIES_PER_PROCESS_MAX: usize = 4000;

/// The series of all processes that run the same part of an app, one after the other or at the same time. Counters and
/// histograms of a new process start at 0. The totals here contain those of earlier processes, so they do not decrease
/// while the series exists.
#[derive(Debug)]
pub struct ProcessSeries {
    name: Arc<str>,
    series: BTreeMap<SeriesKey, AccumulatedValue>,
    /// The number of series that no running process has: totals of processes that have ended.
    retained: usize,
    /// The number of processes that have ended: the time of the last end.
    ends: u64,
    dropped: u64,
}

/// The name of a metric, and the values of its labels.
type SeriesKey = (&'static str, Vec<Arc<str>>);

impl ProcessSeries {
    /// Creates the series of processes that snapshots call `name`.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), series: BTreeMap::new(), retained: 0, ends: 0, dropped: 0 }
    }

    /// Replaces the value of a series of the process with the number `process`; a process that was started later has a
    /// higher number. Returns `false` if the value or the labels do not fit the metric; they are ignored.
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
            self.dropped += 1;
            if !self.remove_retained() {
                return true;
            }
        }
        match self.series.get_mut(&key) {
            Some(series) => {
                self.retained -= usize::from(!series.is_of_running_process());
                series.set(process, value);
            }
            None => self.series.entry(key).or_insert_with(|| AccumulatedValue::new(metric)).set(process, value),
        }
        true
    }

    /// Removes the series whose last process ended first. Returns `false` if running processes have all series.
    fn remove_retained(&mut self) -> bool {
        if self.retained == 0 {
            return false;
        }
        let retained = self.series.iter().filter(|(_, series)| !series.is_of_running_process());
        let oldest = retained.min_by_key(|(_, series)| series.ended()).map(|(key, _)| key.clone());
        let is_removed = oldest.is_some_and(|key| self.series.remove(&key).is_some());
        self.retained -= usize::from(is_removed);
        is_removed
    }

    /// Ends a process: its totals are kept, and its gauges are removed. Later values with the same number are those of
    /// another process.
    pub fn end_process(&mut self, process: u64) {
        self.ends += 1;
        let mut retained = 0;
        self.series.retain(|_, series| {
            series.end_process(process, self.ends);
            let is_kept = !series.is_empty();
            retained += usize::from(is_kept && !series.is_of_running_process());
            is_kept
        });
        self.retained = retained;
    }

    /// Adds the series to a snapshot, and the number of series that were dropped because there were too many.
    pub fn collect(&self, snapshot: &mut Snapshot) {
        for ((_, labels), series) in &self.series {
            if let Some(total) = series.total() {
                snapshot.push_of_process(&self.name, series.metric(), labels.clone(), total);
            }
        }
        snapshot.add_refused(self.dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::super::buckets::Buckets;
    use super::super::catalog;
    use super::super::histogram::HistogramValue;
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
            assert!(series.set(process, &catalog::APPS_LOADED, vec![], MetricValue::integer(1)));
        }
        assert_eq!(numbers(&series), [("isomer.apps.loaded", 2.0), ("isomer.apps.loads", 5.0)]);
        series.end_process(1);
        assert_eq!(numbers(&series), [("isomer.apps.loaded", 1.0), ("isomer.apps.loads", 5.0)]);
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

    /// Returns the number of series, and the number of dropped ones.
    fn counts(series: &ProcessSeries) -> (usize, u64) {
        let mut snapshot = Snapshot::new(MetricScope::All);
        series.collect(&mut snapshot);
        (snapshot.families().map(|family| family.series.len()).sum(), snapshot.refused())
    }

    fn serve(series: &mut ProcessSeries, process: u64, routes: std::ops::Range<usize>) {
        for route in routes {
            let duration = labels(&["default", "app", "web", &route.to_string(), "GET", "2xx"]);
            assert!(series.set(process, &catalog::HTTP_SERVER_DURATION, duration, histogram(1, 0.5)));
        }
    }

    fn has_route(series: &ProcessSeries, route: usize) -> bool {
        let route: Arc<str> = route.to_string().into();
        series.series.keys().any(|(_, labels)| labels.get(3) == Some(&route))
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let mut series = ProcessSeries::new("cart");
        serve(&mut series, 0, 0..SERIES_PER_PROCESS_MAX + 2);
        assert_eq!(counts(&series), (SERIES_PER_PROCESS_MAX, 2));
        serve(&mut series, 0, 0..1);
        assert_eq!(counts(&series), (SERIES_PER_PROCESS_MAX, 2), "a known series is not dropped");
    }

    #[test]
    fn series_of_ended_processes_make_room_for_those_of_running_ones() {
        let max = SERIES_PER_PROCESS_MAX;
        let mut series = ProcessSeries::new("cart");
        serve(&mut series, 1, 0..1);
        serve(&mut series, 2, 1..max);
        series.end_process(2);
        series.end_process(1);
        // Process 3 continues series 1, which therefore is not removed.
        serve(&mut series, 3, 1..2);
        serve(&mut series, 3, max..2 * max - 2);
        assert_eq!(counts(&series), (max, u64::try_from(max).unwrap() - 2));
        assert!(has_route(&series, 0), "process 1 ended after process 2");
        assert!(has_route(&series, 1) && !has_route(&series, 2) && !has_route(&series, max - 1));
        serve(&mut series, 3, 2 * max..2 * max + 2);
        assert!(!has_route(&series, 0) && has_route(&series, 2 * max) && !has_route(&series, 2 * max + 1));
        assert_eq!(counts(&series), (max, u64::try_from(max).unwrap()));
    }
}
