//! The thread that owns a store's writing connection, and the transactions that borrow it.
//!
//! A slot (a fair semaphore of one) says whose turn it is; it travels with the job and comes back when the thread has done
//! with it, so a caller that goes away in the middle frees nothing too early. A transaction keeps the slot and the thread
//! until it ends: by `commit` or `rollback`, by the drop of its handle, or by its deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::session::Session;
use super::{Rows, SqlError, SqlLimits, Value};

pub(super) struct Writer {
    jobs: Option<Sender<(Job, OwnedSemaphorePermit)>>,
    slot: Arc<Semaphore>,
    waiting: AtomicUsize,
    limits: Arc<SqlLimits>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    Run(Box<dyn FnOnce(&Session) + Send>),
    Transaction { steps: Receiver<Step>, begun: oneshot::Sender<Result<(), SqlError>>, expired: Arc<AtomicBool> },
}

/// Work of a transaction, which must be done by an instant.
type StepWork = Box<dyn FnOnce(&Session, Instant) + Send>;

enum Step {
    Run(StepWork),
    End { commit: bool, ended: oneshot::Sender<Result<(), SqlError>> },
}

/// An open transaction. Dropping it rolls it back. Clones are handles of the same one.
#[derive(Clone)]
pub struct Transaction {
    steps: Sender<Step>,
    expired: Arc<AtomicBool>,
    limits: Arc<SqlLimits>,
}

impl Writer {
    pub(super) fn start(name: &str, session: Session, limits: Arc<SqlLimits>) -> std::io::Result<Self> {
        let (jobs, received) = channel();
        let transaction_time = limits.transaction_time;
        let thread = std::thread::Builder::new().name(format!("isomer-sql-{name}")).spawn(move || {
            while let Ok((job, slot)) = received.recv() {
                match job {
                    Job::Run(job) => job(&session),
                    Job::Transaction { steps, begun, expired } => {
                        run_transaction(&session, &steps, begun, &expired, Instant::now() + transaction_time);
                    }
                }
                session.roll_back();
                drop(slot);
            }
        })?;
        Ok(Self {
            jobs: Some(jobs),
            slot: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
            limits,
            thread: Some(thread),
        })
    }

    /// Run `work` on the writing connection, outside of any transaction.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let slot = self.turn().await?;
        let (reply, result) = oneshot::channel();
        let job = Job::Run(Box::new(move |session| {
            let _ = reply.send(work(session));
        }));
        self.send(job, slot)?;
        result.await.map_err(|_| stopped())?
    }

    pub(super) async fn begin(&self) -> Result<Transaction, SqlError> {
        let slot = self.turn().await?;
        let (steps, received) = channel();
        let (begun, ready) = oneshot::channel();
        let expired = Arc::new(AtomicBool::new(false));
        self.send(Job::Transaction { steps: received, begun, expired: expired.clone() }, slot)?;
        ready.await.map_err(|_| stopped())??;
        Ok(Transaction { steps, expired, limits: self.limits.clone() })
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, SqlError> {
        let _waiting = Waiting::begin(&self.waiting, self.limits.waiting_writes_max)?;
        match tokio::time::timeout(self.limits.wait_time, self.slot.clone().acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(SqlError::Overloaded),
        }
    }

    fn send(&self, job: Job, slot: OwnedSemaphorePermit) -> Result<(), SqlError> {
        let jobs = self.jobs.as_ref().expect("the channel is there until the writer is dropped");
        jobs.send((job, slot)).map_err(|_| stopped())
    }
}

impl Drop for Writer {
    /// Finishes what runs, then closes the connection.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Counts those that wait for their turn, also when they stop waiting.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize, max: usize) -> Result<Self, SqlError> {
        let waiting = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) >= max { Err(SqlError::Overloaded) } else { Ok(waiting) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Transaction {
    /// Run one statement that gives no rows; the number of rows that it changed.
    pub async fn execute(&self, statement: String, parameters: Vec<Value>) -> Result<u64, SqlError> {
        super::store::check_sizes(&self.limits, &statement, &parameters)?;
        self.step(move |session, deadline| session.execute(&statement, &parameters, Some(deadline))).await
    }

    /// Run one statement and collect its rows.
    pub async fn query(&self, statement: String, parameters: Vec<Value>) -> Result<Rows, SqlError> {
        super::store::check_sizes(&self.limits, &statement, &parameters)?;
        self.step(move |session, deadline| session.query(&statement, &parameters, Some(deadline))).await
    }

    /// Make the changes durable. They have been synced on return.
    pub async fn commit(self) -> Result<(), SqlError> {
        self.end(true).await
    }

    /// Undo the changes.
    pub async fn rollback(self) -> Result<(), SqlError> {
        self.end(false).await
    }

    async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session, Instant) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let (reply, result) = oneshot::channel();
        let step = Step::Run(Box::new(move |session, deadline| {
            let _ = reply.send(if session.in_transaction() { work(session, deadline) } else { Err(undone()) });
        }));
        self.steps.send(step).map_err(|_| self.gone())?;
        result.await.map_err(|_| self.gone())?
    }

    async fn end(self, commit: bool) -> Result<(), SqlError> {
        let (ended, result) = oneshot::channel();
        self.steps.send(Step::End { commit, ended }).map_err(|_| self.gone())?;
        result.await.map_err(|_| self.gone())?
    }

    /// Why nobody takes this transaction's steps any more.
    fn gone(&self) -> SqlError {
        if self.expired.load(Ordering::Acquire) {
            SqlError::Timeout
        } else {
            SqlError::Store("the transaction has ended".to_owned())
        }
    }
}

fn stopped() -> SqlError {
    SqlError::Store("its writer has stopped".to_owned())
}

fn undone() -> SqlError {
    SqlError::Store("the transaction was rolled back by the error of an earlier statement".to_owned())
}

fn run_transaction(
    session: &Session,
    steps: &Receiver<Step>,
    begun: oneshot::Sender<Result<(), SqlError>>,
    expired: &AtomicBool,
    deadline: Instant,
) {
    let begin = session.internal("BEGIN IMMEDIATE");
    let failed = begin.is_err();
    if begun.send(begin).is_err() || failed {
        return;
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let next = if left.is_zero() { Err(RecvTimeoutError::Timeout) } else { steps.recv_timeout(left) };
        match next {
            Ok(Step::Run(step)) => step(session, deadline),
            Ok(Step::End { commit, ended }) => {
                let _ = ended.send(end(session, commit));
                return;
            }
            // Set before the channel closes, which is how the handle notices.
            Err(RecvTimeoutError::Timeout) => {
                expired.store(true, Ordering::Release);
                return;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn end(session: &Session, commit: bool) -> Result<(), SqlError> {
    if !session.in_transaction() {
        return if commit { Err(undone()) } else { Ok(()) };
    }
    let result = session.internal(if commit { "COMMIT" } else { "ROLLBACK" });
    // A COMMIT that a deferred constraint refuses leaves the transaction open.
    session.roll_back();
    result
}
