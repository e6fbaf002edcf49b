//! Key-value stores on redb, one file per store.
//!
//! All waiting writes of a store are applied in one transaction and synced once (group commit). Each caller gets its
//! result after that sync. Reads use the last committed state and never wait for a writer. Reads and groups of writes
//! are jobs in the tenant's [job queue](crate::pool). The queue of writes and the queue of jobs are bounded.
//!
//! - [`Kv`]: the stores of one data directory.
//! - [`KvStore`]: a handle of one store; cheap to clone.
//! - [`Cas`]: the version of a key that was read, for [`KvStore::swap`].
//!
//! Invariant: the result of a write is sent only after the commit that contains the write has returned.

mod browse;
mod candidate;
mod cursors;
mod entry;
mod existing;
mod open_store;
mod store;
mod write_queue;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use isomer_disk::{Database, FileStorage, Storage};
use isomer_display::size;
use isomer_runtime::{Account, OutOfMemory};

use crate::cache_budget::CacheBudget;
use crate::open_files::{OpenFiles, OpenPermit};
use crate::pool::{JobQueue, JobQueueBounds, Pool, PoolError, PoolSize};
use crate::private_files::{make_private_dir, make_private_file, sync_dir};
use crate::{InvalidStoreName, StorageAccount, check_store_name};

pub use browse::SizedKeyPage;
pub use entry::{Delta, KeyPage};
use open_store::{OpenFile, OpenStore};

pub use store::{Cas, KvStore, Swap};

/// The limits of key-value stores. An operation that exceeds a limit returns an error.
#[derive(Debug, Clone)]
pub struct KvLimits {
    /// The maximum size of a key, in bytes.
    pub key_bytes_max: usize,
    /// The maximum size of a value, in bytes.
    pub value_bytes_max: usize,
    /// The maximum number of keys in a batch operation.
    pub batch_keys_max: usize,
    /// The maximum number of bytes that a batch operation writes or reads.
    pub batch_bytes_max: usize,
    /// The maximum number of keys in one page of a listing.
    pub page_keys_max: usize,
    /// The maximum total size of the keys in one page of a listing, in bytes.
    pub page_bytes_max: usize,
    /// The maximum number of waiting writes per store.
    pub waiting_writes_max: usize,
    /// The maximum total size of the waiting writes of a tenant's stores, in bytes.
    pub waiting_bytes_max: usize,
    /// The maximum number of waiting reads of a tenant's stores.
    pub waiting_reads_max: usize,
    /// The maximum number of threads that the stores of all tenants share.
    pub threads_max: usize,
    /// The maximum number of additional threads. A tenant that has no thread gets one of them if all shared threads are
    /// busy.
    pub reserve_threads_max: usize,
    /// The maximum number of threads that the stores of one tenant use at the same time.
    pub tenant_threads_max: usize,
    /// The maximum size of one store's page cache, in bytes.
    pub cache_bytes: usize,
    /// The total size of the page caches of all stores, in bytes. A store that is opened gets a part of the unused
    /// bytes, but at least [`CACHE_BYTES_MIN`].
    pub caches_bytes: usize,
}

impl Default for KvLimits {
    fn default() -> Self {
        Self {
            key_bytes_max: 1024,
            value_bytes_max: 8 << 20,
            batch_keys_max: 1000,
            batch_bytes_max: 16 << 20,
            page_keys_max: 1000,
            page_bytes_max: 256 << 10,
            waiting_writes_max: 1024,
            waiting_bytes_max: 64 << 20,
            waiting_reads_max: 4096,
            threads_max: 32,
            reserve_threads_max: 96,
            tenant_threads_max: 4,
            cache_bytes: 16 << 20,
            caches_bytes: 256 << 20,
        }
    }
}

/// The minimum size of a store's page cache, in bytes.
pub const CACHE_BYTES_MIN: usize = 256 << 10;

