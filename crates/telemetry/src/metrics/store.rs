//! The metrics of operations on a store.

use std::sync::Arc;
use std::time::Duration;

use super::catalog;
use super::group::SeriesGroup;
use super::seam::{CallOutcome, CallSeries};
use crate::TraceId;

/// The series of one store.
#[derive(Debug)]
pub struct StoreMetrics {
    group: Arc<SeriesGroup>,
    store: Arc<str>,
    /// The database system: `redb` or `sqlite`.
    system: &'static str,
    /// The names of the operations, with the series of each.
    operations: Vec<(&'static str, CallSeries)>,
}

impl StoreMetrics {
    /// Returns the metrics of a store with the given operations. `group` has the series of the store's app.
    pub fn new(group: Arc<SeriesGroup>, store: &str, system: &'static str, operations: &[&'static str]) -> Self {
        let operations = operations.iter().map(|name| (*name, CallSeries::default())).collect();
        Self { group, store: store.into(), system, operations }
    }

    /// Returns whether snapshots contain the series. If not, operations need not be measured.
    pub fn is_recorded(&self) -> bool {
        self.group.is_recorded()
    }

    /// Records an operation that has ended. An operation that was not passed to [`new`](Self::new) is ignored.
    pub fn record(&self, operation: &'static str, outcome: CallOutcome, duration: Duration, trace: Option<TraceId>) {
        if let Some((_, series)) = self.operations.iter().find(|(name, _)| *name == operation) {
            series.record(outcome, duration, trace, || {
                let labels = [&*self.store, self.system, operation, outcome.name()];
                self.group.histogram(&catalog::STORE_OPERATION_DURATION, &labels)
            });
        }
    }
}
