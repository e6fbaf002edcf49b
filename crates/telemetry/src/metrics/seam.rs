//! The metrics of calls across seams.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::catalog;
use super::group::SeriesGroup;
use super::histogram::Histogram;
use crate::TraceId;

/// How a call, an operation or the creation of an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// A result was returned. For calls, this includes results of the function's own error type.
    Ok,
    /// The callee trapped.
    Trap,
    /// The operation failed.
    Failed,
    /// The callee could not be reached.
    Unreachable,
    /// No result was returned in time.
    Deadline,
    /// A limit was reached.
    Overloaded,
    /// The callee refused the call.
    Refused,
    /// The caller cancelled the call.
    Cancelled,
}

const OUTCOMES: usize = 8;

impl CallOutcome {
    /// Returns the value of the label `outcome`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Trap => "trap",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::Deadline => "deadline",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The histograms of the durations of calls: one for each outcome, created when the outcome first occurs. Their labels
/// differ only in the outcome.
#[derive(Debug, Default)]
pub struct CallSeries([OnceLock<Arc<Histogram>>; OUTCOMES]);

impl CallSeries {
    /// Records a duration. Calls `create` if this outcome has not occurred before.
    pub(crate) fn record(
        &self,
        outcome: CallOutcome,
        duration: Duration,
        trace: Option<TraceId>,
        create: impl FnOnce() -> Arc<Histogram>,
    ) {
        self.0[outcome as usize].get_or_init(create).record(duration, trace);
    }
}

/// The identity of a seam.
#[derive(Debug, Clone, Default)]
pub struct SeamLabels {
    /// The component that calls.
    pub caller: Arc<str>,
    /// The component that is called.
    pub callee: Arc<str>,
    /// The interface.
    pub interface: Arc<str>,
    /// `isolated`, `remote` or `fused`.
    pub mode: &'static str,
    /// Whether only the calls of sampled requests are measured.
    pub is_sampled: bool,
}

/// The series of one seam. No snapshot contains the series of `SeamMetrics::default()`.
#[derive(Debug, Default)]
pub struct SeamMetrics {
    group: Arc<SeriesGroup>,
    labels: SeamLabels,
    series: CallSeries,
}

impl SeamMetrics {
    /// Returns the metrics of a seam. `group` has the series of the seam's app.
    pub fn new(group: Arc<SeriesGroup>, labels: SeamLabels) -> Arc<Self> {
        Arc::new(Self { group, labels, series: CallSeries::default() })
    }

    /// Returns whether snapshots contain the series. If not, calls need not be measured.
    pub fn is_recorded(&self) -> bool {
        self.group.is_recorded()
    }

    /// Records a call that has ended. `trace` is the trace of the request if the request is sampled.
    pub fn record(&self, outcome: CallOutcome, duration: Duration, trace: Option<TraceId>) {
        self.series.record(outcome, duration, trace, || self.histogram(outcome));
    }

    #[cold]
    fn histogram(&self, outcome: CallOutcome) -> Arc<Histogram> {
        let SeamLabels { caller, callee, interface, mode, is_sampled } = &self.labels;
        let sampled = if *is_sampled { "true" } else { "false" };
        let labels = [caller, callee, interface, *mode, sampled, outcome.name()];
        self.group.histogram(&catalog::SEAM_CALL_DURATION, &labels)
    }
}
