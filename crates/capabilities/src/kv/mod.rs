//! Key-value stores on redb: one file a store.
//!
//! Writes of a store go through one thread that takes what waits, applies it in one transaction and syncs once (group
//! commit); every writer is answered after that sync. Reads run on other threads against the last committed state and
//! never wait for a writer. Both queues are bounded.
//!
//! - [`Kv`]: the stores of one data directory.
//! - [`KvStore`]: one of them; cheap to clone.
//! - [`Cas`]: what a key held when it was read, for [`KvStore::swap`].
//!
//! The invariant to keep: a reply to a write is sent only after the commit that holds it has returned.

mod entry;
mod store;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use redb::{Builder, Database, StorageBackend};

use crate::data_dir::sync_dir;
use crate::workers::{Workers, WorkersError, locked};
use crate::{InvalidStoreName, check_store_name};

pub use entry::{Delta, KeyPage};
pub use store::{Cas, KvStore, Swap};

/// Limits of the key-value stores. Reaching one is an error of its own.
#[derive(Debug, Clone)]
pub struct KvLimits {
    /// Bytes of a key.
    pub key_bytes_max: usize,
    /// Bytes of a value.
    pub value_bytes_max: usize,
    /// Keys of one batch operation.
    pub batch_keys_max: usize,
    /// Bytes that one batch operation writes or reads.
    pub batch_bytes_max: usize,
    /// Keys of one page of a listing.
    pub page_keys_max: usize,
    /// Bytes of the keys of one page of a listing.
    pub page_bytes_max: usize,
    /// Writes that wait for one store.
    pub waiting_writes_max: usize,
    /// Bytes of the writes that wait for one store.
    pub waiting_bytes_max: usize,
    /// Reads that wait, over all stores.
    pub waiting_reads_max: usize,
    /// Threads that read, for all stores.
    pub read_threads: usize,
    /// Bytes of each store's page cache.
    pub cache_bytes: usize,
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
            read_threads: 2,
            cache_bytes: 16 << 20,
        }
    }
}

/// A key-value operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// Not the name of a store.
    #[error(transparent)]
    Name(#[from] InvalidStoreName),
    /// The key is too long.
    #[error("a key of {bytes} bytes is longer than the {bytes_max} that a key may have")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// [`KvLimits::key_bytes_max`].
        bytes_max: usize,
    },
    /// The value is too long.
    #[error("the value of `{key}` has {bytes} bytes, more than the {bytes_max} that a value may have")]
    ValueTooLong {
        /// Its key.
        key: String,
        /// Its length.
        bytes: usize,
        /// [`KvLimits::value_bytes_max`].
        bytes_max: usize,
    },
    /// A batch has too many keys.
    #[error("a batch of {keys} keys is larger than the {keys_max} that it may have: split it")]
    BatchTooLong {
        /// Its keys.
        keys: usize,
        /// [`KvLimits::batch_keys_max`].
        keys_max: usize,
    },
    /// A batch has too many bytes.
    #[error("the values of the batch are larger than the {bytes_max} bytes that they may have together: split it")]
    BatchTooLarge {
        /// [`KvLimits::batch_bytes_max`].
        bytes_max: usize,
    },
    /// An increment met a value that isn't a decimal number.
    #[error("the value of `{key}` isn't a decimal number, so it can't be incremented")]
    NotANumber {
        /// The key.
        key: String,
    },
    /// An increment would leave the range of its type.
    #[error("incrementing `{key}` would overflow")]
    Overflow {
        /// The key.
        key: String,
    },
    /// A numeric cursor is unknown: it was given long ago, or by another process.
    #[error("the cursor `{cursor}` has expired: list the keys from the beginning")]
    CursorExpired {
        /// The cursor.
        cursor: u64,
    },
    /// Too many operations wait for the store.
    #[error("the store has too many operations waiting: try again later")]
    Overloaded,
    /// The engine failed; what was not acknowledged may or may not be in the store.
    #[error("the store failed: {message}")]
    Storage {
        /// What the engine said.
        message: String,
    },
}

impl KvError {
    pub(crate) fn storage(error: impl std::fmt::Display) -> Self {
        Self::Storage { message: error.to_string() }
    }
}

impl From<WorkersError> for KvError {
    fn from(error: WorkersError) -> Self {
        match error {
            WorkersError::Full => Self::Overloaded,
            WorkersError::Abandoned => Self::storage(error),
        }
    }
}

/// The key-value stores of one directory, opened when first asked for.
pub struct Kv {
    dir: PathBuf,
    limits: Arc<KvLimits>,
    // Declared before the readers: stores are closed first, their readers' threads end after.
    stores: Mutex<HashMap<String, KvStore>>,
    // Held while a file is opened: redb refuses to open one twice.
    opening: tokio::sync::Mutex<()>,
    readers: Arc<Workers<()>>,
}

impl Kv {
    /// Stores as files in `dir`, which must exist.
    pub fn new(dir: &Path, limits: KvLimits) -> std::io::Result<Self> {
        let readers = Workers::start("isomer-kv-read", vec![(); limits.read_threads.max(1)], limits.waiting_reads_max)?;
        Ok(Self {
            dir: dir.to_owned(),
            limits: Arc::new(limits),
            stores: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            readers: Arc::new(readers),
        })
    }

    /// The store `name`, made where it isn't there.
    pub async fn store(&self, name: &str) -> Result<KvStore, KvError> {
        check_store_name(name)?;
        if let Some(store) = self.find(name) {
            return Ok(store);
        }
        let _opening = self.opening.lock().await;
        if let Some(store) = self.find(name) {
            return Ok(store);
        }
        let path = self.dir.join(format!("{name}.redb"));
        let dir = self.dir.clone();
        let cache_bytes = self.limits.cache_bytes;
        let opened = self.readers.run(move |_| open_file(&dir, &path, cache_bytes)).await??;
        let store = KvStore::start(name, opened, self.limits.clone(), self.readers.clone())?;
        locked(&self.stores).insert(name.to_owned(), store.clone());
        Ok(store)
    }

    fn find(&self, name: &str) -> Option<KvStore> {
        locked(&self.stores).get(name).cloned()
    }

    /// A store over storage of the caller's own, for tests of what survives a crash.
    pub async fn store_over(&self, name: &str, backend: impl StorageBackend) -> Result<KvStore, KvError> {
        let cache_bytes = self.limits.cache_bytes;
        let database = self
            .readers
            .run(move |_| {
                let database = Builder::new().set_cache_size(cache_bytes).create_with_backend(backend);
                entry::prepare(database.map_err(KvError::storage)?)
            })
            .await??;
        KvStore::start(name, database, self.limits.clone(), self.readers.clone())
    }
}

fn open_file(dir: &Path, path: &Path, cache_bytes: usize) -> Result<Database, KvError> {
    let database = Builder::new().set_cache_size(cache_bytes).create(path);
    let database =
        entry::prepare(database.map_err(|error| KvError::storage(format!("`{}`: {error}", path.display())))?)?;
    sync_dir(dir).map_err(KvError::storage)?;
    Ok(database)
}
