//! The sizes of stores' page caches: the first stores of a process get large caches; if there are thousands of stores,
//! further ones get small caches.
//!
//! An engine's cache keeps the size that it was opened with. So each store gets a fraction of the unused budget, within
//! bounds, and returns it when it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A store gets one `PART`th of the unused budget.
const PART: usize = 8;

pub(crate) struct CacheBudget {
    given: AtomicUsize,
    total: usize,
    least: usize,
    most: usize,
}

/// A store's part of the budget. Dropping it returns the part to the budget.
pub(crate) struct CacheShare {
    budget: Arc<CacheBudget>,
    bytes: usize,
}

impl CacheBudget {
    pub(crate) fn new(total: usize, least: usize, most: usize) -> Arc<Self> {
        Arc::new(Self { given: AtomicUsize::new(0), total, least: least.min(most), most })
    }

    pub(crate) fn share(self: &Arc<Self>) -> CacheShare {
        let left = self.total.saturating_sub(self.given.load(Ordering::Relaxed));
        let bytes = (left / PART).clamp(self.least, self.most);
        self.given.fetch_add(bytes, Ordering::Relaxed);
        CacheShare { budget: self.clone(), bytes }
    }
}

impl CacheShare {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for CacheShare {
    fn drop(&mut self) {
        self.budget.given.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_stores_have_large_caches_and_many_have_small_ones() {
        let budget = CacheBudget::new(256, 1, 16);
        let shares: Vec<_> = (0..100).map(|_| budget.share()).collect();
        assert_eq!((shares[0].bytes(), shares[99].bytes()), (16, 1));
        assert!(shares.iter().map(CacheShare::bytes).sum::<usize>() < 256 + 100);
        drop(shares);
        assert_eq!(budget.share().bytes(), 16);
    }
}
