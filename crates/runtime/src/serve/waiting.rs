//! The count of requests that wait for an instance.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A request that waits for an instance. The request is counted until this value is dropped.
pub(super) struct WaitingRequest<'a> {
    count: &'a AtomicUsize,
    earlier: usize,
}

impl<'a> WaitingRequest<'a> {
    /// Adds one waiting request to `count`.
    pub(super) fn enter(count: &'a AtomicUsize) -> Self {
        Self { count, earlier: count.fetch_add(1, Ordering::Relaxed) }
    }

    /// Returns the number of requests that were already waiting when this request started to wait.
    pub(super) fn earlier(&self) -> usize {
        self.earlier
    }
}

impl Drop for WaitingRequest<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_while_it_waits() {
        let count = AtomicUsize::new(0);
        let first = WaitingRequest::enter(&count);
        let second = WaitingRequest::enter(&count);
        assert_eq!((first.earlier(), second.earlier()), (0, 1));
        drop(first);
        assert_eq!(WaitingRequest::enter(&count).earlier(), 1);
        drop(second);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
