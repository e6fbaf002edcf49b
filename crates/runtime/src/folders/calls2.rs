//! The functions of WASI 0.2 on files and folders. Paths and permissions are wasmtime's.

use std::sync::Arc;

use wasmtime::component::{LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::filesystem::{Descriptor, File};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, ErrorCode, HostDescriptor, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError};

use super::apart::{self, now};
use super::chunk::{self, Chunk};
use super::streams2::{Input, Output};
use super::{Claim, ENTRY_BYTES, FolderStorage, Handle, LISTING_BYTES, Listing2, Store, again, cost, is_too_deep};
use crate::account::Account;
use crate::guest::Guest;
use crate::heads::HANDLE_BYTES;
use crate::open_files::OpenFile;

type Answer<T> = (Result<T, ErrorCode>,);

fn answer<T>(result: Result<T, FsError>) -> wasmtime::Result<Answer<T>> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

fn account(store: &Store<'_>) -> Arc<Account> {
    store.data().account().clone()
}

/// The storage of the one who writes; `None`: without a limit.
fn storage(store: &Store<'_>) -> Option<Arc<dyn FolderStorage>> {
    store.data().folder_storage()
}

/// Claims `bytes` where the storage has a limit.
async fn claim(storage: Option<Arc<dyn FolderStorage>>, bytes: u64) -> Result<Option<Claim>, ErrorCode> {
    let Some(storage) = storage.filter(|_| bytes > 0) else { return Ok(None) };
    Claim::wait(&storage, bytes).await.map(Some).ok_or(ErrorCode::InsufficientSpace)
}

/// The file behind a handle, for a stream or a write.
fn file(store: &mut Store<'_>, handle: &Handle) -> wasmtime::Result<Result<File, ErrorCode>> {
    Ok(match store.data_mut().table().get(handle)? {
        Descriptor::File(file) => Ok(file.clone()),
        Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor),
    })
}

/// The same, if it may be written.
fn writable(store: &mut Store<'_>, handle: &Handle) -> wasmtime::Result<Result<File, ErrorCode>> {
    let file = file(store, handle)?;
    Ok(file.and_then(|file| if file.perms.write_not_permitted() { Err(ErrorCode::NotPermitted) } else { Ok(file) }))
}

/// What is behind the handles of a call.
fn files(
    store: &mut Store<'_>,
    file: &Handle,
    other: Option<&Handle>,
) -> wasmtime::Result<(Descriptor, Option<Descriptor>)> {
    let table = store.data_mut().table();
    let other = other.map(|other| table.get(other).cloned()).transpose()?;
    Ok((table.get(file)?.clone(), other))
}

/// Defines functions of a handle, with what each may fill.
macro_rules! calls {
    ($types:ident, $cost:expr, $($name:literal => $method:ident($($argument:ident: $kind:ty),*);)*) => {$(
        $types.func_wrap_async($name, |mut store: Store<'_>, (handle, $($argument,)*): (Handle, $($kind,)*)| {
            Box::new(async move {
                let claim = match claim(storage(&store), $cost).await {
                    Ok(claim) => claim,
                    Err(code) => return Ok((Err(code),)),
                };
                let files = files(&mut store, &handle, None)?;
                let call = apart::call(account(&store), files, claim, move |store, (file, _)| {
                    let mut view = store.data_mut().view();
                    now(HostDescriptor::$method(&mut view, file, $($argument),*))
                });
                answer(call.await)
            })
        })?;
    )*};
}

