//! The threads that do guests' file work, and whose turn it is.
//!
//! On Linux a thread begins with the priority of the one that starts it, and an executor starts a thread for blocking work wherever it
//! is asked for some: where that is a thread of the slow lane, the new one has a low priority for good, and serves everyone afterwards. So
//! file work has threads of its own. They are all started by a task of the executor, whose threads have the priority of the process, when
//! the first guest uses a file; and they never end, so none is ever started by anyone else.
//!
//! Work is a whole job: what a guest asked for is done by a thread from its beginning to its end, whether the guest is polled meanwhile or
//! computes for ever, so no guest can keep a thread without work. Accounts take turns (`turns`), and are charged the processor time that
//! their work takes.
//!
//! Rejected: having wasmtime's implementation ask a second executor for threads (a guest that is given one and not polled keeps it from
//! all others); blocking the thread that polls the guest (one slow disk would hold up all requests).

mod turns;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OnceCell, oneshot};

use self::turns::Turns;
use crate::account::Account;
use crate::meter::processor_time;

/// Threads, from the first use of a file on. A disk that has so much to do does not get faster by more.
const THREADS: usize = 16;

/// Runs `job` on one of the threads, for `account`. Where this is dropped before the job has begun, it is dropped, too.
///
/// # Errors
/// When there is no thread, or the job panicked.
pub(super) async fn run<T: Send + 'static>(
    account: &Arc<Account>,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let threads = FileThreads::shared().await?;
    let (reply, result) = oneshot::channel();
    let job = move || {
        if !reply.is_closed() {
            // A caller that leaves from here on doesn't want to know.
            let _ = reply.send(job());
        }
    };
    threads.push(account, Box::new(job));
    result.await.map_err(|_| io::Error::other("work on a file was abandoned"))
}

/// What is to be done, and for whom.
struct Job {
    account: Arc<Account>,
    work: Box<dyn FnOnce() + Send>,
}

struct FileThreads {
    turns: Mutex<Turns<Job>>,
    /// A job waits.
    ready: Condvar,
}

impl FileThreads {
    /// The threads, which are started by the first who asks.
    async fn shared() -> io::Result<&'static Self> {
        static STARTED: OnceCell<&FileThreads> = OnceCell::const_new();
        let start = || async { tokio::spawn(async { Self::start() }).await.map_err(io::Error::other).flatten() };
        STARTED.get_or_try_init(start).await.copied()
    }

    /// As many as the system starts.
    ///
    /// # Errors
    /// When it starts none.
    fn start() -> io::Result<&'static Self> {
        // For as long as the process lives, as its threads.
        let threads: &'static Self = Box::leak(Box::new(Self { turns: Mutex::default(), ready: Condvar::new() }));
        for started in 0..THREADS {
            let thread = std::thread::Builder::new().name("isomer-files".into()).spawn(|| threads.work());
            match thread {
                Ok(_) => {}
                Err(error) if started == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, threads = started, "there are fewer threads for files than usual");
                    break;
                }
            }
        }
        Ok(threads)
    }

    fn turns(&self) -> MutexGuard<'_, Turns<Job>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, account: &Arc<Account>, work: Box<dyn FnOnce() + Send>) {
        self.turns().push(account.id(), Job { account: account.clone(), work });
        self.ready.notify_one();
    }

    /// The life of one thread.
    fn work(&self) {
        loop {
            let (number, Job { account, work }) = self.next();
            let begun = processor_time();
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!("work on a file panicked");
            }
            account.charge_cpu(processor_time().saturating_sub(begun));
            self.turns().end(number);
        }
    }

    fn next(&self) -> (u64, Job) {
        let mut turns = self.turns();
        loop {
            match turns.next() {
                Some(next) => return next,
                None => turns = self.ready.wait(turns).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use futures::FutureExt as _;

    use super::turns::ACCOUNT_THREADS_MAX;
    use super::*;

    /// The nice value of the calling thread: see getpriority(2) on threads.
    fn nice() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[test]
    fn threads_keep_their_priority_whoever_is_the_first_to_need_them() {
        let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let usual = nice();
        let handle = executor.handle().clone();
        // As a thread of the slow lane does.
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
    async fn work_is_charged_and_a_panic_costs_one_caller() {
        let account = Account::unlimited();
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(run(&account, name).await.unwrap().as_deref(), Some("isomer-files"));
        assert!(run(&account, || panic!("on purpose")).await.is_err());
        let spin = || {
            let until = processor_time() + Duration::from_millis(5);
            while processor_time() < until {}
        };
        run(&account, spin).await.unwrap();
        // It is charged after the answer.
        let waited = Instant::now();
        while account.used().cpu < Duration::from_millis(5) {
            assert!(waited.elapsed() < Duration::from_secs(60), "{:?}", account.used());
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_account_that_has_much_to_do_leaves_threads_to_others_and_what_is_given_up_is_not_done() {
        let (greedy, other) = (Account::unlimited(), Account::unlimited());
        let (open, closed) = mpsc::channel::<()>();
        let closed = Arc::new(Mutex::new(closed));
        let done = Arc::new(AtomicUsize::new(0));
        // None of these is polled again before the end.
        let held = (0..2 * THREADS).map(|_| {
            let (greedy, closed, done) = (greedy.clone(), closed.clone(), done.clone());
            let job = move || {
                drop(closed.lock().map(|gate| gate.recv()));
                done.fetch_add(1, Ordering::SeqCst);
            };
            Box::pin(async move { run(&greedy, job).await })
        });
        let mut held = held.collect::<Vec<_>>();
        run(&greedy, || ()).await.unwrap();
        for job in &mut held {
            assert!((&mut *job).now_or_never().is_none());
        }
        while FileThreads::shared().await.unwrap().turns().running(greedy.id()) < ACCOUNT_THREADS_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(run(&other, || 1).await.unwrap(), 1);
        held.truncate(THREADS);
        drop(open);
        for job in held {
            job.await.unwrap();
        }
        run(&greedy, || ()).await.unwrap();
        assert_eq!(done.load(Ordering::SeqCst), THREADS);
    }
}
