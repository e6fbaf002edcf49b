//! A handle of an SQL store, with the operations that the host functions call.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::candidate::CandidateStores;
use super::migrations::{Migrations, Schema};
use super::open_store::{OpenStore, WaitingCount};
use super::session::{ReadOutcome, Session};
use super::transaction::{self, Transaction};
use super::{Rows, SqlError, SqlOpenError, Value};
use crate::store_handle::StoreHandle;

/// A handle of an SQL store. Clones refer to the same store. After the last one is dropped, a thread of the pool closes
/// the store.
#[derive(Clone)]
pub struct SqlStore(StoreHandle<OpenStore, CandidateStores>);

impl SqlStore {
    pub(super) fn new(inner: Arc<OpenStore>) -> Self {
        Self(StoreHandle::serving(inner))
    }

    /// Returns a handle for a candidate revision. `candidate` contains the candidate's own stores.
    pub(super) fn for_candidate(self, candidate: CandidateStores) -> Self {
        Self(StoreHandle::candidate(self.inner().clone(), candidate))
    }

    pub(super) fn inner(&self) -> &Arc<OpenStore> {
        self.0.store()
    }

    /// Returns the store's name.
    pub fn name(&self) -> &str {
        &self.inner().name
    }

    /// Applies the new migrations in `folder`, after the writes that are already queued.
    pub(super) async fn migrate(&self, folder: PathBuf) -> Result<(), SqlOpenError> {
        let Some(first) = self.schema(folder.clone()).await?.pending.into_iter().next() else { return Ok(()) };
        // All migrations are applied in one transaction. If this transaction cannot begin, the failure belongs to no
        // single migration, so the error names the first one.
        let (store, path) = (self.inner().name.clone(), folder.join(first));
        let (name, time) = (store.clone(), self.inner().limits.migration_time);
        let work = move |session: &Session| {
            Ok(Migrations::read(&name, &folder).and_then(|files| files.apply(session, Instant::now() + time)))
        };
        let applied = transaction::run(self.inner(), work).await;
        applied.map_err(|error| SqlOpenError::MigrationFailed { store, path, message: error.to_string() })??;
        Ok(())
    }

    /// Compares the store's schema with the migrations in `folder`. Changes nothing, and does not wait for writers.
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
        let read = self.inner().job_queue.run(job).await.map_err(SqlError::from).flatten();
        read.map_err(failed)?
    }

    /// Runs one statement that returns no rows. Returns the number of changed rows after the change has been synced.
    pub async fn execute(&self, statement: String, parameters: Vec<Value>) -> Result<u64, SqlError> {
        let pending = self.inner().admit(statement, parameters)?;
        let run = move |session: &Session| session.execute(&pending.statement, &pending.parameters, None);
        transaction::run(&self.0.for_writing().await?, run).await
    }

    /// Runs one statement and collects its rows. A read-only statement does not wait for writers.
    pub async fn query(&self, statement: String, parameters: Vec<Value>) -> Result<Rows, SqlError> {
        let pending = Arc::new(self.inner().admit(statement, parameters)?);
        let inner = self.0.for_reading();
        let reader = {
            let _waiting = WaitingCount::begin(&inner.waiting, inner.limits.waiting_reads_max)?;
            inner.reading.clone().acquire_owned().await
        };
        let (store, read) = (inner.clone(), pending.clone());
        let job = move || {
            // The job owns the permit until it has ended, even if the caller no longer waits.
            let _reader = reader;
            store.read(&read.statement, &read.parameters)
        };
        match inner.job_queue.run(job).await? {
            ReadOutcome::Rows(rows) => rows,
            ReadOutcome::NeedsWriter => {
                let query = move |session: &Session| session.query(&pending.statement, &pending.parameters, None);
                transaction::run(&self.0.for_writing().await?, query).await
            }
        }
    }

    /// Begins a transaction. Waits for earlier transactions to end, at most for [`SqlLimits::wait_time`](super::SqlLimits::wait_time).
    pub async fn begin(&self) -> Result<Transaction, SqlError> {
        transaction::begin(&self.0.for_writing().await?).await
    }
}
