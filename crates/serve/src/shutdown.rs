//! Shutting down the process: after the first stop signal, or after the failure of a member, all arrangements drain; after
//! the second signal, they end immediately.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use isomer_console::{CliError, INTERRUPTED};
use tokio::sync::{mpsc, watch};

use crate::service_manager;
use crate::stop_signals::StopSignals;

/// The level to which the process shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ShutdownLevel {
    /// The process serves.
    No,
    /// The arrangements finish their requests and end.
    Drain,
    /// The arrangements end immediately.
    Now,
}

/// The front door's listening socket. It stays open from the start of the process until it shuts down, even if another
/// arrangement takes over. Clones refer to the same socket.
#[derive(Clone)]
pub(crate) struct FrontSocket(Arc<Mutex<Option<TcpListener>>>);

impl FrontSocket {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self(Arc::new(Mutex::new(Some(listener))))
    }

    /// Returns a duplicate of the socket.
    ///
    /// # Errors
    /// If the process shuts down, or no file descriptor is free.
    pub(crate) fn duplicate(&self) -> std::io::Result<TcpListener> {
        let listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = listener.as_ref().ok_or_else(|| std::io::Error::other("the process shuts down"))?;
        listener.try_clone()
    }

    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Starts the tasks that run arrangements. Clones belong to the same process.
#[derive(Clone)]
pub(crate) struct ArrangementTasks {
    level: watch::Receiver<ShutdownLevel>,
    running: mpsc::WeakSender<Infallible>,
    failed: mpsc::Sender<CliError>,
}

impl ArrangementTasks {
    /// Spawns `work`, which runs an arrangement until the arrangement has ended. Calls `shut_down` each time the
    /// shutdown level rises. Does nothing if the process shuts down already; the arrangement then never serves.
    pub(crate) fn spawn(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
        shut_down: impl Fn(ShutdownLevel) + Send + 'static,
    ) {
        let Some(running) = self.running.upgrade() else { return };
        let mut level = self.level.clone();
        tokio::spawn(async move {
            let mut work = std::pin::pin!(work);
            loop {
                tokio::select! {
                    () = &mut work => break,
                    changed = level.changed() => match changed {
                        Ok(()) => shut_down(*level.borrow_and_update()),
                        // The sender is dropped only when the process exits.
                        Err(_) => break,
                    },
                }
            }
            drop(running);
        });
    }

    /// Resolves when the process is to end immediately.
    pub(crate) fn aborted(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut level = self.level.clone();
        async move { drop(level.wait_for(|level| *level == ShutdownLevel::Now).await) }
    }

    /// Returns whether the process shuts down.
    pub(crate) fn is_shutting_down(&self) -> bool {
        *self.level.borrow() > ShutdownLevel::No
    }

    /// Shuts the process down, because the arrangement that serves has failed. Only the first failure is reported.
    pub(crate) fn fail(&self, error: CliError) {
        let _ = self.failed.try_send(error);
    }
}

/// Waits for the reason to shut down, and shuts all arrangements down.
pub(crate) struct Shutdown {
    signals: StopSignals,
    socket: FrontSocket,
    level: watch::Sender<ShutdownLevel>,
    running: (mpsc::Sender<Infallible>, mpsc::Receiver<Infallible>),
    failed: mpsc::Receiver<CliError>,
}

impl Shutdown {
    /// Installs the signal handlers. `socket` is closed when the process shuts down.
    ///
    /// # Errors
    /// If the operating system refuses to install a handler.
    pub(crate) fn listen(socket: FrontSocket) -> anyhow::Result<(Self, ArrangementTasks)> {
        let (level, running, failed) = (watch::Sender::new(ShutdownLevel::No), mpsc::channel(1), mpsc::channel(1));
        let tasks = ArrangementTasks { level: level.subscribe(), running: running.0.downgrade(), failed: failed.0 };
        let shutdown = Self { signals: StopSignals::listen()?, socket, level, running, failed: failed.1 };
        Ok((shutdown, tasks))
    }

    /// Waits for a signal or a failure, and then until all arrangements have ended.
    ///
    /// # Errors
    /// The failure; or the exit code [`INTERRUPTED`], after a second signal.
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let Self { mut signals, socket, level, running: (running, mut ended), mut failed } = self;
        let failure = tokio::select! {
            () = signals.next() => None,
            Some(error) = failed.recv() => Some(error),
        };
        service_manager::stopping();
        socket.close();
        level.send_replace(ShutdownLevel::Drain);
        drop(running);
        let is_interrupted = tokio::select! {
            _ = ended.recv() => false,
            () = signals.next() => true,
        };
        if is_interrupted {
            level.send_replace(ShutdownLevel::Now);
            let _ = ended.recv().await;
        }
        match failure {
            Some(error) => Err(error),
            None if is_interrupted => Err(CliError::ExitCode(INTERRUPTED)),
            None => Ok(()),
        }
    }
}
