//! Checks with pings whether the peer of a connection is alive. Without pings, a half-open connection looks like an
//! idle one.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

pub(crate) struct KeepAlive {
    ping_pong: PingPong,
    interval: Duration,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    is_ping_sent: bool,
    /// Notified of the first response to a ping. This response proves that the peer uses HTTP/2 and that its settings
    /// have arrived.
    first: Option<oneshot::Sender<()>>,
}

impl KeepAlive {
    pub(crate) fn new(ping_pong: PingPong, interval: Duration, timeout: Duration) -> Self {
        Self {
            ping_pong,
            interval,
            timeout,
            timer: Box::pin(tokio::time::sleep(interval)),
            is_ping_sent: false,
            first: None,
        }
    }

    /// Sends the first ping immediately, and notifies `first` of the response.
    pub(crate) fn ping_now(mut self, first: oneshot::Sender<()>) -> Self {
        self.first = Some(first);
        self.timer.as_mut().reset(Instant::now());
        self
    }

    /// Resolves when the peer has not responded in time. The connection's task must call this method before it polls
    /// the connection, because the connection sends the pings.
    pub(crate) fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_ping_sent {
                match self.ping_pong.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.is_ping_sent = false;
                        self.timer.as_mut().reset(Instant::now() + self.interval);
                        if let Some(first) = self.first.take() {
                            // Sending fails if the receiver was dropped.
                            let _ = first.send(());
                        }
                    }
                    // The connection is ending, and its own future returns the reason.
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending => {
                        return self.timer.as_mut().poll(cx);
                    }
                }
            } else {
                std::task::ready!(self.timer.as_mut().poll(cx));
                if self.ping_pong.send_ping(Ping::opaque()).is_err() {
                    return Poll::Pending;
                }
                self.is_ping_sent = true;
                self.timer.as_mut().reset(Instant::now() + self.timeout);
            }
        }
    }
}
