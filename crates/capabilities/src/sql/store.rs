//! One SQL store: the operations that the host bindings call.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Semaphore;

use super::candidate::CandidateStores;
use super::memory;
use super::migrations::{Migrations, Schema};
use super::pending::PendingStatement;
use super::session::{Access, Opening, ReadOutcome, Session};
use super::writer::{self, Transaction, WaitingCount, Writer};
use super::{Rows, SqlError, SqlLimits, SqlOpenError, SqlSettings, Value};
use crate::StorageAccount;
use crate::open_files::OpenPermit;
use crate::pool::{Lane, locked};
use crate::private_files::{make_private_dir, sync_dir};
use crate::store_handle::StoreHandle;

/// A store. Clones are handles of the same one; the last to be dropped has it closed, on a thread of the pool.
#[derive(Clone)]
pub struct SqlStore(StoreHandle<Inner, CandidateStores>);

pub(crate) struct Inner {
    pub(super) name: String,
    pub(super) limits: Arc<SqlLimits>,
    pub(super) lane: Lane,
    pub(super) opening: Opening,
    pub(super) reading: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Set when this is not to touch its file again: see [`Inner::give_up`].
    is_lost: AtomicBool,
    /// There until this is dropped.
    open: Option<Open>,
}

/// An open database, in the order in which it is closed: the readers before the writer, whose close then folds the log into the file.
pub(super) struct Open {
    pub(super) readers: Mutex<Vec<Session>>,
    writer: Writer,
    /// Given back earlier where the store was given up.
    permit: Mutex<Option<OpenPermit>>,
}

impl Inner {
    /// Blocking: open the file and migrate it.
    pub(super) fn open_file(
        name: &str,
        path: &Path,
        settings: &SqlSettings,
        limits: Arc<SqlLimits>,
        (lane, account): (Lane, Arc<StorageAccount>),
        permit: OpenPermit,
    ) -> Result<Arc<Self>, SqlOpenError> {
        let open = |source| SqlOpenError::Open { path: path.to_owned(), source };
        let io = |source| SqlOpenError::Io { path: path.to_owned(), source };
        let statement_time = settings.statement_time.unwrap_or(limits.statement_time);
        let payer = lane.account().clone();
        let heap = memory::heap(&payer);
        let opening = Opening { path: path.to_owned(), limits: limits.clone(), statement_time, account, payer, heap };
        let dir = path.parent().unwrap_or(Path::new("."));
        make_private_dir(dir).map_err(io)?;
        let session = Session::open(&opening, Access::Write).map_err(open)?;
        // The switch to WAL mode left a journal behind, which is deleted now. Were that undone by a crash, the journal would
        // be rolled back over what was committed since; so it is made durable before anything is committed.
        sync_dir(dir).map_err(io)?;
        if let Some(folder) = &settings.migrations {
            Migrations::read(name, folder)?.apply(&session, Instant::now() + limits.migration_time)?;
        }
        session.wrote();
        let reading = Arc::new(Semaphore::new(limits.readers.max(1)));
        let open = Open { readers: Mutex::default(), writer: Writer::new(session), permit: Mutex::new(Some(permit)) };
        let (waiting, is_lost) = (AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Arc::new(Self { name: name.to_owned(), limits, lane, opening, reading, waiting, is_lost, open: Some(open) }))
    }

    pub(super) fn open(&self) -> &Open {
        self.open.as_ref().expect("it is open until it is dropped")
    }

    /// Charges the tenant for a statement.
    pub(super) fn ask(&self, statement: String, parameters: Vec<Value>) -> Result<PendingStatement, SqlError> {
        PendingStatement::new(statement, parameters, &self.limits, &self.opening.account, self.lane.account())
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.open().writer
    }

    /// Releases the file for its next owner: statements fail from now on. Its connections are closed, and no caller may use one.
    pub(super) fn give_up(&self) {
        self.is_lost.store(true, Ordering::Release);
        drop(locked(&self.open().permit).take());
    }

    /// The connection that writes, where it is not open: it could not be opened again after a pause.
    pub(super) fn open_writer(&self) -> Result<Session, SqlError> {
        self.connect(Access::Write)
    }

    /// Was it given up?
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    fn connect(&self, access: Access) -> Result<Session, SqlError> {
        if self.is_lost() {
            return Err(writer::lost());
        }
        Session::open(&self.opening, access).map_err(|error| SqlError::from_sqlite(&error, None))
    }

