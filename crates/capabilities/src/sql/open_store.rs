//! An open SQL store: its connections, its queues of callers, and the accounts of its tenant.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Semaphore;

use super::memory;
use super::migrations::Migrations;
use super::pending::PendingStatement;
use super::session::{Access, Opening, ReadOutcome, Session};
use super::{SqlError, SqlLimits, SqlOpenError, SqlSettings, Value};
use crate::open_files::OpenPermit;
use crate::pool::{JobQueue, locked};
use crate::private_files::{make_private_dir, sync_dir};
use crate::storage::StorageAccount;

pub(crate) struct OpenStore {
    pub(super) name: String,
    pub(super) limits: Arc<SqlLimits>,
    pub(super) job_queue: JobQueue,
    pub(super) opening: Opening,
    pub(super) reading: Arc<Semaphore>,
    pub(super) waiting: AtomicUsize,
    /// The permit for the only inspection that runs.
    pub(super) inspecting: Arc<Semaphore>,
    /// Whether the store must not use its file again, because [`OpenStore::abandon_file`] was called.
    is_abandoned: AtomicBool,
    /// Always `Some`, except while the store is being dropped.
    open: Option<Connections>,
}

/// The connections of an open database. The writing connection is closed last, because closing the last connection
/// copies the log into the file.
pub(super) struct Connections {
    pub(super) readers: Mutex<Vec<Session>>,
    writer: Writer,
    /// The permit to have the file open. [`OpenStore::abandon_file`] releases the permit before the store is dropped.
    permit: Mutex<Option<OpenPermit>>,
}

/// What happens if a store has no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingFile {
    Create,
    Refuse,
}

impl OpenStore {
    /// Opens the file of a store, and applies the migrations. `missing` says what happens if there is no file. Blocks the
    /// thread.
    pub(super) fn open_file(
        name: &str,
        path: &Path,
        settings: &SqlSettings,
        limits: Arc<SqlLimits>,
        (job_queue, account): (JobQueue, Arc<StorageAccount>),
        permit: OpenPermit,
        missing: MissingFile,
    ) -> Result<Arc<Self>, SqlOpenError> {
        let open = |source| SqlOpenError::Open { path: path.to_owned(), source };
        let io = |source| SqlOpenError::Io { path: path.to_owned(), source };
        let statement_time = settings.statement_time.unwrap_or(limits.statement_time);
        let tenant_account = job_queue.account().clone();
        let heap = memory::heap(&tenant_account);
        let opening =
            Opening { path: path.to_owned(), limits: limits.clone(), statement_time, account, tenant_account, heap };
        let dir = path.parent().unwrap_or(Path::new("."));
        let session = match missing {
            MissingFile::Create => {
                make_private_dir(dir).map_err(io)?;
                Session::open(&opening, Access::Write)
            }
            MissingFile::Refuse => Session::open_existing(&opening),
        };
        let session = session.map_err(open)?;
        // Syncs the folder before anything is committed, because the switch to WAL mode may have deleted a rollback
        // journal. If a crash undid this deletion, SQLite would roll the journal back over later commits.
        sync_dir(dir).map_err(io)?;
        if let Some(folder) = &settings.migrations {
            Migrations::read(name, folder)?.apply(&session, Instant::now() + limits.migration_time)?;
        }
        session.wrote();
        let reading = Arc::new(Semaphore::new(limits.readers.max(1)));
        let open =
            Connections { readers: Mutex::default(), writer: Writer::new(session), permit: Mutex::new(Some(permit)) };
        let (waiting, is_abandoned) = (AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Arc::new(Self {
            name: name.to_owned(),
            limits,
            job_queue,
            opening,
            reading,
            waiting,
            inspecting: Arc::new(Semaphore::new(1)),
            is_abandoned,
            open: Some(open),
        }))
    }

    pub(super) fn open(&self) -> &Connections {
        self.open.as_ref().expect("a store is open until it is dropped")
    }

    /// Checks the size of a statement and charges it to the tenant.
    pub(super) fn admit(&self, statement: String, parameters: Vec<Value>) -> Result<PendingStatement, SqlError> {
        PendingStatement::new(statement, parameters, &self.limits, &self.opening.account, self.job_queue.account())
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.open().writer
    }

    /// Releases the file, so that it can be opened again; all later statements of this store fail. The connections must
    /// be closed already, and no caller may still use one.
    pub(super) fn abandon_file(&self) {
        self.is_abandoned.store(true, Ordering::Release);
        drop(locked(&self.open().permit).take());
    }

    /// Opens the writing connection. Called if this failed when the store was resumed after a pause.
    pub(super) fn open_writer(&self) -> Result<Session, SqlError> {
        self.connect(Access::Write)
    }

    /// Returns whether [`OpenStore::abandon_file`] was called.
    pub(super) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Acquire)
    }

    fn connect(&self, access: Access) -> Result<Session, SqlError> {
        if self.is_abandoned() {
            return Err(abandoned());
        }
        Session::open(&self.opening, access).map_err(|error| SqlError::from_sqlite(&error, None))
    }

    /// Runs `work` on a reading connection. Opens the connection if there is no idle one.
    pub(super) fn with_reader<T>(&self, work: impl FnOnce(&Session) -> T) -> Result<T, SqlError> {
        let idle = locked(&self.open().readers).pop();
        let session = idle.map_or_else(|| self.connect(Access::Read), Ok)?;
        let done = work(&session);
        locked(&self.open().readers).push(session);
        Ok(done)
    }

    /// Runs a statement on a reading connection. If no reading connection can be opened, returns
    /// [`ReadOutcome::NeedsWriter`]. This happens if there is no file descriptor left, or if the writing connection has
    /// to be opened first.
    pub(super) fn read(&self, statement: &str, parameters: &[Value]) -> ReadOutcome {
        self.with_reader(|session| session.read(statement, parameters)).unwrap_or(ReadOutcome::NeedsWriter)
    }
}

impl Drop for OpenStore {
    /// Closes the connections in a job on the pool, because closing copies the log into the file and syncs it. The job
    /// then releases the permit.
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let opening = self.opening.clone();
        self.job_queue.spawn(move || {
            let Connections { readers, writer, permit } = open;
            drop(readers);
            drop(writer.into_session());
            opening.measure();
            drop(permit);
        });
    }
}

/// The writing connection of a store while no caller uses it, and the queue of the callers.
pub(super) struct Writer {
    pub(super) session: Mutex<Option<Session>>,
    pub(super) slot: Arc<Semaphore>,
    pub(super) waiting: AtomicUsize,
}

impl Writer {
    pub(super) fn new(session: Session) -> Self {
        Self { session: Mutex::new(Some(session)), slot: Arc::new(Semaphore::new(1)), waiting: AtomicUsize::new(0) }
    }

    /// Returns the connection, so that the caller can close it.
    pub(super) fn into_session(self) -> Option<Session> {
        self.session.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one waiting caller until this value is dropped.
pub(super) struct WaitingCount<'a>(&'a AtomicUsize);

impl<'a> WaitingCount<'a> {
    pub(super) fn begin(count: &'a AtomicUsize, max: usize) -> Result<Self, SqlError> {
        let waiting = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) >= max { Err(SqlError::Overloaded) } else { Ok(waiting) }
    }
}

impl Drop for WaitingCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn abandoned() -> SqlError {
    SqlError::Store("the store's file is being replaced: open the store again".to_owned())
}
