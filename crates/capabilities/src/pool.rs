//! Threads for work that blocks, shared by everybody of a process, fair between those who share them.
//!
//! A [`Pool`] has at most so many threads; they are started when work is there and end when there has been none for a while, so
//! a process that uses no store has none. Work comes through a [`Lane`]: each tenant has one. Lanes take turns, whatever waits in
//! them, and a lane has a bound of threads that it may occupy at once and one of jobs that may wait: slow statements and floods of one
//! tenant take its own share and no more. Jobs whose caller has gone are skipped. A job that panics costs its caller an
//! error and nobody else anything.
//!
//! Threads are started, and jobs are dropped, while no lock is held: a thread may not start, and what a job holds may come back to its
//! lane or its store when it is dropped.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::threads::{SystemThreads, ThreadSource};

/// How long a thread waits for work before it ends.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// Why a job gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PoolError {
    /// The lane's queue is full.
    #[error("too many operations are waiting")]
    Full,
    /// No thread could be started, or the job panicked.
    #[error("the operation was abandoned")]
    Abandoned,
}

/// Threads. Dropping the last handle finishes what waits, so that files are closed on return.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

/// One tenant's way into a pool. Clones, and lanes of the same number, are the same one.
#[derive(Clone)]
pub(crate) struct Lane {
    pool: Arc<Pool>,
    number: u64,
    bounds: LaneBounds,
}

/// What a lane may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneBounds {
    /// Threads at once.
    pub(crate) running_max: usize,
    /// Jobs that wait.
    pub(crate) waiting_max: usize,
}

struct Shared {
    name: &'static str,
    threads_max: usize,
    source: Arc<dyn ThreadSource>,
    idle_time: Duration,
    state: Mutex<State>,
    /// Work is there, or the pool is closed.
    ready: Condvar,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// Lanes that have work or are at work; the others cost nothing.
    lanes: HashMap<u64, Queue>,
    /// Lanes whose turn comes, in order: each that has jobs and may have another thread is in it once.
    turns: VecDeque<u64>,
    threads: HashSet<ThreadId>,
    starting: usize,
    idle: usize,
    closed: bool,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    running: usize,
    running_max: usize,
    has_turn: bool,
}

impl Pool {
    /// At most `threads_max` threads, called `name`. None is started yet.
    pub(crate) fn new(name: &'static str, threads_max: usize) -> Arc<Self> {
        Self::with_threads(name, threads_max, SystemThreads::shared(), IDLE_TIME_MAX)
    }

    /// As [`Pool::new`], with threads of `source` that end after `idle_time` without work.
    pub(crate) fn with_threads(
        name: &'static str,
        threads_max: usize,
        source: Arc<dyn ThreadSource>,
        idle_time: Duration,
    ) -> Arc<Self> {
        let state = Mutex::default();
        let (threads_max, ready, ended) = (threads_max.max(1), Condvar::new(), Condvar::new());
        Arc::new(Self { shared: Arc::new(Shared { name, threads_max, source, idle_time, state, ready, ended }) })
    }

    /// Returns when no thread is left: soon, where the idle time is zero and there is no work.
    #[cfg(test)]
    pub(crate) fn wait_without_threads(&self) {
        let mut state = locked(&self.shared.state);
        while state.starting > 0 || !state.threads.is_empty() {
            state = self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The lane `number`.
    pub(crate) fn lane(self: &Arc<Self>, number: u64, bounds: LaneBounds) -> Lane {
        Lane { pool: self.clone(), number, bounds }
    }
}

impl Lane {
    /// Run `job` on one of the threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let (reply, result) = oneshot::channel();
        let job = Box::new(move || {
            if !reply.is_closed() {
                // A caller that leaves between the check and here doesn't want the answer.
                let _ = reply.send(job());
            }
        });
        self.pool.shared.push(self.number, self.bounds, self.bounds.waiting_max, job)?;
        result.await.map_err(|_| PoolError::Abandoned)
    }

    /// Have `job` run, however many wait: for what must be done and of which there is a bounded number anyway, as closing a file.
    /// Where no thread can be had, the job is dropped by the caller's thread, before this returns or a little later; what must be done
    /// all the same is done by the drop of what the job holds.
    pub(crate) fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        if self.pool.shared.push(self.number, self.bounds, usize::MAX, Box::new(job)).is_err() {
            tracing::error!("no thread can be started for storage");
        }
    }
}

