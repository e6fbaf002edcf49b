//! Threads for blocking work. All tenants of a process share them fairly, and are charged for the processor time of
//! their jobs.
//!
//! A [`Pool`] has a limited number of threads. A thread is started when there is work, and ends after some time without
//! work, so a process without stores has no such thread. In each pool, a tenant has one [`JobQueue`], which is the
//! queue of the tenant's jobs. Queues are served round-robin, however many jobs wait in each of them. Each queue has a
//! maximum number of running jobs and of waiting jobs. A queue without a running job does not wait for the jobs of
//! other queues (`job_queues.rs`). The processor time of each job is charged to the account of its queue here, and not
//! by the capabilities (`running.rs`).
//!
//! If the caller of a job stops waiting, a waiting job is dropped, and a running job is interrupted ([`interruption`]).
//! If a job panics, its caller gets an error, and other jobs are not affected.
//!
//! A job runs in the tokio runtime of its caller, because it may evict idle instances of guests when memory is short,
//! and the resources of these instances may have tasks, timers and sockets in that runtime.
//!
//! No lock is held while a thread is started or a job is dropped, because a thread may fail to start, and dropping the
//! values in a job may call the job's queue or store again.
//!
//! The file is long because two fifths of it are tests: each order in which threads start, fail and end is tried.

mod job;
mod job_queues;
mod running;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use isomer_runtime::Account;
use tokio::sync::oneshot;

pub(crate) use job_queues::{JobQueueBounds, PoolSize};
pub(crate) use running::{Interruption, caller_is_gone, charge, cpu_retry_after, interruption};

use crate::threads::{SystemThreads, ThreadSource};
use job::{Job, JobCaller};
use job_queues::JobQueues;

/// The time that a thread waits for work before it ends.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);

/// The reason why a job has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PoolError {
    /// The tenant's queue is full.
    #[error("too many operations are waiting")]
    Full,
    /// No thread could be started, or the job panicked.
    #[error("the operation ended without a result")]
    Abandoned,
}

/// A pool of threads. Dropping the last handle waits until all queued jobs have run, so that all files are closed
/// afterwards.
pub(crate) struct Pool {
    shared: Arc<PoolShared>,
}

/// A handle of one tenant's queue of jobs in a pool. All values with the same pool and number refer to the same queue.
#[derive(Clone)]
pub(crate) struct JobQueue {
    pool: Arc<Pool>,
    number: u64,
    account: Arc<Account>,
    bounds: JobQueueBounds,
}

struct PoolShared {
    name: &'static str,
    source: Arc<dyn ThreadSource>,
    idle_time: Duration,
    state: Mutex<PoolState>,
    /// Notified when a job is queued, and when the pool is closed.
    ready: Condvar,
    /// Notified when a thread has ended.
    ended: Condvar,
}

struct PoolState {
    queues: JobQueues,
    threads: HashSet<ThreadId>,
    starting: usize,
    idle: usize,
    closed: bool,
}

/// A caller that waits for a job. If it is dropped before the job has ended, the job is removed from the queue or
/// interrupted.
struct WaitingCaller<'a> {
    shared: &'a PoolShared,
    queue: u64,
    job: u64,
    call: Arc<JobCaller>,
    is_over: bool,
}

impl Pool {
    /// Creates a pool of at most `size` threads, which are named `name`. Does not start a thread yet.
    pub(crate) fn new(name: &'static str, size: PoolSize) -> Arc<Self> {
        Self::with_threads(name, size, SystemThreads::shared(), IDLE_TIME_MAX)
    }

    /// Creates a pool like [`Pool::new`]. Its threads come from `source`, and end after `idle_time` without work.
    pub(crate) fn with_threads(
        name: &'static str,
        size: PoolSize,
        source: Arc<dyn ThreadSource>,
        idle_time: Duration,
    ) -> Arc<Self> {
        let queues = JobQueues::new(size);
        let state = Mutex::new(PoolState { queues, threads: HashSet::new(), starting: 0, idle: 0, closed: false });
        let (ready, ended) = (Condvar::new(), Condvar::new());
        Arc::new(Self { shared: Arc::new(PoolShared { name, source, idle_time, state, ready, ended }) })
    }

