//! The limits of the queue of records: how many records may wait to be written, in total and from each source.
//!
//! A part of the queue is reserved for failures and messages, and guests' output cannot fill it. Another part is
//! reserved for the platform's own records, and guests and clients cannot fill it. The served requests of one
//! tenant can fill only a small part.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use isomer_telemetry::metrics::{MetricSource, MetricValue, Snapshot, catalog};

use crate::record::LogRecord;

/// The maximum number of records that wait to be written. Further records are dropped and counted.
pub(crate) const RECORDS_MAX: usize = 8192;

/// The number of waiting records at which guests' output is dropped. So a guest that prints without end cannot prevent
/// messages about itself.
pub(crate) const OUTPUT_RECORDS_MAX: usize = RECORDS_MAX / 2;

/// The maximum size of all waiting records in bytes. It limits the memory if the reader of the log is slow or has
/// stopped.
pub(crate) const BYTES_MAX: usize = 16 << 20;

/// The part of [`BYTES_MAX`] that guests' output, failures, the access log and debug messages may occupy together.
pub(crate) const GUEST_BYTES_MAX: usize = BYTES_MAX / 2;

/// The part of [`BYTES_MAX`] that records of one tenant's served requests may occupy.
const TENANT_BYTES_MAX: usize = BYTES_MAX / 16;

/// The number of counters for the tenants' waiting bytes. A hash of the tenant's name selects the counter, so counting
/// takes no lock. Several tenants may share a counter.
const TENANT_COUNTERS: usize = 64;

/// The maximum number of a member's traces that wait to be written.
const TRACES_MAX: usize = 1024;

/// The maximum number of bytes in a member's traces that wait to be written.
const TRACE_BYTES_MAX: usize = 4 << 20;

/// The maximum number of lines with a member's metrics that wait to be written. Each has at most 128 KiB.
const METRICS_MAX: usize = 32;

/// The counters of records that wait to be written, and of records that were dropped.
pub(crate) struct QueueCounters {
    records: AtomicUsize,
    bytes: AtomicUsize,
    guest_bytes: AtomicUsize,
    tenant_bytes: [AtomicUsize; TENANT_COUNTERS],
    traces: AtomicUsize,
    trace_bytes: AtomicUsize,
    metrics: AtomicUsize,
    /// The number of a member's traces that were dropped since a trace was last written.
    traces_dropped: AtomicU64,
    /// The number of records that were dropped since the last report in the log.
    dropped: AtomicU64,
    /// The number of records that were dropped since the process started.
    dropped_total: AtomicU64,
}

/// The size of a waiting record, and the properties that decide which limits apply to the record.
pub(crate) struct RecordWeight {
    bytes: usize,
    is_output: bool,
    is_of_guest: bool,
    /// The index in [`QueueCounters::tenant_bytes`], if the record is a served request of a tenant's app.
    tenant: Option<usize>,
}

impl RecordWeight {
    pub(crate) fn of(record: &LogRecord) -> Self {
        let hash = |name: &str| name.bytes().fold(7, |sum: usize, byte| sum.wrapping_mul(31) + usize::from(byte));
        Self {
            bytes: record.bytes(),
            is_output: matches!(record, LogRecord::Output { .. } | LogRecord::Structured(_)),
            is_of_guest: record.is_of_guest(),
            tenant: record.tenant().map(|tenant| hash(tenant) % TENANT_COUNTERS),
        }
    }
}

impl Default for QueueCounters {
    fn default() -> Self {
        Self {
            records: 0.into(),
            bytes: 0.into(),
            guest_bytes: 0.into(),
            tenant_bytes: [const { AtomicUsize::new(0) }; TENANT_COUNTERS],
            traces: 0.into(),
            trace_bytes: 0.into(),
            metrics: 0.into(),
            traces_dropped: 0.into(),
            dropped: 0.into(),
            dropped_total: 0.into(),
        }
    }
}

impl QueueCounters {
    /// Adds a record to the counters, and returns whether all limits still hold. The caller must call
    /// [`Self::subtract`] for the record in either case.
    pub(crate) fn add(&self, weight: &RecordWeight) -> bool {
        let add = |counter: &AtomicUsize| counter.fetch_add(weight.bytes, Ordering::Relaxed) + weight.bytes;
        let mut fits = self.records.fetch_add(1, Ordering::Relaxed) < OUTPUT_RECORDS_MAX || !weight.is_output;
        fits &= add(&self.bytes) <= BYTES_MAX;
        if weight.is_of_guest {
            fits &= add(&self.guest_bytes) <= GUEST_BYTES_MAX;
        }
        if let Some(tenant) = weight.tenant {
            fits &= add(&self.tenant_bytes[tenant]) <= TENANT_BYTES_MAX;
        }
        fits
    }

