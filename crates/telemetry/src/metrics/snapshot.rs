//! The values of all metrics at one time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog;
use super::descriptor::{MetricDescriptor, MetricLabel};
use super::histogram::HistogramValue;

/// The maximum number of series in a snapshot, including those of [`MetricSource`](super::MetricSource)s.
pub const SNAPSHOT_SERIES_MAX: usize = 100_000;

/// The series that a client may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricScope {
    /// All series.
    All,
    /// The series of one tenant.
    Tenant(Arc<str>),
}

/// The values of all metrics at one time.
#[derive(Debug)]
pub struct Snapshot {
    scope: MetricScope,
    families: BTreeMap<&'static str, MetricFamily>,
    series: usize,
    refused: u64,
}

/// All series of one metric.
#[derive(Debug)]
pub struct MetricFamily {
    /// The metric.
    pub descriptor: &'static MetricDescriptor,
    /// The series.
    pub series: Vec<MetricSeries>,
}

/// One series of a metric.
#[derive(Debug)]
pub struct MetricSeries {
    /// The values of the labels, in the order of the descriptor. An empty value means that the label is absent.
    pub labels: Vec<Arc<str>>,
    /// The process of the app that the series is about, if it is not this process: the value of
    /// [`catalog::PROCESS_LABEL`].
    pub process: Option<Arc<str>>,
    /// The value.
    pub value: MetricValue,
}

/// The value of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    /// The value of a counter or gauge.
    Number(f64),
    /// The values of a histogram.
    Histogram(HistogramValue),
}

impl MetricSeries {
    /// Returns the labels that have a value. `metric` is the metric of the series.
    pub fn labels_of<'a>(
        &'a self,
        metric: &MetricDescriptor,
    ) -> impl Iterator<Item = (&'static MetricLabel, &'a Arc<str>)> {
        let process = self.process.iter().map(|process| (&catalog::PROCESS_LABEL, process));
        metric.labels.iter().zip(&self.labels).filter(|(_, value)| !value.is_empty()).chain(process)
    }
}

impl MetricValue {
    /// Returns a number as the value of a counter or gauge. Numbers over 2⁵³ are rounded.
    #[expect(clippy::cast_precision_loss, reason = "metrics are numbers with 53 significant bits")]
    pub fn integer(number: u64) -> Self {
        Self::Number(number as f64)
    }

    /// Returns a number that may be negative as the value of a gauge. Numbers beyond ±2⁵³ are rounded.
    #[expect(clippy::cast_precision_loss, reason = "metrics are numbers with 53 significant bits")]
    pub fn signed(number: i64) -> Self {
        Self::Number(number as f64)
    }

    /// Returns the value of a counter or gauge; `None` for a histogram.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Histogram(_) => None,
        }
    }
}

impl Snapshot {
    pub(crate) fn new(scope: MetricScope) -> Self {
        Self { scope, families: BTreeMap::new(), series: 0, refused: 0 }
    }

    /// Adds a series. Ignores it if it is outside of the snapshot's scope, or if the snapshot is full.
    pub fn push(&mut self, metric: &'static MetricDescriptor, labels: Vec<Arc<str>>, value: MetricValue) {
        self.push_series(metric, MetricSeries { labels, process: None, value });
    }

    /// Adds a series of another process, like [`push`](Self::push).
    pub fn push_of_process(
        &mut self,
        process: &Arc<str>,
        metric: &'static MetricDescriptor,
        labels: Vec<Arc<str>>,
        value: MetricValue,
    ) {
        self.push_series(metric, MetricSeries { labels, process: Some(process.clone()), value });
    }

    fn push_series(&mut self, metric: &'static MetricDescriptor, series: MetricSeries) {
        let labels = &series.labels;
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        if let MetricScope::Tenant(tenant) = &self.scope
            && (metric.labels.first() != Some(&catalog::TENANT) || labels.first() != Some(tenant))
        {
            return;
        }
        if self.series >= SNAPSHOT_SERIES_MAX {
            self.refused += 1;
            return;
        }
        self.series += 1;
        let family = || MetricFamily { descriptor: metric, series: Vec::new() };
        self.families.entry(metric.name).or_insert_with(family).series.push(series);
    }

    /// Returns whether the snapshot's scope includes the series of `tenant`. If not, a source need not collect them.
    pub fn includes(&self, tenant: &str) -> bool {
        match &self.scope {
            MetricScope::All => true,
            MetricScope::Tenant(own) => **own == *tenant,
        }
    }

    /// Returns the metrics that have series, sorted by name.
    pub fn families(&self) -> impl Iterator<Item = &MetricFamily> {
        self.families.values()
    }

    /// Counts series that a source has dropped because there were too many.
    pub(crate) fn add_refused(&mut self, count: u64) {
        self.refused = self.refused.saturating_add(count);
    }

    /// Returns the number of series that were ignored because the snapshot was full, and of those that sources dropped.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }
}
