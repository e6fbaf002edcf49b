//! The reservation of storage space for guests' writes to granted folders. The space that a write may fill is reserved
//! before the write starts.

use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_disk::tree::{self, DEPTH_MAX};

/// The storage quota of a tenant, for writes to granted folders.
pub trait FolderStorage: Send + Sync + 'static {
    /// Records that guests have used the tenant's granted folders. If it is time to measure the folders again, a
    /// measurement starts in the background.
    fn touched(&self);

    /// Returns the number of bytes that are available for writes.
    fn room(&self) -> u64;

    /// Reserves `bytes` for a write. Returns false, without a reservation, if fewer bytes are free.
    fn claim(&self, bytes: u64) -> bool;

    /// Records that a write with a reservation of `bytes` has ended. The reservation remains until the end of the first
    /// measurement of the folders that starts after this call.
    fn written(&self, bytes: u64);

    /// Records that a write was refused even though the folders had just been measured again.
    fn refused(&self);

    /// Measures the size of the folders again. The future is ready at the end of the measurement, which takes seconds
    /// for large folders.
    fn count(&self) -> BoxFuture<'static, ()>;
}

/// Space that is reserved for a write. Dropped when the write ends, even if the write failed.
pub(crate) struct SpaceReservation {
    storage: Arc<dyn FolderStorage>,
    bytes: u64,
}

impl SpaceReservation {
    /// Reserves `bytes` without waiting. Returns `None` if, according to the last measurement of the folders and the
    /// existing reservations, fewer bytes are free.
    pub(crate) fn now(storage: &Arc<dyn FolderStorage>, bytes: u64) -> Option<Self> {
        storage.claim(bytes).then(|| Self { storage: storage.clone(), bytes })
    }

    /// Reserves `bytes`. If fewer bytes are free, measures the folders again and makes a second attempt. Returns `None`
    /// if that fails too.
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

/// The unit in bytes in which space is reserved: the block size of common file systems.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// The cost in bytes of a new file, folder or link, for its name and its inode.
pub(crate) const ENTRY_BYTES: u64 = BLOCK_BYTES;

/// Returns the size of the blocks that a write of `bytes` bytes at `offset` may fill, in bytes. `None` is a write at
/// the end of a file whose length is not known.
pub(crate) fn cost(offset: Option<u64>, bytes: usize) -> u64 {
    if bytes == 0 {
        return 0;
    }
    // If the offset is unknown, assumes the worst alignment: the write starts at the last byte of a block.
    let before = offset.map_or(BLOCK_BYTES - 1, |offset| offset % BLOCK_BYTES);
    (before + bytes as u64).div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

/// Returns the maximum number of bytes that can be written at `offset` for a cost of at most `room`. If the offset is
/// unknown, returns 0 unless a write of [`BLOCK_BYTES`] at the worst alignment fits into `room`. Without this rule, the
/// result could be a few bytes, and a guest that writes so few bytes at a time would reserve a block for each of
/// thousands of writes.
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
    // wasmtime converts the system's error numbers into WASI's error codes.
    rustix::io::Errno::NOSPC.into()
}

/// Returns the error that guests get if their account has no memory left for data that the host would hold.
pub(super) fn no_memory() -> std::io::Error {
    rustix::io::Errno::NOMEM.into()
}

/// Returns whether `folder` exceeds the maximum depth below its granted folder. `roots` are the granted folders;
/// `folder` lies in one of them. Also returns true if the depth cannot be determined.
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
        assert_eq!(affordable(Some(0), 10 << 10), 8192, "the free blocks are not offered");
        assert_eq!(affordable(Some(0), u64::MAX) as u64, u64::MAX / block * block);
    }
}
