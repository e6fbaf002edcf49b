//! SQL stores on SQLite, one file per store, in WAL mode with `synchronous=FULL`.
//!
//! A store has one connection that writes and a few that read. They are opened on demand. A read-only statement uses a
//! reading connection and does not wait for writers. A transaction holds the writing connection until it ends; it is
//! rolled back if its handle is dropped or its time limit is exceeded. Statements run as jobs of the tenant's [job
//! queue](crate::pool).
//!
//! - [`Sql`]: the stores of one data directory.
//! - [`SqlStore`]: a handle of one store; cheap to clone.
//! - [`Transaction`]: a transaction, whose changes are applied completely or not at all.
//!
//! Each call of a guest runs one statement. An authorizer checks the statement while it is prepared (`authorizer.rs`),
//! and the statement runs with a time limit (`session.rs`). SQLite functions that could take long in a single call are
//! replaced (`functions.rs`).
//!
//! Invariant: a change is acknowledged after `COMMIT` has returned, and `COMMIT` returns after the sync.

mod authorizer;
mod candidate;
mod error;
mod existing;
mod functions;
mod inspection;
mod memory;
mod migrations;
mod open_store;
mod pending;
mod replace;
mod sections;
mod session;
mod store;
mod store_inspection;
#[cfg(test)]
mod tests;
mod transaction;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isomer_runtime::{Account, HostMemory};

use crate::open_files::{OpenFiles, Unfinished};
use crate::pool::{JobQueue, JobQueueBounds, Pool, PoolSize};
use crate::{StorageAccount, check_store_name};

use candidate::CandidateStores;
use open_store::{MissingFile, OpenStore};

pub use error::{SqlError, SqlOpenError};
pub use inspection::{InspectedValue, Inspection, InspectionLimits};
pub use migrations::{Schema, migration_files};
pub(crate) use replace::finish_drafts;
pub use replace::{Replacement, Replacing, roll_forward, snapshot_name};
pub use store::SqlStore;
pub use transaction::Transaction;

/// The limits of SQL stores. An operation that exceeds a limit returns an error.
#[derive(Debug, Clone)]
pub struct SqlLimits {
    /// The maximum length of a statement, in bytes.
    pub statement_bytes_max: usize,
    /// The maximum number of parameters of a statement.
    pub parameters_max: usize,
    /// The maximum size of one value (a parameter, a value in a table, or a value in a result), in bytes.
    pub value_bytes_max: usize,
    /// The maximum number of rows of a result.
    pub result_rows_max: usize,
    /// The maximum size of a result in bytes, including [`VALUE_OVERHEAD_BYTES`] for each value.
    pub result_bytes_max: usize,
    /// The time limit of a statement, if the settings of the store contain none.
    pub statement_time: Duration,
    /// The time limit of a transaction.
    pub transaction_time: Duration,
    /// The maximum time for which a write, or the start of a transaction, waits until other transactions have ended.
    pub wait_time: Duration,
    /// The maximum number of callers that wait for the writing connection of one store, to write or to start a
    /// transaction.
    pub waiting_writes_max: usize,
    /// The maximum number of reads that wait for one store.
    pub waiting_reads_max: usize,
    /// The maximum number of reading connections per store.
    pub readers: usize,
    /// The maximum number of prepared statements that one connection keeps.
    pub prepared_statements_max: usize,
    /// The time limit for all migrations of a store together.
    pub migration_time: Duration,
    /// The time limit for copying a store for a candidate revision.
    pub copy_time: Duration,
    /// The number of pages in the write-ahead log at which a commit copies the log into the file (a checkpoint).
    pub log_pages_max: u32,
    /// The size of each connection's page cache, in bytes.
    pub cache_bytes: usize,
    /// The maximum number of threads that the stores of all tenants share.
    pub threads_max: usize,
    /// The maximum number of additional threads. A tenant that has no thread gets one of them if all shared threads are
    /// busy.
    pub reserve_threads_max: usize,
    /// The maximum number of threads that the stores of one tenant use at the same time.
    pub tenant_threads_max: usize,
    /// The maximum number of statements of one tenant's stores that wait for a thread.
    pub tenant_waiting_max: usize,
    /// The maximum total size in bytes of one tenant's waiting and running statements, with their parameters. A single
    /// statement may exceed this size if it is the only one of the tenant.
    pub tenant_waiting_bytes_max: usize,
    /// The maximum number of bytes that SQLite may allocate for one statement, in addition to the memory of the
    /// connection. A statement that needs more fails.
    pub statement_memory_max: usize,
    /// The maximum number of bytes that one statement may write, including temporary files. Applies only if the
    /// tenant's storage is limited.
    pub statement_writes_max: u64,
}

