//! The memory of one instance: the sum of all memories and tables of its group, counted in bytes and charged to the
//! account. The host memory for the instance is counted separately.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::host_credit::HostCredit;
use crate::failure::RefusedBy;
use crate::pool::{Account, HostMemory, OutOfMemory};

/// The host memory of a table element, in bytes.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>() * 2;

/// The number of bytes of tasks and streams that the fixed charge of an instance includes.
const TASKS_FREE_BYTES: u64 = 16 << 10;

/// The unit in bytes in which tasks and streams beyond [`TASKS_FREE_BYTES`] are charged.
const TASKS_STEP_BYTES: u64 = 64 << 10;

/// Counts the bytes in the memories and tables of a wasmtime store, and refuses growth past the limit: `memory.grow`
/// returns -1, as the core specification (section 4.4.7) allows at any time. Dropping the limiter releases the charge.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    used_bytes: usize,
    limit_bytes: usize,
    account: Arc<Account>,
    host: HostCredit,
    /// The charge for tasks and streams beyond [`TASKS_FREE_BYTES`].
    tasks: HostMemory,
    refused: Option<RefusedBy>,
}

impl MemoryLimiter {
    /// Returns the limiter of a new wasmtime store. `host` is the charge for the host memory that the store takes
    /// whatever its guest does.
    pub(crate) fn new(limit_bytes: usize, account: Arc<Account>, host: HostMemory) -> Self {
        let tasks = account.host_memory();
        Self { used_bytes: 0, limit_bytes, account, host: HostCredit::new(host), tasks, refused: None }
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Returns the limit that caused the most recent refusal of growth since the request started, if any. If the guest
    /// traps after a refusal, the most likely reason is a failed allocation.
    pub(crate) fn refused(&self) -> Option<RefusedBy> {
        self.refused
    }

    /// Forgets the refusals of earlier requests, because they do not explain a trap of the next request.
    pub(crate) fn forget_refusals(&mut self) {
        self.refused = None;
    }

    /// Charges `bytes` of host memory that the wasmtime store is about to hold. Calls `held` only if the store's
    /// current host memory must be counted again.
    ///
    /// # Errors
    /// If the account has no memory left. The guest traps, and the trap is explained like any other refusal of memory.
    pub(crate) fn charge_host(&mut self, bytes: usize, held: impl FnOnce() -> usize) -> Result<(), OutOfMemory> {
        self.host.add(bytes, held).inspect_err(|full| {
            self.refused = Some(RefusedBy::Account { limit_bytes: full.limit_bytes });
        })
    }

    /// Ensures that the charge for the wasmtime store's tasks and streams, which take `bytes` now, covers all bytes
    /// beyond `TASKS_FREE_BYTES`. Never reduces the charge.
    ///
    /// # Errors
    /// If the account has no memory left.
    pub(crate) fn charge_tasks(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        let more = (bytes as u64).saturating_sub(TASKS_FREE_BYTES + self.tasks.bytes());
        if more == 0 {
            return Ok(());
        }
        let step = more.next_multiple_of(TASKS_STEP_BYTES);
        self.tasks.grow(usize::try_from(step).unwrap_or(usize::MAX)).inspect_err(|full| {
            self.refused = Some(RefusedBy::Account { limit_bytes: full.limit_bytes });
        })
    }

    /// Returns the number of bytes that are charged to the account for the wasmtime store.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.used_bytes as u64 + self.host.charged() + self.tasks.bytes()
    }

    /// Sets the number of bytes of host memory that the wasmtime store actually holds.
    pub(crate) fn set_host_held(&mut self, held_bytes: usize) {
        self.host.set_held(held_bytes);
    }

    fn grow(&mut self, by: usize) -> bool {
        let Some(used) = self.used_bytes.checked_add(by).filter(|used| *used <= self.limit_bytes) else {
            self.refused = Some(RefusedBy::Instance { limit_bytes: self.limit_bytes });
            return false;
        };
        if !self.account.charge_guest_memory(by as u64) {
            self.refused = Some(RefusedBy::Account { limit_bytes: self.account.memory_bytes_max() });
            return false;
        }
        self.used_bytes = used;
        true
    }
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        self.account.release_guest_memory(self.used_bytes as u64);
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pool::AccountLimits;

    fn limiter(limit_bytes: usize, account: &Arc<Account>) -> MemoryLimiter {
        MemoryLimiter::new(limit_bytes, account.clone(), account.charge_host_memory(0).unwrap())
    }

    #[test]
    fn the_limit_is_the_sum_and_exact() {
        let mut limiter = limiter(10 << 16, &Account::unlimited());
        assert!(limiter.memory_growing(0, 4 << 16, None).unwrap());
        assert!(limiter.memory_growing(0, 6 << 16, None).unwrap());
        assert_eq!(limiter.refused(), None);
        assert!(!limiter.memory_growing(6 << 16, 7 << 16, None).unwrap());
        assert_eq!(limiter.refused(), Some(RefusedBy::Instance { limit_bytes: 10 << 16 }));
        assert!(limiter.memory_growing(6 << 16, 6 << 16, None).unwrap());
    }

    #[test]
    fn tables_count() {
        let mut limiter = limiter(100 * TABLE_ELEMENT_BYTES, &Account::unlimited());
        assert!(limiter.table_growing(0, 100, None).unwrap());
        assert!(!limiter.table_growing(100, 101, None).unwrap());
    }

    #[test]
    fn instances_of_an_account_share_its_memory() {
        let limits = AccountLimits { memory_bytes: 10 << 16, cpu_per_second: Duration::MAX };
        let account = Account::new("t".into(), limits);
        let mut first = limiter(8 << 16, &account);
        let mut second = limiter(8 << 16, &account);
        assert!(first.memory_growing(0, 8 << 16, None).unwrap());
        assert!(!second.memory_growing(0, 3 << 16, None).unwrap());
        assert_eq!(second.refused(), Some(RefusedBy::Account { limit_bytes: 10 << 16 }));
        assert!(second.memory_growing(0, 2 << 16, None).unwrap());
        assert_eq!(account.used().memory_bytes, 10 << 16);
        drop(first);
        assert_eq!(account.used().memory_bytes, 2 << 16);
        assert!(second.memory_growing(2 << 16, 8 << 16, None).unwrap());
        drop(second);
        assert_eq!(account.used().memory_bytes, 0);
    }
}