    /// Waits until no thread is left. The caller ensures that the idle time is short and that there is no work.
    #[cfg(test)]
    pub(crate) fn wait_without_threads(&self) {
        let mut state = locked(&self.shared.state);
        while state.starting > 0 || !state.threads.is_empty() {
            state = self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns the queue with this number. Its jobs are charged to `account`.
    pub(crate) fn job_queue(self: &Arc<Self>, number: u64, account: Arc<Account>, bounds: JobQueueBounds) -> JobQueue {
        JobQueue { pool: self.clone(), number, account, bounds }
    }
}

impl JobQueue {
    /// Runs `job` on a thread of the pool, and returns its result. If this future is dropped before the job has ended,
    /// the job is removed from the queue or interrupted ([`interruption`]).
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let (reply, result) = oneshot::channel();
        let work = Box::new(move || {
            if !reply.is_closed() {
                // Sending fails if the caller no longer waits, and then the result is not needed.
                let _ = reply.send(job());
            }
        });
        let call = Arc::new(JobCaller::default());
        let job = Job::new(work, self.account.clone(), Some(call.clone()));
        let job = self.pool.shared.push(self.number, self.bounds, job)?;
        let mut waited = WaitingCaller { shared: &self.pool.shared, queue: self.number, job, call, is_over: false };
        let result = result.await;
        waited.is_over = true;
        result.map_err(|_| PoolError::Abandoned)
    }

    /// Queues `job`, even if the queue is full. Used for work that must not be refused, such as closing a file. The
    /// amount of such work is limited by other means. If no thread can be started, `job` is not called, but only
    /// dropped. So work that must be done even in this case belongs in the `Drop` of a value that the job owns. The job
    /// may be dropped on the calling thread, or on a thread that tries to start another one.
    pub(crate) fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        let bounds = JobQueueBounds { waiting_max: usize::MAX, ..self.bounds };
        let job = Job::new(Box::new(job), self.account.clone(), None);
        if self.pool.shared.push(self.number, bounds, job).is_err() {
            tracing::error!("cannot start a storage thread");
        }
    }

    /// Returns the account to which the jobs of the queue are charged.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl Drop for WaitingCaller<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.call.leave();
        let job = locked(&self.shared.state).queues.remove(self.queue, self.job);
        // Drops the job after the lock was released.
        drop(job);
    }
}

impl PoolShared {
    /// Queues a job, and starts a thread if necessary. Returns the number of the job.
    fn push(self: &Arc<Self>, queue: u64, bounds: JobQueueBounds, job: Job) -> Result<u64, PoolError> {
        let (pushed, starts) = {
            let mut state = locked(&self.state);
            let pushed = state.queues.push(queue, bounds, job);
            if state.idle > 0 {
                self.ready.notify_one();
            }
            (pushed, state.starts_thread())
        };
        let job = match pushed {
            Ok(job) => job,
            // The refused job is dropped here, after the lock was released.
            Err(_job) => return Err(PoolError::Full),
        };
        if starts {
            self.start_thread()?;
        }
        Ok(job)
    }

    /// Starts a thread that the state already counts in `starting`. If this fails and there is no other thread, drops
    /// all waiting jobs, whose callers then get [`PoolError::Abandoned`].
    fn start_thread(self: &Arc<Self>) -> Result<(), PoolError> {
        let shared = self.clone();
        let Err(error) = self.source.start(self.name, Box::new(move || shared.work())) else { return Ok(()) };
        let abandoned = {
            let mut state = locked(&self.state);
            state.starting -= 1;
            if state.threads.len() + state.starting > 0 {
                tracing::warn!(%error, "cannot start another storage thread; the running threads run all jobs");
                return Ok(());
            }
            self.ended.notify_all();
            state.queues.abandon()
        };
        tracing::error!(%error, "cannot start a storage thread");
        drop(abandoned);
        Err(PoolError::Abandoned)
    }

