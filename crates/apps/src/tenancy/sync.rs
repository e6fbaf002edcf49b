//! The primitives that `serving` is made of. Its model has others, by the same names.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

pub(super) use std::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};

/// Something that is read without a lock and replaced rarely.
pub(super) struct Slot<T>(ArcSwapOption<T>);

impl<T> Slot<T> {
    pub(super) fn empty() -> Self {
        Self(ArcSwapOption::empty())
    }

    pub(super) fn load(&self) -> Option<Arc<T>> {
        self.0.load_full()
    }

    pub(super) fn read<U>(&self, read: impl FnOnce(&Arc<T>) -> U) -> Option<U> {
        self.0.load().as_ref().map(read)
    }

    pub(super) fn swap(&self, new: Option<Arc<T>>) -> Option<Arc<T>> {
        self.0.swap(new)
    }

    /// Empties it, if `held` is in it.
    pub(super) fn take_if(&self, held: &Arc<T>) -> bool {
        let before = self.0.compare_and_swap(held, None);
        before.as_ref().is_some_and(|before| Arc::ptr_eq(before, held))
    }
}
