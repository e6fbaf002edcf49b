//! Granted folders: a tenant's storage is asked before each write, folders lie only so deep, and what the host does and holds for guests
//! that use files is bounded and paid for.
//!
//! wasmtime's implementation of `wasi:filesystem` knows permissions and paths. It knows no quota, does its work on the threads for
//! blocking work of whichever executor is current, and keeps what it reads or is to write on the host without a bound. So its functions
//! are defined anew here, for both versions of the interface:
//!
//! | file | what it owns |
//! | --- | --- |
//! | `threads` | the threads that do the work, and whose turn it is |
//! | `granted` | the folders that a manifest grants, open once for all instances of a group |
//! | `apart` | what a call may hold and take, and wasmtime's functions, called by those threads |
//! | `calls2`, `calls3` | functions that wasmtime goes on to implement, after a claim where they take space |
//! | `chunk` | pieces of files that are read or written, on the way |
//! | `streams2`, `streams3` | streams of bytes, ours altogether |
//! | `listing` | what is in a folder, ours altogether |
//!
//! A write asks for its *cost*: the blocks that it may fill. What it asked for is a [`Claim`] on the storage until it is over and the folders
//! have been counted again. Setting a file's length costs nothing, as it fills no block.
//!
//! A folder that is made deeper than [`DEPTH_MAX`] is removed again, and the guest is told that the name is too long. (Counting the parts of
//! paths was rejected: a symbolic link makes a deep path short.) A folder that is moved may take others below that depth; then the folders
//! cannot be counted, and what cannot be counted counts as full.

use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_disk::tree::{self, DEPTH_MAX};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::filesystem::Descriptor;

use crate::guest::Guest;

mod apart;
mod calls2;
mod calls3;
mod chunk;
#[cfg(test)]
mod fake;
mod granted;
mod listing;
mod streams2;
mod streams3;
mod threads;

pub(crate) use granted::{GrantedFolder, GrantedFolders, NotOpened};
pub(crate) use listing::{LISTING_BYTES, Listing2};

/// The storage of a tenant, as far as its guests write to granted folders.
pub trait FolderStorage: Send + Sync + 'static {
    /// Guests use the folders: has them counted anew, in the background, where that is due.
    fn touched(&self);

    /// Bytes that are left.
    fn room(&self) -> u64;

    /// Claims `bytes` for a write. Whether they were left.
    fn claim(&self, bytes: u64) -> bool;

    /// A write that claimed `bytes` is over. They stay claimed until a count of the folders that began after this has ended.
    fn written(&self, bytes: u64);

    /// A write was refused, although the folders were counted just before.
    fn refused(&self);

    /// Resolves when the folders have been counted anew, which may take some seconds where there is much to count.
    fn count(&self) -> BoxFuture<'static, ()>;
}

/// Space that a write has claimed. Dropped when the write is over, however it ended.
struct Claim {
    storage: Arc<dyn FolderStorage>,
    bytes: u64,
}

impl Claim {
    /// A claim of `bytes`, where they are left by what is known now.
    fn now(storage: &Arc<dyn FolderStorage>, bytes: u64) -> Option<Self> {
        storage.claim(bytes).then(|| Self { storage: storage.clone(), bytes })
    }