impl Shared {
    fn push(self: &Arc<Self>, number: u64, bounds: LaneBounds, waiting_max: usize, job: Job) -> Result<(), PoolError> {
        let starts = {
            let mut state = locked(&self.state);
            let lane = state.lanes.entry(number).or_default();
            if lane.jobs.len() >= waiting_max {
                return Err(PoolError::Full);
            }
            lane.running_max = bounds.running_max.max(1);
            lane.jobs.push_back(job);
            state.give_turn(number);
            let enough = state.turns.len() <= state.idle + state.starting;
            let starts = !enough && state.threads.len() + state.starting < self.threads_max;
            if starts {
                state.starting += 1;
            }
            self.ready.notify_one();
            starts
        };
        if starts { self.start_thread() } else { Ok(()) }
    }

    /// Starts a thread that was counted as starting. If none can be started and there is none, all that waits is abandoned.
    fn start_thread(self: &Arc<Self>) -> Result<(), PoolError> {
        let shared = self.clone();
        let Err(error) = self.source.start(self.name, Box::new(move || shared.work())) else { return Ok(()) };
        let abandoned = {
            let mut state = locked(&self.state);
            state.starting -= 1;
            if state.threads.len() + state.starting > 0 {
                tracing::warn!(%error, "one more thread for storage can't be started: those that run do its work");
                return Ok(());
            }
            self.ended.notify_all();
            state.turns.clear();
            std::mem::take(&mut state.lanes)
        };
        tracing::error!(%error, "a thread for storage can't be started");
        drop(abandoned);
        Err(PoolError::Abandoned)
    }

    fn work(&self) {
        let me = std::thread::current().id();
        {
            let mut state = locked(&self.state);
            state.starting -= 1;
            state.threads.insert(me);
        }
        while let Some((number, job)) = self.next() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("an operation on a storage thread panicked");
            }
            locked(&self.state).done(number);
        }
        // `next` has taken this thread off the list.
        self.ended.notify_all();
    }

    fn next(&self) -> Option<(u64, Job)> {
        let mut state = locked(&self.state);
        loop {
            if let Some(taken) = state.take() {
                if !state.turns.is_empty() {
                    self.ready.notify_one();
                }
                return Some(taken);
            }
            if state.closed {
                state.threads.remove(&std::thread::current().id());
                return None;
            }
            state.idle += 1;
            let (woken, waited) =
                self.ready.wait_timeout(state, self.idle_time).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.turns.is_empty() && !state.closed {
                state.threads.remove(&std::thread::current().id());
                return None;
            }
        }
    }
}

impl State {
    /// Puts the lane into the order of turns, if it has work, may have another thread and is not there yet.
    fn give_turn(&mut self, number: u64) {
        if let Some(lane) = self.lanes.get_mut(&number)
            && !lane.has_turn
            && !lane.jobs.is_empty()
            && lane.running < lane.running_max
        {
            lane.has_turn = true;
            self.turns.push_back(number);
        }
    }

    fn take(&mut self) -> Option<(u64, Job)> {
        let number = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&number)?;
        lane.has_turn = false;
        let job = lane.jobs.pop_front()?;
        lane.running += 1;
        self.give_turn(number);
        Some((number, job))
    }

    fn done(&mut self, number: u64) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        lane.running -= 1;
        if lane.running == 0 && lane.jobs.is_empty() {
            self.lanes.remove(&number);
        } else {
            self.give_turn(number);
        }
    }
}