/// The reason why an operation on a key-value store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The name is not a valid store name.
    #[error(transparent)]
    Name(#[from] InvalidStoreName),
    /// The key is longer than [`KvLimits::key_bytes_max`].
    #[error("the key has {}, more than the maximum of {}", size(.bytes), size(.bytes_max))]
    KeyTooLong {
        /// The length of the key, in bytes.
        bytes: usize,
        /// The maximum length of a key, in bytes.
        bytes_max: usize,
    },
    /// The value is larger than [`KvLimits::value_bytes_max`].
    #[error("the value of `{key}` has {}, more than the maximum of {}", size(.bytes), size(.bytes_max))]
    ValueTooLong {
        /// The key of the value.
        key: String,
        /// The size of the value, in bytes.
        bytes: usize,
        /// The maximum size of a value, in bytes.
        bytes_max: usize,
    },
    /// A batch has more keys than [`KvLimits::batch_keys_max`].
    #[error("the batch has {keys} keys, more than the maximum of {keys_max}: split the batch")]
    BatchTooLong {
        /// The number of keys in the batch.
        keys: usize,
        /// The maximum number of keys in a batch.
        keys_max: usize,
    },
    /// A batch has more bytes than [`KvLimits::batch_bytes_max`].
    #[error("the values of the batch exceed the maximum of {}: split the batch", size(.bytes_max))]
    BatchTooLarge {
        /// The maximum size of a batch, in bytes.
        bytes_max: usize,
    },
    /// The value to increment is not a decimal number.
    #[error("the value of `{key}` is not a decimal number, so it cannot be incremented")]
    NotANumber {
        /// The key of the value.
        key: String,
    },
    /// The sum of an increment is out of the range of its type.
    #[error("incrementing `{key}` would overflow")]
    Overflow {
        /// The key whose value was to be incremented.
        key: String,
    },
    /// The store does not know this numeric cursor, because too many newer cursors were created, or because a different
    /// process created it.
    #[error("the cursor `{cursor}` has expired: list the keys from the beginning")]
    CursorExpired {
        /// The unknown cursor.
        cursor: u64,
    },
    /// Too many operations of the store or of the tenant are waiting, or the total size of the waiting writes is too
    /// large.
    #[error("the store has too many operations waiting: try again later")]
    Overloaded,
    /// The tenant's storage quota is exhausted. Nothing was written; deleting entries frees space.
    #[error("the quota `storage` of {} is used up: delete data, or ask for a higher quota", size(.limit))]
    Quota {
        /// The quota in bytes ([`StorageAccount::limit`]).
        limit: u64,
    },
    /// Guests, and values that the node holds for the tenant, have exhausted the tenant's memory quota.
    #[error("the quota `memory` of {} is used up: request less data at a time, or ask for a higher quota", size(.limit))]
    Memory {
        /// The quota in bytes.
        limit: u64,
    },
    /// The free space of the disk has reached the reserve, which tenants must not use. Nothing was written.
    #[error("the disk has no space left: try again later, or contact the administrator")]
    DiskFull,
    /// The database failed. If the operation was a write, it is unknown whether the write was stored.
    #[error("the store failed: {message}")]
    Storage {
        /// The error of the database.
        message: String,
    },
}

impl KvError {
    pub(crate) fn storage(error: impl std::fmt::Display) -> Self {
        Self::Storage { message: error.to_string() }
    }
}

impl From<redb::Error> for KvError {
    fn from(error: redb::Error) -> Self {
        Self::storage(error)
    }
}

impl From<OutOfMemory> for KvError {
    fn from(error: OutOfMemory) -> Self {
        Self::Memory { limit: error.limit_bytes }
    }
}

impl From<PoolError> for KvError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Full => Self::Overloaded,
            PoolError::Abandoned => Self::storage(error),
        }
    }
}

/// The threads, open files and page cache budget that the key-value stores of all apps in a process share.
#[derive(Clone)]
pub(crate) struct KvEngine {
    limits: Arc<KvLimits>,
    pool: Arc<Pool>,
    files: Arc<OpenFiles<OpenStore>>,
    cache: Arc<CacheBudget>,
}

impl KvEngine {
    pub(crate) fn new(limits: KvLimits) -> Self {
        let size = PoolSize { threads_max: limits.threads_max, reserve_max: limits.reserve_threads_max };
        let pool = Pool::new("isomer-kv", size);
        Self::on(pool, limits)
    }

    /// Creates an engine whose jobs run on the threads of `pool`.
    fn on(pool: Arc<Pool>, limits: KvLimits) -> Self {
        let cache = CacheBudget::new(limits.caches_bytes, CACHE_BYTES_MIN, limits.cache_bytes);
        Self { limits: Arc::new(limits), pool, files: Arc::default(), cache }
    }

