//! Charging the spans of requests in progress to an account.

use isomer_telemetry::SpanMemory;

use super::Account;

/// Charges evict no idle instances and count no refusals: without memory, spans are dropped, and the drop is counted
/// instead.
impl SpanMemory for Account {
    fn charge(&self, bytes: usize) -> bool {
        self.memory.try_charge(bytes as u64)
    }

    fn release(&self, bytes: usize) {
        self.memory.release(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::AccountLimits;
    use super::*;

    #[test]
    fn spans_use_only_free_memory_and_are_no_refusals() {
        let account = Account::new("acme".into(), AccountLimits { memory_bytes: 4096, ..AccountLimits::UNLIMITED });
        assert!(account.charge(4000));
        assert!(!account.charge(1000));
        assert_eq!((account.used().memory_bytes, account.used().refused_memory), (4000, 0));
        account.release(4000);
        assert_eq!(account.used().memory_bytes, 0);
    }
}
