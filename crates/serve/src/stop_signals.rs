//! The stop signals SIGTERM and SIGINT (Ctrl-C): the first one shuts the process down gracefully, the second one ends
//! the process immediately.

use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Context as _;
use isomer_console::{CliError, INTERRUPTED};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::service_manager;

/// A stream of SIGTERM and SIGINT (Ctrl-C). The handlers are installed before the app is reported as ready, so that a
/// program that has read this report can stop the process gracefully.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Installs the signal handlers. From this call on, the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// If the operating system refuses to install a handler.
    pub fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot install the handlers of SIGTERM and SIGINT");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for the next SIGTERM or SIGINT.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {},
            _ = self.interrupt.recv() => {},
        }
    }

    /// Calls `serve` with a future that resolves at the first signal, and runs the future that `serve` returns. Drops
    /// the returned future at the second signal.
    ///
    /// # Errors
    /// The exit code [`INTERRUPTED`], at the second signal.
    pub async fn stop<F: Future>(mut self, serve: impl FnOnce(StopSignal) -> F) -> Result<F::Output, CliError> {
        let (first, stop) = tokio::sync::oneshot::channel();
        let second = async {
            self.next().await;
            service_manager::stopping();
            let _ = first.send(());
            self.next().await;
        };
        tokio::select! {
            served = serve(StopSignal(stop)) => Ok(served),
            () = second => Err(CliError::ExitCode(INTERRUPTED)),
        }
    }
}

/// A future that resolves at the first SIGTERM or SIGINT.
pub struct StopSignal(tokio::sync::oneshot::Receiver<()>);

impl Future for StopSignal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}
