//! What guests write into granted folders: a tenant's storage is asked before each write, and folders lie only so deep.
//!
//! wasmtime's implementation of `wasi:filesystem` knows permissions, but no quota. So the functions that take space are defined anew here, for
//! both versions of the interface; where the storage has no limit, they only pass on. A write asks for its *cost*: the blocks that it may
//! fill. What it asked for is a claim on the storage until the folders are counted again. Setting a file's length costs nothing,
//! as it fills no block.
//!
//! A folder that is made deeper than [`DEPTH_MAX`] is removed again, and the guest is told that the name is too long. (Counting the parts of
//! paths was rejected: a symbolic link makes a deep path short.) A folder that is moved may take others below that depth; then the folders
//! cannot be counted, and what cannot be counted counts as full.

use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_disk::tree::{self, DEPTH_MAX};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types as p2;

use crate::guest::Guest;

mod streams2;
mod writes3;

/// The storage of a tenant, as far as its guests write to granted folders.
pub trait FolderStorage: Send + Sync + 'static {
    /// Is nothing left? Asked when an instance first uses its folders: while it says yes, none of them can be written.
    fn is_full(&self) -> bool;

    /// Are `bytes` left?
    fn has_room(&self, bytes: u64) -> bool;

    /// Claims `bytes` until the folders are counted again. Whether they were left.
    fn claim(&self, bytes: u64) -> bool;

    /// Resolves when the folders have been counted anew, which may take some seconds where there is much to count.
    fn count(&self) -> BoxFuture<'static, ()>;
}

/// Claims `bytes`; if they are not left, the folders are counted first.
async fn claim(storage: &dyn FolderStorage, bytes: u64) -> bool {
    if storage.claim(bytes) {
        return true;
    }
    storage.count().await;
    storage.claim(bytes)
}

/// Unit in which space is claimed: that of common file systems.
const BLOCK_BYTES: u64 = 4096;

/// What a new file, folder or link costs: its name and its inode.
const ENTRY_BYTES: u64 = BLOCK_BYTES;

/// What a write of so many bytes may fill, wherever it begins.
fn cost(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BLOCK_BYTES).saturating_add(1).saturating_mul(BLOCK_BYTES)
}

/// The names under which wasmtime's implementation has the interface.
const TYPES_P2: &str = "wasi:filesystem/types@0.2.12";
const TYPES_P3: &str = "wasi:filesystem/types@0.3.0";

type Store<'a> = StoreContextMut<'a, Guest>;
type Handle = Resource<Descriptor>;

/// The error that guests get when the storage is full.
fn full() -> std::io::Error {
    std::io::ErrorKind::StorageFull.into()
}

/// Puts the functions that ask the storage in the place of those that do not, which must be defined.
pub(crate) fn bound(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    bound_p2(linker)?;
    writes3::bound(&mut linker.instance(TYPES_P3)?)
}

/// The same handle once more.
fn again(handle: &Handle) -> Handle {
    Resource::new_borrow(handle.rep())
}

fn filesystem(guest: &mut Guest) -> WasiFilesystemCtxView<'_> {
    let view = guest.ctx();
    WasiFilesystemCtxView { ctx: view.ctx.filesystem(), table: view.table }
}

/// The storage of the one who writes; `None`: without a limit.
fn storage(store: &mut Store<'_>) -> Option<Arc<dyn FolderStorage>> {
    store.data().folder_storage()
}

/// Is the folder deeper than folders may be? A folder about which that cannot be found out is.
async fn is_too_deep(folder: Arc<std::fs::File>, roots: Arc<[std::path::PathBuf]>) -> bool {
    let look = move || {
        let roots: Vec<_> = roots.iter().filter_map(|root| tree::identity_of(root).ok()).collect();
        !matches!(tree::depth_below(&*folder, &roots), Ok(Some(depth)) if depth <= DEPTH_MAX)
    };
    tokio::task::spawn_blocking(look).await.unwrap_or(true)
}

