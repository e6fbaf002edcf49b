//! The value of one series of several processes, which run one after the other or at the same time.
//!
//! The processes run guests, so their numbers can be wrong. Each is bounded, and so is the sum.

use super::cell::bounded;
use super::descriptor::{MetricDescriptor, MetricKind, Overlap};
use super::histogram::HistogramValue;
use super::snapshot::MetricValue;

/// The maximum number of durations in a histogram of a process, and in a bucket of the sum of several processes. Clients
/// that read JSON numbers as floating-point numbers represent numbers up to this one exactly.
const COUNT_MAX: u64 = 1 << 53;

/// The maximum sum of the durations in a histogram, in seconds.
const SUM_S_MAX: f64 = 1e15;

/// The greatest decrease of a total, relative to the total, that can be a rounding error of a number in JSON.
const ROUNDING: f64 = 1e-12;

/// The value of one series of several processes.
#[derive(Debug)]
pub(crate) struct AccumulatedValue {
    metric: &'static MetricDescriptor,
    /// The sum of the last values of all processes that have ended; `None` for gauges.
    before: Option<MetricValue>,
    /// The last values that the running processes sent, with the numbers of the processes.
    current: Vec<(u64, MetricValue)>,
    /// The time at which the last process with this value ended, as passed to [`end_process`](Self::end_process).
    ended: u64,
}

impl AccumulatedValue {
    pub(crate) fn new(metric: &'static MetricDescriptor) -> Self {
        Self { metric, before: None, current: Vec::new(), ended: 0 }
    }

    pub(crate) fn metric(&self) -> &'static MetricDescriptor {
        self.metric
    }

    /// Replaces the value of a process. The value must fit the metric. A total that decreases starts again at 0, so its
    /// last value is kept like that of a process that has ended.
    pub(crate) fn set(&mut self, process: u64, value: MetricValue) {
        let mut value = match value {
            MetricValue::Number(number) => MetricValue::Number(bounded(number)),
            histogram @ MetricValue::Histogram(_) => histogram,
        };
        let Some((_, last)) = self.current.iter_mut().find(|(number, _)| *number == process) else {
            return self.current.push((process, value));
        };
        if self.metric.kind == MetricKind::Gauge {
            *last = value;
        } else if has_decreased(last, &value) {
            let last = std::mem::replace(last, value);
            self.keep(last);
        } else {
            raise(&mut value, last);
            *last = value;
        }
    }

    /// Ends a process. `time` increases with each process that ends. A total is kept, a gauge is removed.
    pub(crate) fn end_process(&mut self, process: u64, time: u64) {
        if let Some(index) = self.current.iter().position(|(number, _)| *number == process) {
            let (_, last) = self.current.swap_remove(index);
            self.ended = time;
            if self.metric.kind != MetricKind::Gauge {
                self.keep(last);
            }
        }
    }

    fn keep(&mut self, last: MetricValue) {
        self.before = Some(match &self.before {
            Some(before) => sum(before, &last),
            None => last,
        });
    }

    /// Returns whether a running process has sent a value.
    pub(crate) fn is_of_running_process(&self) -> bool {
        !self.current.is_empty()
    }

    /// Returns whether there is neither a value of a running process nor a total of an ended one.
    pub(crate) fn is_empty(&self) -> bool {
        self.before.is_none() && self.current.is_empty()
    }

    /// Returns the time at which the last process with this value ended.
    pub(crate) fn ended(&self) -> u64 {
        self.ended
    }

    /// Returns the value of all processes together; `None` if there is none.
    pub(crate) fn total(&self) -> Option<MetricValue> {
        if self.metric.overlap == Overlap::Latest {
            let latest = self.current.iter().max_by_key(|(number, _)| *number);
            return latest.map(|(_, value)| value.clone());
        }
        let values = self.before.iter().chain(self.current.iter().map(|(_, value)| value));
        values.fold(None, |total, value| Some(total.map_or_else(|| value.clone(), |total| sum(&total, value))))
    }
}

/// Returns whether a metric of the given kind can have this value.
pub(crate) fn fits(kind: MetricKind, value: &MetricValue) -> bool {
    match (kind, value) {
        (MetricKind::Counter, MetricValue::Number(number)) => number.is_finite() && *number >= 0.0,
        (MetricKind::Gauge, MetricValue::Number(number)) => number.is_finite(),
        (MetricKind::Histogram(buckets), MetricValue::Histogram(value)) => {
            let has_buckets = value.buckets == buckets && value.counts.len() == buckets.bounds() + 1;
            has_buckets && value.count() <= COUNT_MAX && (0.0..=SUM_S_MAX).contains(&value.sum_s)
        }
        _ => false,
    }
}

/// Returns whether a total starts again at 0. The sum of a histogram is not compared: it increases with the counts,
/// except for rounding errors.
fn has_decreased(last: &MetricValue, value: &MetricValue) -> bool {
    match (last, value) {
        (MetricValue::Number(last), MetricValue::Number(value)) => *value < last * (1.0 - ROUNDING),
        (MetricValue::Histogram(last), MetricValue::Histogram(value)) => {
            last.counts.iter().zip(&value.counts).any(|(last, count)| count < last)
        }
        // Only values of the metric's kind are set.
        _ => false,
    }
}

/// Raises a total to its last value, from which it differs by a rounding error.
fn raise(value: &mut MetricValue, last: &MetricValue) {
    match (value, last) {
        (MetricValue::Number(value), MetricValue::Number(last)) => *value = value.max(*last),
        (MetricValue::Histogram(value), MetricValue::Histogram(last)) => value.sum_s = value.sum_s.max(last.sum_s),
        // Only values of the metric's kind are set.
        _ => {}
    }
}