/// The number of bytes that each value of a result adds to the size of the result, in addition to the value's own
/// bytes.
pub const VALUE_OVERHEAD_BYTES: usize = 32;

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            statement_bytes_max: 100 << 10,
            parameters_max: 1000,
            value_bytes_max: 8 << 20,
            result_rows_max: 100_000,
            result_bytes_max: 16 << 20,
            statement_time: Duration::from_secs(5),
            transaction_time: Duration::from_secs(30),
            wait_time: Duration::from_secs(5),
            waiting_writes_max: 256,
            waiting_reads_max: 1024,
            readers: 2,
            prepared_statements_max: 64,
            migration_time: Duration::from_secs(600),
            copy_time: Duration::from_secs(60),
            log_pages_max: 1000,
            cache_bytes: 1 << 20,
            threads_max: 64,
            reserve_threads_max: 192,
            tenant_threads_max: 8,
            tenant_waiting_max: 1024,
            tenant_waiting_bytes_max: 64 << 20,
            statement_memory_max: 64 << 20,
            statement_writes_max: 256 << 20,
        }
    }
}

/// The settings of one store.
#[derive(Debug, Clone, Default)]
pub struct SqlSettings {
    /// The folder of the store's migrations: `.sql` files that are applied once each, in the order of their names, when
    /// the store is opened.
    pub migrations: Option<PathBuf>,
    /// The time limit of this store's statements, instead of [`SqlLimits::statement_time`].
    pub statement_time: Option<Duration>,
}

/// One SQL value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT.
    Text(String),
    /// BLOB.
    Blob(Vec<u8>),
}

impl Value {
    /// Returns the number of heap bytes that the value occupies.
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.capacity(),
            Self::Blob(bytes) => bytes.capacity(),
            Self::Null | Self::Integer(_) | Self::Real(_) => 0,
        }
    }
}

/// The rows that a query returns.
#[derive(Debug, PartialEq, Default)]
pub struct Rows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows. Each row has one value per column.
    pub rows: Vec<Vec<Value>>,
    /// The charge for the memory of the rows, which must be kept as long as the rows.
    pub charge: RowsCharge,
}

/// The charge to a tenant for the memory of a query's rows. Dropping it releases the charge.
#[derive(Debug, Default)]
pub struct RowsCharge {
    _held: Option<HostMemory>,
}

/// Makes all charges equal, so that comparing [`Rows`] ignores them.
impl PartialEq for RowsCharge {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The threads and open files that the SQL stores of all apps in a process share.
#[derive(Clone)]
pub(crate) struct SqlEngine {
    limits: Arc<SqlLimits>,
    pool: Arc<Pool>,
    files: Arc<OpenFiles<OpenStore>>,
}

impl SqlEngine {
    pub(crate) fn new(limits: SqlLimits) -> Self {
        let size = PoolSize { threads_max: limits.threads_max, reserve_max: limits.reserve_threads_max };
        Self::on(Pool::new("isomer-sql", size), limits)
    }

    /// Creates an engine whose jobs run on the threads of `pool`.
    fn on(pool: Arc<Pool>, limits: SqlLimits) -> Self {
        Self { limits: Arc::new(limits), pool, files: Arc::default() }
    }

    /// Returns the stores in `dir`. The directory is created when the first store is opened.
    pub(crate) fn stores(&self, dir: &Path, storage: Arc<StorageAccount>, account: &Arc<Account>) -> Sql {
        let bounds =
            JobQueueBounds { running_max: self.limits.tenant_threads_max, waiting_max: self.limits.tenant_waiting_max };
        let job_queue = self.pool.job_queue(storage.number(), account.clone(), bounds);
        Sql { dir: dir.to_owned(), engine: self.clone(), job_queue, account: storage }
    }

    /// Waits until no store below `dir` is open.
    pub(crate) async fn closed(&self, dir: &Path) {
        self.files.closed(dir).await;
    }

    /// Forgets unfinished replacements of the stores below `dir`. The caller has removed the files of these stores.
    pub(crate) async fn forget(&self, dir: &Path) {
        self.files.forget(dir).await;
    }

