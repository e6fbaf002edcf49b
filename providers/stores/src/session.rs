//! One SQLite connection with its limits: authorizer, time limit, sizes. The limits are those of a node.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, ffi};

use crate::exports::isomer::sql::types::{Error, Rows, Value};
use crate::pages::{PAGE_BYTES, WRITTEN_PAGES_MAX};
use crate::rules::authorizer::{self, Mode, Verdict};
use crate::rules::size::size;
use crate::rules::{excerpt, functions};
use crate::{lock, vfs};

pub(crate) const STATEMENT_BYTES_MAX: usize = 100 << 10;
pub(crate) const PARAMETERS_MAX: usize = 1000;
pub(crate) const VALUE_BYTES_MAX: usize = 8 << 20;
const RESULT_ROWS_MAX: usize = 100_000;
const RESULT_BYTES_MAX: usize = 16 << 20;
const VALUE_OVERHEAD_BYTES: usize = 32;
pub(crate) const STATEMENT_TIME: Duration = Duration::from_secs(5);
pub(crate) const TRANSACTION_TIME: Duration = Duration::from_secs(30);
pub(crate) const WAIT_TIME: Duration = Duration::from_secs(5);
pub(crate) const WAITING_WRITES_MAX: usize = 256;
pub(crate) const MIGRATION_TIME: Duration = Duration::from_secs(600);
const PREPARED_STATEMENTS_MAX: usize = 64;
const CACHE_KIB: i64 = 1024;
/// The maximum number of bytes that SQLite may allocate, for all statements and connections of the instance.
const MEMORY_BYTES_MAX: i64 = 96 << 20;
const INSTRUCTIONS_PER_CHECK: i32 = 1000;
const LIKE_PATTERN_BYTES_MAX: i32 = 256;
const FUNCTION_ARGUMENTS_MAX: i32 = 100;
const STATEMENT_INSTRUCTIONS_MAX: i32 = 250_000;
const TRIGGER_DEPTH_MAX: i32 = 100;

pub(crate) struct Session {
    connection: Connection,
    guard: Arc<Mutex<Guard>>,
    statement_time: Duration,
}

/// The state of the current statement, which SQLite's callbacks use.
struct Guard {
    mode: Mode,
    deadline: Option<Instant>,
    denied: Option<String>,
}

