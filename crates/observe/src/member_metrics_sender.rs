//! Sends the metrics of a member to its supervisor.
//!
//! A line of JSON in the member's log contains current values of series. A member sends only series that have changed
//! since the last time, so an idle member sends nothing.

use std::collections::HashMap;
use std::sync::Arc;

use isomer_telemetry::metrics::{Exemplar, HistogramValue, MetricScope, MetricValue, Metrics};
use serde::{Deserialize, Serialize};

use crate::log::Log;

/// The maximum number of series in a line, which has at most 128 KiB: a histogram has less than 1 KiB.
pub(crate) const SERIES_PER_LINE: usize = 100;

/// A line with the values of series.
#[derive(Serialize, Deserialize)]
pub(crate) struct MetricsLine {
    pub(crate) metrics: Vec<SentSeries>,
}

/// The value of one series.
#[derive(Serialize, Deserialize)]
pub(crate) struct SentSeries {
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) value: SentValue,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum SentValue {
    Number(f64),
    Histogram { counts: Vec<u64>, sum_s: f64, exemplars: Vec<SentExemplar> },
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SentExemplar {
    pub(crate) bucket: usize,
    pub(crate) trace: String,
    pub(crate) value_s: f64,
    pub(crate) at_ns: u64,
}

/// Sends the metrics of a member to its supervisor. Never blocks: if too many lines are waiting, the values are sent the
/// next time.
pub struct MemberMetricsSender {
    log: Log,
    metrics: Metrics,
    /// The values that were sent last.
    sent: HashMap<(&'static str, Vec<Arc<str>>), MetricValue>,
}

impl Log {
    /// Returns the sender of `metrics`. This log must be the log of a member.
    #[must_use]
    pub fn member_metrics(&self, metrics: Metrics) -> MemberMetricsSender {
        MemberMetricsSender { log: self.clone(), metrics, sent: HashMap::new() }
    }
}

impl MemberMetricsSender {
    /// Sends the series whose values have changed since the last call.
    pub fn send(&mut self) {
        let snapshot = self.metrics.snapshot(MetricScope::All);
        let all = snapshot.families().flat_map(|family| {
            family.series.iter().map(move |series| ((family.descriptor.name, series.labels.clone()), &series.value))
        });
        let changed: Vec<_> = all.filter(|(key, value)| self.sent.get(key) != Some(*value)).collect();
        for part in changed.chunks(SERIES_PER_LINE) {
            let metrics = part.iter().map(|((name, labels), value)| SentSeries::new(name, labels, value)).collect();
            let line = serde_json::to_string(&MetricsLine { metrics }).expect("a line is plain data");
            if !self.log.push_metrics(line) {
                break;
            }
            self.sent.extend(part.iter().map(|(key, value)| (key.clone(), (*value).clone())));
        }
    }
}

impl SentSeries {
    fn new(name: &str, labels: &[Arc<str>], value: &MetricValue) -> Self {
        let exemplar = |(bucket, Exemplar { trace_id, value_s, at_ns }): &(usize, Exemplar)| SentExemplar {
            bucket: *bucket,
            trace: trace_id.to_string(),
            value_s: *value_s,
            at_ns: *at_ns,
        };
        let value = match value {
            MetricValue::Number(number) => SentValue::Number(*number),
            MetricValue::Histogram(HistogramValue { counts, sum_s, exemplars, .. }) => SentValue::Histogram {
                counts: counts.clone(),
                sum_s: *sum_s,
                exemplars: exemplars.iter().map(exemplar).collect(),
            },
        };
        Self { name: name.to_owned(), labels: labels.iter().map(ToString::to_string).collect(), value }
    }
}
