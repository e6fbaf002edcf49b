//! What memory this process has, and what the system has left.

use std::fs;

use isomer_runtime::machine::Machine;

/// When apps that nobody uses are dropped from memory though there is room in the loaded set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBounds {
    /// Bytes that the process may have.
    pub resident_bytes_max: u64,
    /// Bytes that the system is to have left.
    pub available_bytes_min: u64,
}

/// The process may have this part of what the machine, or its control group, has.
const RESIDENT_PART: (u64, u64) = (3, 4);

/// The system is to have one part in so many left.
const AVAILABLE_PART: u64 = 16;

impl MemoryBounds {
    /// Bounds for a machine that has nothing else to do.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let total = kib("/proc/meminfo", "MemTotal:").unwrap_or(u64::MAX);
        let most = Machine::read().memory_bytes.unwrap_or(u64::MAX);
        Self {
            resident_bytes_max: most / RESIDENT_PART.1 * RESIDENT_PART.0,
            available_bytes_min: if total == u64::MAX { 0 } else { total / AVAILABLE_PART },
        }
    }

    /// Is memory short? What cannot be read is taken to be well.
    pub(super) fn are_exceeded(&self) -> bool {
        resident_bytes().is_some_and(|bytes| bytes > self.resident_bytes_max)
            || kib("/proc/meminfo", "MemAvailable:").is_some_and(|bytes| bytes < self.available_bytes_min)
    }
}

/// Bytes of memory that this process has; none where the system does not say.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    kib("/proc/self/status", "VmRSS:")
}

/// The bytes that a line `KEY  N kB` of a file of the kernel's says.
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