fn locked(guard: &Mutex<Guard>) -> MutexGuard<'_, Guard> {
    guard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Opens a connection to the database in the folder `dir`, whose values and rows have at most `row_bytes_max` bytes.
    pub(crate) fn open(dir: &Path, statement_time: Option<Duration>, row_bytes_max: usize) -> Result<Self, Error> {
        Self::try_open(dir, statement_time.unwrap_or(STATEMENT_TIME), row_bytes_max)
            .map_err(|error| from_sqlite(&error, None))
    }

    fn try_open(dir: &Path, statement_time: Duration, row_bytes_max: usize) -> Result<Self, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(dir, flags)?;
        // SAFETY: the function may be called at any time after SQLite was initialised, which opening a connection does.
        unsafe { ffi::sqlite3_hard_heap_limit64(MEMORY_BYTES_MAX) };
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
        for (limit, max) in [
            (Limit::SQLITE_LIMIT_LENGTH, row_bytes_max as i32),
            (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, PARAMETERS_MAX as i32),
            (Limit::SQLITE_LIMIT_FUNCTION_ARG, FUNCTION_ARGUMENTS_MAX),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LIKE_PATTERN_BYTES_MAX),
            (Limit::SQLITE_LIMIT_VDBE_OP, STATEMENT_INSTRUCTIONS_MAX),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, TRIGGER_DEPTH_MAX),
        ] {
            connection.set_limit(limit, max)?;
        }
        // The journal is only needed to roll back; a commit is one step of the file system (`pages`).
        connection.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        functions::define(&connection, VALUE_BYTES_MAX)?;
        connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS_MAX);
        let guard = Arc::new(Mutex::new(Guard { mode: Mode::Internal, deadline: None, denied: None }));
        let watched = guard.clone();
        connection.progress_handler(
            INSTRUCTIONS_PER_CHECK,
            Some(move || {
                lock::extend_held();
                locked(&watched).deadline.is_some_and(|deadline| Instant::now() >= deadline)
            }),
        )?;
        let shared = guard.clone();
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            let mut guard = locked(&shared);
            match authorizer::judge(guard.mode, &context) {
                Verdict::Allowed => Authorization::Allow,
                Verdict::Skipped => Authorization::Ignore,
                Verdict::Refused(why) => {
                    guard.denied = Some(why);
                    Authorization::Deny
                }
            }
        }))?;
        Ok(Self { connection, guard, statement_time })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Runs one statement that returns no rows. Returns the number of changed rows.
    pub(crate) fn execute(&self, statement: &str, parameters: &[Value], by: Option<Instant>) -> Result<u64, Error> {
        self.guarded(Mode::Guest, self.deadline(by), || {
            let mut prepared = self.prepare(statement)?;
            if prepared.column_count() > 0 {
                return Err(Error::Statement("the statement returns rows: run the statement with `query`".to_owned()));
            }
            bind(&mut prepared, parameters)?;
            let before = self.connection.total_changes();
            prepared.raw_execute().map_err(|error| self.error(&error))?;
            // `changes` by itself is not enough: after a statement that changes no rows (such as CREATE TABLE), it
            // still returns the number of rows that the previous statement changed.
            let changed = self.connection.total_changes() != before;
            Ok(if changed { self.connection.changes() } else { 0 })
        })
    }

    /// Runs one statement if it only reads; otherwise returns `None`.
    pub(crate) fn read(&self, statement: &str, parameters: &[Value]) -> Result<Option<Rows>, Error> {
        self.guarded(Mode::Guest, self.deadline(None), || {
            let mut prepared = self.prepare(statement)?;
            if !prepared.readonly() {
                return Ok(None);
            }
            self.collect(&mut prepared, parameters).map(Some)
        })
    }

    /// Runs one statement and collects its rows. If the statement fails, its changes are undone.
    pub(crate) fn query(&self, statement: &str, parameters: &[Value], by: Option<Instant>) -> Result<Rows, Error> {
        let deadline = self.deadline(by);
        let changes = self.guarded(Mode::Guest, deadline, || Ok(!self.prepare(statement)?.readonly()))?;
        let run = || self.guarded(Mode::Guest, deadline, || self.collect(&mut self.prepare(statement)?, parameters));
        if !changes {
            return run();
        }
        let (begin, commit, undo) = if self.in_transaction() {
            ("SAVEPOINT isomer_query", "RELEASE isomer_query", "ROLLBACK TO isomer_query; RELEASE isomer_query")
        } else {
            ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        };
        self.internal(begin)?;
        let result = run().and_then(|rows| self.internal(commit).map(|()| rows));
        if result.is_err() && self.in_transaction() {
            self.internal(undo)?;
        }
        result
    }

    /// Runs statements of this crate that take a short time.
    pub(crate) fn internal(&self, statements: &str) -> Result<(), Error> {
        self.guarded(Mode::Internal, None, || self.batch(statements))
    }

    /// Runs the statements of a migration.
    pub(crate) fn migrate(&self, statements: &str, deadline: Instant) -> Result<(), Error> {
        self.guarded(Mode::Migration, Some(deadline), || self.batch(statements))
    }

    /// Runs `work`, which consists of statements of this crate that read the app's data.
    pub(crate) fn bounded<T>(
        &self,
        deadline: Instant,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, Error> {
        self.guarded(Mode::BoundedInternal, Some(deadline), || {
            work(&self.connection).map_err(|error| self.error(&error))
        })
    }

    pub(crate) fn roll_back(&self) {
        if self.in_transaction()
            && let Err(error) = self.internal("ROLLBACK")
        {
            eprintln!("error: a transaction cannot be rolled back: {error:?}");
        }
    }

    fn batch(&self, statements: &str) -> Result<(), Error> {
        self.connection.execute_batch(statements).map_err(|error| self.error(&error))
    }

    fn deadline(&self, by: Option<Instant>) -> Option<Instant> {
        let own = Instant::now() + self.statement_time;
        Some(by.map_or(own, |by| by.min(own)))
    }

    fn guarded<T>(
        &self,
        mode: Mode,
        deadline: Option<Instant>,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        *locked(&self.guard) = Guard { mode, deadline, denied: None };
        let result = work();
        *locked(&self.guard) = Guard { mode: Mode::Internal, deadline: None, denied: None };
        result
    }

    fn error(&self, error: &rusqlite::Error) -> Error {
        let denied = locked(&self.guard).denied.take();
        from_sqlite(error, denied)
    }

    fn prepare(&self, statement: &str) -> Result<CachedStatement<'_>, Error> {
        self.connection.prepare_cached(statement).map_err(|error| self.error(&error))
    }

    fn collect(&self, prepared: &mut CachedStatement<'_>, parameters: &[Value]) -> Result<Rows, Error> {
        bind(prepared, parameters)?;
        let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
        let mut collected = Vec::new();
        let mut bytes = columns.iter().map(String::len).sum::<usize>();
        let mut rows = prepared.raw_query();
        while let Some(row) = rows.next().map_err(|error| self.error(&error))? {
            if collected.len() >= RESULT_ROWS_MAX {
                return Err(Error::TooLarge(format!("the result has more than {RESULT_ROWS_MAX} rows: use LIMIT")));
            }
            let mut values = Vec::with_capacity(columns.len());
            for (index, column) in columns.iter().enumerate() {
                let value = row.get_ref(index).map_err(|error| self.error(&error))?;
                bytes += VALUE_OVERHEAD_BYTES + value_bytes(value);
                if bytes > RESULT_BYTES_MAX {
                    return Err(Error::TooLarge(format!(
                        "the result has more than {}: use LIMIT, or select fewer columns",
                        size(RESULT_BYTES_MAX)
                    )));
                }
                values.push(own(value, column)?);
            }
            collected.push(values);
        }
        Ok(Rows { columns, rows: collected })
    }
}

