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

    /// Takes a part, if so much is left. A refused part is never counted, not even for a moment: a large one would refuse small
    /// ones that others take at the same time.
    pub(crate) fn take(budget: &Arc<Self>, amount: usize) -> Option<Taken> {
        let add = |taken: usize| taken.checked_add(amount).filter(|sum| *sum <= budget.max);
        budget.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Taken { budget: budget.clone(), amount })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_given_back_and_refused_ones_take_nothing() {
        let budget = Arc::new(Budget::new(10));
        let part = Budget::take(&budget, 6).expect("there is room");
        assert!(Budget::take(&budget, 5).is_none());
        assert!(Budget::take(&budget, usize::MAX).is_none(), "the sum overflows");
        let rest = Budget::take(&budget, 4).expect("refused parts took nothing");
        drop((part, rest));
        assert!(Budget::take(&budget, 10).is_some());
    }

    #[test]
    fn a_refused_part_never_refuses_another() {
        let budget = Arc::new(Budget::new(10));
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100_000).for_each(|_| assert!(Budget::take(&budget, 11).is_none())));
            for _ in 0..100_000 {
                assert!(Budget::take(&budget, 1).is_some(), "nobody holds anything");
            }
        });
    }
}
