//! Histograms of durations.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::buckets::Buckets;
use super::exemplar::{Exemplar, ExemplarCell};
use crate::TraceId;

/// The distribution of durations.
#[derive(Debug)]
pub struct Histogram {
    buckets: Buckets,
    /// The number of durations in each bucket. There is no separate total, so that a reader never sees a total that
    /// differs from the sum of the buckets.
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
    /// The exemplars of the buckets, allocated when the first sampled request is recorded.
    exemplars: OnceLock<Box<[ExemplarCell]>>,
}

/// The values of a histogram at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramValue {
    /// The bounds of the buckets.
    pub buckets: Buckets,
    /// The number of durations in each bucket, not cumulative. The last bucket has no bound.
    pub counts: Vec<u64>,
    /// The sum of all durations in seconds.
    pub sum_s: f64,
    /// The exemplars, each with the index of its bucket.
    pub exemplars: Vec<(usize, Exemplar)>,
}

impl Histogram {
    /// Returns an empty histogram.
    pub fn new(buckets: Buckets) -> Self {
        let counts = (0..=buckets.bounds()).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, counts, sum_ns: AtomicU64::new(0), exemplars: OnceLock::new() }
    }

    /// Records a duration. `trace` is the trace of the request if the request is sampled: it becomes the exemplar of
    /// the duration's bucket.
    pub fn record(&self, duration: Duration, trace: Option<TraceId>) {
        let index = self.buckets.index(duration);
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(trace_id) = trace {
            let exemplars =
                self.exemplars.get_or_init(|| self.counts.iter().map(|_| ExemplarCell::default()).collect());
            exemplars[index].offer(trace_id, duration);
        }
    }

    /// Returns the current values.
    pub fn value(&self) -> HistogramValue {
        let exemplars = self.exemplars.get().map(|cells| cells.iter().map(ExemplarCell::get).enumerate());
        HistogramValue {
            buckets: self.buckets,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum_s: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)).as_secs_f64(),
            exemplars: exemplars.into_iter().flatten().filter_map(|(index, cell)| Some((index, cell?))).collect(),
        }
    }
}

impl HistogramValue {
    /// Returns the number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |total, count| total.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_in_buckets_and_the_last_sampled_one_is_the_exemplar() {
        let histogram = Histogram::new(Buckets::REQUEST);
        let (one, other) = (TraceId::from_raw(1), TraceId::from_raw(2));
        histogram.record(Duration::from_micros(10), None);
        assert_eq!(histogram.value().exemplars, []);
        for trace in [one, other, None] {
            histogram.record(Duration::from_micros(40), trace);
        }
        histogram.record(Duration::from_secs(100), one);
        let value = histogram.value();
        assert_eq!((value.counts[0], value.counts[2], value.counts[22]), (1, 3, 1));
        assert_eq!(value.count(), 5);
        assert!((value.sum_s - 100.000_13).abs() < 1e-9);
        let exemplars: Vec<_> = value.exemplars.iter().map(|(index, it)| (*index, Some(it.trace_id))).collect();
        assert_eq!(exemplars, [(2, other), (22, one)]);
    }
}
