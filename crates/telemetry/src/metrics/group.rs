//! The series of one app, or those of the process itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::buckets::Buckets;
use super::budget::SeriesBudget;
use super::cell::{Counter, Gauge, Number};
use super::descriptor::{MetricDescriptor, MetricKind};
use super::histogram::Histogram;
use super::snapshot::{MetricValue, Snapshot};
use crate::AppIdentity;

/// The maximum number of series of one app.
pub const SERIES_PER_APP_MAX: usize = 1000;

/// The series of one app, or those of the process itself. Revisions of an app share the group, so totals continue after
/// a take-over. A default group belongs to no registry, so no snapshot of the metrics contains its series. If a value
/// requires reading a clock, callers therefore check [`is_recorded`](Self::is_recorded) first.
#[derive(Debug, Default)]
pub struct SeriesGroup {
    /// The values of the labels with which all series begin: the tenant and the app. Empty for the process itself.
    labels: Vec<Arc<str>>,
    series: Mutex<BTreeMap<SeriesKey, Cell>>,
    /// Limits the number of series of the process; `None` if the group belongs to no registry, so that no snapshot of
    /// the metrics contains its series.
    budget: Option<Arc<SeriesBudget>>,
    /// The sequence number of the group's last look-up. Of several unused groups, the group with the lowest number is
    /// removed first.
    last_used: AtomicU64,
}

/// The name of the metric, and the values of all labels.
type SeriesKey = (&'static str, Vec<Arc<str>>);

#[derive(Debug, Clone)]
enum Cell {
    Counter(&'static MetricDescriptor, Arc<Counter>),
    Gauge(&'static MetricDescriptor, Arc<Gauge>),
    Histogram(&'static MetricDescriptor, Arc<Histogram>),
    Number(&'static MetricDescriptor, Arc<Number>),
}

impl SeriesGroup {
    pub(crate) fn new(app: Option<&AppIdentity>, budget: Arc<SeriesBudget>) -> Self {
        let labels = app.map(|app| vec![app.tenant.clone(), app.app.clone()]).unwrap_or_default();
        Self { labels, series: Mutex::default(), budget: Some(budget), last_used: AtomicU64::new(0) }
    }

    /// Returns whether snapshots contain the series of the group. If not, their values need not be recorded.
    pub fn is_recorded(&self) -> bool {
        self.budget.is_some()
    }

    /// Returns the values of the labels with which all series of the group begin: the tenant and the app. Empty for the
    /// process itself.
    pub fn labels(&self) -> &[Arc<str>] {
        &self.labels
    }

    /// Returns the counter of `metric` with the labels of the group followed by `labels`. Creates it if necessary.
    ///
    /// If the number of series has reached its bound, the returned counter works, but no snapshot contains it. The same
    /// applies to [`gauge`](Self::gauge) and [`histogram`](Self::histogram).
    pub fn counter(&self, metric: &'static MetricDescriptor, labels: &[&str]) -> Arc<Counter> {
        debug_assert_eq!(metric.kind, MetricKind::Counter);
        match self.cell(metric, labels, || Cell::Counter(metric, Arc::default())) {
            Cell::Counter(_, counter) => counter,
            _ => Arc::default(),
        }
    }

    /// Returns the gauge of `metric` with the labels of the group followed by `labels`. Creates it if necessary.
    pub fn gauge(&self, metric: &'static MetricDescriptor, labels: &[&str]) -> Arc<Gauge> {
        debug_assert_eq!(metric.kind, MetricKind::Gauge);
        match self.cell(metric, labels, || Cell::Gauge(metric, Arc::default())) {
            Cell::Gauge(_, gauge) => gauge,
            _ => Arc::default(),
        }
    }

    /// Returns the histogram of `metric` with the labels of the group followed by `labels`. Creates it if necessary.
    pub fn histogram(&self, metric: &'static MetricDescriptor, labels: &[&str]) -> Arc<Histogram> {
        let buckets = match metric.kind {
            MetricKind::Histogram(buckets) => buckets,
            _ => Buckets::REQUEST,
        };
        match self.cell(metric, labels, || Cell::Histogram(metric, Arc::new(Histogram::new(buckets)))) {
            Cell::Histogram(_, histogram) => histogram,
            _ => Arc::new(Histogram::new(buckets)),
        }
    }

    /// Returns the number of `metric` with the labels of the group followed by `labels`. Creates it if necessary. For
    /// counters and gauges with fractions. Returns `None` if it does not exist and `metric` has `series_max` series.
    pub fn number(&self, metric: &'static MetricDescriptor, labels: &[&str], series_max: usize) -> Option<Arc<Number>> {
        let is_full = {
            let series = self.series();
            let of_metric = series.range((metric.name, Vec::new())..).take_while(|((name, _), _)| *name == metric.name);
            of_metric.count() >= series_max && !series.contains_key(&self.key(metric, labels))
        };
        if is_full {
            if let Some(budget) = &self.budget {
                budget.count_refused();
            }
            return None;
        }
        match self.cell(metric, labels, || Cell::Number(metric, Arc::default())) {
            Cell::Number(_, number) => Some(number),
            _ => None,
        }
    }

    fn key(&self, metric: &'static MetricDescriptor, labels: &[&str]) -> SeriesKey {
        let own = labels.iter().map(|label| Arc::<str>::from(*label));
        (metric.name, self.labels.iter().cloned().chain(own).collect())
    }

    fn cell(&self, metric: &'static MetricDescriptor, labels: &[&str], new: impl FnOnce() -> Cell) -> Cell {
        // Without a registry, no snapshot contains the series of the group, so the cell is not stored.
        let Some(budget) = &self.budget else { return new() };
        let key = self.key(metric, labels);
        debug_assert_eq!(key.1.len(), metric.labels.len(), "{}", metric.name);
        let mut series = self.series();
        if let Some(cell) = series.get(&key) {
            return cell.clone();
        }
        let cell = new();
        if series.len() >= SERIES_PER_APP_MAX {
            budget.count_refused();
        } else if budget.reserve() {
            series.insert(key, cell.clone());
        }
        cell
    }

    pub(crate) fn touch(&self, number: u64) {
        self.last_used.store(number, Ordering::Relaxed);
    }

    pub(crate) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    pub(crate) fn collect(&self, snapshot: &mut Snapshot) {
        let cells: Vec<_> = self.series().iter().map(|((_, labels), cell)| (labels.clone(), cell.clone())).collect();
        for (labels, cell) in cells {
            match cell {
                Cell::Counter(metric, counter) => snapshot.push(metric, labels, MetricValue::integer(counter.get())),
                Cell::Gauge(metric, gauge) => snapshot.push(metric, labels, MetricValue::signed(gauge.get())),
                Cell::Number(metric, number) => snapshot.push(metric, labels, MetricValue::Number(number.get())),
                Cell::Histogram(metric, histogram) => {
                    snapshot.push(metric, labels, MetricValue::Histogram(histogram.value()));
                }
            }
        }
    }

    fn series(&self) -> MutexGuard<'_, BTreeMap<SeriesKey, Cell>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SeriesGroup {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.release(self.series.get_mut().unwrap_or_else(PoisonError::into_inner).len());
        }
    }
}
