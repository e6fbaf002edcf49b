//! The memory that this process uses, and the memory that the system has left.

use std::fs;

use isomer_runtime::machine::Machine;

/// The bounds above which idle apps are evicted, even though more apps may be in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBounds {
    /// Bytes that the process may use.
    pub resident_bytes_max: u64,
    /// Bytes that the system is to have available.
    pub available_bytes_min: u64,
}

/// The fraction of the memory of the machine, or of its control group, that the process may use.
const RESIDENT_PART: (u64, u64) = (3, 4);

/// The fraction of the system's memory, as a divisor, that is to be available.
const AVAILABLE_PART: u64 = 16;

impl MemoryBounds {
    /// The bounds for a machine that runs nothing else.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let total = kib("/proc/meminfo", "MemTotal:").unwrap_or(u64::MAX);
        let most = Machine::read().memory_bytes.unwrap_or(u64::MAX);
        Self {
            resident_bytes_max: most / RESIDENT_PART.1 * RESIDENT_PART.0,
            available_bytes_min: if total == u64::MAX { 0 } else { total / AVAILABLE_PART },
        }
    }

    /// Returns whether memory is short. Values that cannot be read count as sufficient.
    pub(super) fn are_exceeded(&self) -> bool {
        resident_bytes().is_some_and(|bytes| bytes > self.resident_bytes_max)
            || kib("/proc/meminfo", "MemAvailable:").is_some_and(|bytes| bytes < self.available_bytes_min)
    }
}

/// Returns the bytes of memory that this process uses; `None` where the system does not report them.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    kib("/proc/self/status", "VmRSS:")
}

/// Returns the bytes in the line `KEY  N kB` of a file of the kernel.
fn kib(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_bounds() {
        let bounds = MemoryBounds::of_this_machine();
        let resident = resident_bytes().unwrap();
        assert!(resident > 1 << 20 && resident < bounds.resident_bytes_max, "{resident} {bounds:?}");
        assert!(!bounds.are_exceeded());
        assert!(MemoryBounds { resident_bytes_max: resident / 2, ..bounds }.are_exceeded());
        assert!(MemoryBounds { available_bytes_min: u64::MAX, ..bounds }.are_exceeded());
    }
}
