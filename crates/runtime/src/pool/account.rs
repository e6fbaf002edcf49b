//! The account of one tenant: the memory, the processor time and the open files of its guests, and their limits.
//!
//! Memory is charged when it grows and released when its wasmtime store is dropped, so idle instances stay charged.
//! When a charge would exceed the limit, the account's own idle instances are evicted first: the least recently used
//! first, and only as many as the charge needs. If evicting all of them would not suffice, none is evicted and the
//! charge is refused. So the apps of one tenant compete with each other, but not with the apps of another tenant.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `memory` | the amount of memory that is charged, and the limit |
//! | `cpu` | the processor time of the account: a token bucket that fills at the account's rate |
//! | `span_memory` | charges for the spans of requests in progress |
//! | [`fast_lane`] | the lane in which the account's requests start |

mod cpu;
pub(crate) mod fast_lane;
mod memory;
mod span_memory;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use isomer_display::size;

use self::cpu::CpuBucket;
use self::fast_lane::FastLaneCredit;
use self::memory::MemoryCharges;
use super::idle::IdlePools;
use super::sizes::PoolSizes;
use crate::clock::now;

/// The id that the next account gets.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// The limits of an account, for all groups that are charged to it together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountLimits {
    /// The maximum memory of all live instances, including the host memory for them, in bytes.
    pub memory_bytes: u64,
    /// The maximum processor time per second of real time, as a long-run average. A value over one second means more
    /// than one core.
    pub cpu_per_second: Duration,
}

impl AccountLimits {
    /// No limits of the account. The limits of each group still apply.
    pub const UNLIMITED: Self = Self { memory_bytes: u64::MAX, cpu_per_second: Duration::MAX };
}

/// The account that the guests of one tenant are charged to. All groups of all the tenant's apps share it.
#[derive(Debug)]
pub struct Account {
    tenant: Arc<str>,
    id: u64,
    memory: MemoryCharges,
    cpu: CpuBucket,
    fast_lane: FastLaneCredit,
    /// The slots of the engine's pool that the account's instances hold.
    held: Mutex<PoolSizes>,
    /// The number of files and folders that the account's guests have open.
    open_files: AtomicUsize,
    /// The instance pools whose instances are charged to the account.
    idle_pools: IdlePools<()>,
}

/// The resources that an account uses and has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccountUse {
    /// The bytes that are currently charged: linear memories and tables, and the host memory for the guests.
    pub memory_bytes: u64,
    /// The part of `memory_bytes` that is host memory for the guests: handles, queued calls, values, bodies.
    pub host_bytes: u64,
    /// The total processor time of the account's guests since the account was created.
    pub cpu: Duration,
    /// The number of charges that were refused because the account had no memory left.
    pub refused_memory: u64,
    /// The number of requests that were refused, and of guests that were stopped, because no processor time was left.
    pub refused_cpu: u64,
}

/// A charge to an account for host memory. Dropping this value releases the charge.
#[derive(Debug)]
pub struct HostMemory {
    account: Arc<Account>,
    bytes: u64,
}

/// The memory of an evicted instance that has not been dropped yet. New charges may already use this memory, within a
/// limit. This value must be dropped after the instance.
#[derive(Debug)]
pub(crate) struct EvictedMemory {
    account: Arc<Account>,
    bytes: u64,
}

impl Drop for EvictedMemory {
    fn drop(&mut self) {
        self.account.memory.remove_evicted(self.bytes);
    }
}

/// The error for a charge that would exceed the memory limit of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant's memory of {} is used up", size(.limit_bytes))]
pub struct OutOfMemory {
    /// The memory limit of the account, in bytes.
    pub limit_bytes: u64,
}

