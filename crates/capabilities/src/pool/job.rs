//! A job of a pool, and the caller that waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use isomer_runtime::Account;
use tokio::runtime::Handle;

/// Blocking work that a thread of a pool runs.
pub(super) struct Job {
    pub(super) work: Box<dyn FnOnce() + Send>,
    /// The account to which the processor time of the job is charged.
    pub(super) account: Arc<Account>,
    /// The caller that waits for the job; `None` for a job that must run even if no caller waits for it.
    pub(super) call: Option<Arc<JobCaller>>,
    /// The tokio runtime of the caller; `None` if the job was queued outside a runtime.
    pub(super) runtime: Option<Handle>,
}

impl Job {
    pub(super) fn new(work: Box<dyn FnOnce() + Send>, account: Arc<Account>, call: Option<Arc<JobCaller>>) -> Self {
        Self { work, account, call, runtime: Handle::try_current().ok() }
    }
}

/// The caller of a job, which may stop waiting.
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
