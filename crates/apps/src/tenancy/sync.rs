//! The synchronization primitives that `shared_lifecycle` uses. The tests in `model` compile `shared_lifecycle` again
//! with other primitives, which have the same names.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

pub(super) use std::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};

/// A value that is read without a lock and rarely replaced.
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

    /// Replaces the value, unless `new` is the same value. Two threads must not call this function at the same time.
    pub(super) fn set(&self, new: Option<&Arc<T>>) {
        let is_same = match (self.0.load().as_ref(), new) {
            (Some(before), Some(new)) => Arc::ptr_eq(before, new),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            self.0.store(new.cloned());
        }
    }
}