impl Drop for Pool {
    /// Finishes what waits, then ends the threads.
    fn drop(&mut self) {
        let mut state = locked(&self.shared.state);
        state.closed = true;
        self.shared.ready.notify_all();
        // The last handle may be dropped by a job of this very pool, which then goes on by itself.
        if state.threads.contains(&std::thread::current().id()) {
            return;
        }
        while state.starting > 0 || !state.threads.is_empty() {
            state = self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Locks, whatever happened to the thread that held it before: the guarded values are valid after every statement.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::threads::FailingThreads;

    const BOUNDS: LaneBounds = LaneBounds { running_max: 1, waiting_max: 1 };

    /// A job that says when it runs, and ends when it is told to.
    fn gated(lane: &Lane) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (started, starts) = mpsc::channel();
        let (release, gate) = mpsc::channel();
        lane.spawn(move || {
            started.send(()).unwrap();
            gate.recv().unwrap();
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
        let pool = Pool::new("test", 1);
        let lane = pool.lane(1, BOUNDS);
        let (starts, release) = gated(&lane);
        starts.recv().unwrap();
        let mut waiting = Box::pin(lane.run(|| panic!("on purpose")));
        assert!(poll_once(waiting.as_mut()).await.is_none());
        assert_eq!(lane.run(|| ()).await, Err(PoolError::Full));
        release.send(()).unwrap();
        assert_eq!(waiting.await, Err::<(), _>(PoolError::Abandoned));
        assert_eq!(lane.run(|| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn a_lane_takes_its_share_and_the_others_take_turns() {
        let pool = Pool::new("test", 2);
        let greedy = pool.lane(1, LaneBounds { running_max: 1, waiting_max: 100 });
        let (starts, release) = gated(&greedy);
        starts.recv().unwrap();
        // More of the greedy one wait for its only thread; the other lane gets the second at once.
        let order = Arc::new(Mutex::new(Vec::new()));
        for number in 0..50 {
            let order = order.clone();
            greedy.spawn(move || locked(&order).push(number));
        }
        let modest = pool.lane(2, LaneBounds { running_max: 2, waiting_max: 100 });
        assert_eq!(modest.run(|| 7).await, Ok(7));
        assert!(locked(&order).is_empty(), "the greedy lane has a second thread");
        release.send(()).unwrap();
        greedy.run(|| ()).await.unwrap();
        assert_eq!(*locked(&order), (0..50).collect::<Vec<_>>(), "in order");
    }

    #[tokio::test]
    async fn one_thread_goes_round_the_lanes() {
        let pool = Pool::new("test", 1);
        let bounds = LaneBounds { running_max: 1, waiting_max: 100 };
        let (first, second) = (pool.lane(1, bounds), pool.lane(2, bounds));
        let (starts, release) = gated(&first);
        starts.recv().unwrap();
        let order = Arc::new(Mutex::new(String::new()));
        for (lane, letter) in [(&first, 'a'), (&first, 'a'), (&first, 'a'), (&second, 'b'), (&second, 'b')] {
            let order = order.clone();
            lane.spawn(move || locked(&order).push(letter));
        }
        release.send(()).unwrap();
        // The pool finishes what waits.
        drop((first, second, pool));
        let order = locked(&order).clone();
        assert!(order == "babaa" || order == "ababa", "{order}");
    }

    #[tokio::test]
    async fn what_waits_is_abandoned_where_no_thread_starts_and_the_next_job_tries_again() {
        let threads = Arc::new(FailingThreads::default());
        let pool = Pool::with_threads("test", 2, threads.clone(), IDLE_TIME_MAX);
        let lane = pool.lane(1, LaneBounds { running_max: 2, waiting_max: 9 });
        threads.fail(true);
        assert_eq!(lane.run(|| 1).await, Err(PoolError::Abandoned));
        // A job whose drop comes back to its lane finds no lock held.
        struct Again(Lane, mpsc::Sender<()>);
        impl Drop for Again {
            fn drop(&mut self) {
                self.0.spawn(|| ());
                self.1.send(()).unwrap();
            }
        }
        let (dropped, drops) = mpsc::channel();
        let again = Again(lane.clone(), dropped);
        lane.spawn(move || drop(again));
        drops.recv().unwrap();
        threads.fail(false);
        assert_eq!(lane.run(|| 1).await, Ok(1));
        // One thread is there: it does what a second one would have done.
        let (starts, release) = gated(&lane);
        starts.recv().unwrap();
        threads.fail(true);
        let mut waiting = Box::pin(lane.run(|| 2));
        assert!(poll_once(waiting.as_mut()).await.is_none());
        release.send(()).unwrap();
        assert_eq!(waiting.await, Ok(2));
    }

    #[test]
    fn a_pool_without_work_has_no_thread_and_one_that_is_dropped_by_its_own_job_ends() {
        let pool = Pool::new("test", 4);
        {
            let state = locked(&pool.shared.state);
            assert_eq!(state.threads.len() + state.starting, 0);
        }
        let (done, ended) = mpsc::channel();
        let lane = pool.lane(1, BOUNDS);
        let shared = pool.shared.clone();
        let held = lane.clone();
        lane.spawn(move || {
            held.spawn(move || done.send(()).unwrap());
            drop(held);
        });
        drop((lane, pool));
        ended.recv().unwrap();
        let mut state = locked(&shared.state);
        while state.starting > 0 || !state.threads.is_empty() {
            state = shared.ended.wait(state).unwrap();
        }
    }
}
