//! One SQLite connection with its limits: authorizer, time limit, sizes.
//!
//! All operations block, and run on a thread of the pool. Every statement of a guest goes through [`Session::execute`],
//! [`Session::query`] or [`Session::read`]. These functions leave the connection in its original state even if the
//! statement fails.
//!
//! The file is long because what is set before a statement and what is reset after it must be read together.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use isomer_display::size;
use isomer_runtime::{Account, HostMemory};
use isomer_sqlite_heap::{Heap, HeapGuard, Refusal};
use rusqlite::config::DbConfig;
use rusqlite::hooks::Authorization;
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags};

use super::authorizer::{self, Mode, Verdict};
use super::functions;
use super::inspection::{InspectedValue, Inspection, InspectionLimits, cut_text, json_text_bytes};
use super::memory;
use super::{Rows, RowsCharge, SqlError, SqlLimits, VALUE_OVERHEAD_BYTES, Value};
use crate::StorageAccount;
use crate::pool::{self, Interruption, locked};
use crate::storage::written_by_thread;

/// The number of instructions of SQLite's virtual machine between two checks of the time limit.
const INSTRUCTIONS_PER_CHECK: i32 = 1000;
/// The maximum time that SQLite waits for a lock of another connection in this process. Such locks are held briefly.
const BUSY_TIME: Duration = Duration::from_secs(5);
/// The interval at which the processor time of a running statement is charged.
const CPU_CHARGE_INTERVAL: Duration = Duration::from_millis(1);
/// The maximum length of one sleep of a migration whose tenant has no processor time left.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// The unit in bytes in which the memory of a result is charged: each charge is a multiple of it.
const RESULT_STEP_BYTES: usize = 64 << 10;
/// The interval between two checks of the number of bytes that a statement has written.
const WRITES_CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// The maximum length of a pattern of LIKE and GLOB, in bytes. It is short because a match is one instruction, which
/// the time limit cannot interrupt.
const LIKE_PATTERN_BYTES_MAX: i32 = 256;
/// The maximum number of arguments of a function. It is small because some functions concatenate all arguments before
/// they check the size.
const FUNCTION_ARGUMENTS_MAX: i32 = 100;
/// The maximum number of instructions of a prepared statement, which limits the memory of the statement.
const STATEMENT_INSTRUCTIONS_MAX: i32 = 250_000;
/// The maximum depth of nested triggers.
const TRIGGER_DEPTH_MAX: i32 = 100;
/// Unused pages of a store's file are released if there are at least this many, and if they are at least a quarter of
/// all pages of the file.
const UNUSED_PAGES_MIN: u64 = 64;
/// The maximum number of pages that SQLite supports. Used if no limit applies.
const PAGES_MAX: u64 = 0xffff_fffe;

/// Whether a connection can write or only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    Read,
}

/// The settings for opening a connection of a store.
#[derive(Clone)]
pub(super) struct Opening {
    pub(super) path: PathBuf,
    pub(super) limits: Arc<SqlLimits>,
    pub(super) statement_time: Duration,
    pub(super) account: Arc<StorageAccount>,
    /// The tenant's account, to which results and SQLite's memory are charged.
    pub(super) tenant_account: Arc<Account>,
    pub(super) heap: Arc<Heap>,
}

impl Opening {
    /// Records the current sizes of the store's file and of its log files.
    pub(super) fn measure(&self) {
        self.account.measure(&self.path);
        for suffix in ["-wal", "-shm"] {
            let mut file = self.path.clone().into_os_string();
            file.push(suffix);
            self.account.measure(file.as_ref());
        }
    }

    /// Opens a connection to the file `path`, into which the store's pages will be copied. Commits do not sync the
    /// file, so a crash makes it unusable. The connection runs no statement of a guest. Its memory is charged to the
    /// heap that the caller has entered.
    pub(super) fn connect_to_copy(&self, path: &Path) -> Result<Connection, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        bound(&connection, &self.limits)?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        Ok(connection)
    }
}

