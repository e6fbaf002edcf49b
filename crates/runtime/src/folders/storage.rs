//! The storage of a tenant, as writes of its guests to granted folders see it: what a write may fill is reserved before
//! it begins.

use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_disk::tree::{self, DEPTH_MAX};

/// The storage of a tenant, as far as its guests write to granted folders.
pub trait FolderStorage: Send + Sync + 'static {
    /// Notes that guests use the folders, which are counted again in the background if that is due.
    fn touched(&self);

    /// Returns the bytes that are left.
    fn room(&self) -> u64;

    /// Reserves `bytes` for a write. Returns whether they were left.
    fn claim(&self, bytes: u64) -> bool;

    /// Notes that a write which reserved `bytes` is over. They stay reserved until a count of the folders that began
    /// after this has ended.
    fn written(&self, bytes: u64);

    /// Notes that a write was refused, although the folders were counted just before.
    fn refused(&self);

    /// Resolves when the folders have been counted again, which may take some seconds if there is much to count.
    fn count(&self) -> BoxFuture<'static, ()>;
}

/// Space that a write has reserved. Dropped when the write is over, however it ended.
pub(crate) struct SpaceReservation {
    storage: Arc<dyn FolderStorage>,
    bytes: u64,
}

impl SpaceReservation {
    /// Reserves `bytes` if they are left as far as is known now.
    pub(crate) fn now(storage: &Arc<dyn FolderStorage>, bytes: u64) -> Option<Self> {
        storage.claim(bytes).then(|| Self { storage: storage.clone(), bytes })
    }

    /// Reserves `bytes`; if they are not left, the folders are counted first.
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

/// The unit in which space is reserved: that of common file systems.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// The cost of a new file, folder or link: its name and its inode.
pub(crate) const ENTRY_BYTES: u64 = BLOCK_BYTES;

/// Returns the bytes that a write of so many bytes at `offset` may fill; without an offset, at the end of the file,
/// wherever that is.
pub(crate) fn cost(offset: Option<u64>, bytes: usize) -> u64 {
    if bytes == 0 {
        return 0;
    }
    // In the middle of a block, the first byte may be its last one.
    let before = offset.map_or(BLOCK_BYTES - 1, |offset| offset % BLOCK_BYTES);
    (before + bytes as u64).div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

/// Returns the most bytes at `offset` that cost no more than `room`. Returns none if the offset is not known and the
/// room is not enough for a block wherever it begins: byte by byte, the rest of a block would be reserved thousands of
/// times.
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

/// Returns the error that guests get when their account cannot pay for what the host would hold.
pub(super) fn no_memory() -> std::io::Error {
    rustix::io::Errno::NOMEM.into()
}

/// Returns whether the folder is deeper than allowed. A folder whose depth cannot be determined is.
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