impl HostMemory {
    /// Adds `bytes` to the charge.
    ///
    /// # Errors
    /// If the account has no memory left. The charge is unchanged then.
    pub fn grow(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        if bytes == 0 {
            return Ok(());
        }
        let bytes = bytes as u64;
        if !self.account.charge_memory(bytes) {
            return Err(self.account.out_of_memory());
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Adds `bytes` to the charge without evicting idle instances. A caller that cannot evict at the time of the charge
    /// calls [`Account::make_room`] in advance.
    ///
    /// # Errors
    /// If the account has no memory left.
    pub fn try_grow(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        if !self.account.memory.try_charge(bytes as u64) {
            self.account.memory.refuse();
            return Err(self.account.out_of_memory());
        }
        self.bytes += bytes as u64;
        Ok(())
    }

    /// Adds `bytes` to the charge even beyond the limit, for work that must be done, such as a rollback.
    pub fn grow_anyway(&mut self, bytes: usize) {
        self.account.memory.charge_anyway(bytes as u64);
        self.bytes += bytes as u64;
    }

    /// Reduces the charge to `bytes`, if it is larger.
    pub fn shrink_to(&mut self, bytes: usize) {
        let released = self.bytes.saturating_sub(bytes as u64);
        self.bytes -= released;
        self.account.memory.release(released);
    }

    /// Returns the amount of the charge, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

impl Account {
    /// Returns a new account of `tenant` without any charge.
    #[must_use]
    pub fn new(tenant: Arc<str>, limits: AccountLimits) -> Arc<Self> {
        Arc::new(Self {
            tenant,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            memory: MemoryCharges::new(limits.memory_bytes),
            cpu: CpuBucket::new(limits.cpu_per_second, now()),
            fast_lane: FastLaneCredit::new(now()),
            held: Mutex::default(),
            open_files: AtomicUsize::new(0),
            idle_pools: IdlePools::default(),
        })
    }

    /// Returns an account without limits, for guests that belong to no tenant.
    #[must_use]
    pub fn unlimited() -> Arc<Self> {
        Self::new("".into(), AccountLimits::UNLIMITED)
    }

    /// Returns the name of the tenant that owns the account.
    #[must_use]
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// Changes the account's limits. What is already charged stays charged.
    pub fn set_limits(&self, limits: AccountLimits) {
        self.memory.set_limit(limits.memory_bytes);
        self.cpu.set_rate(limits.cpu_per_second);
    }

    /// Returns the resources that the account uses and has used.
    #[must_use]
    pub fn used(&self) -> AccountUse {
        let memory_bytes = self.memory.charged();
        AccountUse {
            memory_bytes,
            host_bytes: self.memory.host_part(memory_bytes),
            cpu: self.cpu.used(),
            refused_memory: self.memory.refusals(),
            refused_cpu: self.cpu.refusals(),
        }
    }

    /// Returns the account's memory limit, in bytes.
    #[must_use]
    pub fn memory_bytes_max(&self) -> u64 {
        self.memory.limit()
    }

    /// Returns whether the account has no memory limit. Such an account may also use all slots of the engine's pool.
    pub(crate) fn has_all_memory(&self) -> bool {
        self.memory_bytes_max() == u64::MAX
    }

    /// Returns the number of files and folders that the account's guests have open. Only `OpenFile` changes the number.
    pub(crate) fn open_files(&self) -> &AtomicUsize {
        &self.open_files
    }

    /// Returns the instance pools whose instances are charged to the account.
    pub(crate) fn idle_pools(&self) -> &IdlePools<()> {
        &self.idle_pools
    }

    /// Returns the id of the account, which is unique in the process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns whether a request of the account may start in the fast lane.
    pub(crate) fn may_begin_fast(&self) -> bool {
        !self.is_limited() || self.fast_lane.permits(now)
    }

    /// Charges the time that a guest spent in the fast lane before it moved to the slow lane.
    pub(crate) fn charge_fast_lane(&self, used: Duration) {
        self.fast_lane.charge(used, now());
    }

    /// Returns whether the account's processor time is limited.
    pub(crate) fn is_limited(&self) -> bool {
        self.cpu.is_limited()
    }

    /// Tries to charge `bytes`, and evicts idle instances if that makes the charge possible. If it is not possible,
    /// counts a refusal and returns false.
    fn charge_memory(&self, bytes: u64) -> bool {
        while !self.memory.try_charge(bytes) {
            if !self.evict_for(bytes) {
                // Tries again even if nothing was evicted here, because another thread may have evicted the last idle
                // instance.
                let is_charged = self.memory.try_charge(bytes);
                if !is_charged {
                    self.memory.refuse();
                }
                return is_charged;
            }
        }
        true
    }

    fn out_of_memory(&self) -> OutOfMemory {
        OutOfMemory { limit_bytes: self.memory_bytes_max() }
    }

    /// Evicts idle instances until `bytes` can be charged, but makes room for at most an eighth of the limit. Evicts
    /// nothing if all idle instances together would not free enough memory.
    pub fn make_room(&self, bytes: usize) {
        self.evict_for((bytes as u64).min(self.memory.room_max()));
    }

    /// Evicts just enough idle instances for a charge of `bytes`. Returns whether any instance was evicted.
    fn evict_for(&self, bytes: u64) -> bool {
        let missing = self.memory.missing(bytes);
        if missing == 0 || self.idle_pools.idle_bytes() < missing {
            return false;
        }
        let mut freed = 0_u64;
        while freed < missing
            && let Some(evicted) = self.idle_pools.evict_oldest()
        {
            freed = freed.saturating_add(evicted.bytes);
        }
        freed > 0
    }

    /// Records that an instance that holds `bytes` was evicted. The instance's own task drops it later, and then drops
    /// the returned value.
    pub(crate) fn evicted(self: &Arc<Self>, bytes: u64) -> EvictedMemory {
        self.memory.add_evicted(bytes);
        EvictedMemory { account: self.clone(), bytes }
    }

    /// Returns a charge of 0 bytes, to which the caller adds bytes later.
    #[must_use]
    pub fn host_memory(self: &Arc<Self>) -> HostMemory {
        HostMemory { account: self.clone(), bytes: 0 }
    }

    /// Tries to charge `bytes` of a guest's memories and tables, and evicts idle instances if that makes the charge
    /// possible. Returns false if it is not possible.
    pub(crate) fn charge_guest_memory(&self, bytes: u64) -> bool {
        let is_charged = self.charge_memory(bytes);
        if is_charged {
            self.memory.add_guest(bytes);
        }
        is_charged
    }

    /// Releases a charge of `bytes` for a guest's memories and tables.
    pub(crate) fn release_guest_memory(&self, bytes: u64) {
        self.memory.remove_guest(bytes);
        self.memory.release(bytes);
    }

    /// Charges `bytes` of host memory. The caller must charge memory before it allocates the memory. The charge is
    /// released when the returned value is dropped, so the value that owns the allocation should also own the charge.
    ///
    /// # Errors
    /// If the account has no memory left even after all its idle instances were evicted. Each refusal is counted.
    pub fn charge_host_memory(self: &Arc<Self>, bytes: usize) -> Result<HostMemory, OutOfMemory> {
        let mut charge = self.host_memory();
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// Returns the slots of the engine's pool that the account's instances hold. Only `Room` changes them, while it
    /// holds its own lock.
    pub(super) fn held(&self) -> MutexGuard<'_, PoolSizes> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks whether the account has processor time left for a new request. Each refusal is counted.
    ///
    /// # Errors
    /// If the account has no processor time left: the time after which it has some again.
    pub fn begin(&self) -> Result<(), Duration> {
        match self.cpu_retry_after() {
            None => Ok(()),
            Some(wait) => {
                self.cpu.refuse();
                Err(wait)
            }
        }
    }

    /// Returns the time until the account has processor time for a new request; `None` if it has some now. Does not
    /// count a refusal.
    #[must_use]
    pub fn cpu_retry_after(&self) -> Option<Duration> {
        self.cpu.retry_after(now)
    }

    /// Returns whether the account has used so much processor time that its guests, and the host's work for them, must
    /// stop immediately. Counts each `true` as a refusal.
    pub fn must_stop(&self) -> bool {
        let must_stop = self.cpu.is_overdrawn(now);
        if must_stop {
            self.cpu.refuse();
        }
        must_stop
    }

    /// Charges the processor time `used` to the account.
    pub fn charge_cpu(&self, used: Duration) {
        self.cpu.charge(used);
    }
}

#[cfg(test)]
mod tests;
