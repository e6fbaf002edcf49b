//! A bounded amount of something, and parts of it that are given back when dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bounded amount of something.
#[derive(Debug)]
pub(crate) struct Budget {
    taken: AtomicUsize,
    max: usize,
}

/// A part of it, given back when dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    budget: Arc<Budget>,
    amount: usize,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max }
    }

    /// A part, if so much is left.
    pub(crate) fn take(budget: &Arc<Self>, amount: usize) -> Option<Taken> {
        let taken = Taken { budget: budget.clone(), amount };
        (budget.taken.fetch_add(amount, Ordering::Relaxed).saturating_add(amount) <= budget.max).then_some(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.amount, Ordering::Relaxed);
    }
}