    fn work(self: &Arc<Self>) {
        let me = std::thread::current().id();
        {
            let mut state = locked(&self.state);
            state.starting -= 1;
            state.threads.insert(me);
        }
        while let Some((queue, job, starts)) = self.next() {
            if starts {
                // Ignores the error, because this thread continues to run jobs if the new thread cannot be started.
                let _ = self.start_thread();
            }
            if catch_unwind(AssertUnwindSafe(|| running::run(job))).is_err() {
                tracing::error!("a job on a storage thread panicked");
            }
            locked(&self.state).queues.finish(queue);
        }
        // Notifies the pool's `drop`, which waits until `threads` is empty. `next` has already removed this thread from
        // `threads`.
        self.ended.notify_all();
    }

    /// Returns the next job, and the number of its queue. The third value is true if the caller must start another
    /// thread, because more jobs could run. Returns `None` if this thread must end.
    fn next(&self) -> Option<(u64, Job, bool)> {
        let mut state = locked(&self.state);
        loop {
            if let Some((queue, job)) = state.queues.take() {
                if state.idle > 0 && state.queues.is_ready() {
                    self.ready.notify_one();
                }
                let starts = state.starts_thread();
                return Some((queue, job, starts));
            }
            if state.closed {
                // This thread may end although jobs still wait in a queue that already runs its maximum number of jobs:
                // the threads that run jobs of this queue also run the waiting ones.
                state.threads.remove(&std::thread::current().id());
                return None;
            }
            state.idle += 1;
            let (woken, waited) =
                self.ready.wait_timeout(state, self.idle_time).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && !state.queues.is_ready() && !state.closed {
                state.threads.remove(&std::thread::current().id());
                return None;
            }
        }
    }
}

impl PoolState {
    /// Returns whether one more thread must be started. If so, counts it in `starting`.
    fn starts_thread(&mut self) -> bool {
        let threads = self.threads.len() + self.starting;
        let starts = threads < self.queues.threads_max() && self.queues.ready_more_than(self.idle + self.starting);
        self.starting += usize::from(starts);
        starts
    }
}

