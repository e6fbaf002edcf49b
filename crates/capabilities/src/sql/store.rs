//! One SQL store: the operations that the host bindings call.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::session::{Access, ReadOutcome, Session};
use super::writer::{Transaction, Writer};
use super::{Rows, SqlError, SqlLimits, SqlOpenError, SqlSettings, Value, migrations};
use crate::data_dir::sync_dir;
use crate::workers::Workers;

/// A store. Clones are handles of the same one; the last to be dropped closes it.
#[derive(Clone)]
pub struct SqlStore {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    limits: Arc<SqlLimits>,
    // The readers are closed before the writer, whose close then folds the log into the file.
    readers: Workers<Session>,
    writer: Writer,
}

impl SqlStore {
    /// Blocking: open the file, migrate it, start its threads.
    pub(super) fn open_file(
        name: &str,
        path: &Path,
        settings: &SqlSettings,
        limits: Arc<SqlLimits>,
    ) -> Result<Self, SqlOpenError> {
        let open = |source| SqlOpenError::Open { path: path.to_owned(), source };
        let io = |source| SqlOpenError::Io { path: path.to_owned(), source };
        let statement_time = settings.statement_time.unwrap_or(limits.statement_time);
        let session = Session::open(path, Access::Write, limits.clone(), statement_time).map_err(open)?;
        // The switch to WAL mode left a journal behind, which is deleted now. Were that undone by a crash, the journal would
        // be rolled back over what was committed since; so it is made durable before anything is committed.
        if let Some(dir) = path.parent() {
            sync_dir(dir).map_err(io)?;
        }
        if let Some(folder) = &settings.migrations {
            migrations::apply(name, &session, folder, limits.migration_time)?;
        }
        let readers: Result<Vec<_>, _> = (0..limits.readers.max(1))
            .map(|_| Session::open(path, Access::Read, limits.clone(), statement_time))
            .collect();
        let readers =
            Workers::start(&format!("isomer-sql-read-{name}"), readers.map_err(open)?, limits.waiting_reads_max);
        let writer = Writer::start(name, session, limits.clone()).map_err(io)?;
        Ok(Self { inner: Arc::new(Inner { name: name.to_owned(), limits, readers: readers.map_err(io)?, writer }) })
    }

    /// The store's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Apply the migrations of `folder` that are new, in turn with other writes.
    pub(super) async fn migrate(&self, folder: PathBuf) -> Result<(), SqlOpenError> {
        let (store, path) = (self.inner.name.clone(), folder.clone());
        let (name, time) = (store.clone(), self.inner.limits.migration_time);
        let applied = self.inner.writer.run(move |session| Ok(migrations::apply(&name, session, &folder, time)));
        applied.await.map_err(|error| SqlOpenError::MigrationFailed { store, path, message: error.to_string() })?
    }

    /// Run one statement that gives no rows; the number of rows that it changed. The change has been synced on return.
    pub async fn execute(&self, statement: String, parameters: Vec<Value>) -> Result<u64, SqlError> {
        check_sizes(&self.inner.limits, &statement, &parameters)?;
        self.inner.writer.run(move |session| session.execute(&statement, &parameters, None)).await
    }

    /// Run one statement and collect its rows. A statement that only reads waits for no writer.
    pub async fn query(&self, statement: String, parameters: Vec<Value>) -> Result<Rows, SqlError> {
        check_sizes(&self.inner.limits, &statement, &parameters)?;
        let asked = Arc::new((statement, parameters));
        let read = asked.clone();
        match self.inner.readers.run(move |session| session.read(&read.0, &read.1)).await? {
            ReadOutcome::Rows(rows) => rows,
            ReadOutcome::NeedsWriter => {
                self.inner.writer.run(move |session| session.query(&asked.0, &asked.1, None)).await
            }
        }
    }

    /// Begin a transaction: it waits for those before it, up to [`SqlLimits::wait_time`].
    pub async fn begin(&self) -> Result<Transaction, SqlError> {
        self.inner.writer.begin().await
    }
}

pub(super) fn check_sizes(limits: &SqlLimits, statement: &str, parameters: &[Value]) -> Result<(), SqlError> {
    if statement.len() > limits.statement_bytes_max {
        return Err(SqlError::TooLarge(format!(
            "the statement has {} bytes, more than the {} that it may have",
            statement.len(),
            limits.statement_bytes_max
        )));
    }
    if statement.contains('\0') {
        return Err(SqlError::Statement("it has a NUL character".to_owned()));
    }
    if parameters.len() > limits.parameters_max {
        return Err(SqlError::TooLarge(format!(
            "the statement has {} parameters, more than the {} that it may have",
            parameters.len(),
            limits.parameters_max
        )));
    }
    for (index, parameter) in parameters.iter().enumerate() {
        let bytes = match parameter {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            Value::Null | Value::Integer(_) | Value::Real(_) => 0,
        };
        if bytes > limits.value_bytes_max {
            return Err(SqlError::TooLarge(format!(
                "parameter {} has {bytes} bytes, more than the {} that a value may have",
                index + 1,
                limits.value_bytes_max
            )));
        }
    }
    Ok(())
}
