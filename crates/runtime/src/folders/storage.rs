//! The storage of a tenant, as its guests' writes to granted folders use it: the space that a write may fill is
//! reserved before the write begins.

use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_disk::tree::{self, DEPTH_MAX};

/// The storage of a tenant, as used for writes to granted folders.
pub trait FolderStorage: Send + Sync + 'static {
    /// Records that guests use the folders. If a new measurement of their size is due, it starts in the background.
    fn touched(&self);

    /// Returns the bytes that are free.
    fn room(&self) -> u64;

    /// Reserves `bytes` for a write. Returns whether as many bytes were free.
    fn claim(&self, bytes: u64) -> bool;

    /// Records that a write which reserved `bytes` has ended. The bytes stay reserved until a measurement of the
    /// folders that began after this call has ended.
    fn written(&self, bytes: u64);

    /// Records that a write was refused although the folders had just been measured.
    fn refused(&self);

    /// Measures the size of the folders again. Resolves at the end of the measurement, which takes seconds for large
    /// folders.
    fn count(&self) -> BoxFuture<'static, ()>;
}

/// Space that a write has reserved. Dropped when the write ends, even if it failed.
pub(crate) struct SpaceReservation {
    storage: Arc<dyn FolderStorage>,
    bytes: u64,
}

impl SpaceReservation {
    /// Reserves `bytes` if the last measurement of the folders leaves room for them. Never waits.
    pub(crate) fn now(storage: &Arc<dyn FolderStorage>, bytes: u64) -> Option<Self> {
        storage.claim(bytes).then(|| Self { storage: storage.clone(), bytes })
    }

    /// Reserves `bytes`. If there is no room for them, measures the folders again first.
    pub(crate) async fn wait(storage: &Arc<dyn FolderStorage>, bytes: u64) -> Option<Self> {
        if let Some(claim) = Self::now(storage, bytes) {
            return Some(claim);
        }
        storage.count().await;
        let claim = Self::now(storage, bytes);
        if claim.is_none() {
            storage.refused();
        }
        claim
    }
}

impl Drop for SpaceReservation {
    fn drop(&mut self) {
        self.storage.written(self.bytes);
    }
}

/// The unit in which space is reserved: the block size of common file systems.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// The cost of a new file, folder or link: its name and its inode.
pub(crate) const ENTRY_BYTES: u64 = BLOCK_BYTES;

/// Returns the bytes that a write of `bytes` bytes at `offset` may fill. Without an offset, the write is at the end of
/// the file, which is not known here.
pub(crate) fn cost(offset: Option<u64>, bytes: usize) -> u64 {
    if bytes == 0 {
        return 0;
    }
    // Assumes the worst alignment if the offset is unknown: the first byte is the last one of its block.
    let before = offset.map_or(BLOCK_BYTES - 1, |offset| offset % BLOCK_BYTES);
    (before + bytes as u64).div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

/// Returns the maximum number of bytes at `offset` whose cost is at most `room`. Returns 0 if the offset is not known
/// and `room` is smaller than the cost of a block at any alignment. Otherwise a guest would write the rest byte by
/// byte, and reserve the rest of a block thousands of times.
pub(super) fn affordable(offset: Option<u64>, room: u64) -> usize {
    let before = offset.map_or(BLOCK_BYTES - 1, |offset| offset % BLOCK_BYTES);
    let mut bytes = (room / BLOCK_BYTES).saturating_mul(BLOCK_BYTES).saturating_sub(before);
    if offset.is_none() && bytes < BLOCK_BYTES {
        bytes = 0;
    }
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Returns the error that guests get when the storage is full.
pub(super) fn full() -> std::io::Error {
    // wasmtime maps the system's error numbers.
    rustix::io::Errno::NOSPC.into()
}

/// Returns the error that guests get when their account has no memory left for what the host would hold.
pub(super) fn no_memory() -> std::io::Error {
    rustix::io::Errno::NOMEM.into()
}

/// Returns whether the folder is deeper than allowed. Returns true if the depth cannot be determined.
pub(crate) fn is_too_deep(folder: &std::fs::File, roots: &[std::path::PathBuf]) -> bool {
    let roots: Vec<_> = roots.iter().filter_map(|root| tree::identity_of(root).ok()).collect();
    !matches!(tree::depth_below(folder, &roots), Ok(Some(depth)) if depth <= DEPTH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_costs_the_blocks_that_it_touches_and_no_more_than_the_room_is_offered() {
        let block = BLOCK_BYTES;
        assert_eq!(cost(Some(0), 0), 0);
        assert_eq!([cost(Some(0), 1), cost(Some(0), 4096), cost(Some(0), 4097)], [block, block, 2 * block]);
        assert_eq!(
            [cost(Some(4095), 1), cost(Some(4095), 2), cost(None, 1), cost(None, 2)],
            [1, 2, 1, 2].map(|n| n * block)
        );
        for offset in [None, Some(0), Some(1), Some(4095), Some(4096), Some(u64::MAX)] {
            for room in [0, 1, 4095, 4096, 8191, 8192, 10 << 10, 1 << 20] {
                let bytes = affordable(offset, room);
                assert!(cost(offset, bytes) <= room, "{offset:?} {room}");
                let is_too_little = offset.is_none() && room < 2 * block;
                assert!(cost(offset, bytes + 1) > room || is_too_little, "{offset:?} {room}");
            }
        }
        assert_eq!(affordable(Some(0), 10 << 10), 8192, "what is left is offered");
        assert_eq!(affordable(Some(0), u64::MAX) as u64, u64::MAX / block * block);
    }
}
