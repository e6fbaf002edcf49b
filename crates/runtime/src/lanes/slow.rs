//! The threads of the slow lane.
//!
//! These threads run at a lower priority than the threads of the tokio runtime. So when the fast lane has work, the
//! kernel preempts a slow thread within microseconds, in the middle of a guest's loop or of a host function. There are
//! as many slow threads as there are processors, and they use the processor time that the fast lane leaves. Accounts
//! share this time fairly (see [`super::queue`]).
//!
//! A thread is started when there is work for it, and ends when it has had no work for a while. If no thread can be
//! started, the tokio runtime's own threads do the work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_task::Runnable;
use tokio::runtime::Handle;

use super::priority;
use super::queue::{AccountId, FairQueue};
use crate::clock::processor_time;

/// The time for which a thread waits for a job before it ends.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);

static LANE: LazyLock<SlowLane> = LazyLock::new(|| SlowLane {
    threads_max: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    state: Mutex::default(),
    ready: Condvar::new(),
});

struct SlowLane {
    threads_max: usize,
    state: Mutex<SlowLaneState>,
    /// Notified when a job is added to the queue.
    ready: Condvar,
}

#[derive(Default)]
struct SlowLaneState {
    queue: FairQueue<SlowJob>,
    threads: usize,
    idle: usize,
}

/// One poll of a guest, with the tokio runtime whose timers and tasks the guest uses.
struct SlowJob {
    runnable: Runnable,
    executor: Handle,
}

/// Adds one run of `runnable` to the slow lane's queue, for `account`.
pub(super) fn push(account: AccountId, runnable: Runnable, executor: Handle) {
    let must_start = {
        let mut state = LANE.state();
        state.queue.push(account, SlowJob { runnable, executor });
        // A thread that was notified of a job counts as idle until it wakes up, so the number of idle threads is
        // compared with the number of waiting jobs.
        let start = state.queue.waiting() > state.idle && state.threads < LANE.threads_max;
        state.threads += usize::from(start);
        start
    };
    LANE.ready.notify_one();
    if must_start && let Err(error) = std::thread::Builder::new().name("isomer-slow".into()).spawn(|| LANE.work()) {
        isomer_telemetry::warn!(%error, "cannot start a thread of the slow lane");
        LANE.give_up();
    }
}

impl SlowLane {
    fn state(&self) -> MutexGuard<'_, SlowLaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs jobs on the calling thread until no job has arrived for [`IDLE_TIME_MAX`].
    fn work(&self) {
        if let Err(error) = priority::lower_priority() {
            isomer_telemetry::debug!(%error, "cannot lower the priority of a thread");
        }
        while let Some((account, job)) = self.next() {
            let used = job.run();
            self.state().queue.finish(account, u64::try_from(used.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// Waits for a job. Returns `None` if no job arrives within [`IDLE_TIME_MAX`].
    fn next(&self) -> Option<(AccountId, SlowJob)> {
        let mut state = self.state();
        loop {
            if let Some(next) = state.queue.pop() {
                return Some(next);
            }
            state.idle += 1;
            let (woken, waited) = self.ready.wait_timeout(state, IDLE_TIME_MAX).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.queue.waiting() == 0 {
                state.threads -= 1;
                return None;
            }
        }
    }

    /// Records that a thread could not be started. If the lane then has no thread, each waiting job runs on the tokio
    /// runtime in which it was created.
    fn give_up(&self) {
        let mut left = Vec::new();
        {
            let mut state = self.state();
            state.threads -= 1;
            while state.threads == 0
                && let Some((account, job)) = state.queue.pop()
            {
                state.queue.finish(account, 0);
                left.push(job);
            }
        }
        for SlowJob { runnable, executor } in left {
            executor.spawn(async move {
                runnable.run();
            });
        }
    }
}

impl SlowJob {
    fn run(self) -> Duration {
        let _entered = self.executor.enter();
        let before = processor_time();
        // A panic of a guest does not arrive here: it is passed to the task that waits for the guest. Any other panic
        // is caught, because it would end this thread without subtracting it from the number of threads.
        if catch_unwind(AssertUnwindSafe(|| self.runnable.run())).is_err() {
            isomer_telemetry::error!("a panic in the slow lane outside of any guest");
        }
        processor_time().saturating_sub(before)
    }
}
