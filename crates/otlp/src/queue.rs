//! The queue of one signal: bounded in records and bytes, and shared fairly by tenants. Adding an item never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use crate::statistics::{DropReason, SignalCounters};

/// The maximum size in bytes of all items of a signal that wait or are being sent.
pub(crate) const BYTES_MAX: usize = 16 << 20;

/// The items of one tenant may occupy at most the whole queue divided by this number.
const TENANT_SHARE: usize = 4;

/// The number of counters for the tenants' items. A hash of the tenant's name selects the counter, so counting takes no
/// lock. Several tenants may share a counter.
const TENANT_COUNTERS: usize = 64;

/// The size of an item, and the tenant that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weight {
    /// The number of spans or log records.
    pub(crate) records: usize,
    /// The approximate number of bytes.
    pub(crate) bytes: usize,
    /// The index of the tenant's counter; `None` if the process serves one app.
    pub(crate) tenant: Option<TenantSlot>,
}

/// The index of the counter for a tenant's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TenantSlot(usize);

impl TenantSlot {
    pub(crate) fn of(tenant: &str) -> Self {
        let hash = tenant.bytes().fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        Self(hash % TENANT_COUNTERS)
    }
}

#[derive(Default)]
struct Use {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

impl Use {
    /// Adds the weight of an item to the totals. Returns whether the totals are then within the limits. If they are
    /// not, the weight stays added until the caller subtracts it.
    fn add(&self, weight: &Weight, records_max: usize, bytes_max: usize) -> bool {
        let records = self.records.fetch_add(weight.records, Ordering::Relaxed) + weight.records;
        let bytes = self.bytes.fetch_add(weight.bytes, Ordering::Relaxed) + weight.bytes;
        records <= records_max && bytes <= bytes_max
    }

    fn subtract(&self, weight: &Weight) {
        self.records.fetch_sub(weight.records, Ordering::Relaxed);
        self.bytes.fetch_sub(weight.bytes, Ordering::Relaxed);
    }
}

struct QueueState {
    records_max: usize,
    all: Use,
    tenants: [Use; TENANT_COUNTERS],
    counters: Arc<SignalCounters>,
}

/// The charge of an item to the queue, from the moment when it is added until it was sent or dropped.
struct Charge {
    state: Arc<QueueState>,
    weight: Weight,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.state.all.subtract(&self.weight);
        if let Some(TenantSlot(slot)) = self.weight.tenant {
            self.state.tenants[slot].subtract(&self.weight);
        }
    }
}

/// An item of the queue.
pub(crate) struct Queued<T> {
    pub(crate) item: T,
    charge: Charge,
}

impl<T> Queued<T> {
    pub(crate) fn weight(&self) -> Weight {
        self.charge.weight
    }
}

/// Adds items to the queue. Cheap to clone.
pub(crate) struct QueueSender<T> {
    items: mpsc::Sender<Queued<T>>,
    state: Arc<QueueState>,
}

impl<T> Clone for QueueSender<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), state: self.state.clone() }
    }
}

/// Creates the queue of a signal, for at most `records_max` records. Dropped records are counted in `counters`.
pub(crate) fn bounded<T>(
    records_max: usize,
    counters: Arc<SignalCounters>,
) -> (QueueSender<T>, mpsc::Receiver<Queued<T>>) {
    let (items, received) = mpsc::channel(records_max.max(1));
    let tenants = std::array::from_fn(|_| Use::default());
    let state = QueueState { records_max, all: Use::default(), tenants, counters };
    (QueueSender { items, state: Arc::new(state) }, received)
}

impl<T> QueueSender<T> {
    /// Adds an item, or drops it and counts its records if a limit would be exceeded. Never waits.
    pub(crate) fn push(&self, item: T, weight: Weight) {
        let state = &self.state;
        // Dropping the charge releases it, so nothing stays charged for an item that does not fit.
        let fits = state.all.add(&weight, state.records_max, BYTES_MAX);
        let fits_tenant = match weight.tenant {
            Some(TenantSlot(slot)) => {
                let records_max = state.records_max.div_ceil(TENANT_SHARE);
                state.tenants[slot].add(&weight, records_max, BYTES_MAX / TENANT_SHARE)
            }
            None => true,
        };
        let charge = Charge { state: state.clone(), weight };
        let reason = if !fits {
            DropReason::QueueFull
        } else if !fits_tenant {
            DropReason::TenantShare
        } else {
            match self.items.try_send(Queued { item, charge }) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(_)) => DropReason::QueueFull,
                Err(mpsc::error::TrySendError::Closed(_)) => DropReason::Shutdown,
            }
        };
        state.counters.add_dropped(reason, weight.records);
    }

    /// Returns the number of records that wait or are being sent.
    pub(crate) fn waiting_records(&self) -> usize {
        self.state.all.records.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signal;

    fn dropped(counters: &SignalCounters, reason: DropReason) -> u64 {
        counters.snapshot(Signal::Traces).dropped_because(reason)
    }

    #[test]
    fn the_queue_is_bounded_in_records_and_bytes() {
        let counters = Arc::new(SignalCounters::default());
        let (sender, mut receiver) = bounded(10, counters.clone());
        let weight = |records, bytes| Weight { records, bytes, tenant: None };
        sender.push("a", weight(6, 1));
        sender.push("b", weight(5, 1));
        sender.push("c", weight(4, 1));
        sender.push("d", weight(1, 1));
        assert_eq!((dropped(&counters, DropReason::QueueFull), sender.waiting_records()), (6, 10));
        let first = receiver.try_recv().unwrap();
        sender.push("e", weight(1, 1));
        assert_eq!(dropped(&counters, DropReason::QueueFull), 7, "an item counts until it was sent");
        drop(first);
        sender.push("f", weight(1, BYTES_MAX));
        assert_eq!(dropped(&counters, DropReason::QueueFull), 8);
        sender.push("g", weight(1, BYTES_MAX - 1));
        let rest: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).map(|queued| queued.item).collect();
        assert_eq!((rest, sender.waiting_records()), (vec!["c", "g"], 0));
        drop(receiver);
        sender.push("h", weight(2, 1));
        assert_eq!((dropped(&counters, DropReason::Shutdown), sender.waiting_records()), (2, 0));
    }

    #[test]
    fn one_tenant_leaves_room_for_others() {
        let counters = Arc::new(SignalCounters::default());
        let (sender, _receiver) = bounded(100, counters.clone());
        for tenant in ["ann", "bob"] {
            for _ in 0..30 {
                sender.push((), Weight { records: 1, bytes: 1, tenant: Some(TenantSlot::of(tenant)) });
            }
        }
        assert_eq!((sender.waiting_records(), dropped(&counters, DropReason::TenantShare)), (50, 10));
    }
}