    /// Returns the job queue of the tenant with this storage account. The queue charges its jobs to `account`.
    pub(crate) fn job_queue(&self, storage: &StorageAccount, account: &Arc<Account>) -> JobQueue {
        let bounds =
            JobQueueBounds { running_max: self.limits.tenant_threads_max, waiting_max: self.limits.waiting_reads_max };
        self.pool.job_queue(storage.number(), account.clone(), bounds)
    }

    /// Returns the stores in `dir`. The directory is created when the first store is opened.
    pub(crate) fn stores(&self, dir: &Path, storage: Arc<StorageAccount>, account: &Arc<Account>) -> Kv {
        let job_queue = self.job_queue(&storage, account);
        Kv { dir: dir.to_owned(), engine: self.clone(), job_queue, account: storage }
    }

    /// Waits until no store below `dir` is open.
    pub(crate) async fn closed(&self, dir: &Path) {
        self.files.closed(dir).await;
    }

    /// Returns the number of open stores.
    pub(crate) fn open_stores(&self) -> usize {
        self.files.open()
    }
}

/// The key-value stores in one directory. A store is opened on demand, and closed when its last handle is dropped.
#[derive(Clone)]
pub struct Kv {
    dir: PathBuf,
    engine: KvEngine,
    job_queue: JobQueue,
    account: Arc<StorageAccount>,
}

impl Kv {
    /// Creates the set of the stores in the folder `dir`. It has threads of its own, and no quota. Opens no store.
    pub fn new(dir: &Path, limits: KvLimits) -> Self {
        KvEngine::new(limits).stores(dir, Arc::new(StorageAccount::unlimited()), &Account::unlimited())
    }

    /// Opens the store `name`, and creates it if it does not exist.
    ///
    /// # Errors
    /// [`KvError::Name`]; [`KvError::Overloaded`] if too many operations of the tenant are waiting;
    /// [`KvError::Storage`] if the store's file cannot be opened.
    pub async fn store(&self, name: &str) -> Result<KvStore, KvError> {
        check_store_name(name)?;
        let path = self.path_of(name);
        let open = async |permit, _| {
            let (file, cache) = (path.clone(), self.engine.cache.share());
            let opened = self.job_queue.run(move || {
                let database = open_file(&file, cache.bytes())?;
                Ok::<_, KvError>(OpenFile { database, path: Some(file), _cache: cache, _permit: permit })
            });
            Ok::<_, KvError>(self.start(name, opened.await??))
        };
        let (store, _) = self.engine.files.get(&path, open).await?;
        Ok(KvStore::new(store))
    }

    /// Opens a store over the given storage, for tests of crashes and failing disks.
    ///
    /// # Errors
    /// [`KvError::Storage`] if the storage cannot be opened.
    pub async fn store_over(&self, name: &str, storage: impl Storage) -> Result<KvStore, KvError> {
        let cache = self.engine.cache.share();
        let opened = self.job_queue.run(move || {
            let database = Database::open(storage, cache.bytes())?;
            database.write(entry::prepare)?;
            Ok::<_, KvError>(OpenFile { database, path: None, _cache: cache, _permit: OpenPermit::of_nothing() })
        });
        Ok(KvStore::new(self.start(name, opened.await??)))
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.redb"))
    }

    fn start(&self, name: &str, open: OpenFile) -> Arc<OpenStore> {
        OpenStore::new(name, open, self.engine.limits.clone(), self.job_queue.clone(), self.account.clone())
    }
}

fn open_file(path: &Path, cache_bytes: usize) -> Result<Database, KvError> {
    // Guests and tenants may see this message, so it must not contain the node's paths.
    let name = path.file_name().unwrap_or_default().display();
    let failed = |error: &dyn std::fmt::Display| KvError::storage(format!("`{name}`: {error}"));
    let dir = path.parent().unwrap_or(Path::new("."));
    make_private_dir(dir).map_err(|error| failed(&error))?;
    // Create and sync the directory entry of a new file before anything is written to the file. Otherwise, a crash
    // could lose the entry, and with it data that was already written.
    if std::fs::metadata(path).map_or(0, |metadata| metadata.len()) == 0 {
        make_private_file(path).map_err(|error| failed(&error))?;
        sync_dir(dir).map_err(|error| failed(&error))?;
    }
    let database = Database::open(FileStorage::new(path), cache_bytes).map_err(|error| failed(&error))?;
    database.write(entry::prepare)?;
    Ok(database)
}
