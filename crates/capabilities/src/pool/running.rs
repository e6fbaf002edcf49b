//! The job that runs on a thread of a pool, its caller, and the account to which it is charged.
//!
//! The clock of the thread measures the processor time of a job. The time is charged when the job has ended, and also
//! each time the job calls [`charge`]. A job that may take long calls [`interruption`] repeatedly.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use isomer_runtime::Account;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;

use super::job::{Job, JobCaller};

/// The reason why a running job must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// The job's caller no longer waits, because the request was cancelled or has reached its deadline.
    CallerGone,
    /// The job's tenant has exhausted its quota of processor time.
    OutOfCpu,
}

/// The account and the caller of the job that runs on this thread.
struct Running {
    account: Arc<Account>,
    call: Option<Arc<JobCaller>>,
}

/// The processor time clock of a thread.
pub(super) struct Clock {
    /// The part of the thread's processor time that has been charged.
    charged: Duration,
}

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
    static CLOCK: RefCell<Clock> = const { RefCell::new(Clock { charged: Duration::ZERO }) };
}

impl Clock {
    /// Returns the processor time of this thread since the last call.
    fn lap(&mut self) -> Duration {
        let now = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
        now.saturating_sub(std::mem::replace(&mut self.charged, now))
    }
}

/// Runs a job, and charges its processor time. Also charges the time that the thread has used since its previous job.
pub(super) fn run(job: Job) {
    let Job { work, account, call, runtime } = job;
    /// A guard whose `Drop` charges the processor time, even if the job panics.
    struct Charged;
    impl Drop for Charged {
        fn drop(&mut self) {
            charge();
            RUNNING.with_borrow_mut(Option::take);
        }
    }
    RUNNING.set(Some(Running { account, call }));
    let _charged = Charged;
    let _entered = runtime.as_ref().map(Handle::enter);
    work();
}

/// Charges the processor time that this thread's job has used since the last charge. Does nothing on threads that run
/// no job.
pub(crate) fn charge() {
    RUNNING.with_borrow(|running| {
        if let Some(running) = running {
            running.account.charge_cpu(CLOCK.with_borrow_mut(Clock::lap));
        }
    });
}

/// Returns whether the caller of this thread's job no longer waits. This check is cheap.
pub(crate) fn caller_is_gone() -> bool {
    RUNNING.with_borrow(|running| {
        let call = running.as_ref().and_then(|running| running.call.as_ref());
        call.is_some_and(|call| call.has_left())
    })
}

/// Returns the reason why this thread's job must end; `None` if it may continue. Ignores processor time that has not
/// been charged yet.
pub(crate) fn interruption() -> Option<Interruption> {
    if caller_is_gone() {
        return Some(Interruption::CallerGone);
    }
    let must_stop = RUNNING.with_borrow(|running| running.as_ref().is_some_and(|it| it.account.must_stop()));
    must_stop.then_some(Interruption::OutOfCpu)
}

/// Returns the time after which the account of this thread's job has processor time again; `None` if it has some now.
pub(crate) fn cpu_retry_after() -> Option<Duration> {
    RUNNING.with_borrow(|running| running.as_ref().and_then(|running| running.account.cpu_retry_after()))
}

/// Returns the processor time that this thread has used since the last charge.
#[cfg(test)]
pub(super) fn used_by_job() -> Duration {
    let now = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    CLOCK.with_borrow(|clock| now.saturating_sub(clock.charged))
}
