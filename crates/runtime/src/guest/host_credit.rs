//! The charge for the host memory of one wasmtime store: what wasmtime and the host hold for an instance in addition to
//! its memories and tables.
//!
//! This memory is charged to the account in steps, so that most host calls do not touch a counter that other threads
//! also use. Until a step is used up, memory that the host drops is not subtracted. Before the next step is charged,
//! the memory that is actually held is counted (`handles::held_bytes`), which corrects the sum. So the charge is never
//! less than the memory that is held, and functions that drop something do not have to update the charge.

use crate::pool::{HostMemory, OutOfMemory};

/// The minimum number of bytes that are charged to the account in advance. If the account does not have that much
/// memory left, only the bytes that are needed now are charged.
const STEP_BYTES: usize = 64 << 10;

/// The charge for the host memory of one wasmtime store.
#[derive(Debug)]
pub(crate) struct HostCredit {
    memory: HostMemory,
    /// The number of bytes that the wasmtime store takes regardless of what its guest does. `memory` includes them.
    fixed_bytes: usize,
    /// An upper bound on the number of bytes that the wasmtime store holds in addition to `fixed_bytes`.
    used_bytes: usize,
}

impl HostCredit {
    /// Creates the charge for the host memory of a new wasmtime store. `memory` charges the fixed bytes, which the
    /// store takes regardless of what its guest does.
    pub(crate) fn new(memory: HostMemory) -> Self {
        let fixed_bytes = usize::try_from(memory.bytes()).unwrap_or(usize::MAX);
        Self { memory, fixed_bytes, used_bytes: 0 }
    }

    /// Returns the number of bytes of host memory that are charged to the account for this wasmtime store, including
    /// those that the store takes regardless of what its guest does.
    pub(crate) fn charged(&self) -> u64 {
        self.memory.bytes()
    }

    fn charged_bytes(&self) -> usize {
        usize::try_from(self.memory.bytes()).unwrap_or(usize::MAX).saturating_sub(self.fixed_bytes)
    }

    /// Adds `bytes`, which the wasmtime store is about to hold, to its use. If the amount that is already charged does
    /// not suffice, calls `held` to count the memory that the store currently holds, and charges more if that is
    /// necessary.
    ///
    /// # Errors
    /// If the account has no memory left.
    pub(crate) fn add(&mut self, bytes: usize, held: impl FnOnce() -> usize) -> Result<(), OutOfMemory> {
        if self.used_bytes.saturating_add(bytes) > self.charged_bytes() {
            self.set_held(held());
            let wanted = self.used_bytes.saturating_add(bytes);
            if wanted > self.charged_bytes() {
                // Charges a reserve in addition to `wanted`: a quarter of `wanted`, but at least `STEP_BYTES`. The
                // handles are not counted again until the reserve is used up. The more memory a wasmtime store's
                // handles need, the larger is the reserve, and the less often are they counted.
                let with_reserve = wanted.saturating_add(STEP_BYTES.max(wanted / 4)) - self.charged_bytes();
                let exact = wanted - self.charged_bytes();
                self.memory.grow(with_reserve).or_else(|_| self.memory.grow(exact))?;
            }
        }
        self.used_bytes += bytes;
        Ok(())
    }

    /// Sets the number of bytes that the wasmtime store actually holds. The charge is reduced to this number plus a
    /// reserve, but only if that releases more than [`STEP_BYTES`].
    pub(crate) fn set_held(&mut self, held_bytes: usize) {
        self.used_bytes = held_bytes;
        let kept = held_bytes.saturating_add(STEP_BYTES.max(held_bytes / 4));
        if self.charged_bytes() > kept.saturating_add(STEP_BYTES) {
            self.memory.shrink_to(self.fixed_bytes + kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pool::{Account, AccountLimits};

    #[test]
    fn held_memory_is_charged_in_steps_and_counted_when_a_step_is_used_up() {
        let limits = AccountLimits { memory_bytes: 1 << 20, cpu_per_second: Duration::MAX };
        let account = Account::new("t".into(), limits);
        let mut credit = HostCredit::new(account.charge_host_memory(1000).unwrap());
        let (mut held, mut looked) = (0, 0);
        for _ in 0..1000 {
            credit
                .add(100, || {
                    looked += 1;
                    held
                })
                .unwrap();
            held += 100;
            assert!(account.used().host_bytes >= 1000 + held as u64);
        }
        assert!(looked < 4, "{looked}");
        // The charge does not grow if the store drops everything before each addition.
        for _ in 0..1000 {
            credit.add(1000, || 0).unwrap();
        }
        assert!(account.used().host_bytes < 300_000, "{:?}", account.used());
        credit.set_held(0);
        assert!(account.used().host_bytes <= 1000 + 2 * STEP_BYTES as u64);
        assert!(credit.add(2 << 20, || 0).is_err());
        assert!(credit.add(900_000, || 0).is_ok(), "a charge that fits only without a reserve is refused");
        drop(credit);
        assert_eq!(account.used().memory_bytes, 0);
    }
}
