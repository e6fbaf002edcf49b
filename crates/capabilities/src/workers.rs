//! A fixed number of threads with a bounded queue, for work that blocks.
//!
//! Each thread owns a state (a database connection, say) that jobs borrow. Jobs whose caller has gone are skipped. A job
//! that panics costs its caller an error and nobody else anything.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Why a job gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WorkersError {
    /// The queue is full.
    #[error("too many operations are waiting")]
    Full,
    /// The threads have been stopped, or the job panicked.
    #[error("the operation was abandoned")]
    Abandoned,
}

/// Threads of state `S`.
pub(crate) struct Workers<S> {
    shared: Arc<Shared<S>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared<S> {
    queue: Mutex<Queue<S>>,
    ready: Condvar,
    waiting_max: usize,
}

struct Queue<S> {
    jobs: VecDeque<Job<S>>,
    closed: bool,
}

impl<S: Send + 'static> Workers<S> {
    /// One thread for each of `states`; at most `waiting_max` jobs wait.
    pub(crate) fn start(name: &str, states: Vec<S>, waiting_max: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { jobs: VecDeque::new(), closed: false }),
            ready: Condvar::new(),
            waiting_max,
        });
        let workers = Self { shared, threads: Mutex::new(Vec::new()) };
        for state in states {
            let shared = workers.shared.clone();
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || shared.work(state))?;
            locked(&workers.threads).push(thread);
        }
        Ok(workers)
    }

    /// Run `job` on one of the threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, WorkersError> {
        let (reply, result) = oneshot::channel();
        self.shared.push(Box::new(move |state| {
            if !reply.is_closed() {
                // A caller that leaves between the check and here doesn't want the answer.
                let _ = reply.send(job(state));
            }
        }))?;
        result.await.map_err(|_| WorkersError::Abandoned)
    }
}

impl<S> Shared<S> {
    fn push(&self, job: Job<S>) -> Result<(), WorkersError> {
        let mut queue = locked(&self.queue);
        if queue.closed {
            return Err(WorkersError::Abandoned);
        }
        if queue.jobs.len() >= self.waiting_max {
            return Err(WorkersError::Full);
        }
        queue.jobs.push_back(job);
        self.ready.notify_one();
        Ok(())
    }

    fn work(&self, mut state: S) {
        while let Some(job) = self.next() {
            if catch_unwind(AssertUnwindSafe(|| job(&mut state))).is_err() {
                tracing::error!("an operation on a storage thread panicked");
            }
        }
    }

    fn next(&self) -> Option<Job<S>> {
        let mut queue = locked(&self.queue);
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<S> Drop for Workers<S> {
    /// Finishes what waits, then ends the threads, so that their states (and the files in them) are closed on return.
    fn drop(&mut self) {
        locked(&self.shared.queue).closed = true;
        self.shared.ready.notify_all();
        for thread in locked(&self.threads).drain(..) {
            // The last handle may be dropped by a job of this very pool: then there is nobody to wait for.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// Locks, whatever happened to the thread that held it before: the guarded values are valid after every statement.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_panic_costs_one_caller() {
        let workers = Arc::new(Workers::start("test", vec![0_u32], 1).unwrap());
        let (started, starts) = oneshot::channel();
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let busy = tokio::spawn({
            let workers = workers.clone();
            async move {
                workers
                    .run(move |count| {
                        started.send(()).unwrap();
                        gate.recv().unwrap();
                        *count += 1;
                    })
                    .await
            }
        });
        starts.await.unwrap();
        let mut waiting = Box::pin(workers.run(|_| panic!("on purpose")));
        assert!(futures_poll_once(waiting.as_mut()).await.is_none());
        assert_eq!(workers.run(|_| ()).await, Err(WorkersError::Full));
        release.send(()).unwrap();
        assert_eq!(busy.await.unwrap(), Ok(()));
        assert_eq!(waiting.await, Err(WorkersError::Abandoned));
        assert_eq!(workers.run(|count| *count).await, Ok(1));
    }

    async fn futures_poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|cx| match std::pin::Pin::new(&mut future).poll(cx) {
            std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