    /// Run `work` on a connection that only reads. One that is used for the first time is opened.
    fn with_reader<T>(&self, work: impl FnOnce(&Session) -> T) -> Result<T, SqlError> {
        let idle = locked(&self.open().readers).pop();
        let session = idle.map_or_else(|| self.connect(Access::Read), Ok)?;
        let done = work(&session);
        locked(&self.open().readers).push(session);
        Ok(done)
    }

    /// Where no connection for it can be opened (no descriptor, or the writing one has to be opened before), the writing one does it.
    fn read(&self, statement: &str, parameters: &[Value]) -> ReadOutcome {
        self.with_reader(|session| session.read(statement, parameters)).unwrap_or(ReadOutcome::NeedsWriter)
    }
}

impl Drop for Inner {
    /// Closing folds the log into the file and syncs, so it is a job of its own; the permit goes after it.
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let opening = self.opening.clone();
        self.lane.spawn(move || {
            let Open { readers, writer, permit } = open;
            drop(readers);
            drop(writer.into_session());
            opening.measure();
            drop(permit);
        });
    }
}

impl SqlStore {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self(StoreHandle::serving(inner))
    }

    /// As a candidate revision has it.
    pub(super) fn for_candidate(self, candidate: CandidateStores) -> Self {
        Self(StoreHandle::candidate(self.inner().clone(), candidate))
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        self.0.store()
    }

    /// The store's name.
    pub fn name(&self) -> &str {
        &self.inner().name
    }

    /// Apply the migrations of `folder` that are new, in turn with other writes.
    pub(super) async fn migrate(&self, folder: PathBuf) -> Result<(), SqlOpenError> {
        let Some(first) = self.schema(folder.clone()).await?.pending.into_iter().next() else { return Ok(()) };
        // All are applied in one transaction: where it cannot even begin, the first is the one that fails.
        let (store, path) = (self.inner().name.clone(), folder.join(first));
        let (name, time) = (store.clone(), self.inner().limits.migration_time);
        let work = move |session: &Session| {
            Ok(Migrations::read(&name, &folder).and_then(|files| files.apply(session, Instant::now() + time)))
        };
        let applied = writer::run(self.inner(), work).await;
        applied.map_err(|error| SqlOpenError::MigrationFailed { store, path, message: error.to_string() })??;
        Ok(())
    }

    /// How the store's schema relates to the migrations of `folder`. Changes nothing, and waits for no writer.
    pub(super) async fn schema(&self, folder: PathBuf) -> Result<Schema, SqlOpenError> {
        let (inner, path) = (self.inner().clone(), folder.clone());
        let store = inner.name.clone();
        let failed = |error: SqlError| SqlOpenError::MigrationFailed { store, path, message: error.to_string() };
        let reader = inner.reading.clone().acquire_owned().await;
        let job = move || {
            let _reader = reader;
            let files = Migrations::read(&inner.name, &folder);
            inner.with_reader(|session| files.and_then(|files| files.schema(session)))
        };
        let read = self.inner().lane.run(job).await.map_err(SqlError::from).flatten();
        read.map_err(failed)?
    }

    /// Run one statement that gives no rows; the number of rows that it changed. The change has been synced on return.
    pub async fn execute(&self, statement: String, parameters: Vec<Value>) -> Result<u64, SqlError> {
        let asked = self.inner().ask(statement, parameters)?;
        let run = move |session: &Session| session.execute(&asked.statement, &asked.parameters, None);
        writer::run(&self.0.writing().await?, run).await
    }

    /// Run one statement and collect its rows. A statement that only reads waits for no writer.
    pub async fn query(&self, statement: String, parameters: Vec<Value>) -> Result<Rows, SqlError> {
        let asked = Arc::new(self.inner().ask(statement, parameters)?);
        let inner = self.0.reading();
        let reader = {
            let _waiting = WaitingCount::begin(&inner.waiting, inner.limits.waiting_reads_max)?;
            inner.reading.clone().acquire_owned().await
        };
        let (store, read) = (inner.clone(), asked.clone());
        let job = move || {
            // Held until the job has ended, also where nobody waits for it any more.
            let _reader = reader;
            store.read(&read.statement, &read.parameters)
        };
        match inner.lane.run(job).await? {
            ReadOutcome::Rows(rows) => rows,
            ReadOutcome::NeedsWriter => {
                let query = move |session: &Session| session.query(&asked.statement, &asked.parameters, None);
                writer::run(&self.0.writing().await?, query).await
            }
        }
    }

    /// Begin a transaction: it waits for those before it, up to [`SqlLimits::wait_time`].
    pub async fn begin(&self) -> Result<Transaction, SqlError> {
        writer::begin(&self.0.writing().await?).await
    }
}
