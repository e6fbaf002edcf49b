//! The threads that do the file work of guests.
//!
//! On Linux, a new thread inherits the priority of the thread that starts it, and a tokio runtime starts its blocking
//! threads on the thread that requests them. If a thread of the slow lane requested a blocking thread, the new thread
//! would keep the low priority for ever, even for the work of other tenants. So file work has its own threads. Each of
//! them is started by a task of the runtime, whose threads have the priority of the process. Threads are started when
//! there is work for them, and end after they have been idle for a while.
//!
//! A job is a complete call of a guest. A thread runs it from beginning to end, even if the guest is not polled in the
//! meantime or computes for ever, so no guest can hold an idle thread. Accounts share the threads fairly
//! (`fair_queue`), and are charged the processor time of their jobs. If the caller of a waiting job is dropped, the job
//! and everything that it holds are dropped immediately.
//!
//! Two alternatives were rejected. If wasmtime's implementation requested threads from a second runtime, a guest that
//! got a thread and was then not polled would hold the thread while other guests wait. If the thread that polls the
//! guest were blocked instead, one slow disk would delay all requests.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::fair_queue::{FairJobQueue, RESERVE, THREADS};
use crate::clock::processor_time;
use crate::pool::Account;

/// The time for which a thread waits for a job before it ends.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);

static FILES: LazyLock<FileThreads> = LazyLock::new(FileThreads::default);

/// Runs `job` on a thread for file work and charges its processor time to `account`. If the future is dropped before
/// the job has started, the job is dropped immediately.
///
/// # Errors
/// If no thread is available, or the job panicked.
pub(super) async fn run<T: Send + 'static>(
    account: &Arc<Account>,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (reply, result) = oneshot::channel();
    let job = move || {
        if !reply.is_closed() {
            // Sending fails if the caller's future was dropped after the job started.
            let _ = reply.send(job());
        }
    };
    let number = FILES.push(FileJob { account: account.clone(), work: Box::new(job) });
    let mut waited = QueuedJob { account: account.id(), number, is_over: false };
    let result = result.await;
    waited.is_over = true;
    result.map_err(|_| io::Error::other("the file operation ended without a result"))
}

/// A job whose caller waits for the result. Dropping this value removes the job from the queue if the job has not
/// started.
struct QueuedJob {
    account: u64,
    number: u64,
    is_over: bool,
}

impl Drop for QueuedJob {
    fn drop(&mut self) {
        if !self.is_over {
            let job = FILES.state().queue.remove(self.account, self.number);
            // The job is dropped after the lock is released, because dropping the job may acquire the same lock.
            drop(job);
        }
    }
}

/// A unit of file work, with the account that is charged for it.
struct FileJob {
    account: Arc<Account>,
    work: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct FileThreads {
    state: Mutex<ThreadsState>,
    /// Notified when a job is added to the queue.
    ready: Condvar,
}

#[derive(Default)]
struct ThreadsState {
    queue: FairJobQueue<FileJob>,
    /// The number of threads that run a job, are idle, or are being started.
    threads: usize,
    /// The number of threads that are being started and have taken no job yet.
    starting: usize,
    /// The number of idle threads. A thread that was notified of a job is counted until it wakes up, so `idle` must be
    /// compared with the number of waiting jobs.
    idle: usize,
}

impl FileThreads {
    fn state(&self) -> MutexGuard<'_, ThreadsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job to the queue, and starts a thread if too few threads are idle. Returns the number of the job.
    fn push(&'static self, job: FileJob) -> u64 {
        let (number, must_start) = {
            let mut state = self.state();
            let number = state.queue.push(job.account.id(), job);
            let are_coming = state.idle + state.starting;
            let must_start = state.queue.ready() > are_coming && state.threads < THREADS + RESERVE;
            state.threads += usize::from(must_start);
            state.starting += usize::from(must_start);
            (number, must_start)
        };
        self.ready.notify_one();
        if must_start {
            let starting = ThreadStart { files: self };
            match Handle::try_current() {
                Ok(executor) => drop(executor.spawn(async move { starting.start() })),
                Err(_) => starting.start(),
            }
        }
        number
    }

    /// Runs jobs on the calling thread until no job has arrived for [`IDLE_TIME_MAX`].
    fn work(&self) {
        self.state().starting -= 1;
        while let Some((account, FileJob { account: charged, work })) = self.next() {
            let began = processor_time();
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                isomer_telemetry::error!("a file operation of a guest panicked");
            }
            charged.charge_cpu(processor_time().saturating_sub(began));
            self.state().queue.end(account);
        }
    }

