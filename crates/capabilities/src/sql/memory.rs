//! SQLite's memory for a store, charged to its tenant.
//!
//! This includes pages, prepared statements and schemas that connections keep, and the memory of a running statement,
//! which also has a bound of its own ([`SqlLimits::statement_memory_max`](super::SqlLimits::statement_memory_max)). So
//! a statement that allocates without end is stopped by its own tenant's limits, and statements of other tenants still
//! have all the memory of theirs.

use std::sync::{Arc, Mutex};

use isomer_runtime::{Account, HostMemory};
use isomer_sqlite_heap::{Heap, HeapAccount};

use crate::pool::locked;

/// Before a statement runs, and while it runs, idle instances of the tenant are evicted until this many bytes are free:
/// SQLite's allocator must not wait for evictions.
pub(super) const ROOM_BYTES: usize = 8 << 20;

/// Creates the heap of a store, charged to its tenant's account.
pub(super) fn heap(account: &Arc<Account>) -> Arc<Heap> {
    Heap::new(Box::new(StoreMemory(Mutex::new(account.host_memory()))))
}

struct StoreMemory(Mutex<HostMemory>);

impl HeapAccount for StoreMemory {
    fn charge(&self, bytes: usize) -> bool {
        locked(&self.0).try_grow(bytes).is_ok()
    }

    fn charge_unchecked(&self, bytes: usize) {
        locked(&self.0).grow_anyway(bytes);
    }

    fn release(&self, bytes: usize) {
        let mut charge = locked(&self.0);
        let left = charge.bytes().saturating_sub(bytes as u64);
        charge.shrink_to(usize::try_from(left).unwrap_or(usize::MAX));
    }
}
