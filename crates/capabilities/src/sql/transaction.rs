//! Access to the writing connection of a store, and the transactions that hold this connection.
//!
//! Writers wait for the only permit of a fair semaphore. The holder of the permit has the writing connection as a
//! [`WriterLease`]. The lease moves into the job on the pool and is returned when the job has ended, so a caller that
//! stops waiting does not release the connection too early. A transaction keeps its lease, but no thread, until it
//! ends: by `commit` or `rollback`, when its last handle is dropped, or at its deadline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::open_store::{OpenStore, WaitingCount, abandoned};
use super::session::Session;
use super::{Rows, SqlError, Value};
use crate::pool::locked;

/// The writing connection of a store while a caller uses it. Dropping the lease returns the connection to the store.
struct WriterLease {
    /// The connection; `None` if it has to be opened first, or if `drop` has returned it.
    session: Option<Session>,
    // Declared before the permit (`slot`), so that the store is dropped first: when another caller gets the permit,
    // this lease no longer has a handle of the store. If the handle is the last one, no other caller waits, and
    // dropping the handle closes the store.
    store: Arc<OpenStore>,
    slot: Option<OwnedSemaphorePermit>,
    rolled_back: bool,
}

/// A handle of an open transaction. Clones refer to the same transaction. Dropping the last one rolls the transaction
/// back.
#[derive(Clone)]
pub struct Transaction {
    open: Arc<OpenTransaction>,
}

struct OpenTransaction {
    /// The writing connection; `None` after the transaction has ended.
    lease: Mutex<Option<WriterLease>>,
    /// Has one permit. Each statement, commit or rollback of the transaction is a step, and holds the permit while it
    /// runs. Steps run in the order in which they were requested.
    step: Arc<Semaphore>,
    expired: AtomicBool,
    deadline: Instant,
    store: Arc<OpenStore>,
    expiry: OnceLock<AbortHandle>,
}

/// Runs `work` on the writing connection, outside a transaction.
pub(super) async fn run<T: Send + 'static>(
    store: &Arc<OpenStore>,
    work: impl FnOnce(&Session) -> Result<T, SqlError> + Send + 'static,
) -> Result<T, SqlError> {
    let mut lease = lease(store).await?;
    // The job owns the lease, so the lease is dropped on a thread of the pool.
    store.job_queue.run(move || work(lease.connected()?)).await?
}

pub(super) async fn begin(store: &Arc<OpenStore>) -> Result<Transaction, SqlError> {
    let mut lease = lease(store).await?;
    let begin = move || {
        lease.connected()?.begin()?;
        Ok::<_, SqlError>(lease)
    };
    let lease = store.job_queue.run(begin).await??;
    let deadline = Instant::now() + store.limits.transaction_time;
    let open = Arc::new(OpenTransaction {
        lease: Mutex::new(Some(lease)),
        step: Arc::new(Semaphore::new(1)),
        expired: AtomicBool::new(false),
        deadline,
        store: store.clone(),
        expiry: OnceLock::new(),
    });
    let expiry = tokio::spawn(expire(Arc::downgrade(&open), deadline));
    open.expiry.get_or_init(|| expiry.abort_handle());
    Ok(Transaction { open })
}

/// Ends the transaction at its deadline, if the transaction is still open.
async fn expire(open: Weak<OpenTransaction>, deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
    let Some(open) = open.upgrade() else { return };
    // Waits for a running step of the transaction. A running statement also stops at the transaction's deadline.
    let Ok(_step) = open.step.clone().acquire_owned().await else { return };
    // Takes the lease in a separate statement, so that the lock is released before the lease is dropped.
    let lease = locked(&open.lease).take();
    if let Some(lease) = lease {
        open.expired.store(true, Ordering::Release);
        drop(lease);
    }
}

async fn lease(store: &Arc<OpenStore>) -> Result<WriterLease, SqlError> {
    let writer = store.writer();
    let _waiting = WaitingCount::begin(&writer.waiting, store.limits.waiting_writes_max)?;
    match tokio::time::timeout(store.limits.wait_time, writer.slot.clone().acquire_owned()).await {
        Ok(Ok(slot)) => {
            let session = locked(&writer.session).take();
            Ok(WriterLease { session, store: store.clone(), slot: Some(slot), rolled_back: false })
        }
        Ok(Err(_)) => Err(abandoned()),
        Err(_) => Err(SqlError::Overloaded),
    }
}

