//! A job of a pool, and the caller that waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use isomer_runtime::Account;
use tokio::runtime::Handle;

/// Work for a thread of a pool.
pub(super) struct Job {
    pub(super) work: Box<dyn FnOnce() + Send>,
    /// The account that is charged for the processor time.
    pub(super) account: Arc<Account>,
    /// The caller that waits for the job; `None` for a job that must be done even if no caller waits for it.
    pub(super) call: Option<Arc<JobCaller>>,
    /// The caller's runtime; `None` outside of any runtime.
    pub(super) runtime: Option<Handle>,
}

impl Job {
    pub(super) fn new(work: Box<dyn FnOnce() + Send>, account: Arc<Account>, call: Option<Arc<JobCaller>>) -> Self {
        Self { work, account, call, runtime: Handle::try_current().ok() }
    }
}

/// The caller that waits for a job.
#[derive(Default)]
pub(super) struct JobCaller {
    is_gone: AtomicBool,
}

impl JobCaller {
    /// Records that the caller no longer waits.
    pub(super) fn leave(&self) {
        self.is_gone.store(true, Ordering::Release);
    }

    pub(super) fn has_left(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }
}
