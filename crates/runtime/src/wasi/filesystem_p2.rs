//! The file and folder functions of WASI 0.2. They leave paths and permissions to wasmtime's implementation.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::filesystem::{Descriptor, File};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, ErrorCode, HostDescriptor, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError};

use crate::folders::calls::{self, again};
use crate::folders::chunk;
use crate::folders::open_files::OpenFile;
use crate::folders::{
    CHUNK_BYTES, Chunk, ENTRY_BYTES, FileArgument, FileCall, FileCallState, FileInput, FileOutput, FolderStorage,
    Handle, LISTING_BYTES, ListingP2, SpaceReservation, cost, is_too_deep, now,
};
use crate::guest::{Guest, HANDLE_BYTES};
use crate::pool::Account;

type Store<'a> = StoreContextMut<'a, Guest>;

type ResultValue<T> = (Result<T, ErrorCode>,);

fn result_value<T>(result: Result<T, FsError>) -> wasmtime::Result<ResultValue<T>> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

fn account(store: &Store<'_>) -> Arc<Account> {
    store.data().account().clone()
}

/// Returns the storage in which writes reserve space; `None` if the storage has no limit.
fn storage(store: &Store<'_>) -> Option<Arc<dyn FolderStorage>> {
    store.data().folder_storage()
}

/// Returns the file that `handle` refers to, for a stream or a write.
fn file(store: &mut Store<'_>, handle: &Handle) -> wasmtime::Result<Result<File, ErrorCode>> {
    Ok(match store.data_mut().table().get(handle)? {
        Descriptor::File(file) => Ok(file.clone()),
        Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor),
    })
}

/// Returns the file that `handle` refers to, or an error if the guest may not write to it.
fn writable(store: &mut Store<'_>, handle: &Handle) -> wasmtime::Result<Result<File, ErrorCode>> {
    let file = file(store, handle)?;
    Ok(file.and_then(|file| if file.perms.write_not_permitted() { Err(ErrorCode::NotPermitted) } else { Ok(file) }))
}

impl FileArgument for Advice {}
impl FileArgument for NewTimestamp {}
impl FileArgument for PathFlags {}

/// Charges the memory of `call` and reserves its space, and then runs `work` on a thread for file work.
async fn run<T: Send + 'static>(
    store: &mut Store<'_>,
    call: FileCall,
    work: impl FnOnce(&mut wasmtime::Store<FileCallState>, calls::Handles) -> Result<T, FsError> + Send + 'static,
) -> wasmtime::Result<ResultValue<T>> {
    let account = account(store);
    let admitted = match call.admit(&account, storage(store)).await {
        Ok(admitted) => admitted,
        Err(error) => return Ok((Err(error.into()),)),
    };
    let files = call.files(store.data_mut().table())?;
    result_value(calls::call(&account, admitted, files, work).await)
}

/// Defines host functions that are methods of a descriptor. `$cost` is the maximum number of bytes of the tenant's
/// storage that a call may fill. This space is reserved before the call.
macro_rules! calls {
    ($types:ident, $cost:expr, $($name:literal => $method:ident($($argument:ident: $kind:ty),*);)*) => {$(
        $types.func_wrap_async($name, |mut store: Store<'_>, (handle, $($argument,)*): (Handle, $($kind,)*)| {
            Box::new(async move {
                let call = FileCall::of(handle, $cost, &[$($argument.text()),*]);
                run(&mut store, call, move |store, (file, _)| {
                    let mut view = store.data_mut().view();
                    now(HostDescriptor::$method(&mut view, file, $($argument),*))
                })
                .await
            })
        })?;
    )*};
}