impl WriterLease {
    /// Returns the connection. Opens it first if necessary, and then blocks the thread.
    fn connected(&mut self) -> Result<&Session, SqlError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.store.open_writer()?,
        };
        Ok(self.session.insert(session))
    }

    /// Returns the connection of the transaction. The lease holds the connection until the lease is dropped.
    fn session(&self) -> &Session {
        self.session.as_ref().expect("a transaction holds its connection until the lease is dropped")
    }
}

impl Drop for WriterLease {
    /// Puts the connection back into the store. If a transaction is still open, it is rolled back first, on a thread of
    /// the pool, or on this thread if no thread can be started.
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        if session.in_transaction() && !self.rolled_back {
            let (store, slot) = (self.store.clone(), self.slot.take());
            let lease = Self { session: Some(session), store, slot, rolled_back: true };
            self.store.job_queue.spawn(move || lease.session().roll_back());
            return;
        }
        session.roll_back();
        *locked(&self.store.writer().session) = Some(session);
    }
}

impl Transaction {
    /// Runs one statement that returns no rows. Returns the number of changed rows.
    pub async fn execute(&self, statement: String, parameters: Vec<Value>) -> Result<u64, SqlError> {
        let pending = self.open.store.admit(statement, parameters)?;
        self.step(move |session, deadline| session.execute(&pending.statement, &pending.parameters, Some(deadline)))
            .await
    }

    /// Runs one statement and collects its rows.
    pub async fn query(&self, statement: String, parameters: Vec<Value>) -> Result<Rows, SqlError> {
        let pending = self.open.store.admit(statement, parameters)?;
        self.step(move |session, deadline| session.query(&pending.statement, &pending.parameters, Some(deadline))).await
    }

    /// Commits the changes. Returns after the changes have been synced.
    pub async fn commit(self) -> Result<(), SqlError> {
        self.end(true).await
    }

    /// Rolls back the changes.
    pub async fn rollback(self) -> Result<(), SqlError> {
        self.end(false).await
    }

    async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session, Instant) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let step = self.open.step.clone().acquire_owned().await.map_err(|_| ended())?;
        let open = self.open.clone();
        let job = move || {
            // The job owns the permit until it has ended, even if the caller no longer waits.
            let _step = step;
            let lease = locked(&open.lease);
            let Some(lease) = lease.as_ref() else { return Err(open.gone()) };
            if !lease.session().in_transaction() {
                return Err(undone());
            }
            if open.deadline <= Instant::now() {
                return Err(SqlError::Timeout);
            }
            work(lease.session(), open.deadline)
        };
        self.open.store.job_queue.run(job).await?
    }

    async fn end(self, commit: bool) -> Result<(), SqlError> {
        let step = self.open.step.clone().acquire_owned().await.map_err(|_| ended())?;
        let lease = locked(&self.open.lease).take().ok_or_else(|| self.open.gone())?;
        let job = move || {
            let _step = step;
            end(lease.session(), commit)
        };
        self.open.store.job_queue.run(job).await?
    }
}

impl OpenTransaction {
    /// Returns the error for a step after the end of the transaction.
    fn gone(&self) -> SqlError {
        if self.expired.load(Ordering::Acquire) { SqlError::Timeout } else { ended() }
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        if let Some(expiry) = self.expiry.get() {
            expiry.abort();
        }
    }
}

fn ended() -> SqlError {
    SqlError::Store("the transaction has ended".to_owned())
}

fn undone() -> SqlError {
    SqlError::Store("the transaction was rolled back because an earlier statement failed".to_owned())
}

fn end(session: &Session, commit: bool) -> Result<(), SqlError> {
    if !session.in_transaction() {
        return if commit { Err(undone()) } else { Ok(()) };
    }
    let result = session.internal(if commit { "COMMIT" } else { "ROLLBACK" });
    // If a deferred constraint makes COMMIT fail, the transaction stays open, so it is rolled back here.
    session.roll_back();
    session.wrote();
    result
}