    /// Waits for a job. Returns `None` if no job arrives within [`IDLE_TIME_MAX`].
    fn next(&self) -> Option<(u64, FileJob)> {
        let mut state = self.state();
        loop {
            if let Some(next) = state.queue.next() {
                return Some(next);
            }
            state.idle += 1;
            let (woken, waited) = self.ready.wait_timeout(state, IDLE_TIME_MAX).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            // `has_next` ignores the jobs of an account that already occupies its maximum number of threads: those
            // threads run them, so this thread can end.
            if waited.timed_out() && !state.queue.has_next() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

/// A thread that is already counted but not started yet. If the runtime shuts down before it starts the thread,
/// dropping this value subtracts the thread again.
struct ThreadStart {
    files: &'static FileThreads,
}

impl ThreadStart {
    fn start(self) {
        let files = self.files;
        let started = std::thread::Builder::new().name("isomer-files".into()).spawn(|| files.work());
        match started {
            Ok(_) => std::mem::forget(self),
            Err(error) => isomer_telemetry::warn!(%error, "cannot start a thread for file work"),
        }
    }
}

impl Drop for ThreadStart {
    fn drop(&mut self) {
        let abandoned = {
            let mut state = self.files.state();
            state.threads -= 1;
            state.starting -= 1;
            // Waiting jobs are abandoned only if no other thread exists that could run them.
            if state.threads == 0 { state.queue.abandon() } else { Vec::new() }
        };
        // The jobs are dropped after the lock is released, because dropping a job may acquire the same lock.
        drop(abandoned);
    }
}

/// Occupies all threads that `account` may have until the returned value is dropped. When this function returns, all
/// jobs that the account started earlier have ended, because they would otherwise still occupy some of these threads.
#[cfg(test)]
pub(crate) async fn hold_all(account: &Arc<Account>) -> impl Sized {
    use futures::FutureExt as _;
    let (open, closed) = std::sync::mpsc::channel::<()>();
    let closed = Arc::new(Mutex::new(closed));
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let held = (0..super::fair_queue::ACCOUNT_THREADS_MAX).map(|_| {
        let (account, closed, started) = (account.clone(), closed.clone(), started.clone());
        let job = move || {
            let _ = started.send(());
            drop(closed.lock().map(|gate| gate.recv()));
        };
        Box::pin(async move { run(&account, job).await })
    });
    let mut held = held.collect::<Vec<_>>();
    for job in &mut held {
        assert!(job.as_mut().now_or_never().is_none());
    }
    for _ in &held {
        starts.recv().await;
    }
    // `open` is first in the tuple because it must be dropped before `held`: dropping `open` lets the jobs end.
    (open, held)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures::FutureExt as _;

    use super::super::fair_queue::ACCOUNT_THREADS_MAX;
    use super::*;

    /// Returns the nice value of the calling thread, as getpriority(2) does on Linux.
    fn nice() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[test]
    fn threads_keep_their_priority_if_the_slow_lane_starts_them() {
        let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let usual = nice();
        let handle = executor.handle().clone();
        // This thread has a low priority, as the threads of the slow lane do.
        let slow = std::thread::spawn(move || {
            rustix::process::setpriority_process(None, usual + 10).unwrap();
            assert_eq!(nice(), (usual + 10).min(19));
            let account = Account::unlimited();
            let jobs = (0..4 * THREADS).map(|_| run(&account, nice));
            handle.block_on(futures::future::join_all(jobs))
        });
        assert!(slow.join().unwrap().into_iter().all(|nice| nice.unwrap() == usual));
    }

    #[tokio::test]
    async fn work_is_charged_and_a_panic_fails_one_call_only() {
        let account = Account::unlimited();
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(run(&account, name).await.unwrap().as_deref(), Some("isomer-files"));
        assert!(run(&account, || panic!("on purpose")).await.is_err());
        let spin = || {
            let until = processor_time() + Duration::from_millis(5);
            while processor_time() < until {}
        };
        run(&account, spin).await.unwrap();
        // A thread charges a job after it has sent the job's result, and before it runs its next job. `hold_all`
        // returns only when its own jobs run on all threads that the account may have, so the earlier job has been
        // charged by then.
        drop(hold_all(&account).await);
        assert!(account.used().cpu >= Duration::from_millis(5), "{:?}", account.used());
    }

    #[tokio::test]
    async fn an_account_with_many_jobs_leaves_threads_to_others_and_abandoned_jobs_are_not_done() {
        let (greedy, other) = (Account::unlimited(), Account::unlimited());
        let (open, closed) = mpsc::channel::<()>();
        let closed = Arc::new(Mutex::new(closed));
        let done = Arc::new(AtomicUsize::new(0));
        let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
        // These futures are polled only once, which queues their jobs.
        let held = (0..2 * THREADS).map(|_| {
            let (greedy, closed, done) = (greedy.clone(), closed.clone(), done.clone());
            let started = started.clone();
            let job = move || {
                let _ = started.send(());
                drop(closed.lock().map(|gate| gate.recv()));
                done.fetch_add(1, Ordering::SeqCst);
            };
            Box::pin(async move { run(&greedy, job).await })
        });
        let mut held = held.collect::<Vec<_>>();
        for job in &mut held {
            assert!((&mut *job).now_or_never().is_none());
        }
        for _ in 0..ACCOUNT_THREADS_MAX {
            starts.recv().await.unwrap();
        }
        assert_eq!(run(&other, || 1).await.unwrap(), 1);
        held.truncate(THREADS);
        let waiting = FILES.state().queue.waiting(greedy.id());
        assert_eq!(waiting, THREADS - ACCOUNT_THREADS_MAX, "an abandoned job is still in the queue");
        drop(open);
        for job in held {
            job.await.unwrap();
        }
        run(&greedy, || ()).await.unwrap();
        assert_eq!(done.load(Ordering::SeqCst), THREADS);
    }
}
