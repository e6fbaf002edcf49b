//! The functions of WASI 0.3 that take space in folders. Streams are written by a consumer of our own, as wasmtime's cannot be
//! interrupted between asking and writing; it does the same otherwise.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Access, Accessor, FutureReader, LinkerInstance, Source, StreamConsumer, StreamReader, StreamResult,
};
use wasmtime_wasi::filesystem::{Descriptor, File, WasiFilesystem};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, HostDescriptorWithStore, OpenFlags, PathFlags,
};
use wasmtime_wasi::p3::filesystem::FilesystemError;

use super::{ENTRY_BYTES, FolderStorage, Handle, again, claim, cost, filesystem, full, is_too_deep, storage};
use crate::guest::Guest;

/// Bytes that are written at once.
const CHUNK_BYTES: usize = 64 << 10;

type Result3<T> = Result<T, ErrorCode>;

fn answer<T>(result: Result<T, FilesystemError>) -> wasmtime::Result<(Result3<T>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

/// Claims what a new name costs. Whether it may be made.
async fn may_make(accessor: &Accessor<Guest>) -> bool {
    match accessor.with(|mut store| store.data_mut().folder_storage()) {
        Some(storage) => claim(&*storage, ENTRY_BYTES).await,
        None => true,
    }
}

pub(super) fn bound(types: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |store: StoreContextMut<'_, Guest>, (file, data, offset): (Handle, StreamReader<u8>, u64)| {
            Ok((write(store, file, data, Some(offset))?,))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |store: StoreContextMut<'_, Guest>, (file, data): (Handle, StreamReader<u8>)| {
            Ok((write(store, file, data, None)?,))
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.create-directory-at",
        |accessor: &Accessor<Guest>, (folder, path): (Handle, String)| {
            Box::pin(async move { make_folder(accessor, folder, path).await })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.open-at",
        |accessor: &Accessor<Guest>,
         (folder, follow, path, how, flags): (Handle, PathFlags, String, OpenFlags, DescriptorFlags)| {
            Box::pin(async move {
                if how.contains(OpenFlags::CREATE) && !may_make(accessor).await {
                    return Ok((Err(ErrorCode::InsufficientSpace),));
                }
                let files = accessor.with_getter::<WasiFilesystem>(filesystem);
                answer(WasiFilesystem::open_at(&files, folder, follow, path, how, flags).await)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.link-at",
        |accessor: &Accessor<Guest>,
         (folder, follow, path, other, name): (Handle, PathFlags, String, Handle, String)| {
            Box::pin(async move {
                if !may_make(accessor).await {
                    return Ok((Err(ErrorCode::InsufficientSpace),));
                }
                let files = accessor.with_getter::<WasiFilesystem>(filesystem);
                answer(WasiFilesystem::link_at(&files, folder, follow, path, other, name).await)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.symlink-at",
        |accessor: &Accessor<Guest>, (folder, target, name): (Handle, String, String)| {
            Box::pin(async move {
                if !may_make(accessor).await {
                    return Ok((Err(ErrorCode::InsufficientSpace),));
                }
                let files = accessor.with_getter::<WasiFilesystem>(filesystem);
                answer(WasiFilesystem::symlink_at(&files, folder, target, name).await)
            })
        },
    )
}

async fn make_folder(accessor: &Accessor<Guest>, folder: Handle, path: String) -> wasmtime::Result<(Result3<()>,)> {
    let files = accessor.with_getter::<WasiFilesystem>(filesystem);
    let is_limited = accessor.with(|mut store| store.data_mut().folder_storage().is_some());
    if !is_limited {
        return answer(WasiFilesystem::create_directory_at(&files, folder, path).await);
    }
    if !may_make(accessor).await {
        return Ok((Err(ErrorCode::InsufficientSpace),));
    }
    let made = WasiFilesystem::create_directory_at(&files, again(&folder), path.clone()).await;
    if made.is_err() {
        return answer(made);
    }
    let (how, flags) = (OpenFlags::DIRECTORY, DescriptorFlags::READ);
    let opened = WasiFilesystem::open_at(&files, again(&folder), PathFlags::empty(), path.clone(), how, flags);
    let handle = match opened.await {
        Ok(handle) => handle,
        Err(error) => return Ok((Err(error.downcast()?),)),
    };
    let (made, roots) = accessor.with(|mut store| {
        let guest = store.data_mut();
        Ok::<_, wasmtime::Error>((guest.table().delete(handle)?, guest.writable_folders()))
    })?;
    let Descriptor::Dir(made) = made else { return Ok((Err(ErrorCode::NotDirectory),)) };
    if !is_too_deep(made.dir, roots).await {
        return Ok((Ok(()),));
    }
    let _ = WasiFilesystem::remove_directory_at(&files, folder, path).await;
    Ok((Err(ErrorCode::NameTooLong),))
}

/// Writes at `offset`, or at the end.
fn write(
    mut store: StoreContextMut<'_, Guest>,
    file: Handle,
    data: StreamReader<u8>,
    offset: Option<u64>,
) -> wasmtime::Result<FutureReader<Result3<()>>> {
    let storage = storage(&mut store);
    let to = match store.data_mut().table().get(&file)? {
        Descriptor::File(file) if !file.perms.write_not_permitted() => Some(file.clone()),
        Descriptor::File(_) | Descriptor::Dir(_) => None,
    };
    let (Some(storage), Some(to)) = (storage, to) else {
        let access = Access::<Guest, WasiFilesystem>::new(store, filesystem);
        return match offset {
            Some(offset) => WasiFilesystem::write_via_stream(access, file, data, offset),
            None => WasiFilesystem::append_via_stream(access, file, data),
        };
    };
    let (done, result) = oneshot::channel();
    let consumer = Consumer { file: to, offset, storage, doing: None, done: Some(done) };
    data.pipe(&mut store, consumer)?;
    FutureReader::new(&mut store, result)
}

struct Consumer {
    file: File,
    /// `None`: at the end.
    offset: Option<u64>,
    storage: Arc<dyn FolderStorage>,
    /// The write that runs.
    doing: Option<BoxFuture<'static, io::Result<usize>>>,
    done: Option<oneshot::Sender<Result3<()>>>,
}

impl Consumer {
    fn end(&mut self, result: Result3<()>) {
        if let Some(done) = self.done.take() {
            // Whoever dropped the future does not want to know.
            let _ = done.send(result);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

impl<D> StreamConsumer<D> for Consumer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let me = &mut *self;
        let doing = match &mut me.doing {
            Some(doing) => doing,
            // Nothing was begun that would have to be waited for.
            None if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            None => {
                let remaining = source.remaining();
                let bytes = Bytes::copy_from_slice(&remaining[..remaining.len().min(CHUNK_BYTES)]);
                me.doing.insert(Box::pin(write_chunk(me.storage.clone(), me.file.file.clone(), bytes, me.offset)))
            }
        };
        let written = ready!(doing.as_mut().poll(cx));
        me.doing = None;
        match written {
            Ok(bytes) => {
                source.mark_read(bytes);
                me.offset = me.offset.map(|offset| offset.saturating_add(bytes as u64));
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Err(error) => {
                me.end(Err(error.into()));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
        }
    }
}

async fn write_chunk(
    storage: Arc<dyn FolderStorage>,
    file: Arc<std::fs::File>,
    bytes: Bytes,
    offset: Option<u64>,
) -> io::Result<usize> {
    if !claim(&*storage, cost(bytes.len())).await {
        return Err(full());
    }
    let write = move || match offset {
        Some(offset) => std::os::unix::fs::FileExt::write_at(&*file, &bytes, offset),
        None => append(&file, &bytes),
    };
    tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
}

#[cfg(target_os = "linux")]
fn append(file: &std::fs::File, bytes: &[u8]) -> io::Result<usize> {
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};
    match pwritev2(file, &[io::IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND) {
        Err(Errno::NOSYS | Errno::OPNOTSUPP) => append_by_length(file, bytes),
        result => Ok(result?),
    }
}

#[cfg(not(target_os = "linux"))]
use append_by_length as append;

/// Not atomic beside another writer of the same file.
fn append_by_length(file: &std::fs::File, bytes: &[u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, file.metadata()?.len())
}
