//! A revision that is in memory, and a reference to a revision that left service.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use isomer_runtime::Graph;

use crate::revision::Revision;

/// A revision in memory, with the permit that counts it.
pub(super) struct LoadedRevision {
    pub(super) revision: Revision,
    pub(super) permit: ResidencyPermit,
}

/// A reference to a revision that left service, so that callers can wait until its requests have finished.
pub struct RetiredRevision(Weak<Graph>);

impl RetiredRevision {
    pub(super) fn new(loaded: &LoadedRevision) -> Self {
        Self(Arc::downgrade(loaded.revision.graph()))
    }

    /// Returns whether all requests of the revision have finished and the revision has left memory.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// The permit for one app to be in memory. It ends when it is released or dropped.
pub(super) struct ResidencyPermit {
    in_use: Arc<AtomicUsize>,
    is_held: AtomicBool,
}

impl ResidencyPermit {
    /// Creates a permit, which the caller has already counted in `in_use`.
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