    /// Subtracts a record from the counters, after the record was written or dropped.
    pub(crate) fn subtract(&self, weight: &RecordWeight) {
        let subtract = |counter: &AtomicUsize| counter.fetch_sub(weight.bytes, Ordering::Relaxed);
        self.records.fetch_sub(1, Ordering::Relaxed);
        subtract(&self.bytes);
        if weight.is_of_guest {
            subtract(&self.guest_bytes);
        }
        if let Some(tenant) = weight.tenant {
            subtract(&self.tenant_bytes[tenant]);
        }
    }

    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.dropped_total.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a trace with `bytes` bytes to the counters, and returns whether all limits still hold. If not, counts the
    /// trace as dropped. The limits are separate, so traces displace no records.
    pub(crate) fn add_trace(&self, bytes: usize) -> bool {
        let fits = self.traces.fetch_add(1, Ordering::Relaxed) < TRACES_MAX;
        let fits = self.trace_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= TRACE_BYTES_MAX && fits;
        if !fits {
            self.subtract_trace(bytes);
            self.traces_dropped.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    /// Subtracts a trace from the counters, after it was written or dropped.
    pub(crate) fn subtract_trace(&self, bytes: usize) {
        self.traces.fetch_sub(1, Ordering::Relaxed);
        self.trace_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds a line with metrics to the counters, and returns whether its limit still holds. If not, nothing is added.
    pub(crate) fn add_metrics(&self) -> bool {
        let fits = self.metrics.fetch_add(1, Ordering::Relaxed) < METRICS_MAX;
        if !fits {
            self.subtract_metrics();
        }
        fits
    }

    /// Subtracts a line with metrics from the counters, after it was written or dropped.
    pub(crate) fn subtract_metrics(&self) {
        self.metrics.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped_trace(&self) {
        self.traces_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many traces were dropped since the last call.
    pub(crate) fn take_dropped_traces(&self) -> u64 {
        self.traces_dropped.swap(0, Ordering::Relaxed)
    }

    /// Returns how many records were dropped since the last call.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn guest_bytes(&self) -> usize {
        self.guest_bytes.load(Ordering::Relaxed)
    }
}

impl MetricSource for QueueCounters {
    fn collect(&self, snapshot: &mut Snapshot) {
        let dropped = self.dropped_total.load(Ordering::Relaxed);
        let labels = vec!["logs".into(), "queue full".into()];
        snapshot.push(&catalog::TELEMETRY_DROPPED, labels, MetricValue::integer(dropped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_about_one_tenant_leave_room_for_those_about_others() {
        let counters = QueueCounters::default();
        let of = |tenant| RecordWeight { bytes: 4 << 10, is_output: false, is_of_guest: true, tenant: Some(tenant) };
        let fill = |tenant| (0..RECORDS_MAX).take_while(|_| counters.add(&of(tenant))).count();
        assert_eq!(fill(1), TENANT_BYTES_MAX / (4 << 10));
        assert_eq!(fill(2), TENANT_BYTES_MAX / (4 << 10));
    }

    #[test]
    fn traces_that_wait_are_bounded() {
        let counters = QueueCounters::default();
        assert_eq!((0..TRACES_MAX * 2).filter(|_| counters.add_trace(1)).count(), TRACES_MAX);
        assert_eq!((counters.take_dropped_traces(), counters.take_dropped_traces()), (TRACES_MAX as u64, 0));
        let counters = QueueCounters::default();
        assert!(counters.add_trace(TRACE_BYTES_MAX) && !counters.add_trace(1));
        counters.subtract_trace(TRACE_BYTES_MAX);
        assert!(counters.add_trace(1));
    }

    #[test]
    fn lines_with_metrics_that_wait_are_bounded() {
        let counters = QueueCounters::default();
        assert_eq!((0..METRICS_MAX * 2).filter(|_| counters.add_metrics()).count(), METRICS_MAX);
        counters.subtract_metrics();
        assert!(counters.add_metrics() && !counters.add_metrics());
    }

    #[test]
    fn output_leaves_room_for_other_records() {
        let counters = QueueCounters::default();
        let weight = |is_output| RecordWeight { bytes: 1, is_output, is_of_guest: true, tenant: None };
        let output = (0..RECORDS_MAX).take_while(|_| counters.add(&weight(true))).count();
        assert_eq!(output, OUTPUT_RECORDS_MAX);
        assert!(counters.add(&weight(false)));
    }

    #[test]
    fn what_was_added_is_subtracted() {
        let counters = QueueCounters::default();
        let weight = RecordWeight { bytes: 10, is_output: true, is_of_guest: true, tenant: Some(3) };
        counters.add(&weight);
        counters.subtract(&weight);
        let tenant = counters.tenant_bytes[3].load(Ordering::Relaxed);
        assert_eq!((counters.bytes(), counters.guest_bytes(), tenant), (0, 0, 0));
        counters.count_dropped();
        assert_eq!((counters.take_dropped(), counters.take_dropped()), (1, 0));
    }
}
