//! The source of a pool's threads: the operating system, or, in tests, a source that fails on request.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};

/// Starts threads. Implemented with the operating system's threads, and, in tests, by a source that fails on request.
pub(crate) trait ThreadSource: Send + Sync + 'static {
    /// Runs `work` on a new thread called `name`. If the thread cannot be started, `work` is dropped without being
    /// called.
    ///
    /// # Errors
    /// If the operating system cannot start the thread.
    fn start(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()>;
}

/// Starts threads of the operating system.
///
/// On Linux, a new thread inherits the priority of the thread that starts it, and guests with long computations run on
/// low-priority threads (see `lanes` in the runtime). The threads of a pool serve all tenants and must not have a low
/// priority. So a dedicated thread with the priority of the process starts them.
pub(crate) struct SystemThreads;

/// A request to start a thread: its name, its function, and the channel for the result.
type Start = (String, Box<dyn FnOnce() + Send>, Sender<io::Result<()>>);

/// The channel to the thread that starts all other threads; `None` if that thread could not be started.
static STARTER: OnceLock<Option<Sender<Start>>> = OnceLock::new();

impl SystemThreads {
    /// Returns the source of threads that all pools share. Called when a pool is created, which never happens on a
    /// low-priority thread.
    pub(crate) fn shared() -> Arc<dyn ThreadSource> {
        Self::starter();
        Arc::new(Self)
    }

    fn starter() -> Option<&'static Sender<Start>> {
        let start = || {
            let (starter, requests) = channel::<Start>();
            let serve = move || {
                for (name, work, started) in requests {
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

/// Starts threads of the operating system, or fails if the test has requested that.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct FailingThreads {
    fails: std::sync::atomic::AtomicBool,
}

#[cfg(test)]
impl FailingThreads {
    /// Sets whether later attempts to start a thread fail.
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
