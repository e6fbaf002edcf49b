//! The source of a pool's threads: the system, or, in tests, a source that fails on demand.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};

/// Starts threads.
pub(crate) trait ThreadSource: Send + Sync + 'static {
    /// Runs `work` on a new thread called `name`. If this fails, `work` is dropped without having run.
    ///
    /// # Errors
    /// If the system starts no more threads.
    fn start(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()>;
}

/// The threads of the operating system.
///
/// On Linux a thread inherits the priority of the thread that starts it, and guests that compute for long run on
/// threads of low priority (see `lanes` in the runtime). The threads of a pool serve all tenants and must not have a
/// low priority, so they are started by a dedicated thread, which has the priority of the process.
pub(crate) struct SystemThreads;

/// A thread to start, and the channel for the result.
type Start = (String, Box<dyn FnOnce() + Send>, Sender<io::Result<()>>);

/// The channel to the thread that starts the others; `None` if that thread could not be started.
static STARTER: OnceLock<Option<Sender<Start>>> = OnceLock::new();

impl SystemThreads {
    /// Returns the source. Called when a pool is created, which never happens on a guest's thread of low priority.
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

/// Threads of the system, unless the test has disabled them.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct FailingThreads {
    fails: std::sync::atomic::AtomicBool,
}

#[cfg(test)]
impl FailingThreads {
    /// Sets whether starting a thread fails from now on.
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
