//! The signals that stop a process that serves: the first one in order, the second one at once.

use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::fail::{Fail, INTERRUPTED};
use crate::service_manager;

/// SIGTERM and Ctrl-C. Listened for before the app is said to be ready, so that a caller that was told so can stop it in order.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for the signals that stop it");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Resolves when one of them has come.
    pub(crate) async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {},
            _ = self.interrupt.recv() => {},
        }
    }

    /// Runs what `serve` makes of the first signal; the second one ends it at once.
    pub(crate) async fn stop<F: Future>(mut self, serve: impl FnOnce(Stop) -> F) -> Result<F::Output, Fail> {
        let (first, stop) = tokio::sync::oneshot::channel();
        let twice = async {
            self.come().await;
            service_manager::stopping();
            let _ = first.send(());
            self.come().await;
        };
        tokio::select! {
            served = serve(Stop(stop)) => Ok(served),
            () = twice => Err(Fail::Exit(INTERRUPTED)),
        }
    }
}

/// Resolves when it is time to stop.
pub(crate) struct Stop(tokio::sync::oneshot::Receiver<()>);

impl Future for Stop {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}
