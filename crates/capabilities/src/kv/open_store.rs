//! An open key-value store: its database, its queue of writes, and the storage account of its tenant.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use isomer_disk::Database;

use super::cursors::Cursors;
use super::entry;
use super::write_queue::WriteQueue;
use super::{KvError, KvLimits};
use crate::cache_budget::CacheShare;
use crate::open_files::OpenPermit;
use crate::pool::JobQueue;
use crate::storage::{Claim, StorageAccount};

/// A file is compacted on close only if it is more than this many times as large as its entries.
const COMPACT_FROM: u64 = 4;

/// Files up to this size, in bytes, are not compacted on close.
const COMPACT_BYTES_MIN: u64 = 1 << 20;

pub(crate) struct OpenStore {
    pub(super) name: String,
    pub(super) limits: Arc<KvLimits>,
    pub(super) job_queue: JobQueue,
    pub(super) account: Arc<StorageAccount>,
    pub(super) waiting: WriteQueue,
    pub(super) cursors: Mutex<Cursors>,
    /// Always `Some`, except while the store is being dropped.
    open: Option<OpenFile>,
}

/// An open database. Its fields are declared in the order in which they must be dropped.
pub(super) struct OpenFile {
    pub(super) database: Database,
    /// The path of the database file; `None` in tests that use a different storage.
    pub(super) path: Option<PathBuf>,
    pub(super) _cache: CacheShare,
    pub(super) _permit: OpenPermit,
}

impl OpenStore {
    pub(super) fn new(
        name: &str,
        open: OpenFile,
        limits: Arc<KvLimits>,
        job_queue: JobQueue,
        account: Arc<StorageAccount>,
    ) -> Arc<Self> {
        let (waiting, cursors) = (WriteQueue::default(), Mutex::default());
        Arc::new(Self { name: name.to_owned(), limits, job_queue, account, waiting, cursors, open: Some(open) })
    }

    fn open(&self) -> &OpenFile {
        self.open.as_ref().expect("a store is open until it is dropped")
    }

    pub(super) fn database(&self) -> &Database {
        &self.open().database
    }

    pub(super) fn read<T>(&self, work: impl Fn(&redb::Database) -> Result<T, KvError>) -> Result<T, KvError> {
        self.database().read(work)
    }

    /// Reserves the space that a group of writes may use, so that other stores of the tenant cannot use it. Returns the
    /// space and its reservation. After the writes, the caller measures the file and then drops the reservation.
    /// `wanted` is the maximum that the writes can use. Returns `None` if the tenant's storage is not limited.
    pub(super) fn room(&self, wanted: u64) -> Option<(StoreRoom, Option<Claim<'_>>)> {
        let file = self.open().path.as_ref().filter(|_| self.account.is_limited())?;
        let file = self.account.measure(file);
        let full = self.account.full(KvError::DiskFull, |limit| KvError::Quota { limit });
        let left = wanted.min(self.account.room());
        let claim = Claim::new(&self.account, left);
        Some((StoreRoom { left: if claim.is_some() { left } else { 0 }, file, full }, claim))
    }

    /// Records the current size of the store's file.
    pub(super) fn measure(&self) {
        if let Some(path) = &self.open().path {
            self.account.measure(path);
        }
    }
}

impl Drop for OpenStore {
    /// Closes the database in a job on the pool, because closing syncs the file. The job also releases the permit.
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            let account = self.account.clone();
            self.job_queue.spawn(move || open.close(&account));
        }
    }
}

impl OpenFile {
    fn close(self, account: &StorageAccount) {
        let Self { database, path, _cache, _permit } = self;
        let mut database = database.into_inner();
        if let Some(path) = &path
            && let Some(database) = &mut database
            && account.is_limited()
        {
            let file = account.measure(path);
            let entries = entry::known_bytes(database);
            if file > COMPACT_BYTES_MIN
                && entries.is_ok_and(|entries| entries.is_some_and(|bytes| bytes.saturating_mul(COMPACT_FROM) < file))
                && let Err(error) = database.compact()
            {
                tracing::debug!(%error, "cannot compact a key-value store");
            }
        }
        drop(database);
        if let Some(path) = &path {
            account.measure(path);
        }
    }
}

/// The space that a group of writes may use.
pub(super) struct StoreRoom {
    /// The number of bytes by which the entries may grow.
    pub(super) left: u64,
    /// The size of the store's file in bytes. Even if a write exceeds `left`, it is accepted if all entries together
    /// then occupy at most half of the file.
    pub(super) file: u64,
    /// The error for a write that needs more space than this.
    pub(super) full: KvError,
}
