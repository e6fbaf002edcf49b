//! A storage backend that fails on demand, for tests. This module is not part of a release build.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

use crate::backend::{Around, Layer, Operation};
use crate::{FileStorage, Storage};

/// The reason why operations of a storage backend fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full: a write fails with `ENOSPC` after half of its bytes were written.
    NoSpace,
    /// The device fails: every operation fails with `EIO`, and a write fails after half of its bytes were written.
    Broken,
    /// The process has no free descriptors: opening a file fails with `EMFILE`. Writes also fail with `EMFILE`, so that
    /// the database fails, and has to open its file again.
    NoDescriptors,
}

/// The rules that decide which operations fail. Clones share the rules.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Plan>);

#[derive(Debug, Default)]
struct Plan {
    fault: Mutex<Option<Fault>>,
    /// The number of operations that still succeed before the first operation fails.
    left: AtomicU64,
    /// The number of operations that still fail once `left` is zero. Later operations succeed again.
    fails: AtomicU64,
    met: AtomicBool,
    operations: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Open,
    Read,
    Write,
    Sync,
}

impl Fault {
    /// All kinds of faults.
    pub const ALL: [Self; 3] = [Self::NoSpace, Self::Broken, Self::NoDescriptors];

    fn concerns(self, call: Call) -> bool {
        match self {
            Self::NoSpace => call == Call::Write,
            Self::Broken => true,
            Self::NoDescriptors => matches!(call, Call::Open | Call::Write),
        }
    }

    /// Returns the error with which operations fail.
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
    /// Starts a fault. The next `left` operations that `fault` affects still succeed. Then all such operations fail
    /// until [`Faults::end`].
    pub fn begin(&self, fault: Fault, left: u64) {
        self.begin_for(fault, left, u64::MAX);
    }

    /// Starts a fault like [`Faults::begin`], but only `fails` operations fail. Later operations succeed again.
    pub fn begin_for(&self, fault: Fault, left: u64, fails: u64) {
        self.0.fails.store(fails, Ordering::SeqCst);
        self.0.left.store(left, Ordering::SeqCst);
        self.0.met.store(false, Ordering::SeqCst);
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// Ends the fault. Returns whether an operation has failed since [`Faults::begin`].
    pub fn end(&self) -> bool {
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.met.load(Ordering::SeqCst)
    }

    /// Returns the number of operations, including failed ones, since these rules were created.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.operations.load(Ordering::SeqCst)
    }

    fn check(&self, call: Call) -> io::Result<()> {
        self.0.operations.fetch_add(1, Ordering::SeqCst);
        let fault = *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fault) = fault.filter(|fault| fault.concerns(call)) else { return Ok(()) };
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

/// A file whose operations fail according to [`Faults`].
#[derive(Debug)]
pub struct FaultyStorage {
    path: PathBuf,
    faults: Faults,
}

impl FaultyStorage {
    /// Creates the storage that consists of the file at `path`. Operations on the file fail according to `faults`.
    #[must_use]
    pub fn new(path: PathBuf, faults: Faults) -> Self {
        Self { path, faults }
    }
}

impl Storage for FaultyStorage {
    fn open(&self, is_reopened: bool) -> Result<Box<dyn StorageBackend>, redb::Error> {
        self.faults.check(Call::Open)?;
        let storage = FileStorage::new(&self.path).open(is_reopened)?;
        Ok(Box::new(Layer::new(storage, self.faults.clone())))
    }
}

impl Around for Faults {
    fn around<T>(&self, operation: Operation, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match operation {
            Operation::Length => {}
            Operation::Read => self.check(Call::Read)?,
            Operation::Write => self.check(Call::Write)?,
            Operation::Sync => self.check(Call::Sync)?,
        }
        run()
    }

    fn around_write(&self, data: &[u8], run: impl Fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match self.check(Call::Write) {
            Ok(()) => run(data),
            Err(error) => {
                let _ = run(&data[..data.len() / 2]);
                Err(error)
            }
        }
    }
}
