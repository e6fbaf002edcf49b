//! The accept loop.
//!
//! An error of `accept` concerns either a single connection, which is then lost, or the whole process. The usual error
//! of the whole process is that it has no free file descriptor. In this case, the connection stays in the kernel's
//! queue and is accepted when a descriptor is free.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

/// The pause after an `accept` that failed for the whole process. Connections that end during this pause free
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A source of connections.
pub trait Acceptor {
    /// The type of an accepted connection.
    type Connection;

    /// Returns the next connection. Cancel safe: dropping the future loses no connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

/// Passes every connection of `acceptor` to `serve` until `stop` resolves. Accepts no connection after that.
pub async fn accept_until<A: Acceptor>(
    acceptor: &mut A,
    stop: impl Future<Output = ()>,
    shortage: &mut ResourceShortage<impl FnMut() -> bool>,
    mut serve: impl FnMut(A::Connection),
) {
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return,
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok(connection) => serve(connection),
            Err(error) if is_of_connection(&error) => {}
            Err(error) => shortage.pause(&error).await,
        }
    }
}

/// Returns whether an error of `accept` concerns only a single connection, and not the whole process.
pub fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// How a server handles an `accept` that failed for the whole process, usually because no file descriptor is free: the
/// server logs the error, closes a connection if it can, and pauses.
pub struct ResourceShortage<F> {
    /// The server's name in the log.
    server: &'static str,
    /// Closes a connection that the server can do without. Returns whether there was such a connection.
    close_one: F,
    /// `close_one` is not called before this time. In [`ResourceShortage::closing_after`], this is the end of the
    /// delay.
    from: Instant,
}

impl ResourceShortage<fn() -> bool> {
    /// Creates a `ResourceShortage` that closes no connection and only waits.
    #[must_use]
    pub fn waiting(server: &'static str) -> Self {
        Self { server, close_one: || false, from: Instant::now() }
    }
}

impl<F: FnMut() -> bool> ResourceShortage<F> {
    /// Creates a `ResourceShortage` that calls `close_one` after each failed `accept`. `close_one` closes a connection
    /// that the server can do without, and returns whether there was such a connection.
    pub fn closing(server: &'static str, close_one: F) -> Self {
        Self { server, close_one, from: Instant::now() }
    }

    /// Creates a `ResourceShortage` like [`ResourceShortage::closing`] that does not call `close_one` before `delay`
    /// has passed since its creation.
    pub fn closing_after(server: &'static str, delay: Duration, close_one: F) -> Self {
        Self { server, close_one, from: Instant::now() + delay }
    }

    /// Handles `error`, with which an `accept` failed: logs it, closes a connection that the server can do without, if
    /// there is one and the delay of [`ResourceShortage::closing_after`] is over, and waits for a short fixed time.
    pub async fn pause(&mut self, error: &io::Error) {
        let closed = Instant::now() >= self.from && (self.close_one)();
        tracing::warn!(%error, closed, server = self.server, "cannot accept a connection");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// An acceptor that returns these results, and then stays pending.
    struct Script(VecDeque<io::Result<u32>>);

    impl Acceptor for Script {
        type Connection = u32;

        async fn accept(&mut self) -> io::Result<u32> {
            match self.0.pop_front() {
                Some(result) => result,
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn the_loop_survives_errors_and_ends_with_stop() {
        let aborted = Err(io::ErrorKind::ConnectionAborted.into());
        let no_descriptors = Err(io::Error::from_raw_os_error(24));
        let mut script = Script([Ok(1), aborted, Ok(2), no_descriptors, Ok(3), Ok(4)].into());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (mut served, mut closed, mut stop) = (Vec::new(), 0, Some(stop));
        let mut shortage = ResourceShortage::closing("test", || {
            closed += 1;
            true
        });
        let stopped = async {
            let _ = stopped.await;
        };
        accept_until(&mut script, stopped, &mut shortage, |connection| {
            served.push(connection);
            if connection == 3 {
                stop.take().map(|stop| stop.send(()));
            }
        })
        .await;
        assert_eq!((served, closed), (vec![1, 2, 3], 1), "only the error of the whole process closes a connection");
        assert_eq!(script.0.len(), 1, "no connection is accepted after the stop");
    }

    #[tokio::test]
    async fn connections_are_spared_until_the_delay_has_passed() {
        let error = io::Error::from_raw_os_error(24);
        let mut closed = 0;
        ResourceShortage::closing_after("test", Duration::from_secs(3600), || {
            closed += 1;
            true
        })
        .pause(&error)
        .await;
        assert_eq!(closed, 0);
    }
}
