//! Access to the writing connection of a store, and the transactions that hold it.
//!
//! Writers are queued by a fair semaphore with one permit. The holder of the permit has the writing connection as a
//! [`WriterLease`]. The lease moves into the job on the pool and is returned when the job has ended, so the connection
//! is not released too early when a caller stops waiting. A transaction keeps its lease, but no thread, until it ends:
//! by `commit` or `rollback`, by dropping its handle, or by its deadline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::open_store::{OpenStore, WaitingCount, lost};
use super::session::Session;
use super::{Rows, SqlError, Value};
use crate::pool::locked;

/// The writing connection of a store while it is in use.
struct WriterLease {
    /// The connection. `None` if it has to be opened first, and after this was dropped.
    session: Option<Session>,
    // Declared before the permit, so that it is dropped first: dropping the last handle closes the store. In that case
    // no other caller is left.
    store: Arc<OpenStore>,
    slot: Option<OwnedSemaphorePermit>,
    rolled_back: bool,
}

/// An open transaction. Clones are handles of the same transaction. Dropping the last one rolls it back.
#[derive(Clone)]
pub struct Transaction {
    open: Arc<OpenTransaction>,
}

struct OpenTransaction {
    /// `None` once it has ended.
    lease: Mutex<Option<WriterLease>>,
    /// Held by the running step. Steps run in the order in which they were requested.
    step: Arc<Semaphore>,
    expired: AtomicBool,
    deadline: Instant,
    store: Arc<OpenStore>,
    expiry: OnceLock<AbortHandle>,
}

/// Runs `work` on the writing connection, outside of any transaction.
pub(super) async fn run<T: Send + 'static>(
    store: &Arc<OpenStore>,
    work: impl FnOnce(&Session) -> Result<T, SqlError> + Send + 'static,
) -> Result<T, SqlError> {
    let mut lease = lease(store).await?;
    // The job drops the lease on the pool's thread.
    store.lane.run(move || work(lease.connected()?)).await?
}

pub(super) async fn begin(store: &Arc<OpenStore>) -> Result<Transaction, SqlError> {
    let mut lease = lease(store).await?;
    let begin = move || {
        lease.connected()?.begin()?;
        Ok::<_, SqlError>(lease)
    };
    let lease = store.lane.run(begin).await??;
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

/// Ends the transaction at its deadline, if it is still open.
async fn expire(open: Weak<OpenTransaction>, deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
    let Some(open) = open.upgrade() else { return };
    // A running step ends at the same deadline.
    let Ok(_step) = open.step.clone().acquire_owned().await else { return };
    // A separate statement, so that the lock is released before the lease is dropped.
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
        Ok(Err(_)) => Err(lost()),
        Err(_) => Err(SqlError::Overloaded),
    }
}

impl WriterLease {
    /// Returns the connection, which is opened if necessary. Blocks.
    fn connected(&mut self) -> Result<&Session, SqlError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.store.open_writer()?,
        };
        Ok(self.session.insert(session))
    }

    /// Returns the connection of a transaction.
    fn session(&self) -> &Session {
        self.session.as_ref().expect("a transaction holds its connection until the lease is dropped")
    }
}

impl Drop for WriterLease {
    /// Returns the connection to the store in its original state. An open transaction is rolled back, on a thread of
    /// the pool, or here if no thread can be started.
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        if session.in_transaction() && !self.rolled_back {
            let (store, slot) = (self.store.clone(), self.slot.take());
            let lease = Self { session: Some(session), store, slot, rolled_back: true };
            self.store.lane.spawn(move || lease.session().roll_back());
            return;
        }
        session.roll_back();
        *locked(&self.store.writer().session) = Some(session);
    }
}

impl Transaction {
    /// Runs one statement that returns no rows. Returns the number of rows that it changed.
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

    /// Commits the changes. They have been synced on return.
    pub async fn commit(self) -> Result<(), SqlError> {
        self.end(true).await
    }

    /// Undoes the changes.
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
            // Held until the job has ended, even if the caller no longer waits.
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
        self.open.store.lane.run(job).await?
    }

    async fn end(self, commit: bool) -> Result<(), SqlError> {
        let step = self.open.step.clone().acquire_owned().await.map_err(|_| ended())?;
        let lease = locked(&self.open.lease).take().ok_or_else(|| self.open.gone())?;
        let job = move || {
            let _step = step;
            end(lease.session(), commit)
        };
        self.open.store.lane.run(job).await?
    }
}

impl OpenTransaction {
    /// Returns the error that tells why the transaction accepts no more steps.
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
    SqlError::Store("the transaction was rolled back by the error of an earlier statement".to_owned())
}

fn end(session: &Session, commit: bool) -> Result<(), SqlError> {
    if !session.in_transaction() {
        return if commit { Err(undone()) } else { Ok(()) };
    }
    let result = session.internal(if commit { "COMMIT" } else { "ROLLBACK" });
    // If a deferred constraint makes COMMIT fail, the transaction stays open.
    session.roll_back();
    session.wrote();
    result
}
