//! The memory of an account: how much is charged, and the limit.
//!
//! An instance that serves several requests is dropped by its own task, some time after it was evicted. Until then, its
//! memory counts as free for new charges, up to a part of the limit ([`ROOM_PART`]), and still as used.

use std::sync::atomic::{AtomicU64, Ordering};

/// The part of the limit (one of this many) by which an account may exceed it while evicted instances are being
/// dropped. Callers that make room in advance also make no more than this part, so that a small account keeps some idle
/// instances.
const ROOM_PART: u64 = 8;

/// The memory that is charged to one account, in bytes.
#[derive(Debug)]
pub(super) struct MemoryCharges {
    limit: AtomicU64,
    charged: AtomicU64,
    /// The part of `charged` that evicted instances hold until they have been dropped.
    evicted: AtomicU64,
    /// The part of `charged` that is guests' memories and tables. The host's part is computed from it instead of being
    /// counted, because it changes with each request.
    guest: AtomicU64,
    /// The number of refused charges.
    refusals: AtomicU64,
}

impl MemoryCharges {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit: AtomicU64::new(limit),
            charged: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            guest: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
        }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Returns the bytes that are charged.
    pub(super) fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// Returns the part of `charged` (from [`MemoryCharges::charged`]) that the host holds for the guests.
    pub(super) fn host_part(&self, charged: u64) -> u64 {
        charged.saturating_sub(self.guest.load(Ordering::Relaxed))
    }

    /// Returns how often memory was refused.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Charges `bytes` if they are free. Returns whether they were.
    pub(super) fn try_charge(&self, bytes: u64) -> bool {
        let max = self.limit().saturating_add(self.counted_as_free());
        let add = |charged: u64| charged.checked_add(bytes).filter(|charged| *charged <= max);
        self.charged.fetch_update(Ordering::AcqRel, Ordering::Relaxed, add).is_ok()
    }

    /// Charges `bytes` even beyond the limit.
    pub(super) fn charge_anyway(&self, bytes: u64) {
        self.charged.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Releases `bytes` that were charged.
    pub(super) fn release(&self, bytes: u64) {
        self.charged.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Records that `bytes` of the charge are guests' memories and tables.
    pub(super) fn add_guest(&self, bytes: u64) {
        self.guest.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records that `bytes` are no longer guests' memories and tables.
    pub(super) fn remove_guest(&self, bytes: u64) {
        self.guest.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Records that an instance which holds `bytes` was evicted and will be dropped.
    pub(super) fn add_evicted(&self, bytes: u64) {
        self.evicted.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Records that an evicted instance which held `bytes` has been dropped.
    pub(super) fn remove_evicted(&self, bytes: u64) {
        self.evicted.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many bytes are missing for a charge of `bytes` once all evicted instances have been dropped.
    pub(super) fn missing(&self, bytes: u64) -> u64 {
        let (charged, evicted) = (self.charged.load(Ordering::Acquire), self.evicted.load(Ordering::Acquire));
        charged.saturating_add(bytes).saturating_sub(self.limit().saturating_add(evicted))
    }

    /// Returns the maximum number of bytes that may be freed in advance.
    pub(super) fn room_max(&self) -> u64 {
        self.limit() / ROOM_PART
    }

    /// Returns the bytes of evicted instances that count as free although they have not been released yet.
    fn counted_as_free(&self) -> u64 {
        self.evicted.load(Ordering::Acquire).min(self.room_max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_exact() {
        let memory = MemoryCharges::new(100);
        assert!(memory.try_charge(60) && memory.try_charge(40) && !memory.try_charge(1));
        assert!(!memory.try_charge(u64::MAX), "the sum does not overflow");
        memory.release(40);
        assert!(memory.try_charge(40));
        assert_eq!(memory.charged(), 100);
        memory.charge_anyway(10);
        assert_eq!((memory.charged(), memory.missing(0)), (110, 10));
    }

    #[test]
    fn evicted_memory_counts_as_free_up_to_a_part_of_the_limit() {
        let memory = MemoryCharges::new(800);
        assert!(memory.try_charge(800));
        memory.add_evicted(300);
        assert_eq!((memory.missing(300), memory.missing(301)), (0, 1));
        assert!(memory.try_charge(100), "an eighth of the limit");
        assert!(!memory.try_charge(1), "beyond that, memory must really be free");
        memory.release(300);
        memory.remove_evicted(300);
        assert!(memory.try_charge(200) && !memory.try_charge(1));
    }

    #[test]
    fn the_host_part_is_what_guests_do_not_hold() {
        let memory = MemoryCharges::new(u64::MAX);
        assert!(memory.try_charge(100));
        memory.add_guest(70);
        assert_eq!(memory.host_part(memory.charged()), 30);
        memory.remove_guest(70);
        assert_eq!(memory.host_part(memory.charged()), 100);
    }
}
