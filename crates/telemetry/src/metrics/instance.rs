//! The metrics of a group's instances.

use std::sync::Arc;
use std::time::Duration;

use super::catalog;
use super::group::SeriesGroup;
use super::seam::{CallOutcome, CallSeries};

/// The series of one group's instances. A default value belongs to no registry, so no snapshot of the metrics contains
/// its series.
#[derive(Debug, Default)]
pub struct InstanceMetrics {
    series: Arc<SeriesGroup>,
    /// The name of the group.
    group: Arc<str>,
    starts: CallSeries,
    waits: CallSeries,
}

impl InstanceMetrics {
    /// Returns the instance metrics of the group `group`. They are added to `series`, the series of the group's app.
    pub fn new(series: Arc<SeriesGroup>, group: &str) -> Arc<Self> {
        Arc::new(Self { series, group: group.into(), ..Self::default() })
    }

    /// Records that an instance was created, or could not be created.
    pub fn record_start(&self, outcome: CallOutcome, duration: Duration) {
        let create = || self.series.histogram(&catalog::INSTANCE_START_DURATION, &[&self.group, outcome.name()]);
        self.starts.record(outcome, duration, None, create);
    }

    /// Records that a request waited for an instance.
    pub fn record_wait(&self, outcome: CallOutcome, duration: Duration) {
        let create = || self.series.histogram(&catalog::INSTANCE_WAIT_DURATION, &[&self.group, outcome.name()]);
        self.waits.record(outcome, duration, None, create);
    }
}
