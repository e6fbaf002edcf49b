//! Layers between redb and its storage backend: a layer with which tests inject failures, and a layer that records
//! whether an operation of the backend failed.

use std::fmt::Debug;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{BackendError, StorageBackend};

/// The kind of an operation of a storage backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Length,
    Read,
    /// A write of bytes, or a change of the length of the stored data.
    Write,
    Sync,
}

/// A wrapper around each operation of a storage backend.
pub(crate) trait Around: Debug + Send + Sync + 'static {
    /// Calls `run`, which performs the operation. Can instead return an error; then `run` is not called.
    fn around<T>(&self, operation: Operation, run: impl FnOnce() -> io::Result<T>) -> io::Result<T>;

    /// Calls `run` with `data`, which writes the data. Can instead return an error, without calling `run` or after
    /// calling it with only a part of `data`.
    fn around_write(&self, data: &[u8], run: impl Fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.around(Operation::Write, || run(data))
    }
}

/// A storage backend that runs each operation of another backend through `A`, except for locking and closing. `A` can
/// observe an operation or make it fail.
#[derive(Debug)]
pub(crate) struct Layer<A> {
    storage: Box<dyn StorageBackend>,
    around: A,
}

impl<A> Layer<A> {
    pub(crate) fn new(storage: Box<dyn StorageBackend>, around: A) -> Self {
        Self { storage, around }
    }
}

impl<A: Around> StorageBackend for Layer<A> {
    fn len(&self) -> io::Result<u64> {
        self.around.around(Operation::Length, || self.storage.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.around.around(Operation::Read, || self.storage.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.around.around(Operation::Write, || self.storage.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.around.around(Operation::Sync, || self.storage.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.around.around_write(data, |data| self.storage.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.storage.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.storage.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.storage.query_lock_range(start, end)
    }
}

/// The record of whether an operation of an open storage backend has failed.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failed: AtomicBool,
}

impl Health {
    /// Returns whether an operation has failed. After a failure, redb refuses all operations.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// Runs all operations, and records failures.
impl Around for Arc<Health> {
    fn around<T>(&self, _: Operation, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        run().inspect_err(|_| self.failed.store(true, Ordering::Release))
    }
}
