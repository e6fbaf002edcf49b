//! How a pool gets its threads: from the system, or, in tests, from a source that fails when it is told to.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};

/// Starts threads.
pub(crate) trait ThreadSource: Send + Sync + 'static {
    /// Runs `work` on a new thread called `name`. Where this fails, `work` is dropped and has not run.
    ///
    /// # Errors
    /// When the system starts no more threads.
    fn start(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()>;
}

/// The threads of the operating system.
///
/// On Linux a thread begins with the priority of the one that starts it, and a guest that computes for long runs on a thread of low
/// priority (see `lanes` in the runtime). The threads of a pool serve all tenants, so they are started by a thread of their own, which
/// has the priority of the process.
pub(crate) struct SystemThreads;

/// A thread to start, and where to say how that went.
type Start = (String, Box<dyn FnOnce() + Send>, Sender<io::Result<()>>);

/// The thread that starts the others. None where it could not be started itself.
static STARTER: OnceLock<Option<Sender<Start>>> = OnceLock::new();

impl SystemThreads {
    /// Called when a pool is made, which no guest does.
    pub(crate) fn shared() -> Arc<dyn ThreadSource> {
        Self::starter();
        Arc::new(Self)
    }

    fn starter() -> Option<&'static Sender<Start>> {
        let start = || {
            let (starter, orders) = channel::<Start>();
            let serve = move || {
                for (name, work, started) in orders {
                    let _ = started.send(spawn(name, work));
                }
            };
            std::thread::Builder::new().name("isomer-starter".into()).spawn(serve).ok().map(|_| starter)
        };
        STARTER.get_or_init(start).as_ref()
    }
}

fn spawn(name: String, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    std::thread::Builder::new().name(name).spawn(work).map(drop)
}

impl ThreadSource for SystemThreads {
    fn start(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let Some(starter) = Self::starter() else { return spawn(name.to_owned(), work) };
        let (started, outcome) = channel();
        match starter.send((name.to_owned(), work, started)) {
            Ok(()) => outcome.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())),
            Err(refused) => spawn(name.to_owned(), refused.0.1),
        }
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
