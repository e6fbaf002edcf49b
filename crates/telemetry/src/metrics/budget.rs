//! The bound on the number of series of a process.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The number of series of a process, and its maximum.
#[derive(Debug)]
pub(crate) struct SeriesBudget {
    max: usize,
    series: AtomicUsize,
    /// The number of series that were refused because the process had the maximum number.
    refused: AtomicU64,
}

impl SeriesBudget {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, series: AtomicUsize::new(0), refused: AtomicU64::new(0) }
    }

    /// Counts one more series. If the process has the maximum number, returns `false` and counts a refused series.
    pub(crate) fn reserve(&self) -> bool {
        let is_reserved = self.series.fetch_add(1, Ordering::Relaxed) < self.max;
        if !is_reserved {
            self.release(1);
            self.count_refused();
        }
        is_reserved
    }

    pub(crate) fn release(&self, series: usize) {
        self.series.fetch_sub(series, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether less than an eighth of the maximum number of series is free.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.max.saturating_sub(self.series()) < self.max / 8
    }

    pub(crate) fn series(&self) -> usize {
        self.series.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
