//! The memory that this process uses, and the memory that is available in the system.

use std::fs;

use isomer_runtime::machine::Machine;

/// Limits on memory. If one of them is exceeded, idle apps are evicted, even if fewer apps are in memory than the
/// maximum number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBounds {
    /// The maximum resident memory of this process in bytes.
    pub resident_bytes_max: u64,
    /// The minimum available memory of the system in bytes.
    pub available_bytes_min: u64,
}

/// The fraction of the machine's memory, or of the control group's memory, that the process may use: numerator and
/// denominator.
const RESIDENT_PART: (u64, u64) = (3, 4);

/// The part of the machine's memory that must stay available, as a divisor: one sixteenth.
const AVAILABLE_PART: u64 = 16;

impl MemoryBounds {
    /// Returns the limits for a process that runs on the machine without other large processes.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let total = kib("/proc/meminfo", "MemTotal:").unwrap_or(u64::MAX);
        let most = Machine::read().memory_bytes.unwrap_or(u64::MAX);
        Self {
            resident_bytes_max: most / RESIDENT_PART.1 * RESIDENT_PART.0,
            available_bytes_min: if total == u64::MAX { 0 } else { total / AVAILABLE_PART },
        }
    }

    /// Returns whether a limit is exceeded. A value that cannot be read counts as within its limit.
    pub(super) fn are_exceeded(&self) -> bool {
        resident_bytes().is_some_and(|bytes| bytes > self.resident_bytes_max)
            || kib("/proc/meminfo", "MemAvailable:").is_some_and(|bytes| bytes < self.available_bytes_min)
    }
}

/// Returns the resident memory of this process in bytes; `None` if the system does not report it.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    kib("/proc/self/status", "VmRSS:")
}

/// Reads the line `KEY  N kB` of a file in `/proc`, and returns `N` in bytes.
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