fn answer<T>(result: Result<T, wasmtime_wasi::p2::FsError>) -> wasmtime::Result<(Result<T, p2::ErrorCode>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

fn bound_p2(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    use p2::{DescriptorFlags, ErrorCode, HostDescriptor, OpenFlags, PathFlags};
    let mut types = linker.instance(TYPES_P2)?;
    types.func_wrap_async(
        "[method]descriptor.write",
        |mut store: Store<'_>, (file, bytes, offset): (Handle, Vec<u8>, u64)| {
            Box::new(async move {
                if let Some(storage) = storage(&mut store)
                    && !claim(&*storage, cost(bytes.len())).await
                {
                    return Ok((Err(ErrorCode::InsufficientSpace),));
                }
                answer(HostDescriptor::write(&mut filesystem(store.data_mut()), file, bytes, offset).await)
            })
        },
    )?;
    types.func_wrap("[method]descriptor.write-via-stream", |mut store: Store<'_>, (file, offset): (Handle, u64)| {
        let stream = HostDescriptor::write_via_stream(&mut filesystem(store.data_mut()), file, offset);
        answer(stream).and_then(|stream| streams2::charged(&mut store, stream))
    })?;
    types.func_wrap("[method]descriptor.append-via-stream", |mut store: Store<'_>, (file,): (Handle,)| {
        let stream = HostDescriptor::append_via_stream(&mut filesystem(store.data_mut()), file);
        answer(stream).and_then(|stream| streams2::charged(&mut store, stream))
    })?;
    types.func_wrap_async(
        "[method]descriptor.create-directory-at",
        |mut store: Store<'_>, (folder, path): (Handle, String)| {
            Box::new(async move {
                let Some(storage) = storage(&mut store) else {
                    let mut view = filesystem(store.data_mut());
                    return answer(HostDescriptor::create_directory_at(&mut view, folder, path).await);
                };
                if !claim(&*storage, ENTRY_BYTES).await {
                    return Ok((Err(ErrorCode::InsufficientSpace),));
                }
                let roots = store.data().writable_folders();
                let guest = store.data_mut();
                let made =
                    HostDescriptor::create_directory_at(&mut filesystem(guest), again(&folder), path.clone()).await;
                if made.is_err() {
                    return answer(made);
                }
                let (how, flags) = (OpenFlags::DIRECTORY, DescriptorFlags::READ);
                let mut view = filesystem(guest);
                let opened =
                    HostDescriptor::open_at(&mut view, again(&folder), PathFlags::empty(), path.clone(), how, flags);
                let made = match opened.await {
                    Ok(handle) => match guest.table().delete(handle)? {
                        Descriptor::Dir(made) => made.dir,
                        Descriptor::File(_) => return Ok((Err(ErrorCode::NotDirectory),)),
                    },
                    Err(error) => return Ok((Err(error.downcast()?),)),
                };
                if !is_too_deep(made, roots).await {
                    return Ok((Ok(()),));
                }
                let _ = HostDescriptor::remove_directory_at(&mut filesystem(guest), folder, path).await;
                Ok((Err(ErrorCode::NameTooLong),))
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: Store<'_>,
         (folder, follow, path, how, flags): (Handle, PathFlags, String, OpenFlags, DescriptorFlags)| {
            Box::new(async move {
                if how.contains(OpenFlags::CREATE)
                    && let Some(storage) = storage(&mut store)
                    && !claim(&*storage, ENTRY_BYTES).await
                {
                    return Ok((Err(ErrorCode::InsufficientSpace),));
                }
                let mut view = filesystem(store.data_mut());
                answer(HostDescriptor::open_at(&mut view, folder, follow, path, how, flags).await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.link-at",
        |mut store: Store<'_>, (folder, follow, path, other, name): (Handle, PathFlags, String, Handle, String)| {
            Box::new(async move {
                if let Some(storage) = storage(&mut store)
                    && !claim(&*storage, ENTRY_BYTES).await
                {
                    return Ok((Err(ErrorCode::InsufficientSpace),));
                }
                let mut view = filesystem(store.data_mut());
                answer(HostDescriptor::link_at(&mut view, folder, follow, path, other, name).await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.symlink-at",
        |mut store: Store<'_>, (folder, target, name): (Handle, String, String)| {
            Box::new(async move {
                if let Some(storage) = storage(&mut store)
                    && !claim(&*storage, ENTRY_BYTES).await
                {
                    return Ok((Err(ErrorCode::InsufficientSpace),));
                }
                let mut view = filesystem(store.data_mut());
                answer(HostDescriptor::symlink_at(&mut view, folder, target, name).await)
            })
        },
    )
}
