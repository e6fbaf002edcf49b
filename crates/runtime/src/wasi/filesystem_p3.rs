//! The file and folder functions of WASI 0.3. They leave paths and permissions to wasmtime's implementation.

use std::sync::Arc;

use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, FutureReader, LinkerInstance, StreamReader};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    Advice, DescriptorFlags, DirectoryEntry, ErrorCode, HostDescriptorWithStore, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p3::filesystem::FilesystemError;

use crate::folders::calls::{self, again};
use crate::folders::open_files::OpenFile;
use crate::folders::{
    ENTRY_BYTES, FileArgument, FileCall, FileCallState, FileReader, FileWriter, FolderStorage, Handle, LISTING_BYTES,
    ListingP3, is_too_deep, now3,
};
use crate::guest::Guest;
use crate::pool::Account;

type ResultP3<T> = Result<T, ErrorCode>;

fn result_value<T>(result: Result<T, FilesystemError>) -> wasmtime::Result<(ResultP3<T>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

impl FileArgument for Advice {}
impl FileArgument for NewTimestamp {}
impl FileArgument for PathFlags {}

/// Returns the account that a call is charged to, and the storage in which it reserves space.
fn account_and_storage(accessor: &Accessor<Guest>) -> (Arc<Account>, Option<Arc<dyn FolderStorage>>) {
    accessor.with(|mut store| {
        let guest = store.data_mut();
        (guest.account().clone(), guest.folder_storage())
    })
}

fn files(accessor: &Accessor<Guest>, call: &FileCall) -> wasmtime::Result<(Descriptor, Option<Descriptor>)> {
    accessor.with(|mut store| call.files(store.data_mut().table()))
}

/// Charges the memory of `call` and reserves its space, and then runs `work` on a thread for file work.
async fn run<T: Send + 'static>(
    accessor: &Accessor<Guest>,
    call: FileCall,
    work: impl FnOnce(&mut wasmtime::Store<FileCallState>, calls::Handles) -> Result<T, FilesystemError> + Send + 'static,
) -> wasmtime::Result<(ResultP3<T>,)> {
    let (account, storage) = account_and_storage(accessor);
    let admitted = match call.admit(&account, storage).await {
        Ok(admitted) => admitted,
        Err(error) => return Ok((Err(error.into()),)),
    };
    let files = files(accessor, &call)?;
    result_value(calls::call(&account, admitted, files, work).await)
}

/// Defines host functions that are methods of a descriptor. A call may increase the use of the tenant's storage by at
/// most `$cost` bytes. This space is reserved before the call.
macro_rules! calls {
    ($types:ident, $cost:expr, $($name:literal => $method:ident($($argument:ident: $kind:ty),*);)*) => {$(
        $types.func_wrap_concurrent(
            $name,
            |accessor: &Accessor<Guest>, (handle, $($argument,)*): (Handle, $($kind,)*)| {
                Box::pin(async move {
                    let call = FileCall::of(handle, $cost, &[$($argument.text()),*]);
                    run(accessor, call, move |store, (file, _)| {
                        now3(store, async move |files| WasiFilesystem::$method(files, file, $($argument),*).await)
                    })
                    .await
                })
            },
        )?;
    )*};
}