    /// Returns the number of open stores.
    pub(crate) fn open_stores(&self) -> usize {
        self.files.open()
    }
}

/// The SQL stores in one directory. A store is opened on demand, and closed when its last handle is dropped.
#[derive(Clone)]
pub struct Sql {
    dir: PathBuf,
    engine: SqlEngine,
    job_queue: JobQueue,
    account: Arc<StorageAccount>,
}

impl Sql {
    /// Creates the set of the stores in the folder `dir`. It has threads of its own, and no quota. Opens no store.
    pub fn new(dir: &Path, limits: SqlLimits) -> Self {
        SqlEngine::new(limits).stores(dir, Arc::new(StorageAccount::unlimited()), &Account::unlimited())
    }

    /// Opens the store `name`, creates it if it does not exist, and applies its migrations. If the store is already
    /// open, all settings except the migrations are ignored.
    ///
    /// # Errors
    /// If the name is invalid, the file cannot be opened, or a migration is refused or fails.
    pub async fn open(&self, name: &str, settings: SqlSettings) -> Result<SqlStore, SqlOpenError> {
        let migrations = settings.migrations.clone();
        let (store, was_open) = self.open_file(name, settings, MissingFile::Create).await?;
        let store = SqlStore::new(store);
        if was_open && let Some(folder) = migrations {
            store.migrate(folder).await?;
        }
        Ok(store)
    }

    /// Opens the app's store `name` for a candidate revision. `stores` contains the candidate's own stores. Does not
    /// change the app's store, and does not create it.
    ///
    /// # Errors
    /// The errors of [`Sql::open`]. Also an error if a copy is needed and there is not enough space or time for it.
    pub(crate) async fn open_candidate(
        &self,
        name: &str,
        settings: SqlSettings,
        stores: &Self,
    ) -> Result<SqlStore, SqlOpenError> {
        check_store_name(name)?;
        // Uses the candidate's own store if it already exists (usually as a copy of the app's store), or if the app has
        // no such store.
        if stores.path_of(name).exists() {
            return stores.open(name, settings).await;
        }
        let of_store = SqlSettings { migrations: None, ..settings.clone() };
        let Some(store) = self.existing(name, of_store.statement_time).await? else {
            return stores.open(name, settings).await;
        };
        let schema = match settings.migrations.clone() {
            Some(folder) => store.schema(folder).await?,
            None => Schema::default(),
        };
        if !schema.pending.is_empty() {
            let copy = candidate::copy_into(store.inner(), stores, settings).await?;
            return Ok(SqlStore::new(copy));
        }
        Ok(store.for_candidate(CandidateStores { stores: stores.clone(), settings: of_store }))
    }

    /// Opens the file of the store `name`, and migrates the store if it was not open. `missing` says what happens if there
    /// is no file. Returns whether the store was already open.
    async fn open_file(
        &self,
        name: &str,
        settings: SqlSettings,
        missing: MissingFile,
    ) -> Result<(Arc<OpenStore>, bool), SqlOpenError> {
        check_store_name(name)?;
        let path = self.path_of(name);
        let open = async |permit, unfinished: Option<Unfinished>| {
            let (name, path, limits) = (name.to_owned(), path.clone(), self.engine.limits.clone());
            let of_tenant = (self.job_queue.clone(), self.account.clone());
            let job = move || {
                if let Some(job) = unfinished {
                    job.carry_out().map_err(|source| SqlOpenError::Unfinished { store: name.clone(), source })?;
                }
                OpenStore::open_file(&name, &path, &settings, limits, of_tenant, permit, missing)
            };
            self.job_queue.run(job).await.map_err(|_| SqlOpenError::Abandoned)?
        };
        self.engine.files.get(&path, open).await
    }

    /// Compares the schema of the store `name` with the migrations in `folder`. Does not create the store.
    ///
    /// # Errors
    /// If the store cannot be opened, or the applied migrations differ from the files in `folder`.
    pub(crate) async fn schema(&self, name: &str, folder: PathBuf) -> Result<Schema, SqlOpenError> {
        check_store_name(name)?;
        let Some(store) = self.existing(name, None).await? else {
            let read = (name.to_owned(), folder);
            let job = move || migrations::Migrations::read(&read.0, &read.1).map(|files| files.schema_of_none());
            return self.job_queue.run(job).await.map_err(|_| SqlOpenError::Abandoned)?;
        };
        store.schema(folder).await
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.dir.join(snapshot_name(name))
    }
}