/// Sets the limits that apply to every connection.
fn bound(connection: &Connection, limits: &SqlLimits) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIME)?;
    let kibibytes = i64::try_from(limits.cache_bytes / 1024).unwrap_or(i64::MAX);
    connection.pragma_update(None, "cache_size", -kibibytes)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    let bounded = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    for (limit, max) in [
        (Limit::SQLITE_LIMIT_LENGTH, bounded(limits.value_bytes_max)),
        (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, bounded(limits.parameters_max)),
        (Limit::SQLITE_LIMIT_FUNCTION_ARG, FUNCTION_ARGUMENTS_MAX),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LIKE_PATTERN_BYTES_MAX),
        (Limit::SQLITE_LIMIT_VDBE_OP, STATEMENT_INSTRUCTIONS_MAX),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, TRIGGER_DEPTH_MAX),
    ] {
        connection.set_limit(limit, max)?;
    }
    Ok(())
}

pub(super) struct Session {
    connection: Connection,
    guard: Arc<Mutex<Guard>>,
    opening: Opening,
    /// The value of `max_page_count` that was set last.
    pages_max: Cell<u64>,
}

/// The state of the current statement, which SQLite's callbacks use.
struct Guard {
    mode: Mode,
    deadline: Option<Instant>,
    denied: Option<String>,
    writes: Option<Writes>,
    cpu_charge_at: Instant,
    /// The reason why the statement was interrupted before its time limit; `None` if it was not.
    interruption: Option<Interruption>,
    tenant_account: Arc<Account>,
}

/// Limits the number of bytes that a statement writes to SQLite's write-ahead log and to temporary files. SQLite has no
/// setting for this limit.
struct Writes {
    /// The number of bytes that the thread had written at the first check. `None` before that check, which most
    /// statements do not reach.
    bytes_at_start: Option<u64>,
    bytes_max: u64,
    check_at: Instant,
    reached: bool,
}

impl Guard {
    fn new(tenant_account: &Arc<Account>) -> Self {
        let (mode, tenant_account) = (Mode::Internal, tenant_account.clone());
        let (deadline, denied, writes, interruption) = (None, None, None, None);
        Self { mode, deadline, denied, writes, cpu_charge_at: Instant::now(), interruption, tenant_account }
    }

    /// Prepares the callbacks for a statement that runs in `mode`.
    fn begin(&mut self, mode: Mode, deadline: Option<Instant>, writes: Option<Writes>) {
        (self.mode, self.deadline, self.writes) = (mode, deadline, writes);
        (self.denied, self.interruption) = (None, None);
        self.cpu_charge_at = Instant::now() + CPU_CHARGE_INTERVAL;
    }

    /// Checks the limits, and charges processor time. Returns whether the statement must be interrupted.
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return true;
        }
        if now >= self.cpu_charge_at {
            self.cpu_charge_at = now + CPU_CHARGE_INTERVAL;
            pool::charge();
            if self.mode != Mode::Internal {
                // An idle instance can be evicted here, because this thread holds no lock of SQLite's allocator.
                self.tenant_account.make_room(memory::ROOM_BYTES);
            }
            match self.mode {
                Mode::Guest | Mode::Inspection => self.interruption = pool::interruption(),
                Mode::Migration | Mode::BoundedInternal => self.pause(),
                Mode::Internal => {}
            }
        } else if matches!(self.mode, Mode::Guest | Mode::Inspection) && pool::caller_is_gone() {
            self.interruption = Some(Interruption::CallerGone);
        }
        if self.interruption.is_some() {
            return true;
        }
        let Some(writes) = self.writes.as_mut().filter(|writes| now >= writes.check_at) else { return false };
        writes.check_at = now + WRITES_CHECK_INTERVAL;
        let written = written_by_thread();
        writes.reached = written.saturating_sub(*writes.bytes_at_start.get_or_insert(written)) > writes.bytes_max;
        writes.reached
    }

    /// Waits while the tenant has no processor time left, at most until the deadline. Called for migrations and for
    /// statements of this crate that process a guest's data. A guest's own statement would be interrupted instead.
    fn pause(&mut self) {
        while let Some(wait) = pool::cpu_retry_after() {
            let now = Instant::now();
            let Some(left) = self.deadline.map(|by| by.saturating_duration_since(now)).filter(|it| !it.is_zero())
            else {
                return;
            };
            std::thread::sleep(wait.min(PAUSE_MAX).min(left));
        }
    }
}

