//! A revision in memory, and the permit that it has for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::revision::Revision;

/// A revision in memory with its permit.
pub(super) struct LoadedRevision {
    pub(super) revision: Revision,
    pub(super) permit: ResidencyPermit,
}

/// The right of one app to be in memory, until it is released or dropped.
pub(super) struct ResidencyPermit {
    in_use: Arc<AtomicUsize>,
    is_held: AtomicBool,
}

impl ResidencyPermit {
    /// A permit that was counted in `in_use`.
    pub(super) fn new(in_use: Arc<AtomicUsize>) -> Self {
        Self { in_use, is_held: AtomicBool::new(true) }
    }

    pub(super) fn release(&self) {
        if self.is_held.swap(false, Ordering::AcqRel) {
            self.in_use.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for ResidencyPermit {
    fn drop(&mut self) {
        self.release();
    }
}