/// Replaces wasmtime's functions of these names with functions of this module.
macro_rules! defined {
    ($types:ident, $($name:literal => $function:ident($($argument:ident: $kind:ty),*);)*) => {$(
        $types.func_wrap_async($name, |store: Store<'_>, ($($argument,)*): ($($kind,)*)| {
            Box::new($function(store, $($argument),*))
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
    defined! { types,
        "[method]descriptor.open-at" => open_at(
            folder: Handle, follow: PathFlags, path: String, how: OpenFlags, flags: DescriptorFlags
        );
        "[method]descriptor.create-directory-at" => make_folder(folder: Handle, path: String);
        "[method]descriptor.rename-at" => rename_at(folder: Handle, path: String, other: Handle, name: String);
        "[method]descriptor.link-at" => link_at(
            folder: Handle, follow: PathFlags, path: String, other: Handle, name: String
        );
        "[method]descriptor.is-same-object" => is_same_object(file: Handle, other: Handle);
        "[method]descriptor.write" => write(file: Handle, bytes: Vec<u8>, offset: u64);
    }
    streams(types)?;
    listing(types)
}

async fn open_at(
    mut store: Store<'_>,
    folder: Handle,
    follow: PathFlags,
    path: String,
    how: OpenFlags,
    flags: DescriptorFlags,
) -> wasmtime::Result<ResultValue<Handle>> {
    // The file is counted before it is opened. The permit moves into the job, which returns it with the file.
    let Some(open) = OpenFile::new(store.data().account()) else { return Ok((Err(ErrorCode::Quota),)) };
    let cost = if how.contains(OpenFlags::CREATE) { ENTRY_BYTES } else { 0 };
    let call = FileCall::of(folder, cost, &[&path]);
    let opened = run(&mut store, call, move |store, (folder, _)| {
        let mut view = store.data_mut().view();
        let opened = now(HostDescriptor::open_at(&mut view, folder, follow, path, how, flags))?;
        Ok((store.data_mut().take(opened).map_err(FsError::trap)?, open))
    });
    Ok(match opened.await?.0 {
        Ok((file, open)) => (Ok(store.data_mut().push_file(file, open)?),),
        Err(code) => (Err(code),),
    })
}

async fn rename_at(
    mut store: Store<'_>,
    folder: Handle,
    path: String,
    other: Handle,
    name: String,
) -> wasmtime::Result<ResultValue<()>> {
    let call = FileCall::of(folder, 0, &[&path, &name]).and(other);
    run(&mut store, call, move |store, (folder, other)| {
        now(HostDescriptor::rename_at(&mut store.data_mut().view(), folder, path, other, name))
    })
    .await
}

async fn link_at(
    mut store: Store<'_>,
    folder: Handle,
    follow: PathFlags,
    path: String,
    other: Handle,
    name: String,
) -> wasmtime::Result<ResultValue<()>> {
    let call = FileCall::of(folder, ENTRY_BYTES, &[&path, &name]).and(other);
    run(&mut store, call, move |store, (folder, other)| {
        now(HostDescriptor::link_at(&mut store.data_mut().view(), folder, follow, path, other, name))
    })
    .await
}

/// The interface has no error for this function, so every failure is a trap.
async fn is_same_object(mut store: Store<'_>, file: Handle, other: Handle) -> wasmtime::Result<(bool,)> {
    let call = FileCall::of(file, 0, &[]).and(other);
    let account = account(&store);
    let admitted = call.admit(&account, None).await?;
    let files = call.files(store.data_mut().table())?;
    let same = calls::call(&account, admitted, files, move |store, (file, other)| {
        now(HostDescriptor::is_same_object(&mut store.data_mut().view(), file, other))
    });
    Ok((same.await?,))
}

async fn make_folder(mut store: Store<'_>, folder: Handle, path: String) -> wasmtime::Result<ResultValue<()>> {
    let is_limited = storage(&store).is_some();
    let roots = store.data().writable_folders();
    let call = FileCall::of(folder, ENTRY_BYTES, &[&path]);
    run(&mut store, call, move |store, (folder, _)| {
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
    })
    .await
}

async fn write(
    mut store: Store<'_>,
    file: Handle,
    bytes: impl AsRef<[u8]> + Send,
    offset: u64,
) -> wasmtime::Result<ResultValue<u64>> {
    let file = match writable(&mut store, &file)? {
        Ok(file) => file.file,
        Err(code) => return Ok((Err(code),)),
    };
    let account = account(&store);
    // Copies as many bytes as one write may contain. The guest's buffer is dropped before this function waits.
    let buffer = bytes.as_ref();
    let chunk = match Chunk::copy(&account, &buffer[..buffer.len().min(CHUNK_BYTES)]) {
        Ok(chunk) => chunk,
        Err(error) => return Ok((Err(error.into()),)),
    };
    drop(bytes);
    let cost = cost(Some(offset), chunk.bytes().len());
    let claim = match storage(&store).filter(|_| cost > 0) {
        Some(storage) => match SpaceReservation::wait(&storage, cost).await {
            Some(claim) => Some(claim),
            None => return Ok((Err(ErrorCode::InsufficientSpace),)),
        },
        None => None,
    };
    let written = chunk::write(account, file, Some(offset), chunk, claim).await;
    result_value(written.map(|written| written.bytes as u64).map_err(FsError::from))
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
                result_value(read.map(|chunk| (chunk.bytes().to_vec(), chunk.is_empty())).map_err(FsError::from))
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
            let stream: DynInputStream = Box::new(FileInput::new(account(&store), file, offset, open));
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
) -> wasmtime::Result<ResultValue<Resource<DynOutputStream>>> {
    let file = match writable(&mut store, handle)? {
        Ok(file) => file.file,
        Err(code) => return Ok((Err(code),)),
    };
    let Some(open) = OpenFile::new(store.data().account()) else { return Ok((Err(ErrorCode::Quota),)) };
    let stream: DynOutputStream = Box::new(FileOutput::new(account(&store), file, offset, storage(&store), open));
    store.data_mut().charge_handles(HANDLE_BYTES)?;
    Ok((Ok(store.data_mut().table().push(stream)?),))
}

fn listing(types: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    let listing = ResourceType::host::<ListingP2>();
    types.resource("directory-entry-stream", listing, |mut store, rep| {
        store.data_mut().table().delete(Resource::<ListingP2>::new_own(rep))?;
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
            Ok((Ok(store.data_mut().table().push(ListingP2::new(account, folder, open))?),))
        })
    })?;
    types.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: Store<'_>, (stream,): (Resource<ListingP2>,)| {
            Box::new(async move { Ok((store.data_mut().table().get_mut(&stream)?.next().await,)) })
        },
    )
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use wasmtime::AsContextMut as _;
    use wasmtime_wasi::FsPerms;
    use wasmtime_wasi::filesystem::OpenMode;

    use super::super::fake_guest::store;
    use super::*;
    use crate::folders::fake::FakeStorage;

    /// A buffer whose reference count shows whether it was dropped.
    struct TrackedBytes(Arc<Vec<u8>>);

    impl AsRef<[u8]> for TrackedBytes {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[tokio::test]
    async fn a_write_that_waits_for_space_holds_no_more_than_it_writes() {
        let (fake, file) = (FakeStorage::new(0, 1 << 20), tempfile::tempfile().unwrap());
        fake.never_ends_counts();
        let mut store = store(&fake);
        let mode = OpenMode::READ | OpenMode::WRITE;
        let file = Descriptor::File(File::new(file, FsPerms::ReadWrite, mode, true));
        let file = store.data_mut().table().push(file).unwrap();
        let held = Arc::new(vec![7; 1 << 20]);
        let bytes = TrackedBytes(held.clone());
        let mut write = Box::pin(write(store.as_context_mut(), file, bytes, 0));
        assert!(write.as_mut().now_or_never().is_none());
        assert_eq!(fake.account.used().host_bytes, CHUNK_BYTES as u64);
        assert_eq!(Arc::strong_count(&held), 1, "the guest's buffer is still held");
        drop(write);
        assert_eq!(fake.account.used().host_bytes, 0);
    }
}