impl Drop for Pool {
    /// Waits until all queued jobs have run and all threads have ended.
    fn drop(&mut self) {
        let mut state = locked(&self.shared.state);
        state.closed = true;
        self.shared.ready.notify_all();
        // A job of this pool may drop the last handle. The thread of this job must not wait for itself.
        if state.threads.contains(&std::thread::current().id()) {
            return;
        }
        while state.starting > 0 || !state.threads.is_empty() {
            state = self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Locks a mutex, even if a thread has panicked while it held the lock, because the protected values are valid after
/// every statement.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::threads::FailingThreads;

    const BOUNDS: JobQueueBounds = JobQueueBounds { running_max: 1, waiting_max: 1 };

    fn size(threads_max: usize) -> PoolSize {
        PoolSize { threads_max, reserve_max: 0 }
    }

    fn job_queue(pool: &Arc<Pool>, number: u64, bounds: JobQueueBounds) -> JobQueue {
        pool.job_queue(number, Account::unlimited(), bounds)
    }

    /// Queues a job that blocks. Returns a receiver that gets a message when the job starts, and a sender that ends the
    /// job.
    fn gated(queue: &JobQueue) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (started, starts) = mpsc::channel();
        let (release, gate) = mpsc::channel();
        queue.spawn(move || {
            started.send(()).unwrap();
            let _ = gate.recv();
        });
        (starts, release)
    }

    async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|cx| match std::pin::Pin::new(&mut future).poll(cx) {
            std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_panic_costs_one_caller() {
        let pool = Pool::new("test", size(1));
        let queue = job_queue(&pool, 1, BOUNDS);
        let (starts, release) = gated(&queue);
        starts.recv().unwrap();
        let mut waiting = Box::pin(queue.run(|| panic!("on purpose")));
        assert!(poll_once(waiting.as_mut()).await.is_none());
        assert_eq!(queue.run(|| ()).await, Err(PoolError::Full));
        release.send(()).unwrap();
        assert_eq!(waiting.await, Err::<(), _>(PoolError::Abandoned));
        assert_eq!(queue.run(|| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn queues_have_equal_shares() {
        let pool = Pool::new("test", size(2));
        let greedy = job_queue(&pool, 1, JobQueueBounds { running_max: 1, waiting_max: 100 });
        let (starts, release) = gated(&greedy);
        starts.recv().unwrap();
        // Other jobs of the greedy queue wait for its only thread. The other queue gets the second thread immediately.
        let order = Arc::new(Mutex::new(Vec::new()));
        for number in 0..50 {
            let order = order.clone();
            greedy.spawn(move || locked(&order).push(number));
        }
        let modest = job_queue(&pool, 2, JobQueueBounds { running_max: 2, waiting_max: 100 });
        assert_eq!(modest.run(|| 7).await, Ok(7));
        assert!(locked(&order).is_empty(), "the greedy queue has a second thread");
        release.send(()).unwrap();
        greedy.run(|| ()).await.unwrap();
        assert_eq!(*locked(&order), (0..50).collect::<Vec<_>>(), "the jobs of a queue run in order");
    }

    #[tokio::test]
    async fn one_thread_serves_the_queues_round_robin() {
        let pool = Pool::new("test", size(1));
        let bounds = JobQueueBounds { running_max: 1, waiting_max: 100 };
        let (first, second) = (job_queue(&pool, 1, bounds), job_queue(&pool, 2, bounds));
        let (starts, release) = gated(&first);
        starts.recv().unwrap();
        let order = Arc::new(Mutex::new(String::new()));
        for (queue, letter) in [(&first, 'a'), (&first, 'a'), (&first, 'a'), (&second, 'b'), (&second, 'b')] {
            let order = order.clone();
            queue.spawn(move || locked(&order).push(letter));
        }
        release.send(()).unwrap();
        // Waits until the queued jobs have run.
        drop((first, second, pool));
        let order = locked(&order).clone();
        assert!(order == "babaa" || order == "ababa", "{order}");
    }

    #[tokio::test]
    async fn waiting_jobs_are_abandoned_if_no_thread_starts_and_the_next_job_tries_again() {
        let threads = Arc::new(FailingThreads::default());
        let pool = Pool::with_threads("test", size(2), threads.clone(), IDLE_TIME_MAX);
        let queue = job_queue(&pool, 1, JobQueueBounds { running_max: 2, waiting_max: 9 });
        threads.fail(true);
        assert_eq!(queue.run(|| 1).await, Err(PoolError::Abandoned));
        // Uses the queue while the job is dropped. This works because no lock is held while a job is dropped.
        struct RespawnOnDrop(JobQueue, mpsc::Sender<()>);
        impl Drop for RespawnOnDrop {
            fn drop(&mut self) {
                self.0.spawn(|| ());
                self.1.send(()).unwrap();
            }
        }
        let (dropped, drops) = mpsc::channel();
        let again = RespawnOnDrop(queue.clone(), dropped);
        queue.spawn(move || drop(again));
        drops.recv().unwrap();
        threads.fail(false);
        assert_eq!(queue.run(|| 1).await, Ok(1));
        // The pool has one thread. This thread also runs the job for which a second thread cannot be started.
        let (starts, release) = gated(&queue);
        starts.recv().unwrap();
        threads.fail(true);
        let mut waiting = Box::pin(queue.run(|| 2));
        assert!(poll_once(waiting.as_mut()).await.is_none());
        release.send(()).unwrap();
        assert_eq!(waiting.await, Ok(2));
    }

    #[test]
    fn a_pool_without_work_has_no_thread_and_one_that_is_dropped_by_its_own_job_ends() {
        let pool = Pool::new("test", size(4));
        {
            let state = locked(&pool.shared.state);
            assert_eq!(state.threads.len() + state.starting, 0);
        }
        let (done, ended) = mpsc::channel();
        let queue = job_queue(&pool, 1, BOUNDS);
        let shared = pool.shared.clone();
        let held = queue.clone();
        queue.spawn(move || {
            held.spawn(move || done.send(()).unwrap());
            drop(held);
        });
        drop((queue, pool));
        ended.recv().unwrap();
        let mut state = locked(&shared.state);
        while state.starting > 0 || !state.threads.is_empty() {
            state = shared.ended.wait(state).unwrap();
        }
    }

    #[tokio::test]
    async fn processor_time_is_charged_to_the_account_of_the_queue() {
        let pool = Pool::new("test", size(1));
        let accounts = [Account::unlimited(), Account::unlimited()];
        let queues = [0, 1].map(|number| pool.job_queue(number, accounts[usize::from(number == 1)].clone(), BOUNDS));
        let spin = || {
            let mut x = 1_u64;
            while spins(&mut x) {}
        };
        for _ in 0..3 {
            queues[0].run(spin).await.unwrap();
            queues[1].run(std::thread::yield_now).await.unwrap();
        }
        drop((queues, pool));
        let [busy, idle] = accounts.map(|account| account.used().cpu);
        assert!(busy >= Duration::from_millis(60) && idle < busy / 2, "{busy:?} {idle:?}");
    }

    /// Uses some processor time, and returns whether the job that calls this function has used less than 20 ms. `x` is
    /// the value of the computation.
    fn spins(x: &mut u64) -> bool {
        for _ in 0..1000 {
            *x = std::hint::black_box(x.wrapping_mul(3));
        }
        running::used_by_job() < Duration::from_millis(20)
    }

    #[tokio::test]
    async fn a_caller_that_leaves_drops_or_interrupts_its_job() {
        let pool = Pool::new("test", size(1));
        let queue = job_queue(&pool, 1, JobQueueBounds { running_max: 1, waiting_max: 2 });
        let (started, starts) = mpsc::channel();
        let mut running = Box::pin(queue.run(move || {
            started.send(()).unwrap();
            while interruption().is_none() {
                std::thread::yield_now();
            }
        }));
        assert!(poll_once(running.as_mut()).await.is_none());
        starts.recv().unwrap();
        let held = Arc::new(());
        let mut waiting: Vec<_> = (0..2)
            .map(|_| {
                let held = held.clone();
                Box::pin(queue.run(move || drop(held)))
            })
            .collect();
        for waiting in &mut waiting {
            assert!(poll_once(waiting.as_mut()).await.is_none());
        }
        assert_eq!(queue.run(|| ()).await, Err(PoolError::Full));
        drop(waiting);
        assert_eq!(Arc::strong_count(&held), 1, "a waiting job is dropped with its caller, before it runs");
        let next = queue.run(|| 1);
        drop(running);
        assert_eq!(next.await, Ok(1), "the running job has ended");
    }

    #[tokio::test]
    async fn a_job_is_dropped_in_the_runtime_of_its_caller() {
        struct Instance(mpsc::Sender<tokio::task::JoinHandle<u32>>);
        impl Drop for Instance {
            fn drop(&mut self) {
                // If the job is dropped outside a runtime, `tokio::spawn` panics, and the test fails.
                self.0.send(tokio::spawn(async { 7 })).unwrap();
            }
        }
        let pool = Pool::new("test", size(1));
        let queue = job_queue(&pool, 1, JobQueueBounds { running_max: 1, waiting_max: 9 });
        let (spawned, tasks) = mpsc::channel();
        let instance = Instance(spawned.clone());
        queue.run(move || drop(instance)).await.unwrap();
        let instance = Instance(spawned);
        queue.spawn(move || drop(instance));
        queue.run(|| ()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(tasks.recv().unwrap().await.unwrap(), 7);
        }
    }

    #[tokio::test]
    async fn each_new_queue_gets_a_thread_although_others_occupy_all() {
        let pool = Pool::new("test", PoolSize { threads_max: 4, reserve_max: 2 });
        let bounds = JobQueueBounds { running_max: 4, waiting_max: 100 };
        let gates: Vec<_> = [1, 2, 1, 2].map(|number| gated(&job_queue(&pool, number, bounds))).into();
        for (starts, _) in &gates {
            starts.recv().unwrap();
        }
        for number in 3..20 {
            assert_eq!(job_queue(&pool, number, bounds).run(move || number).await, Ok(number));
        }
        drop(gates);
    }
}