    /// A claim of `bytes`; if they are not left, the folders are counted first.
    async fn wait(storage: &Arc<dyn FolderStorage>, bytes: u64) -> Option<Self> {
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

impl Drop for Claim {
    fn drop(&mut self) {
        self.storage.written(self.bytes);
    }
}

/// Unit in which space is claimed: that of common file systems.
const BLOCK_BYTES: u64 = 4096;

/// What a new file, folder or link costs: its name and its inode.
const ENTRY_BYTES: u64 = BLOCK_BYTES;

/// What a write of so many bytes at `offset` may fill; without an offset, at the end of the file, wherever that is.
fn cost(offset: Option<u64>, bytes: usize) -> u64 {
    if bytes == 0 {
        return 0;
    }
    // In the middle of a block, the first byte may be its last one.
    let before = offset.map_or(BLOCK_BYTES - 1, |offset| offset % BLOCK_BYTES);
    (before + bytes as u64).div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

/// The most bytes at `offset` that cost no more than `room`. None where that is not known and the room is not enough for a block wherever it
/// begins: byte by byte, the rest of a block would be claimed thousands of times.
fn affordable(offset: Option<u64>, room: u64) -> usize {
    let before = offset.map_or(BLOCK_BYTES - 1, |offset| offset % BLOCK_BYTES);
    let mut bytes = (room / BLOCK_BYTES).saturating_mul(BLOCK_BYTES).saturating_sub(before);
    if offset.is_none() && bytes < BLOCK_BYTES {
        bytes = 0;
    }
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The names under which wasmtime's implementation has the interface.
const TYPES_P2: &str = "wasi:filesystem/types@0.2.12";
const TYPES_P3: &str = "wasi:filesystem/types@0.3.0";

type Store<'a> = StoreContextMut<'a, Guest>;
type Handle = Resource<Descriptor>;

/// The error that guests get when the storage is full.
fn full() -> std::io::Error {
    // wasmtime knows the system's numbers.
    rustix::io::Errno::NOSPC.into()
}

/// The error that guests get when their account cannot pay for what the host would hold.
fn no_memory() -> std::io::Error {
    rustix::io::Errno::NOMEM.into()
}

/// Puts the functions of this module in the place of wasmtime's, which must be defined.
pub(crate) fn bound(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for types in [TYPES_P2, TYPES_P3] {
        // A handle that is dropped gives back its part of the open files.
        linker.instance(types)?.resource("descriptor", ResourceType::host::<Descriptor>(), |mut store, rep| {
            store.data_mut().drop_file(rep)
        })?;
    }
    calls2::bound(&mut linker.instance(TYPES_P2)?)?;
    calls3::bound(&mut linker.instance(TYPES_P3)?)
}

/// The same handle once more.
fn again(handle: &Handle) -> Handle {
    Resource::new_borrow(handle.rep())
}

/// Is the folder deeper than folders may be? A folder about which that cannot be found out is.
fn is_too_deep(folder: &std::fs::File, roots: &[std::path::PathBuf]) -> bool {
    let roots: Vec<_> = roots.iter().filter_map(|root| tree::identity_of(root).ok()).collect();
    !matches!(tree::depth_below(folder, &roots), Ok(Some(depth)) if depth <= DEPTH_MAX)
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Component;
    use wasmtime_wasi::FsPerms;
    use wasmtime_wasi::filesystem::{File, OpenMode};

    use super::*;
    use crate::open_files::OpenFile;

    #[test]
    fn a_write_costs_the_blocks_that_it_touches_and_no_more_are_offered_than_can_be_paid() {
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

    #[tokio::test]
    async fn a_file_counts_until_its_guest_drops_the_handle() {
        for types in [TYPES_P2, TYPES_P3] {
            let storage = fake::Fake::new(0, 1 << 30);
            let mut store = fake::store(&storage);
            let mut linker = Linker::new(store.engine());
            linker.allow_shadowing(true);
            crate::wasi::link_shared(&mut linker).unwrap();
            let component = wat::parse_str(format!(
                r#"(component
                    (import "{types}" (instance $types (export "descriptor" (type (sub resource)))))
                    (alias export $types "descriptor" (type $descriptor))
                    (core func $drop (canon resource.drop $descriptor))
                    (core module $m
                        (import "" "drop" (func $drop (param i32)))
                        (func (export "take") (param i32) (call $drop (local.get 0))))
                    (core instance $i (instantiate $m (with "" (instance (export "drop" (func $drop))))))
                    (func (export "take") (param "file" (own $descriptor)) (canon lift (core func $i "take"))))"#
            ));
            let component = Component::new(store.engine(), component.unwrap()).unwrap();
            let guest = linker.instantiate_async(&mut store, &component).await.unwrap();
            let take = guest.get_typed_func::<(Handle,), ()>(&mut store, "take").unwrap();
            let open = || storage.account.open_files().load(std::sync::atomic::Ordering::Relaxed);
            for _ in 0..2 {
                let file = File::new(tempfile::tempfile().unwrap(), FsPerms::ReadOnly, OpenMode::READ, true);
                let token = OpenFile::new(&storage.account).unwrap();
                let handle = store.data_mut().push_file(Descriptor::File(file), token).unwrap();
                assert_eq!(open(), 1);
                take.call_async(&mut store, (handle,)).await.unwrap();
                assert_eq!(open(), 0, "{types}");
            }
        }
    }
}
