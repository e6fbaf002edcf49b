//! The functions of WASI 0.3 on files and folders. Paths and permissions are wasmtime's.

use std::sync::Arc;

use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, FutureReader, LinkerInstance, StreamReader};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    Advice, DescriptorFlags, DirectoryEntry, ErrorCode, HostDescriptorWithStore, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p3::filesystem::FilesystemError;

use super::apart::{self, now3};
use super::listing::Listing3;
use super::streams3::{Read, Write};
use super::{Claim, ENTRY_BYTES, Handle, LISTING_BYTES, again, is_too_deep};
use crate::account::Account;
use crate::guest::Guest;
use crate::heads::HANDLE_BYTES;
use crate::open_files::OpenFile;

type Result3<T> = Result<T, ErrorCode>;

fn answer<T>(result: Result<T, FilesystemError>) -> wasmtime::Result<(Result3<T>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

fn account(accessor: &Accessor<Guest>) -> Arc<Account> {
    accessor.with(|mut store| store.data_mut().account().clone())
}

/// Claims `bytes` where the storage has a limit.
async fn claim(accessor: &Accessor<Guest>, bytes: u64) -> Result3<Option<Claim>> {
    let storage = accessor.with(|mut store| store.data_mut().folder_storage());
    let Some(storage) = storage.filter(|_| bytes > 0) else { return Ok(None) };
    Claim::wait(&storage, bytes).await.map(Some).ok_or(ErrorCode::InsufficientSpace)
}

/// What is behind the handles of a call.
fn files(
    accessor: &Accessor<Guest>,
    file: &Handle,
    other: Option<&Handle>,
) -> wasmtime::Result<(Descriptor, Option<Descriptor>)> {
    accessor.with(|mut store| {
        let table = store.data_mut().table();
        let other = other.map(|other| table.get(other).cloned()).transpose()?;
        Ok((table.get(file)?.clone(), other))
    })
}

/// Defines functions of a handle, with what each may fill.
macro_rules! calls {
    ($types:ident, $cost:expr, $($name:literal => $method:ident($($argument:ident: $kind:ty),*);)*) => {$(
        $types.func_wrap_concurrent(
            $name,
            |accessor: &Accessor<Guest>, (handle, $($argument,)*): (Handle, $($kind,)*)| {
                Box::pin(async move {
                    let claim = match claim(accessor, $cost).await {
                        Ok(claim) => claim,
                        Err(code) => return Ok((Err(code),)),
                    };
                    let files = files(accessor, &handle, None)?;
                    let call = apart::call(account(accessor), files, claim, move |store, (file, _)| {
                        now3(store, async move |files| WasiFilesystem::$method(files, file, $($argument),*).await)
                    });
                    answer(call.await)
                })
            },
        )?;
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
    types.func_wrap_concurrent(
        "[method]descriptor.open-at",
        |accessor: &Accessor<Guest>,
         (folder, follow, path, how, flags): (Handle, PathFlags, String, OpenFlags, DescriptorFlags)| {
            Box::pin(async move {
                let bytes = if how.contains(OpenFlags::CREATE) { ENTRY_BYTES } else { 0 };
                let claim = match claim(accessor, bytes).await {
                    Ok(claim) => claim,
                    Err(code) => return Ok((Err(code),)),
                };
                if !accessor.with(|mut store| store.data_mut().open_file()) {
                    return Ok((Err(ErrorCode::Quota),));
                }
                accessor.with(|mut store| store.data_mut().charge_handles(HANDLE_BYTES))?;
                let files = files(accessor, &folder, None)?;
                let call = apart::call(account(accessor), files, claim, move |store, (folder, _)| {
                    let opened = now3(store, async move |files| {
                        WasiFilesystem::open_at(files, folder, follow, path, how, flags).await
                    })?;
                    store.data_mut().take(opened).map_err(FilesystemError::trap)
                });
                match answer(call.await)?.0 {
                    Ok(opened) => {
                        let opened = accessor.with(|mut store| store.data_mut().table().push(opened))?;
                        Ok((Ok(opened),))
                    }
                    Err(code) => Ok((Err(code),)),
                }
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.create-directory-at",
        |accessor: &Accessor<Guest>, (folder, path): (Handle, String)| {
            Box::pin(async move { make_folder(accessor, folder, path).await })
        },
    )?;
    streams(types)
}

fn two_handles(types: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    types.func_wrap_concurrent(
        "[method]descriptor.rename-at",
        |accessor: &Accessor<Guest>, (folder, path, other, name): (Handle, String, Handle, String)| {
            Box::pin(async move {
                let files = files(accessor, &folder, Some(&other))?;
                let call = apart::call(account(accessor), files, None, move |store, (folder, other)| {
                    now3(store, async move |files| WasiFilesystem::rename_at(files, folder, path, other, name).await)
                });
                answer(call.await)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.link-at",
        |accessor: &Accessor<Guest>,
         (folder, follow, path, other, name): (Handle, PathFlags, String, Handle, String)| {
            Box::pin(async move {
                let claim = match claim(accessor, ENTRY_BYTES).await {
                    Ok(claim) => claim,
                    Err(code) => return Ok((Err(code),)),
                };
                let files = files(accessor, &folder, Some(&other))?;
                let call = apart::call(account(accessor), files, claim, move |store, (folder, other)| {
                    now3(store, async move |files| {
                        WasiFilesystem::link_at(files, folder, follow, path, other, name).await
                    })
                });
                answer(call.await)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.is-same-object",
        |accessor: &Accessor<Guest>, (handle, other): (Handle, Handle)| {
            Box::pin(async move {
                let files = files(accessor, &handle, Some(&other))?;
                let call = apart::call(account(accessor), files, None, move |store, (file, other)| {
                    now3(store, async move |files| WasiFilesystem::is_same_object(files, file, other).await)
                });
                Ok((call.await?,))
            })
        },
    )
}

fn streams(types: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[method]descriptor.read-via-stream",
        |store: StoreContextMut<'_, Guest>, (file, offset): (Handle, u64)| Ok((read(store, &file, offset)?,)),
    )?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |store: StoreContextMut<'_, Guest>, (file, data, offset): (Handle, StreamReader<u8>, u64)| {
            Ok((write(store, &file, data, Some(offset))?,))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |store: StoreContextMut<'_, Guest>, (file, data): (Handle, StreamReader<u8>)| {
            Ok((write(store, &file, data, None)?,))
        },
    )?;
    types.func_wrap("[method]descriptor.read-directory", |store: StoreContextMut<'_, Guest>, (folder,): (Handle,)| {
        Ok((list(store, &folder)?,))
    })
}

/// Another open file for a stream.
fn open(account: &Arc<Account>) -> Result3<OpenFile> {
    OpenFile::new(account).ok_or(ErrorCode::Quota)
}

/// An outcome that is known already.
fn known(store: &mut StoreContextMut<'_, Guest>, result: Result3<()>) -> wasmtime::Result<FutureReader<Result3<()>>> {
    FutureReader::new(store, async move { Ok::<_, wasmtime::Error>(result) })
}

fn read(
    mut store: StoreContextMut<'_, Guest>,
    file: &Handle,
    offset: u64,
) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Result3<()>>)> {
    let account = store.data().account().clone();
    let file = match store.data_mut().table().get(file)? {
        Descriptor::File(file) => Ok(file.file.clone()),
        Descriptor::Dir(_) => Err(ErrorCode::IsDirectory),
    };
    let (file, open) = match file.and_then(|file| Ok((file, open(&account)?))) {
        Ok(file) => file,
        Err(code) => {
            let nothing = StreamReader::new(&mut store, std::iter::empty())?;
            return Ok((nothing, known(&mut store, Err(code))?));
        }
    };
    let (done, result) = oneshot::channel();
    let producer = Read::new(account, file, offset, done, open);
    Ok((StreamReader::new(&mut store, producer)?, FutureReader::new(&mut store, result)?))
}

/// Writes at `offset`, or at the end.
fn write(
    mut store: StoreContextMut<'_, Guest>,
    file: &Handle,
    mut data: StreamReader<u8>,
    offset: Option<u64>,
) -> wasmtime::Result<FutureReader<Result3<()>>> {
    let file = match store.data_mut().table().get(file)? {
        Descriptor::File(file) if file.perms.write_not_permitted() => Err(ErrorCode::NotPermitted),
        Descriptor::File(file) => Ok(file.file.clone()),
        Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor),
    };
    let (account, storage) = (store.data().account().clone(), store.data().folder_storage());
    let (file, open) = match file.and_then(|file| Ok((file, open(&account)?))) {
        Ok(file) => file,
        Err(code) => {
            data.close(&mut store)?;
            return known(&mut store, Err(code));
        }
    };
    let (done, result) = oneshot::channel();
    data.pipe(&mut store, Write::new(account, file, offset, storage, done, open))?;
    FutureReader::new(&mut store, result)
}

fn list(
    mut store: StoreContextMut<'_, Guest>,
    folder: &Handle,
) -> wasmtime::Result<(StreamReader<DirectoryEntry>, FutureReader<Result3<()>>)> {
    let account = store.data().account().clone();
    let folder = match store.data_mut().table().get(folder)? {
        Descriptor::Dir(folder) => Ok(folder.dir.clone()),
        Descriptor::File(_) => Err(ErrorCode::NotDirectory),
    };
    let memory = || account.charge_host_memory(LISTING_BYTES).map_err(|_| ErrorCode::InsufficientMemory);
    match folder.and_then(|folder| Ok((folder, memory()?, open(&account)?))) {
        Ok((folder, memory, open)) => {
            let (done, result) = oneshot::channel();
            let producer = Listing3::new(account, folder, memory, done, open);
            Ok((StreamReader::new(&mut store, producer)?, FutureReader::new(&mut store, result)?))
        }
        Err(code) => {
            let nothing = StreamReader::new(&mut store, std::iter::empty())?;
            Ok((nothing, known(&mut store, Err(code))?))
        }
    }
}

async fn make_folder(accessor: &Accessor<Guest>, folder: Handle, path: String) -> wasmtime::Result<(Result3<()>,)> {
    let claim = match claim(accessor, ENTRY_BYTES).await {
        Ok(claim) => claim,
        Err(code) => return Ok((Err(code),)),
    };
    let (is_limited, roots) = accessor.with(|mut store| {
        let guest = store.data_mut();
        (guest.folder_storage().is_some(), guest.writable_folders())
    });
    let files = files(accessor, &folder, None)?;
    let call = apart::call(account(accessor), files, claim, move |store, (folder, _)| {
        let (made, name) = (again(&folder), path.clone());
        now3(store, async move |files| WasiFilesystem::create_directory_at(files, made, name).await)?;
        if !is_limited {
            return Ok(());
        }
        let (made, name, flags) = (again(&folder), path.clone(), DescriptorFlags::READ);
        let opened = now3(store, async move |files| {
            WasiFilesystem::open_at(files, made, PathFlags::empty(), name, OpenFlags::DIRECTORY, flags).await
        })?;
        let Descriptor::Dir(made) = store.data_mut().take(opened).map_err(FilesystemError::trap)? else {
            return Err(ErrorCode::NotDirectory.into());
        };
        if !is_too_deep(&made.dir, &roots) {
            return Ok(());
        }
        let _ = now3(store, async move |files| WasiFilesystem::remove_directory_at(files, folder, path).await);
        Err(ErrorCode::NameTooLong.into())
    });
    answer(call.await)
}
