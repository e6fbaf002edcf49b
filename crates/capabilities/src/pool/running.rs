//! What runs on a thread of a pool: who pays for it, and who waits for it.
//!
//! The processor time of a job is that of its thread, by the thread's own clock. It is charged when the job is over, and meanwhile
//! whenever the job calls [`charge`]. A job that may take long asks [`interruption`] again and again.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use isomer_runtime::Account;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;

use super::job::{Job, JobCaller};

/// Why a job must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// Its caller is gone: the request was cancelled, or its time is up.
    CallerGone,
    /// Its tenant owes more processor time than it may.
    OutOfCpu,
}

/// What runs on this thread.
struct Running {
    account: Arc<Account>,
    call: Option<Arc<JobCaller>>,
}

/// The processor clock of a thread.
pub(super) struct Clock {
    /// When it was last charged for.
    charged: Duration,
}

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
    static CLOCK: RefCell<Clock> = const { RefCell::new(Clock { charged: Duration::ZERO }) };
}

impl Clock {
    /// What was used since the last time.
    fn lap(&mut self) -> Duration {
        let now = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
        now.saturating_sub(std::mem::replace(&mut self.charged, now))
    }
}

/// Does a job and charges it. What the thread did to get it since the job before is charged with it.
pub(super) fn run(job: Job) {
    let Job { work, account, call, runtime } = job;
    /// Also where the job panics.
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

/// Charges what the job of this thread has used until now. Nothing happens on other threads.
pub(crate) fn charge() {
    RUNNING.with_borrow(|running| {
        if let Some(running) = running {
            running.account.charge_cpu(CLOCK.with_borrow_mut(Clock::lap));
        }
    });
}

/// Is the caller of the job on this thread gone? Costs next to nothing.
pub(crate) fn caller_is_gone() -> bool {
    RUNNING.with_borrow(|running| {
        let call = running.as_ref().and_then(|running| running.call.as_ref());
        call.is_some_and(|call| call.has_left())
    })
}

/// Must the job of this thread end, by what has been charged?
pub(crate) fn interruption() -> Option<Interruption> {
    if caller_is_gone() {
        return Some(Interruption::CallerGone);
    }
    let must_stop = RUNNING.with_borrow(|running| running.as_ref().is_some_and(|it| it.account.must_stop()));
    must_stop.then_some(Interruption::OutOfCpu)
}

/// How long until the account of the job on this thread has processor time again; `None` where it has some.
pub(crate) fn cpu_retry_after() -> Option<Duration> {
    RUNNING.with_borrow(|running| running.as_ref().and_then(|running| running.account.cpu_retry_after()))
}

/// What this thread has used since it was last charged.
#[cfg(test)]
pub(super) fn used_by_job() -> Duration {
    let now = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    CLOCK.with_borrow(|clock| now.saturating_sub(clock.charged))
}
