//! Counters of the exported records, and of the dropped records by reason.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Signal;

/// Why records were not exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Too many records waited, for example because the collector does not respond.
    QueueFull,
    /// One tenant had too many waiting records.
    TenantShare,
    /// The collector did not accept the records within the time for retries.
    Unreachable,
    /// The collector refused the request, and its status does not allow a retry.
    Refused,
    /// The collector accepted the request, but not these records.
    Rejected,
    /// The collector refused the request as too large, and the request cannot be split because it has only one item.
    TooLarge,
    /// The process ended before the records were sent.
    Shutdown,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::TenantShare,
        Self::Unreachable,
        Self::Refused,
        Self::Rejected,
        Self::TooLarge,
        Self::Shutdown,
    ];

    /// Returns the name of the reason, as a value of a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::TenantShare => "tenant-share",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::TooLarge => "too-large",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The counters of one signal.
#[derive(Debug, Default)]
pub(crate) struct SignalCounters {
    exported: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

impl SignalCounters {
    pub(crate) fn add_exported(&self, records: usize) {
        self.exported.fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_dropped(&self, reason: DropReason, records: usize) {
        self.dropped[reason as usize].fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn snapshot(&self, signal: Signal) -> SignalStatistics {
        let dropped = DropReason::ALL.map(|reason| (reason, self.dropped[reason as usize].load(Ordering::Relaxed)));
        SignalStatistics { signal, exported: self.exported.load(Ordering::Relaxed), dropped }
    }
}

/// The numbers of exported and of dropped records of one signal since the start of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalStatistics {
    /// The signal.
    pub signal: Signal,
    /// The number of records that the collector has accepted.
    pub exported: u64,
    /// The number of dropped records by reason.
    pub dropped: [(DropReason, u64); DropReason::ALL.len()],
}

impl SignalStatistics {
    /// Returns the number of records that were dropped for `reason`.
    pub fn dropped_because(&self, reason: DropReason) -> u64 {
        self.dropped.iter().filter(|(known, _)| *known == reason).map(|(_, records)| records).sum()
    }
}
