//! How a pool gets its threads: from the system, or, in tests, from a source that fails when it is told to.

use std::io;
use std::sync::Arc;

/// Starts threads.
pub(crate) trait ThreadSource: Send + Sync + 'static {
    /// Runs `work` on a new thread called `name`. Where this fails, `work` is dropped and has not run.
    ///
    /// # Errors
    /// When the system starts no more threads.
    fn start(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()>;
}

/// The threads of the operating system.
pub(crate) struct SystemThreads;

impl SystemThreads {
    pub(crate) fn shared() -> Arc<dyn ThreadSource> {
        Arc::new(Self)
    }
}

impl ThreadSource for SystemThreads {
    fn start(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
    }
}

/// Threads of the system, unless the test has taken them away.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct FailingThreads {
    fails: std::sync::atomic::AtomicBool,
}

#[cfg(test)]
impl FailingThreads {
    /// From now on no thread can be started, or each can be again.
    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
impl ThreadSource for FailingThreads {
    fn start(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        if self.fails.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        SystemThreads.start(name, work)
    }
}
