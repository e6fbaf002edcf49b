//! Charges the memory that SQLite allocates for a store to the store's tenant.
//!
//! The charge includes pages, prepared statements and schemas that connections keep, and the memory of running
//! statements. Each statement also has its own limit
//! ([`SqlLimits::statement_memory_max`](super::SqlLimits::statement_memory_max)). So a statement that allocates without
//! end is stopped by its own tenant's limits, and does not reduce the memory of other tenants' statements.

use std::sync::{Arc, Mutex};

use isomer_runtime::{Account, HostMemory};
use isomer_sqlite_heap::{Heap, HeapAccount};

use crate::pool::locked;

/// Before and while a statement runs, idle instances of the tenant are evicted, so that at least this many bytes of the
/// tenant's memory are free. Instances are evicted outside SQLite's allocator, because the allocator must not wait for
/// an eviction.
pub(super) const ROOM_BYTES: usize = 8 << 20;

/// Creates the heap of a store. The heap is charged to the tenant's `account`.
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