/// Replaces each of wasmtime's functions that the macro's arguments name with the given function of this module.
macro_rules! defined {
    ($types:ident, $($name:literal => $function:ident($($argument:ident: $kind:ty),*);)*) => {$(
        $types.func_wrap_concurrent(
            $name,
            |accessor: &Accessor<Guest>, ($($argument,)*): ($($kind,)*)| {
                Box::pin($function(accessor, $($argument),*))
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
    }
    streams(types)
}

async fn open_at(
    accessor: &Accessor<Guest>,
    folder: Handle,
    follow: PathFlags,
    path: String,
    how: OpenFlags,
    flags: DescriptorFlags,
) -> wasmtime::Result<(ResultP3<Handle>,)> {
    // The file is counted before it is opened, because many such calls may be in flight. The permit moves into the job,
    // which returns it with the file.
    let open = match accessor.with(|mut store| open(store.data_mut().account())) {
        Ok(open) => open,
        Err(code) => return Ok((Err(code),)),
    };
    let cost = if how.contains(OpenFlags::CREATE) { ENTRY_BYTES } else { 0 };
    let call = FileCall::of(folder, cost, &[&path]);
    let opened = run(accessor, call, move |store, (folder, _)| {
        let opened =
            now3(store, async move |files| WasiFilesystem::open_at(files, folder, follow, path, how, flags).await)?;
        Ok((store.data_mut().take(opened).map_err(FilesystemError::trap)?, open))
    });
    Ok(match opened.await?.0 {
        Ok((file, open)) => (Ok(accessor.with(|mut store| store.data_mut().push_file(file, open))?),),
        Err(code) => (Err(code),),
    })
}

async fn rename_at(
    accessor: &Accessor<Guest>,
    folder: Handle,
    path: String,
    other: Handle,
    name: String,
) -> wasmtime::Result<(ResultP3<()>,)> {
    let call = FileCall::of(folder, 0, &[&path, &name]).and(other);
    run(accessor, call, move |store, (folder, other)| {
        now3(store, async move |files| WasiFilesystem::rename_at(files, folder, path, other, name).await)
    })
    .await
}

async fn link_at(
    accessor: &Accessor<Guest>,
    folder: Handle,
    follow: PathFlags,
    path: String,
    other: Handle,
    name: String,
) -> wasmtime::Result<(ResultP3<()>,)> {
    let call = FileCall::of(folder, ENTRY_BYTES, &[&path, &name]).and(other);
    run(accessor, call, move |store, (folder, other)| {
        now3(store, async move |files| WasiFilesystem::link_at(files, folder, follow, path, other, name).await)
    })
    .await
}

/// The interface has no error for this function, so every failure is a trap.
async fn is_same_object(accessor: &Accessor<Guest>, file: Handle, other: Handle) -> wasmtime::Result<(bool,)> {
    let call = FileCall::of(file, 0, &[]).and(other);
    let account = account_and_storage(accessor).0;
    let admitted = call.admit(&account, None).await?;
    let files = files(accessor, &call)?;
    let same = calls::call(&account, admitted, files, move |store, (file, other)| {
        now3(store, async move |files| WasiFilesystem::is_same_object(files, file, other).await)
    });
    Ok((same.await?,))
}

async fn make_folder(accessor: &Accessor<Guest>, folder: Handle, path: String) -> wasmtime::Result<(ResultP3<()>,)> {
    let (is_limited, roots) = accessor.with(|mut store| {
        let guest = store.data_mut();
        (guest.folder_storage().is_some(), guest.writable_folders())
    });
    let call = FileCall::of(folder, ENTRY_BYTES, &[&path]);
    run(accessor, call, move |store, (folder, _)| {
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
    })
    .await
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

/// Counts one more open file of `account`, for a call or a stream.
fn open(account: &Arc<Account>) -> ResultP3<OpenFile> {
    OpenFile::new(account).ok_or(ErrorCode::Quota)
}

/// Returns a future whose value is already known.
fn known(store: &mut StoreContextMut<'_, Guest>, result: ResultP3<()>) -> wasmtime::Result<FutureReader<ResultP3<()>>> {
    FutureReader::new(store, async move { Ok::<_, wasmtime::Error>(result) })
}

fn read(
    mut store: StoreContextMut<'_, Guest>,
    file: &Handle,
    offset: u64,
) -> wasmtime::Result<(StreamReader<u8>, FutureReader<ResultP3<()>>)> {
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
    let producer = FileReader::new(account, file, offset, done, open);
    Ok((StreamReader::new(&mut store, producer)?, FutureReader::new(&mut store, result)?))
}

/// Writes a stream to the file at `offset`, or at the end of the file.
fn write(
    mut store: StoreContextMut<'_, Guest>,
    file: &Handle,
    mut data: StreamReader<u8>,
    offset: Option<u64>,
) -> wasmtime::Result<FutureReader<ResultP3<()>>> {
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
    data.pipe(&mut store, FileWriter::new(account, file, offset, storage, done, open))?;
    FutureReader::new(&mut store, result)
}

fn list(
    mut store: StoreContextMut<'_, Guest>,
    folder: &Handle,
) -> wasmtime::Result<(StreamReader<DirectoryEntry>, FutureReader<ResultP3<()>>)> {
    let account = store.data().account().clone();
    let folder = match store.data_mut().table().get(folder)? {
        Descriptor::Dir(folder) => Ok(folder.dir.clone()),
        Descriptor::File(_) => Err(ErrorCode::NotDirectory),
    };
    let memory = || account.charge_host_memory(LISTING_BYTES).map_err(|_| ErrorCode::InsufficientMemory);
    match folder.and_then(|folder| Ok((folder, memory()?, open(&account)?))) {
        Ok((folder, memory, open)) => {
            let (done, result) = oneshot::channel();
            let producer = ListingP3::new(account, folder, memory, done, open);
            Ok((StreamReader::new(&mut store, producer)?, FutureReader::new(&mut store, result)?))
        }
        Err(code) => {
            let nothing = StreamReader::new(&mut store, std::iter::empty())?;
            Ok((nothing, known(&mut store, Err(code))?))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use futures::FutureExt as _;
    use futures::future::join_all;

    use super::super::fake_guest::{folder, store};
    use super::*;
    use crate::folders::fake::FakeStorage;
    use crate::folders::open_files::MANY;

    #[tokio::test]
    async fn files_count_as_open_while_they_are_being_opened_and_until_their_handles_are_dropped() {
        const FILES: usize = 40;
        let _alone = MANY.lock().await;
        let (storage, dir) = (FakeStorage::new(1 << 30, 1 << 30), tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("f"), "text").unwrap();
        let mut store = store(&storage);
        let folder = folder(&mut store, dir.path());
        let open = || storage.account.open_files().load(Ordering::Relaxed);
        let run = store.run_concurrent(async |accessor| {
            let call = || {
                let (how, flags) = (OpenFlags::empty(), DescriptorFlags::READ);
                Box::pin(open_at(accessor, again(&folder), PathFlags::empty(), "f".to_owned(), how, flags))
            };
            // Polls each call once, as if a guest made all of them in one poll. Some may already be finished by fast
            // threads.
            let (mut opened, mut calls) = (Vec::new(), Vec::new());
            for mut call in (0..FILES).map(|_| call()) {
                match call.as_mut().now_or_never() {
                    Some(done) => opened.push(done),
                    None => calls.push(call),
                }
            }
            assert_eq!(open(), FILES, "not all files that are open or being opened are counted");
            drop(calls.split_off(calls.len() / 2));
            opened.extend(join_all(calls).await);
            let count = opened.len();
            for (number, opened) in opened.into_iter().enumerate() {
                assert!(
                    open() >= count - number,
                    "fewer files are counted than are open, after {number} of {count} were closed"
                );
                let handle = opened.unwrap().0.unwrap();
                accessor.with(|mut store| store.data_mut().drop_file(handle.rep())).unwrap();
            }
        });
        run.await.unwrap();
        // Waits for a job that was running when its caller was dropped: it still runs until it ends.
        drop(crate::folders::hold_all_threads(&storage.account).await);
        assert_eq!(open(), 0);
    }

    #[tokio::test]
    async fn texts_are_bounded_and_charged_before_anything_is_waited_for() {
        let (storage, dir) = (FakeStorage::new(0, 100_000), tempfile::tempdir().unwrap());
        storage.never_ends_counts();
        let mut store = store(&storage);
        let folder = folder(&mut store, dir.path());
        let charged = || storage.account.used().host_bytes;
        let run = store.run_concurrent(async |accessor| {
            let make = |path: String| Box::pin(make_folder(accessor, again(&folder), path));
            for bytes in [4096, 30 << 20] {
                let refused =
                    make("d".repeat(bytes)).now_or_never().expect("a call that is refused without waiting").unwrap().0;
                assert!(matches!(refused, Err(ErrorCode::NameTooLong)), "{refused:?}");
            }
            let link =
                link_at(accessor, again(&folder), PathFlags::empty(), "a".into(), again(&folder), "n".repeat(5000));
            assert!(matches!(
                link.now_or_never().expect("a call that is refused without waiting").unwrap().0,
                Err(ErrorCode::NameTooLong)
            ));
            assert_eq!(charged(), 0);
            // The account has no free space, and the measurement of the folders, which could find free space, never
            // ends. So the calls wait.
            let mut waiting: Vec<_> = (0..20).map(|_| make("d".repeat(4000))).collect();
            assert!(waiting.iter_mut().all(|call| call.as_mut().now_or_never().is_none()));
            assert!((20 * 4000..100_000).contains(&charged()), "{}", charged());
            let mut more: Vec<_> = (0..10).map(|_| make("d".repeat(4000))).collect();
            let refused = more.iter_mut().filter_map(|call| call.as_mut().now_or_never());
            assert!(refused.map(|call| call.unwrap().0).any(|done| matches!(done, Err(ErrorCode::InsufficientMemory))));
            drop((waiting, more));
            assert_eq!(charged(), 0);
        });
        run.await.unwrap();
    }

    #[tokio::test]
    async fn a_call_that_waits_for_a_thread_is_charged_until_its_caller_is_dropped() {
        let (storage, dir) = (FakeStorage::new(1 << 30, 1 << 30), tempfile::tempdir().unwrap());
        let mut store = store(&storage);
        let folder = folder(&mut store, dir.path());
        let held = crate::folders::hold_all_threads(&storage.account).await;
        let run = store.run_concurrent(async |accessor| {
            let mut call = Box::pin(make_folder(accessor, again(&folder), "d".repeat(200)));
            assert!(call.as_mut().now_or_never().is_none());
            assert!(storage.account.used().host_bytes >= 200);
            assert_eq!(storage.pending.load(Ordering::SeqCst), ENTRY_BYTES);
            drop(call);
            assert_eq!((storage.account.used().host_bytes, storage.pending.load(Ordering::SeqCst)), (0, 0));
        });
        run.await.unwrap();
        drop(held);
    }
}