/// Checks the sizes of a statement and its parameters.
pub(crate) fn check_sizes(statement: &str, parameters: &[Value]) -> Result<(), Error> {
    if statement.len() > STATEMENT_BYTES_MAX {
        return Err(Error::TooLarge(format!(
            "the statement has {}, more than the maximum of {}",
            size(statement.len()),
            size(STATEMENT_BYTES_MAX)
        )));
    }
    if statement.contains('\0') {
        return Err(Error::Statement("the statement contains a NUL character".to_owned()));
    }
    if parameters.len() > PARAMETERS_MAX {
        return Err(Error::TooLarge(format!(
            "the statement has {} parameters, more than the maximum of {PARAMETERS_MAX}",
            parameters.len()
        )));
    }
    for (index, parameter) in parameters.iter().enumerate() {
        let bytes = match parameter {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            Value::Null | Value::Integer(_) | Value::Real(_) => 0,
        };
        if bytes > VALUE_BYTES_MAX {
            return Err(Error::TooLarge(format!(
                "parameter {} has {}, more than the maximum of {}",
                index + 1,
                size(bytes),
                size(VALUE_BYTES_MAX)
            )));
        }
    }
    Ok(())
}

fn bind(prepared: &mut CachedStatement<'_>, parameters: &[Value]) -> Result<(), Error> {
    let expected = prepared.parameter_count();
    if expected != parameters.len() {
        return Err(Error::Parameters(format!(
            "the statement has {expected} placeholders, but {} parameters were given",
            parameters.len()
        )));
    }
    for (index, value) in parameters.iter().enumerate() {
        let value = ToSqlOutput::Borrowed(match value {
            Value::Null => ValueRef::Null,
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        });
        prepared.raw_bind_parameter(index + 1, value).map_err(|error| from_sqlite(&error, None))?;
    }
    Ok(())
}

fn value_bytes(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 0,
    }
}

fn own(value: ValueRef<'_>, column: &str) -> Result<Value, Error> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Text(bytes) => Value::Text(String::from_utf8(bytes.to_vec()).map_err(|_| {
            Error::Statement(format!("the column `{column}` contains text that is not UTF-8: CAST it to BLOB"))
        })?),
    })
}

/// Converts an error of SQLite. `denied` is the authorizer's reason for refusing the statement.
pub(crate) fn from_sqlite(error: &rusqlite::Error, denied: Option<String>) -> Error {
    let (code, message) = match error {
        rusqlite::Error::SqliteFailure(failure, _) if failure.extended_code == vfs::TRANSACTION_TOO_LARGE => {
            return Error::TooLarge(format!(
                "the transaction changes more than {} of the store: use several transactions",
                size((WRITTEN_PAGES_MAX * PAGE_BYTES) as u64)
            ));
        }
        rusqlite::Error::SqliteFailure(failure, message) => (failure.code, message.clone()),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error.code, Some(msg.clone())),
        rusqlite::Error::MultipleStatement => {
            return Error::Statement(
                "the text contains more than one statement: send the statements one by one".to_owned(),
            );
        }
        other => return Error::Store(other.to_string()),
    };
    let message = excerpt::cut(message.unwrap_or_else(|| format!("{code:?}")), excerpt::TEXT_BYTES_MAX);
    match code {
        ErrorCode::ConstraintViolation => Error::Constraint(message),
        ErrorCode::OperationInterrupted => Error::Timeout,
        ErrorCode::TooBig => Error::TooLarge(message),
        ErrorCode::OutOfMemory => Error::TooLarge(format!(
            "the statement needs more than {} of memory, or more than is available",
            size(MEMORY_BYTES_MAX as u64)
        )),
        // SQLite reports misuse for an empty statement.
        ErrorCode::ApiMisuse => Error::Statement("the statement is empty".to_owned()),
        ErrorCode::AuthorizationForStatementDenied => Error::Statement(denied.unwrap_or(message)),
        ErrorCode::CannotOpen => Error::Store("the store's files cannot be opened".to_owned()),
        ErrorCode::DiskFull => Error::Store("the disk has no space left: try again later".to_owned()),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Error::Overloaded,
        ErrorCode::Unknown | ErrorCode::TypeMismatch | ErrorCode::SchemaChanged | ErrorCode::ParameterOutOfRange => {
            Error::Statement(denied.unwrap_or(message))
        }
        _ => Error::Store(message),
    }
}

/// Returns the text of an error, as the node's log shows it.
pub(crate) fn describe(error: &Error) -> String {
    match error {
        Error::AccessDenied(text) | Error::Parameters(text) | Error::TooLarge(text) => text.clone(),
        Error::Statement(text) => format!("the statement cannot be run: {text}"),
        Error::Constraint(text) => format!("a constraint refused the change: {text}"),
        Error::Timeout => "the statement or transaction exceeded its time limit".to_owned(),
        Error::Overloaded => "the store has too many operations waiting: try again later".to_owned(),
        Error::Store(text) => format!("the store failed: {text}"),
    }
}
