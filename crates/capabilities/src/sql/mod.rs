//! SQL stores on SQLite: one file a store, in WAL mode with `synchronous=FULL`.
//!
//! A store has one connection that writes, on a thread of its own, and a few that read. A statement that only reads goes to
//! a reader and waits for no writer. A transaction holds the writing connection until it ends, and ends by itself (rolled
//! back) when its handle is dropped or its time is up.
//!
//! - [`Sql`]: the stores of one data directory.
//! - [`SqlStore`]: one of them; cheap to clone.
//! - [`Transaction`]: all its changes, or none.
//!
//! What guests send is one statement a call, prepared under an authorizer (`authorizer.rs`) and run under a time
//! limit (`session.rs`).
//!
//! The invariant to keep: a change is acknowledged after `COMMIT` has returned, and `COMMIT` returns after the sync.

mod authorizer;
mod error;
mod migrations;
mod session;
mod store;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::check_store_name;
use crate::workers::locked;

pub use error::{SqlError, SqlOpenError};
pub use store::SqlStore;
pub use writer::Transaction;

/// Limits of the SQL stores. Reaching one is an error of its own.
#[derive(Debug, Clone)]
pub struct SqlLimits {
    /// Bytes of a statement.
    pub statement_bytes_max: usize,
    /// Parameters of a statement.
    pub parameters_max: usize,
    /// Bytes of one value, as parameter, in a table or in a result.
    pub value_bytes_max: usize,
    /// Rows of a result.
    pub result_rows_max: usize,
    /// Bytes of a result, with [`VALUE_OVERHEAD_BYTES`] for each value.
    pub result_bytes_max: usize,
    /// How long a statement may run, where the store's settings don't say.
    pub statement_time: Duration,
    /// How long a transaction may be open.
    pub transaction_time: Duration,
    /// How long a change or a `begin` may wait for the transactions before it.
    pub wait_time: Duration,
    /// Changes and `begin`s that wait for one store.
    pub waiting_writes_max: usize,
    /// Reads that wait for one store.
    pub waiting_reads_max: usize,
    /// Connections that read, for each store.
    pub readers: usize,
    /// Prepared statements that each connection keeps.
    pub prepared_statements_max: usize,
    /// How long all migrations of a store may take.
    pub migration_time: Duration,
    /// Pages of the write-ahead log after which a commit folds it into the file.
    pub log_pages_max: u32,
}

/// What each value counts for in [`SqlLimits::result_bytes_max`] beside its own bytes.
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
            log_pages_max: 1000,
        }
    }
}

/// Settings of one store.
#[derive(Debug, Clone, Default)]
pub struct SqlSettings {
    /// Folder of `.sql` files, applied once each in the order of their names when the store is opened.
    pub migrations: Option<PathBuf>,
    /// Instead of [`SqlLimits::statement_time`].
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

/// What a query gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows: each has a value for each column.
    pub rows: Vec<Vec<Value>>,
}

/// The SQL stores of one directory.
pub struct Sql {
    dir: PathBuf,
    limits: Arc<SqlLimits>,
    stores: Mutex<HashMap<String, SqlStore>>,
    // Held while a store is opened, so that migrations run once.
    opening: tokio::sync::Mutex<()>,
}

impl Sql {
    /// Stores as files in `dir`, which must exist.
    pub fn new(dir: &Path, limits: SqlLimits) -> Self {
        Self {
            dir: dir.to_owned(),
            limits: Arc::new(limits),
            stores: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// Open the store `name`, making it where it isn't there, and bring it up to date with its migrations. A store that is
    /// open already keeps its other settings.
    pub async fn open(&self, name: &str, settings: SqlSettings) -> Result<SqlStore, SqlOpenError> {
        check_store_name(name)?;
        let _opening = self.opening.lock().await;
        let open = locked(&self.stores).get(name).cloned();
        if let Some(store) = open {
            if let Some(folder) = settings.migrations {
                store.migrate(folder).await?;
            }
            return Ok(store);
        }
        let path = self.dir.join(format!("{name}.sqlite"));
        let (name_of_it, limits) = (name.to_owned(), self.limits.clone());
        let store = tokio::task::spawn_blocking(move || SqlStore::open_file(&name_of_it, &path, &settings, limits))
            .await
            .map_err(|_| SqlOpenError::Abandoned)??;
        locked(&self.stores).insert(name.to_owned(), store.clone());
        Ok(store)
    }
}