pub(super) fn bound(types: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    calls! { types, 0,
        "[method]descriptor.advise" => advise(offset: u64, length: u64, advice: Advice);
        "[method]descriptor.sync-data" => sync_data();
        "[method]descriptor.get-flags" => get_flags();
        "[method]descriptor.get-type" => get_type();
        "[method]descriptor.set-size" => set_size(size: u64);
        "[method]descriptor.set-times" => set_times(accessed: NewTimestamp, modified: NewTimestamp);
        "[method]descriptor.sync" => sync();
        "[method]descriptor.stat" => stat();
        "[method]descriptor.stat-at" => stat_at(follow: PathFlags, path: String);
        "[method]descriptor.set-times-at" => set_times_at(
            follow: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp
        );
        "[method]descriptor.readlink-at" => readlink_at(path: String);
        "[method]descriptor.remove-directory-at" => remove_directory_at(path: String);
        "[method]descriptor.unlink-file-at" => unlink_file_at(path: String);
        "[method]descriptor.metadata-hash" => metadata_hash();
        "[method]descriptor.metadata-hash-at" => metadata_hash_at(follow: PathFlags, path: String);
    }
    calls! { types, ENTRY_BYTES,
        "[method]descriptor.symlink-at" => symlink_at(target: String, name: String);
    }
    two_handles(types)?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: Store<'_>,
         (folder, follow, path, how, flags): (Handle, PathFlags, String, OpenFlags, DescriptorFlags)| {
            Box::new(async move {
                let bytes = if how.contains(OpenFlags::CREATE) { ENTRY_BYTES } else { 0 };
                let claim = match claim(storage(&store), bytes).await {
                    Ok(claim) => claim,
                    Err(code) => return Ok((Err(code),)),
                };
                if !store.data_mut().open_file() {
                    return Ok((Err(ErrorCode::Quota),));
                }
                store.data_mut().charge_handles(HANDLE_BYTES)?;
                let files = files(&mut store, &folder, None)?;
                let call = apart::call(account(&store), files, claim, move |store, (folder, _)| {
                    let mut view = store.data_mut().view();
                    let opened = now(HostDescriptor::open_at(&mut view, folder, follow, path, how, flags))?;
                    store.data_mut().take(opened).map_err(FsError::trap)
                });
                match answer(call.await)?.0 {
                    Ok(opened) => Ok((Ok(store.data_mut().table().push(opened)?),)),
                    Err(code) => Ok((Err(code),)),
                }
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.create-directory-at",
        |store: Store<'_>, (folder, path): (Handle, String)| {
            Box::new(async move { make_folder(store, folder, path).await })
        },
    )?;
    streams(types)?;
    listing(types)
}

fn two_handles(types: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    types.func_wrap_async(
        "[method]descriptor.rename-at",
        |mut store: Store<'_>, (folder, path, other, name): (Handle, String, Handle, String)| {
            Box::new(async move {
                let files = files(&mut store, &folder, Some(&other))?;
                let call = apart::call(account(&store), files, None, move |store, (folder, other)| {
                    let mut view = store.data_mut().view();
                    now(HostDescriptor::rename_at(&mut view, folder, path, other, name))
                });
                answer(call.await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.link-at",
        |mut store: Store<'_>, (folder, follow, path, other, name): (Handle, PathFlags, String, Handle, String)| {
            Box::new(async move {
                let claim = match claim(storage(&store), ENTRY_BYTES).await {
                    Ok(claim) => claim,
                    Err(code) => return Ok((Err(code),)),
                };
                let files = files(&mut store, &folder, Some(&other))?;
                let call = apart::call(account(&store), files, claim, move |store, (folder, other)| {
                    let mut view = store.data_mut().view();
                    now(HostDescriptor::link_at(&mut view, folder, follow, path, other, name))
                });
                answer(call.await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.is-same-object",
        |mut store: Store<'_>, (handle, other): (Handle, Handle)| {
            Box::new(async move {
                let files = files(&mut store, &handle, Some(&other))?;
                let call = apart::call(account(&store), files, None, move |store, (file, other)| {
                    let mut view = store.data_mut().view();
                    now(HostDescriptor::is_same_object(&mut view, file, other))
                });
                Ok((call.await?,))
            })
        },
    )
}

fn streams(types: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    types.func_wrap_async(
        "[method]descriptor.read",
        |mut store: Store<'_>, (handle, length, offset): (Handle, u64, u64)| {
            Box::new(async move {
                let file = match file(&mut store, &handle)? {
                    Ok(file) => file.file,
                    Err(code) => return Ok((Err(code),)),
                };
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let read = chunk::read(account(&store), file, offset, length).await;
                answer(read.map(|chunk| (chunk.bytes().to_vec(), chunk.is_empty())).map_err(FsError::from))
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.write",
        |mut store: Store<'_>, (handle, bytes, offset): (Handle, Vec<u8>, u64)| {
            Box::new(async move {
                let file = match writable(&mut store, &handle)? {
                    Ok(file) => file.file,
                    Err(code) => return Ok((Err(code),)),
                };
                let account = account(&store);
                // As much as the system may write at once.
                let mut bytes = bytes::Bytes::from(bytes);
                bytes.truncate(chunk::CHUNK_BYTES);
                let claim = match claim(storage(&store), cost(Some(offset), bytes.len())).await {
                    Ok(claim) => claim,
                    Err(code) => return Ok((Err(code),)),
                };
                let written = match Chunk::of(&account, bytes) {
                    Ok(chunk) => chunk::write(account, file, Some(offset), chunk, claim).await,
                    Err(error) => Err(error),
                };
                answer(written.map(|written| written.bytes as u64).map_err(FsError::from))
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.read-via-stream",
        |mut store: Store<'_>, (handle, offset): (Handle, u64)| {
            let file = match store.data_mut().table().get(&handle)? {
                Descriptor::File(file) => file.file.clone(),
                Descriptor::Dir(_) => return Ok((Err(ErrorCode::IsDirectory),)),
            };
            let Some(open) = OpenFile::new(store.data().account()) else { return Ok((Err(ErrorCode::Quota),)) };
            let stream: DynInputStream = Box::new(Input::new(account(&store), file, offset, open));
            store.data_mut().charge_handles(HANDLE_BYTES)?;
            Ok((Ok(store.data_mut().table().push(stream)?),))
        },
    )?;
    types.func_wrap("[method]descriptor.write-via-stream", |store: Store<'_>, (handle, offset): (Handle, u64)| {
        output(store, &handle, Some(offset))
    })?;
    types.func_wrap("[method]descriptor.append-via-stream", |store: Store<'_>, (handle,): (Handle,)| {
        output(store, &handle, None)
    })
}

fn output(
    mut store: Store<'_>,
    handle: &Handle,
    offset: Option<u64>,
) -> wasmtime::Result<Answer<Resource<DynOutputStream>>> {
    let file = match writable(&mut store, handle)? {
        Ok(file) => file.file,
        Err(code) => return Ok((Err(code),)),
    };
    let Some(open) = OpenFile::new(store.data().account()) else { return Ok((Err(ErrorCode::Quota),)) };
    let stream: DynOutputStream = Box::new(Output::new(account(&store), file, offset, storage(&store), open));
    store.data_mut().charge_handles(HANDLE_BYTES)?;
    Ok((Ok(store.data_mut().table().push(stream)?),))
}

fn listing(types: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    let listing = ResourceType::host::<Listing2>();
    types.resource("directory-entry-stream", listing, |mut store, rep| {
        store.data_mut().table().delete(Resource::<Listing2>::new_own(rep))?;
        Ok(())
    })?;
    types.func_wrap_async("[method]descriptor.read-directory", |mut store: Store<'_>, (handle,): (Handle,)| {
        Box::new(async move {
            let folder = match store.data_mut().table().get(&handle)? {
                Descriptor::Dir(folder) => folder.dir.clone(),
                Descriptor::File(_) => return Ok((Err(ErrorCode::NotDirectory),)),
            };
            let account = account(&store);
            let Some(open) = OpenFile::new(&account) else { return Ok((Err(ErrorCode::Quota),)) };
            store.data_mut().charge_handles(HANDLE_BYTES + LISTING_BYTES)?;
            Ok((Ok(store.data_mut().table().push(Listing2::new(account, folder, open))?),))
        })
    })?;
    types.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: Store<'_>, (stream,): (Resource<Listing2>,)| {
            Box::new(async move { Ok((store.data_mut().table().get_mut(&stream)?.next().await,)) })
        },
    )
}

async fn make_folder(mut store: Store<'_>, folder: Handle, path: String) -> wasmtime::Result<Answer<()>> {
    let is_limited = storage(&store).is_some();
    let claim = match claim(storage(&store), ENTRY_BYTES).await {
        Ok(claim) => claim,
        Err(code) => return Ok((Err(code),)),
    };
    let roots = store.data().writable_folders();
    let files = files(&mut store, &folder, None)?;
    let call = apart::call(account(&store), files, claim, move |store, (folder, _)| {
        let mut view = store.data_mut().view();
        now(HostDescriptor::create_directory_at(&mut view, again(&folder), path.clone()))?;
        if !is_limited {
            return Ok(());
        }
        let (how, flags) = (OpenFlags::DIRECTORY, DescriptorFlags::READ);
        let opened = HostDescriptor::open_at(&mut view, again(&folder), PathFlags::empty(), path.clone(), how, flags);
        let opened = now(opened)?;
        let Descriptor::Dir(made) = store.data_mut().take(opened).map_err(FsError::trap)? else {
            return Err(ErrorCode::NotDirectory.into());
        };
        if !is_too_deep(&made.dir, &roots) {
            return Ok(());
        }
        let mut view = store.data_mut().view();
        let _ = now(HostDescriptor::remove_directory_at(&mut view, folder, path));
        Err(ErrorCode::NameTooLong.into())
    });
    answer(call.await)
}
