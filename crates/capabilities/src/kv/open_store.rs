//! An open key-value store: its database, its queue of writes and the storage that its tenant is charged for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use isomer_disk::Database;

use super::cursors::Cursors;
use super::entry;
use super::write_queue::WriteQueue;
use super::{KvError, KvLimits};
use crate::cache_budget::CacheShare;
use crate::open_files::OpenPermit;
use crate::pool::Lane;
use crate::storage::{Claim, StorageAccount};

/// A file is compacted when it is closed if it is more than this many times as large as its content.
const COMPACT_FROM: u64 = 4;

/// Files up to this size are not compacted.
const COMPACT_BYTES_MIN: u64 = 1 << 20;

pub(crate) struct OpenStore {
    pub(super) name: String,
    pub(super) limits: Arc<KvLimits>,
    pub(super) lane: Lane,
    pub(super) account: Arc<StorageAccount>,
    pub(super) waiting: WriteQueue,
    pub(super) cursors: Mutex<Cursors>,
    /// Present until this is dropped.
    open: Option<OpenFile>,
}

/// An open database; the fields are in the order in which they are closed.
pub(super) struct OpenFile {
    pub(super) database: Database,
    /// The path of the file; `None` in tests.
    pub(super) path: Option<PathBuf>,
    pub(super) _cache: CacheShare,
    pub(super) _permit: OpenPermit,
}

impl OpenStore {
    pub(super) fn new(
        name: &str,
        open: OpenFile,
        limits: Arc<KvLimits>,
        lane: Lane,
        account: Arc<StorageAccount>,
    ) -> Arc<Self> {
        let (waiting, cursors) = (WriteQueue::default(), Mutex::default());
        Arc::new(Self { name: name.to_owned(), limits, lane, account, waiting, cursors, open: Some(open) })
    }

    fn open(&self) -> &OpenFile {
        self.open.as_ref().expect("it is open until it is dropped")
    }

    pub(super) fn database(&self) -> &Database {
        &self.open().database
    }

    pub(super) fn read<T>(&self, work: impl Fn(&redb::Database) -> Result<T, KvError>) -> Result<T, KvError> {
        self.database().read(work)
    }

    /// Returns how many of `wanted` bytes may be added to the store; `None` if there is no limit. The bytes are
    /// claimed, so that the tenant's other stores cannot use them. The caller drops the claim after the file was
    /// measured.
    pub(super) fn room(&self, wanted: u64) -> Option<(StoreRoom, Option<Claim<'_>>)> {
        let file = self.open().path.as_ref().filter(|_| self.account.is_limited())?;
        let file = self.account.measure(file);
        let full = self.account.full(KvError::DiskFull, |limit| KvError::Quota { limit });
        let left = wanted.min(self.account.room());
        let claim = Claim::new(&self.account, left);
        Some((StoreRoom { left: if claim.is_some() { left } else { 0 }, file, full }, claim))
    }

    /// Records the current size of the file.
    pub(super) fn measure(&self) {
        if let Some(path) = &self.open().path {
            self.account.measure(path);
        }
    }
}

impl Drop for OpenStore {
    /// Closing syncs the file, so it is done by a job of the pool. The permit is released after that.
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            let account = self.account.clone();
            self.lane.spawn(move || open.close(&account));
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
                tracing::debug!(%error, "a key-value store could not be made smaller");
            }
        }
        drop(database);
        if let Some(path) = &path {
            account.measure(path);
        }
    }
}

/// The space that a write may use in a store.
pub(super) struct StoreRoom {
    /// The bytes that the tenant may still add, at most the wanted ones.
    pub(super) left: u64,
    /// The size of the store's file. While the content is smaller than half of it, only entries that fit into the
    /// existing file are added.
    pub(super) file: u64,
    /// The error of a write that does not fit.
    pub(super) full: KvError,
}
