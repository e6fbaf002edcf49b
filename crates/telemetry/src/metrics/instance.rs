//! The metrics of a group's instances.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::catalog;
use super::cell::Counter;
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
    /// The counters of requests and calls whose fused calls were not measured, and of those whose fused calls were.
    runs: [OnceLock<Arc<Counter>>; 2],
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

    /// Records that an instance serves a request or a call. `is_measured` says whether the fused calls are measured. Only
    /// for groups with fused seams.
    pub fn record_run(&self, is_measured: bool) {
        if self.series.is_recorded() {
            let sampled = if is_measured { "true" } else { "false" };
            let create = || self.series.counter(&catalog::GROUP_RUNS, &[&self.group, sampled]);
            self.runs[usize::from(is_measured)].get_or_init(create).add(1);
        }
    }

    /// Records that a request waited for an instance.
    pub fn record_wait(&self, outcome: CallOutcome, duration: Duration) {
        let create = || self.series.histogram(&catalog::INSTANCE_WAIT_DURATION, &[&self.group, outcome.name()]);
        self.waits.record(outcome, duration, None, create);
    }
}