/// The outcome of a query on a reading connection.
pub(super) enum ReadOutcome {
    Rows(Result<Rows, SqlError>),
    /// The statement was not run and must run on the writing connection, because it changes something, or because no
    /// reading connection could be opened.
    NeedsWriter,
}

impl Session {
    pub(super) fn open(opening: &Opening, access: Access) -> Result<Self, rusqlite::Error> {
        let flags = match access {
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
        Self::open_with(opening, access, flags)
    }

    /// Opens a writing connection to a file that exists.
    pub(super) fn open_existing(opening: &Opening) -> Result<Self, rusqlite::Error> {
        Self::open_with(opening, Access::Write, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    fn open_with(opening: &Opening, access: Access, flags: OpenFlags) -> Result<Self, rusqlite::Error> {
        isomer_sqlite_heap::install().map_err(|error| {
            rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(error.code), Some(error.to_string()))
        })?;
        let _entered = opening.heap.enter(None);
        let connection = Connection::open_with_flags(&opening.path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        Self::guard(connection, access, opening)
    }

    /// Sets the limits, callbacks and modes of a new connection.
    fn guard(mut connection: Connection, access: Access, opening: &Opening) -> Result<Self, rusqlite::Error> {
        let limits = &opening.limits;
        bound(&connection, limits)?;
        if access == Access::Write {
            let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            if pages == 0 {
                // Makes it possible to release unused pages later. Must be set before the first page is written.
                connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
            }
            let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
            if !mode.eq_ignore_ascii_case("wal") {
                return Err(rusqlite::Error::InvalidParameterName(format!("journal mode is `{mode}`, not `wal`")));
            }
            connection.pragma_update(None, "wal_autocheckpoint", limits.log_pages_max)?;
            // Makes SQLite truncate a log that a large transaction has extended.
            connection.pragma_update(None, "journal_size_limit", i64::from(limits.log_pages_max) * 4096)?;
        }
        // With `FULL`, each commit syncs the log before it returns.
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        functions::define(&connection, limits.value_bytes_max)?;
        connection.set_prepared_statement_cache_capacity(limits.prepared_statements_max);
        let guard = Arc::new(Mutex::new(Guard::new(&opening.tenant_account)));
        let watched = guard.clone();
        connection.progress_handler(INSTRUCTIONS_PER_CHECK, Some(move || locked(&watched).is_over()))?;
        let shared_guard = guard.clone();
        connection.authorizer(Some(move |context: rusqlite::hooks::AuthContext<'_>| {
            let mut guard = locked(&shared_guard);
            match authorizer::judge(guard.mode, &context) {
                Verdict::Allowed => Authorization::Allow,
                Verdict::Skipped => Authorization::Ignore,
                Verdict::Refused(why) => {
                    guard.denied = Some(why);
                    Authorization::Deny
                }
            }
        }))?;
        Ok(Self { connection, guard, opening: opening.clone(), pages_max: Cell::new(PAGES_MAX) })
    }

    /// Begins a transaction, in which the store may grow by the storage that is available to the tenant now.
    pub(super) fn begin(&self) -> Result<(), SqlError> {
        self.bound_growth()?;
        self.internal("BEGIN IMMEDIATE")
    }

    /// Charges SQLite's allocations on this thread to the store's heap until the returned guard is dropped.
    pub(super) fn enter(&self) -> HeapGuard {
        self.opening.heap.enter(None)
    }

    /// Records the current sizes of the store's files after a change. Before that, releases unused pages if there are
    /// many.
    pub(super) fn wrote(&self) {
        let _entered = self.enter();
        if self.opening.account.is_limited()
            && !self.in_transaction()
            && let Err(error) = self.release_unused_pages()
        {
            tracing::debug!(%error, "cannot release unused pages of an SQL store");
        }
        self.opening.measure();
    }

    /// Sets the maximum number of pages to the current size plus the storage that is available to the tenant now.
    fn bound_growth(&self) -> Result<(), SqlError> {
        let _entered = self.enter();
        let account = &self.opening.account;
        let pages_max = if account.is_limited() {
            self.opening.measure();
            let number = |pragma| self.number(pragma).map_err(|error| self.error(&error));
            let (pages, page_bytes) = (number("page_count")?, number("page_size")?.max(1));
            // SQLite does not accept a maximum below the current number of pages, so the maximum is this number plus
            // the number of pages for which there is room.
            (pages + account.room() / page_bytes).clamp(1, PAGES_MAX)
        } else {
            PAGES_MAX
        };
        if self.pages_max.replace(pages_max) != pages_max {
            self.connection
                .pragma_update(None, "max_page_count", pages_max.cast_signed())
                .map_err(|error| self.error(&error))?;
        }
        Ok(())
    }

    fn release_unused_pages(&self) -> Result<(), rusqlite::Error> {
        let free = self.number("freelist_count")?;
        if free < UNUSED_PAGES_MIN || free < self.number("page_count")? / 4 {
            return Ok(());
        }
        // Steps the pragma to its end, because each step releases one page and returns a row.
        let mut statement = self.connection.prepare("PRAGMA incremental_vacuum")?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        drop(rows);
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    fn number(&self, pragma: &str) -> Result<u64, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(&format!("PRAGMA {pragma}"))?;
        statement.query_row([], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
    }

    /// Runs one statement that returns no rows. Returns the number of changed rows.
    pub(super) fn execute(&self, statement: &str, parameters: &[Value], by: Option<Instant>) -> Result<u64, SqlError> {
        let is_own_transaction = !self.in_transaction();
        if is_own_transaction {
            self.bound_growth()?;
        }
        let result = self.guarded(Mode::Guest, self.statement_deadline(by), || {
            let mut prepared = self.prepare(statement)?;
            if prepared.column_count() > 0 {
                return Err(SqlError::Statement(
                    "the statement returns rows: run the statement with `query`".to_owned(),
                ));
            }
            bind(&mut prepared, parameters)?;
            let before = self.connection.total_changes();
            prepared.raw_execute().map_err(|error| self.error(&error))?;
            // `changes` by itself is not enough: after a statement that changes no rows (such as CREATE TABLE), it
            // still returns the number of rows that the previous statement changed.
            let changed = self.connection.total_changes() != before;
            Ok(if changed { self.connection.changes() } else { 0 })
        });
        if is_own_transaction {
            self.wrote();
        }
        result
    }

    /// Runs one statement on a reading connection if the statement is read-only; otherwise returns
    /// [`ReadOutcome::NeedsWriter`].
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

    /// Runs one statement that only reads, on a reading connection. The statement is prepared without the connection's
    /// cache, because a cached statement was checked in another mode.
    pub(super) fn inspect(&self, statement: &str, limits: &InspectionLimits) -> Result<Inspection, SqlError> {
        let time = limits.time.min(self.opening.statement_time);
        self.guarded(Mode::Inspection, Some(Instant::now() + time), || {
            let mut prepared = self.connection.prepare(statement).map_err(|error| self.error(&error))?;
            if !prepared.readonly() || prepared.column_count() == 0 {
                return Err(SqlError::Statement("only one statement that reads is allowed here".to_owned()));
            }
            // Checks the size before the names are copied, because a statement can repeat a long name many times.
            let mut bytes = 0;
            for name in prepared.column_names() {
                bytes += VALUE_OVERHEAD_BYTES + json_text_bytes(name);
                if bytes > limits.bytes_max {
                    return Err(SqlError::TooLarge(format!(
                        "the names of the columns have more than {}: select fewer columns",
                        size(limits.bytes_max)
                    )));
                }
            }
            let mut charge = self.opening.tenant_account.charge_host_memory(bytes)?;
            let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
            let mut found = Inspection { columns, ..Inspection::default() };
            let mut rows = prepared.raw_query();
            while let Some(row) = rows.next().map_err(|error| self.error(&error))? {
                let mut values = Vec::with_capacity(found.columns.len());
                for index in 0..found.columns.len() {
                    let value = row.get_ref(index).map_err(|error| self.error(&error))?;
                    let value = inspected(value, limits.cell_bytes_max);
                    bytes += value.json_bytes();
                    if bytes > limits.bytes_max {
                        break;
                    }
                    grow_to(&mut charge, bytes)?;
                    values.push(value);
                }
                if found.rows.len() >= limits.rows_max || bytes > limits.bytes_max {
                    found.truncated = true;
                    break;
                }
                found.rows.push(values);
            }
            found.charge = RowsCharge { _held: Some(charge) };
            Ok(found)
        })
    }

    /// Runs one statement and collects its rows. If the statement fails, for example because its result is too large,
    /// its changes are undone.
    pub(super) fn query(&self, statement: &str, parameters: &[Value], by: Option<Instant>) -> Result<Rows, SqlError> {
        let deadline = self.statement_deadline(by);
        let changes = self.guarded(Mode::Guest, deadline, || Ok(!self.prepare(statement)?.readonly()))?;
        let run = || self.guarded(Mode::Guest, deadline, || self.collect(&mut self.prepare(statement)?, parameters));
        if !changes {
            return run();
        }
        let is_own_transaction = !self.in_transaction();
        if is_own_transaction {
            self.bound_growth()?;
        }
        let (begin, commit, undo) = if is_own_transaction {
            ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        } else {
            ("SAVEPOINT isomer_query", "RELEASE isomer_query", "ROLLBACK TO isomer_query; RELEASE isomer_query")
        };
        self.internal(begin)?;
        let result = run().and_then(|rows| self.internal(commit).map(|()| rows));
        if result.is_err() && !self.connection.is_autocommit() {
            self.internal(undo)?;
        }
        if is_own_transaction {
            self.wrote();
        }
        result
    }

    /// Runs statements that are part of this crate and take a short time.
    pub(super) fn internal(&self, statements: &str) -> Result<(), SqlError> {
        self.guarded(Mode::Internal, None, || {
            self.connection.execute_batch(statements).map_err(|error| self.error(&error))
        })
    }

    /// Runs the statements of a migration, with the limits of [`Mode::Migration`].
    pub(super) fn migrate(&self, statements: &str, deadline: Instant) -> Result<(), SqlError> {
        self.guarded(Mode::Migration, Some(deadline), || {
            self.connection.execute_batch(statements).map_err(|error| self.error(&error))
        })
    }

    /// Runs `work`, which consists of statements of this crate that process a guest's data. The limits of time and
    /// memory are those of a migration.
    pub(super) fn bounded<T>(
        &self,
        deadline: Instant,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, SqlError> {
        self.guarded(Mode::BoundedInternal, Some(deadline), || {
            work(&self.connection).map_err(|error| self.error(&error))
        })
    }

    /// Returns the connection, for statements of this crate that have parameters.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns whether a transaction is open.
    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Rolls back the open transaction, if there is one.
    pub(super) fn roll_back(&self) {
        if self.in_transaction()
            && let Err(error) = self.internal("ROLLBACK")
        {
            tracing::error!(%error, "cannot roll back a transaction");
        }
    }

    fn statement_deadline(&self, by: Option<Instant>) -> Option<Instant> {
        let own = Instant::now() + self.opening.statement_time;
        Some(by.map_or(own, |by| by.min(own)))
    }

    /// Runs `work` in `mode`, at most until `deadline`. Sets [`Mode::Internal`] again before it returns.
    fn guarded<T>(
        &self,
        mode: Mode,
        deadline: Option<Instant>,
        work: impl FnOnce() -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let writes = if mode != Mode::Internal && self.opening.account.is_limited() {
            let (bytes_max, check_at) =
                (self.opening.limits.statement_writes_max, Instant::now() + WRITES_CHECK_INTERVAL);
            Some(Writes { bytes_at_start: None, bytes_max, check_at, reached: false })
        } else {
            None
        };
        if matches!(mode, Mode::Guest | Mode::Inspection)
            && let Some(Interruption::OutOfCpu) = pool::interruption()
        {
            return Err(SqlError::Cpu);
        }
        locked(&self.guard).begin(mode, deadline, writes);
        let bytes_max = (mode != Mode::Internal).then_some(self.opening.limits.statement_memory_max);
        if bytes_max.is_some() {
            self.opening.tenant_account.make_room(memory::ROOM_BYTES);
        }
        let entered = self.opening.heap.enter(bytes_max);
        let result = work();
        drop(entered);
        locked(&self.guard).begin(Mode::Internal, None, None);
        result
    }

    fn error(&self, error: &rusqlite::Error) -> SqlError {
        let (denied, wrote_too_much, interruption) = {
            let mut guard = locked(&self.guard);
            (guard.denied.take(), guard.writes.as_ref().is_some_and(|writes| writes.reached), guard.interruption)
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::OutOfMemory) if isomer_sqlite_heap::refusal() == Some(Refusal::Account) => {
                SqlError::Memory { limit: self.opening.tenant_account.memory_bytes_max() }
            }
            Some(ErrorCode::OutOfMemory) => SqlError::TooLarge(format!(
                "the statement needs more than {} of memory, or more than is available",
                size(self.opening.limits.statement_memory_max)
            )),
            Some(ErrorCode::OperationInterrupted) if interruption == Some(Interruption::OutOfCpu) => SqlError::Cpu,
            Some(ErrorCode::OperationInterrupted) if wrote_too_much => SqlError::TooLarge(format!(
                "the statement writes more than {}, temporary files included",
                size(self.opening.limits.statement_writes_max)
            )),
            Some(ErrorCode::DiskFull) if self.opening.account.is_limited() => {
                self.opening.account.refuse();
                self.opening.account.full(SqlError::DiskFull, |limit| SqlError::Quota { limit })
            }
            _ => SqlError::from_sqlite(error, denied),
        }
    }

    fn prepare(&self, statement: &str) -> Result<CachedStatement<'_>, SqlError> {
        self.connection.prepare_cached(statement).map_err(|error| self.error(&error))
    }

    fn collect(&self, prepared: &mut CachedStatement<'_>, parameters: &[Value]) -> Result<Rows, SqlError> {
        bind(prepared, parameters)?;
        let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
        let mut collected = Vec::new();
        let mut bytes = columns.iter().map(String::len).sum::<usize>();
        let mut charge = self.opening.tenant_account.charge_host_memory(bytes)?;
        let mut rows = prepared.raw_query();
        while let Some(row) = rows.next().map_err(|error| self.error(&error))? {
            if collected.len() >= self.opening.limits.result_rows_max {
                return Err(SqlError::TooLarge(format!(
                    "the result has more than {} rows: use LIMIT",
                    self.opening.limits.result_rows_max
                )));
            }
            let mut values = Vec::with_capacity(columns.len());
            for (index, column) in columns.iter().enumerate() {
                let value = row.get_ref(index).map_err(|error| self.error(&error))?;
                bytes += VALUE_OVERHEAD_BYTES + value_bytes(value);
                if bytes > self.opening.limits.result_bytes_max {
                    return Err(SqlError::TooLarge(format!(
                        "the result has more than {}: use LIMIT, or select fewer columns",
                        size(self.opening.limits.result_bytes_max)
                    )));
                }
                grow_to(&mut charge, bytes + collected.len() * size_of::<Vec<Value>>())?;
                values.push(own(value, column)?);
            }
            collected.push(values);
        }
        Ok(Rows { columns, rows: collected, charge: RowsCharge { _held: Some(charge) } })
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

/// Increases the charge for a result to at least `bytes`. Rounds the increase up, so that not every row needs a charge.
fn grow_to(charge: &mut HostMemory, bytes: usize) -> Result<(), SqlError> {
    let charged = usize::try_from(charge.bytes()).unwrap_or(usize::MAX);
    if bytes > charged {
        charge.grow((bytes - charged).next_multiple_of(RESULT_STEP_BYTES))?;
    }
    Ok(())
}

fn value_bytes(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 0,
    }
}

fn inspected(value: ValueRef<'_>, bytes_max: usize) -> InspectedValue {
    match value {
        ValueRef::Null => InspectedValue::Null,
        ValueRef::Integer(integer) => InspectedValue::Integer(integer),
        ValueRef::Real(real) => InspectedValue::Real(real),
        ValueRef::Text(bytes) => InspectedValue::Text(cut_text(bytes, bytes_max), bytes.len()),
        ValueRef::Blob(bytes) => InspectedValue::Blob(bytes[..bytes.len().min(bytes_max)].to_vec(), bytes.len()),
    }
}

fn own(value: ValueRef<'_>, column: &str) -> Result<Value, SqlError> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Text(bytes) => Value::Text(String::from_utf8(bytes.to_vec()).map_err(|_| {
            SqlError::Statement(format!("the column `{column}` contains text that is not UTF-8: CAST it to BLOB"))
        })?),
    })
}
