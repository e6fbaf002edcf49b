//! One SQLite connection with its guards: authorizer, time limit, sizes.
//!
//! Blocking; it belongs to a thread of the store. Every statement of a guest comes through [`Session::execute`] and
//! [`Session::query`], which leave the connection as they found it, whatever happens.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::hooks::Authorization;
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OpenFlags};

use super::authorizer::{self, Mode};
use super::{Rows, SqlError, SqlLimits, VALUE_OVERHEAD_BYTES, Value};
use crate::workers::locked;

/// Instructions of SQLite's machine between two looks at the clock.
const INSTRUCTIONS_PER_CHECK: i32 = 1000;
/// How long SQLite waits for a lock that another connection of this process holds for a moment.
const BUSY_TIME: Duration = Duration::from_secs(5);

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    Read,
}

pub(super) struct Session {
    connection: Connection,
    guard: Arc<Mutex<Guard>>,
    limits: Arc<SqlLimits>,
    statement_time: Duration,
}

/// What the callbacks of SQLite look at.
struct Guard {
    mode: Mode,
    deadline: Option<Instant>,
    denied: Option<String>,
}

/// A query on a connection that only reads.
pub(super) enum ReadOutcome {
    Rows(Result<Rows, SqlError>),
    /// The statement changes something.
    NeedsWriter,
}

