//! The memory of an account: the amount that is charged, and the limit.
//!
//! An instance that serves several requests is dropped by its own task, some time after it was evicted. Until it is
//! dropped, its memory stays charged. Meanwhile, new charges may exceed the limit by as much memory as such instances
//! hold, but by at most an eighth of the limit ([`ROOM_PART`]).

use std::sync::atomic::{AtomicU64, Ordering};

/// While evicted instances are being dropped, charges may exceed the limit by at most the limit divided by this number:
/// an eighth. This is also the maximum amount that is freed in advance for a charge, so that a small account keeps some
/// idle instances.
const ROOM_PART: u64 = 8;

/// The memory that is charged to one account, in bytes.
#[derive(Debug)]
pub(super) struct MemoryCharges {
    limit: AtomicU64,
    charged: AtomicU64,
    /// The part of `charged` that belongs to evicted instances that have not been dropped yet.
    evicted: AtomicU64,
    /// The part of `charged` for guests' memories and tables. The rest of `charged` is host memory. It is not counted
    /// separately, because it changes with each request.
    guest: AtomicU64,
    /// The number of charges that were refused.
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

    /// Returns the number of bytes that are charged.
    pub(super) fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// Returns the part of `charged` (from [`MemoryCharges::charged`]) that is host memory for the guests.
    pub(super) fn host_part(&self, charged: u64) -> u64 {
        charged.saturating_sub(self.guest.load(Ordering::Relaxed))
    }

    /// Returns the number of charges that were refused.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Charges `bytes` if the limit allows it. Returns whether it does.
    pub(super) fn try_charge(&self, bytes: u64) -> bool {
        let max = self.limit().saturating_add(self.counted_as_free());
        let add = |charged: u64| charged.checked_add(bytes).filter(|charged| *charged <= max);
        self.charged.fetch_update(Ordering::AcqRel, Ordering::Relaxed, add).is_ok()
    }

    /// Charges `bytes` even beyond the limit.
    pub(super) fn charge_anyway(&self, bytes: u64) {
        self.charged.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Releases a charge of `bytes`.
    pub(super) fn release(&self, bytes: u64) {
        self.charged.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Records that `bytes` of the charge are for guests' memories and tables.
    pub(super) fn add_guest(&self, bytes: u64) {
        self.guest.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records that `bytes` of the charge are no longer for guests' memories and tables.
    pub(super) fn remove_guest(&self, bytes: u64) {
        self.guest.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Records that an instance that holds `bytes` was evicted and will be dropped later.
    pub(super) fn add_evicted(&self, bytes: u64) {
        self.evicted.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Records that an evicted instance that held `bytes` has been dropped.
    pub(super) fn remove_evicted(&self, bytes: u64) {
        self.evicted.fetch_sub(bytes, Ordering::AcqRel);
    }

    pub(super) fn refuse(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of bytes by which a charge of `bytes` would exceed the limit after all evicted instances are
    /// dropped.
    pub(super) fn missing(&self, bytes: u64) -> u64 {
        let (charged, evicted) = (self.charged.load(Ordering::Acquire), self.evicted.load(Ordering::Acquire));
        charged.saturating_add(bytes).saturating_sub(self.limit().saturating_add(evicted))
    }

    /// Returns the maximum number of bytes by which charges may exceed the limit. This is also the maximum number of
    /// bytes that are freed in advance for a charge.
    pub(super) fn room_max(&self) -> u64 {
        self.limit() / ROOM_PART
    }

    /// Returns the number of bytes by which charges may exceed the limit now, because evicted instances are being
    /// dropped.
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
        assert!(!memory.try_charge(u64::MAX), "the sum overflows");
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
        assert!(
            memory.try_charge(100),
            "a charge up to an eighth over the limit is refused while evicted memory is being released"
        );
        assert!(!memory.try_charge(1), "charges exceed the limit by more than an eighth");
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
