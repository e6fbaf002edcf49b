//! Decides the size of each store's page cache: the first stores of a process get large caches, and later stores get
//! small ones if thousands of stores are open.
//!
//! The size of a page cache is fixed when the store is opened. So each store gets a fraction of the unused budget,
//! between a minimum and a maximum, and returns it when the store is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The divisor of the unused budget: a store that is opened gets one eighth of the unused budget.
const PART: usize = 8;

pub(crate) struct CacheBudget {
    used: AtomicUsize,
    total: usize,
    bytes_min: usize,
    bytes_max: usize,
}

/// The part of the budget that one store uses. Dropping this value returns the bytes to the budget.
pub(crate) struct CacheShare {
    budget: Arc<CacheBudget>,
    bytes: usize,
}

impl CacheBudget {
    pub(crate) fn new(total: usize, bytes_min: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), total, bytes_min: bytes_min.min(bytes_max), bytes_max })
    }

    pub(crate) fn share(self: &Arc<Self>) -> CacheShare {
        let left = self.total.saturating_sub(self.used.load(Ordering::Relaxed));
        let bytes = (left / PART).clamp(self.bytes_min, self.bytes_max);
        self.used.fetch_add(bytes, Ordering::Relaxed);
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
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
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
