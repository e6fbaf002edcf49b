//! Totals of dropped telemetry that are counted for the whole process.

use super::cell::Counter;

/// The number of spans that were dropped because a request had too many spans, or because the requests in progress of an
/// app had too many spans together.
pub(crate) static SPANS_DROPPED: Counter = Counter::new();
