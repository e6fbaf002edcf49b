//! Exemplars: for each bucket of a histogram, the trace of a recent request whose duration is in the bucket.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::{TraceId, unix_ns};

/// A recent sampled request whose duration is in a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar {
    /// The request's trace.
    pub trace_id: TraceId,
    /// The duration in seconds.
    pub value_s: f64,
    /// The time at which the duration was recorded, in nanoseconds since the Unix epoch.
    pub at_ns: u64,
}

/// The exemplar of one bucket.
#[derive(Debug, Default)]
pub(crate) struct ExemplarCell(Mutex<Option<Exemplar>>);

impl ExemplarCell {
    /// Replaces the exemplar. Never waits: if another thread is reading or replacing the exemplar, nothing is done.
    pub(crate) fn offer(&self, trace_id: TraceId, duration: Duration) {
        if let Ok(mut exemplar) = self.0.try_lock() {
            let at_ns = unix_ns(SystemTime::now());
            *exemplar = Some(Exemplar { trace_id, value_s: duration.as_secs_f64(), at_ns });
        }
    }

    pub(crate) fn get(&self) -> Option<Exemplar> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