/// Returns the sum of two values of the same series. The exemplars are those of `current`, if there are any.
fn sum(before: &MetricValue, current: &MetricValue) -> MetricValue {
    match (before, current) {
        (MetricValue::Number(before), MetricValue::Number(current)) => MetricValue::Number(bounded(before + current)),
        (MetricValue::Histogram(before), MetricValue::Histogram(current)) => {
            let counts = before.counts.iter().zip(&current.counts);
            let exemplars = if current.exemplars.is_empty() { &before.exemplars } else { &current.exemplars };
            MetricValue::Histogram(HistogramValue {
                buckets: current.buckets,
                counts: counts.map(|(before, current)| before.saturating_add(*current).min(COUNT_MAX)).collect(),
                sum_s: (before.sum_s + current.sum_s).min(SUM_S_MAX),
                exemplars: exemplars.clone(),
            })
        }
        // Only values of the metric's kind are set.
        _ => current.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::buckets::Buckets;
    use super::super::catalog;
    use super::super::cell::NUMBER_MAX;
    use super::*;

    fn histogram(counts: [u64; 2], sum_s: f64) -> MetricValue {
        let buckets = Buckets::REQUEST;
        let counts = counts.into_iter().chain(std::iter::repeat_n(0, buckets.bounds() - 1)).collect();
        MetricValue::Histogram(HistogramValue { buckets, counts, sum_s, exemplars: Vec::new() })
    }

    /// Returns the numbers of durations in the first two buckets, and the sum of all durations.
    fn durations(value: &AccumulatedValue) -> ([u64; 2], f64) {
        match value.total() {
            Some(MetricValue::Histogram(value)) => ([value.counts[0], value.counts[1]], value.sum_s),
            other => panic!("not a histogram: {other:?}"),
        }
    }

    fn number(value: &AccumulatedValue) -> Option<f64> {
        value.total()?.number()
    }

    #[test]
    fn values_beyond_the_bounds_do_not_fit() {
        let kind = catalog::HTTP_SERVER_DURATION.kind;
        assert!(fits(kind, &histogram([COUNT_MAX - 1, 1], SUM_S_MAX)));
        for (counts, sum_s) in [([COUNT_MAX, 1], 1.0), ([u64::MAX, u64::MAX], 1.0), ([1, 0], 1e308), ([1, 0], -1.0)] {
            assert!(!fits(kind, &histogram(counts, sum_s)), "{counts:?} {sum_s}");
        }
    }

    #[test]
    fn sums_stay_within_the_bounds() {
        let mut durations_of_all = AccumulatedValue::new(&catalog::HTTP_SERVER_DURATION);
        let mut loads = AccumulatedValue::new(&catalog::APP_LOADS);
        let mut active = AccumulatedValue::new(&catalog::HTTP_SERVER_ACTIVE);
        for process in 0..3 {
            durations_of_all.set(process, histogram([COUNT_MAX, 0], SUM_S_MAX));
            loads.set(process, MetricValue::Number(1e308));
            active.set(process, MetricValue::Number(-1e308));
        }
        durations_of_all.end_process(0, 1);
        loads.end_process(0, 1);
        assert_eq!(durations(&durations_of_all), ([COUNT_MAX, 0], SUM_S_MAX));
        assert_eq!((number(&loads), number(&active)), (Some(NUMBER_MAX), Some(-NUMBER_MAX)));
    }

    #[test]
    fn a_total_that_decreases_starts_again() {
        let mut loads = AccumulatedValue::new(&catalog::APP_LOADS);
        for (value, expected) in [(5, 5.0), (7, 7.0), (2, 9.0), (3, 10.0), (0, 10.0), (1, 11.0)] {
            loads.set(1, MetricValue::integer(value));
            assert_eq!(number(&loads), Some(expected), "{value}");
        }
        let mut latency = AccumulatedValue::new(&catalog::HTTP_SERVER_DURATION);
        for (counts, sum_s, expected) in [([2, 3], 1.0, ([2, 3], 1.0)), ([3, 1], 0.5, ([5, 4], 1.5))] {
            latency.set(1, histogram(counts, sum_s));
            assert_eq!(durations(&latency), expected);
        }
        let mut active = AccumulatedValue::new(&catalog::HTTP_SERVER_ACTIVE);
        for value in [5.0, 2.0] {
            active.set(1, MetricValue::Number(value));
            assert_eq!(number(&active), Some(value));
        }
    }

    #[test]
    fn a_rounding_error_is_no_restart() {
        let mut cpu = AccumulatedValue::new(&catalog::PROCESS_CPU);
        for value in [100.0, 100.0_f64.next_down()] {
            cpu.set(1, MetricValue::Number(value));
            assert_eq!(number(&cpu), Some(100.0));
        }
        let mut latency = AccumulatedValue::new(&catalog::HTTP_SERVER_DURATION);
        for sum_s in [100.0, 100.0_f64.next_down()] {
            latency.set(1, histogram([1, 1], sum_s));
            assert_eq!(durations(&latency), ([1, 1], 100.0));
        }
    }

    #[test]
    fn gauges_without_a_sum_have_the_value_of_the_latest_process() {
        let mut started = AccumulatedValue::new(&catalog::PROCESS_START);
        let mut active = AccumulatedValue::new(&catalog::HTTP_SERVER_ACTIVE);
        // The number of a process says when it was started, not the order in which values arrive.
        for (process, value) in [(2, 200.0), (1, 100.0)] {
            started.set(process, MetricValue::Number(value));
            active.set(process, MetricValue::Number(value));
        }
        assert_eq!((number(&started), number(&active)), (Some(200.0), Some(300.0)));
        started.end_process(2, 1);
        assert_eq!(number(&started), Some(100.0));
        started.end_process(1, 2);
        assert!(number(&started).is_none() && started.is_empty());
    }
}
