//! The memory of one instance: exact to the byte, summed over all memories and tables of the group.

use wasmtime::ResourceLimiter;

/// Bytes that a table element takes on the host.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>() * 2;

/// Counts what a store's memories and tables take and refuses growth past the limit: `memory.grow` gives -1, as the core
/// specification (section 4.4.7) allows at any time.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    used_bytes: usize,
    limit_bytes: usize,
    refused: bool,
}

impl MemoryLimiter {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { used_bytes: 0, limit_bytes, refused: false }
    }

    /// Has growth been refused since the request began? Then a trap that follows is most likely a failed allocation.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    /// A new request begins: what was refused to those before it explains nothing of its own.
    pub(crate) fn forget_refusals(&mut self) {
        self.refused = false;
    }

    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    fn grow(&mut self, by: usize) -> bool {
        match self.used_bytes.checked_add(by) {
            Some(used) if used <= self.limit_bytes => {
                self.used_bytes = used;
                true
            }
            _ => {
                self.refused = true;
                false
            }
        }
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
    use super::*;

    #[test]
    fn the_limit_is_the_sum_and_exact() {
        let mut limiter = MemoryLimiter::new(10 << 16);
        assert!(limiter.memory_growing(0, 4 << 16, None).unwrap());
        assert!(limiter.memory_growing(0, 6 << 16, None).unwrap());
        assert!(!limiter.refused());
        assert!(!limiter.memory_growing(6 << 16, 7 << 16, None).unwrap());
        assert!(limiter.refused());
        assert!(limiter.memory_growing(6 << 16, 6 << 16, None).unwrap());
    }

    #[test]
    fn tables_count() {
        let mut limiter = MemoryLimiter::new(100 * TABLE_ELEMENT_BYTES);
        assert!(limiter.table_growing(0, 100, None).unwrap());
        assert!(!limiter.table_growing(100, 101, None).unwrap());
    }
}
