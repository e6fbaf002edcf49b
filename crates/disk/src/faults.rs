//! Storage that fails when it is told to. For tests: not part of a product's build.

use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{BackendError, StorageBackend};

use crate::{FileStorage, Storage};

/// How storage fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No free space: what writes fails with `ENOSPC`, after it wrote a half.
    NoSpace,
    /// A device that fails: everything fails with `EIO`, a write after it wrote a half.
    Broken,
    /// No descriptors: files cannot be opened, and operations fail with `EMFILE` so that one has to be.
    NoDescriptors,
}

/// Which operations fail. Clones are the same plan.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Plan>);

#[derive(Debug, Default)]
struct Plan {
    fault: Mutex<Option<Fault>>,
    /// Operations until the first that fails.
    left: AtomicU64,
    /// Operations that fail after that; then the storage works again.
    fails: AtomicU64,
    met: AtomicBool,
    operations: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Open,
    Read,
    Write,
    Sync,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 3] = [Self::NoSpace, Self::Broken, Self::NoDescriptors];

    fn concerns(self, operation: Operation) -> bool {
        match self {
            Self::NoSpace => operation == Operation::Write,
            Self::Broken => true,
            Self::NoDescriptors => matches!(operation, Operation::Open | Operation::Write),
        }
    }

    /// The error of the system.
    #[must_use]
    pub fn error(self) -> io::Error {
        let code = match self {
            Self::NoSpace => rustix::io::Errno::NOSPC,
            Self::Broken => rustix::io::Errno::IO,
            Self::NoDescriptors => rustix::io::Errno::MFILE,
        };
        code.into()
    }
}

impl Faults {
    /// After `left` more operations that `fault` concerns, all such operations fail until [`Faults::end`].
    pub fn begin(&self, fault: Fault, left: u64) {
        self.begin_for(fault, left, u64::MAX);
    }

    /// As [`Faults::begin`], but only so many operations fail.
    pub fn begin_for(&self, fault: Fault, left: u64, fails: u64) {
        self.0.fails.store(fails, Ordering::SeqCst);
        self.0.left.store(left, Ordering::SeqCst);
        self.0.met.store(false, Ordering::SeqCst);
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// The storage works again. Whether an operation has failed since [`Faults::begin`].
    pub fn end(&self) -> bool {
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.met.load(Ordering::SeqCst)
    }

    /// How many operations there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.operations.load(Ordering::SeqCst)
    }

    fn check(&self, operation: Operation) -> io::Result<()> {
        self.0.operations.fetch_add(1, Ordering::SeqCst);
        let fault = *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fault) = fault.filter(|fault| fault.concerns(operation)) else { return Ok(()) };
        let left = self.0.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            return Ok(());
        }
        let fails = self.0.fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |fails| fails.checked_sub(1));
        if fails.is_err() {
            return Ok(());
        }
        self.0.met.store(true, Ordering::SeqCst);
        Err(fault.error())
    }
}

/// A file that fails by a plan.
#[derive(Debug)]
pub struct FaultyStorage {
    path: PathBuf,
    faults: Faults,
}

impl FaultyStorage {
    /// The file at `path`.
    #[must_use]
    pub fn new(path: PathBuf, faults: Faults) -> Self {
        Self { path, faults }
    }
}

impl Storage for FaultyStorage {
    fn open(&self, anew: bool) -> Result<Box<dyn StorageBackend>, redb::Error> {
        self.faults.check(Operation::Open)?;
        let storage = FileStorage::new(&self.path).open(anew)?;
        Ok(Box::new(FaultyBackend { storage, faults: self.faults.clone() }))
    }
}

#[derive(Debug)]
struct FaultyBackend {
    storage: Box<dyn StorageBackend>,
    faults: Faults,
}

impl StorageBackend for FaultyBackend {
    fn len(&self) -> io::Result<u64> {
        self.storage.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.faults.check(Operation::Read)?;
        self.storage.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.check(Operation::Write)?;
        self.storage.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.check(Operation::Sync)?;
        self.storage.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.faults.check(Operation::Write) {
            Ok(()) => self.storage.write(offset, data),
            Err(error) => {
                let _ = self.storage.write(offset, &data[..data.len() / 2]);
                Err(error)
            }
        }
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