impl Session {
    pub(super) fn open(
        path: &Path,
        access: Access,
        limits: Arc<SqlLimits>,
        statement_time: Duration,
    ) -> Result<Self, rusqlite::Error> {
        let flags = match access {
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        Self::guard(connection, access, limits, statement_time)
    }

    /// Put the guards on a fresh connection.
    pub(super) fn guard(
        mut connection: Connection,
        access: Access,
        limits: Arc<SqlLimits>,
        statement_time: Duration,
    ) -> Result<Self, rusqlite::Error> {
        connection.busy_timeout(BUSY_TIME)?;
        if access == Access::Write {
            let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
            if !mode.eq_ignore_ascii_case("wal") {
                return Err(rusqlite::Error::InvalidParameterName(format!("journal mode is `{mode}`, not `wal`")));
            }
            connection.pragma_update(None, "wal_autocheckpoint", limits.log_pages_max)?;
        }
        // FULL: each commit syncs the log before it returns.
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
        let bounded = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, bounded(limits.value_bytes_max))?;
        connection.set_limit(Limit::SQLITE_LIMIT_VARIABLE_NUMBER, bounded(limits.parameters_max))?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        connection.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
        connection.set_prepared_statement_cache_capacity(limits.prepared_statements_max);
        let guard = Arc::new(Mutex::new(Guard { mode: Mode::Internal, deadline: None, denied: None }));
        let watched = guard.clone();
        connection.progress_handler(
            INSTRUCTIONS_PER_CHECK,
            Some(move || locked(&watched).deadline.is_some_and(|deadline| Instant::now() >= deadline)),
        )?;
        let asked = guard.clone();
        connection.authorizer(Some(move |context: rusqlite::hooks::AuthContext<'_>| {
            let mut guard = locked(&asked);
            match authorizer::check(guard.mode, &context) {
                Ok(()) => Authorization::Allow,
                Err(why) => {
                    guard.denied = Some(why);
                    Authorization::Deny
                }
            }
        }))?;
        Ok(Self { connection, guard, limits, statement_time })
    }

    /// Run one statement that gives no rows; the rows that it changed.
    pub(super) fn execute(&self, statement: &str, parameters: &[Value], by: Option<Instant>) -> Result<u64, SqlError> {
        self.guarded(Mode::Guest, self.statement_deadline(by), || {
            let mut prepared = self.prepare(statement)?;
            if prepared.column_count() > 0 {
                return Err(SqlError::Statement("it gives rows: run it with `query`".to_owned()));
            }
            bind(&mut prepared, parameters)?;
            let before = self.connection.total_changes();
            prepared.raw_execute().map_err(|error| self.error(&error))?;
            // SQLite keeps the last count where a statement (CREATE TABLE, say) changes no rows.
            let changed = self.connection.total_changes() != before;
            Ok(if changed { self.connection.changes() } else { 0 })
        })
    }

    /// Run one statement on a connection that only reads, if it only reads.
    pub(super) fn read(&self, statement: &str, parameters: &[Value]) -> ReadOutcome {
        let rows = self.guarded(Mode::Guest, self.statement_deadline(None), || {
            let mut prepared = self.prepare(statement)?;
            if !prepared.readonly() {
                return Ok(None);
            }
            self.collect(&mut prepared, parameters).map(Some)
        });
        match rows {
            Ok(None) => ReadOutcome::NeedsWriter,
            Ok(Some(rows)) => ReadOutcome::Rows(Ok(rows)),
            Err(error) => ReadOutcome::Rows(Err(error)),
        }
    }

    /// Run one statement and collect its rows. If it changes something and fails, also by a result that is too large, nothing
    /// has been changed.
    pub(super) fn query(&self, statement: &str, parameters: &[Value], by: Option<Instant>) -> Result<Rows, SqlError> {
        let deadline = self.statement_deadline(by);
        let changes = self.guarded(Mode::Guest, deadline, || Ok(!self.prepare(statement)?.readonly()))?;
        let run = || self.guarded(Mode::Guest, deadline, || self.collect(&mut self.prepare(statement)?, parameters));
        if !changes {
            return run();
        }
        let (begin, commit, undo) = if self.connection.is_autocommit() {
            ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        } else {
            ("SAVEPOINT isomer_query", "RELEASE isomer_query", "ROLLBACK TO isomer_query; RELEASE isomer_query")
        };
        self.internal(begin)?;
        let result = run().and_then(|rows| self.internal(commit).map(|()| rows));
        if result.is_err() && !self.connection.is_autocommit() {
            self.internal(undo)?;
        }
        result
    }

    /// Run statements of this crate.
    pub(super) fn internal(&self, statements: &str) -> Result<(), SqlError> {
        self.guarded(Mode::Internal, None, || {
            self.connection.execute_batch(statements).map_err(|error| self.error(&error))
        })
    }

    /// Run the statements of a migration.
    pub(super) fn migrate(&self, statements: &str, deadline: Instant) -> Result<(), SqlError> {
        self.guarded(Mode::Migration, Some(deadline), || {
            self.connection.execute_batch(statements).map_err(|error| self.error(&error))
        })
    }

    /// The connection, for statements of this crate with parameters.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Is a transaction open?
    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Make sure that no transaction is open.
    pub(super) fn roll_back(&self) {
        if self.in_transaction()
            && let Err(error) = self.internal("ROLLBACK")
        {
            tracing::error!(%error, "a transaction couldn't be rolled back");
        }
    }

    fn statement_deadline(&self, by: Option<Instant>) -> Option<Instant> {
        let own = Instant::now() + self.statement_time;
        Some(by.map_or(own, |by| by.min(own)))
    }

    /// Run `work` for `mode` until `deadline`; afterwards the connection is this crate's again.
    fn guarded<T>(
        &self,
        mode: Mode,
        deadline: Option<Instant>,
        work: impl FnOnce() -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        *locked(&self.guard) = Guard { mode, deadline, denied: None };
        let result = work();
        *locked(&self.guard) = Guard { mode: Mode::Internal, deadline: None, denied: None };
        result
    }

    fn error(&self, error: &rusqlite::Error) -> SqlError {
        let denied = locked(&self.guard).denied.take();
        SqlError::from_sqlite(error, denied)
    }

    fn prepare(&self, statement: &str) -> Result<CachedStatement<'_>, SqlError> {
        self.connection.prepare_cached(statement).map_err(|error| self.error(&error))
    }

    fn collect(&self, prepared: &mut CachedStatement<'_>, parameters: &[Value]) -> Result<Rows, SqlError> {
        bind(prepared, parameters)?;
        let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
        let mut collected = Vec::new();
        let mut bytes = columns.iter().map(String::len).sum::<usize>();
        let mut rows = prepared.raw_query();
        while let Some(row) = rows.next().map_err(|error| self.error(&error))? {
            if collected.len() >= self.limits.result_rows_max {
                return Err(SqlError::TooLarge(format!(
                    "the result has more than {} rows: use LIMIT",
                    self.limits.result_rows_max
                )));
            }
            let mut values = Vec::with_capacity(columns.len());
            for (index, column) in columns.iter().enumerate() {
                let value = row.get_ref(index).map_err(|error| self.error(&error))?;
                bytes += VALUE_OVERHEAD_BYTES + value_bytes(value);
                if bytes > self.limits.result_bytes_max {
                    return Err(SqlError::TooLarge(format!(
                        "the result has more than {} bytes: use LIMIT, or ask for fewer columns",
                        self.limits.result_bytes_max
                    )));
                }
                values.push(own(value, column)?);
            }
            collected.push(values);
        }
        Ok(Rows { columns, rows: collected })
    }
}

fn bind(prepared: &mut CachedStatement<'_>, parameters: &[Value]) -> Result<(), SqlError> {
    let expected = prepared.parameter_count();
    if expected != parameters.len() {
        return Err(SqlError::Parameters(format!(
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
        prepared.raw_bind_parameter(index + 1, value).map_err(|error| SqlError::from_sqlite(&error, None))?;
    }
    Ok(())
}

fn value_bytes(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 0,
    }
}

fn own(value: ValueRef<'_>, column: &str) -> Result<Value, SqlError> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Text(bytes) => Value::Text(String::from_utf8(bytes.to_vec()).map_err(|_| {
            SqlError::Statement(format!("the column `{column}` has a text that isn't UTF-8: CAST it to BLOB"))
        })?),
    })
}
