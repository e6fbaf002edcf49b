//! The values of all metrics at one time, and functions that evaluate them.

use std::collections::BTreeMap;

use isomer_ids::TenantName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A query for metrics. Absent fields match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsQuery {
    /// Return only metrics whose name begins with this text, such as `http.server.`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Return only the series of this tenant. A tenant's token sees only the series of its own tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// Return only series whose label `app` has this value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}

/// The values of metrics at one time. The page `reference/metrics.md` of the documentation lists all metrics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricsReport {
    /// The time of the values, in milliseconds since 1970-01-01 00:00 UTC.
    pub at_ms: u64,
    /// The time at which the process started, and from which totals count, in milliseconds since 1970-01-01 00:00 UTC;
    /// absent if an earlier version of Isomer responds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// The metrics that have series, sorted by name.
    pub metrics: Vec<MetricReport>,
}

/// All series of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricReport {
    /// The name, such as `http.server.request.duration`.
    pub name: String,
    /// The kind.
    pub kind: MetricKind,
    /// The unit: `seconds`, `bytes`, or the name of the counted objects.
    pub unit: String,
    /// The meaning in one sentence.
    pub help: String,
    /// The upper bounds of a histogram's buckets, ascending. There is one more bucket than there are bounds: the last
    /// bucket has no upper bound. Empty for other kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<f64>,
    /// The series.
    pub series: Vec<SeriesReport>,
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MetricKind {
    /// A total since the process started.
    Counter,
    /// A value that increases and decreases.
    Gauge,
    /// The distribution of values since the process started.
    Histogram,
}

/// One series of a metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeriesReport {
    /// The labels that have a value.
    pub labels: BTreeMap<String, String>,
    /// The value of a counter or gauge; the sum of all values of a histogram.
    pub value: f64,
    /// The number of values in each bucket of a histogram, not cumulative. Empty for other kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<u64>,
    /// Recent sampled requests whose values are in the histogram, at most one for each bucket.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exemplars: Vec<ExemplarReport>,
}

/// A recent sampled request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExemplarReport {
    /// The id of the request's trace, 32 hexadecimal digits.
    pub trace_id: String,
    /// The value that this request added to the histogram.
    pub value: f64,
    /// The time at which the value was recorded, in milliseconds since 1970-01-01 00:00 UTC.
    pub at_ms: u64,
}

impl MetricsReport {
    /// Returns the series of a metric.
    #[must_use]
    pub fn series(&self, name: &str) -> &[SeriesReport] {
        self.metric(name).map_or(&[], |metric| &metric.series)
    }

    /// Returns a metric; `None` if it has no series.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<&MetricReport> {
        self.metrics.iter().find(|metric| metric.name == name)
    }
}

impl SeriesReport {
    /// Returns the value of a label, or an empty text if the series does not have the label.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Returns the number of values in a histogram.
    #[must_use]
    pub fn count(&self) -> u64 {
        total(&self.counts)
    }
}

/// Returns the sum of the counts of a histogram's buckets, or the maximum of `u64` if the sum is greater.
#[must_use]
pub fn total(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |total, count| total.saturating_add(*count))
}

/// Returns an estimate of the quantile `q` (0 to 1) of the values in a histogram, as Prometheus' `histogram_quantile`
/// does: the values of a bucket are assumed to be spread evenly. Values in the last bucket, which has no bound, count
/// as its lower bound. Returns `None` if there are no values.
///
/// For the quantile of a period, pass the counts at its end minus the counts at its start. For the quantile of several
/// series with the same bounds, pass the sums of their counts.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "the result is an estimate")]
pub fn quantile(bounds: &[f64], counts: &[u64], q: f64) -> Option<f64> {
    let rank = q.clamp(0.0, 1.0) * total(counts) as f64;
    let mut below = 0.0;
    for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let lower = if index == 0 { 0.0 } else { bounds.get(index - 1).copied()? };
        let Some(upper) = bounds.get(index) else { return Some(lower) };
        let count = *count as f64;
        if below + count >= rank {
            return Some(lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0));
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_in_the_bucket_of_its_rank() {
        let bounds = [1.0, 2.0, 4.0];
        let of = |counts: [u64; 4], q| quantile(&bounds, &counts, q);
        assert_eq!(of([0; 4], 0.5), None);
        assert_eq!(of([0, 10, 0, 0], 0.5), Some(1.5));
        assert_eq!(of([10, 0, 10, 0], 0.5), Some(1.0));
        assert_eq!(of([10, 0, 10, 0], 0.75), Some(3.0));
        assert_eq!(of([1, 0, 0, 9], 0.99), Some(4.0));
        assert_eq!(of([4, 0, 0, 0], 1.0), Some(1.0));
    }

    #[test]
    fn counts_do_not_overflow() {
        let series = SeriesReport { counts: vec![u64::MAX, 1], ..SeriesReport::default() };
        assert_eq!(series.count(), u64::MAX);
        assert_eq!(quantile(&[1.0], &series.counts, 1.0), Some(1.0));
    }
}
