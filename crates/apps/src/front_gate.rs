//! A front door that can stop accepting connections and accept them again, while another process accepts connections
//! from the same listening socket.
//!
//! Each time the gate opens, a new [`Front`](isomer_front::Front) accepts connections from a duplicate of the socket. When
//! the gate closes, this front door drains: clients learn with their next response that the connection ends, and connect
//! again. The connections that no front door has accepted wait in the kernel's queue until a process accepts them.
//!
//! In a pause, streams of server-sent events end as well, because the pause waits for all connections. Their clients
//! connect again without a user's help, and wait in the queue.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use isomer_front::{Connections, Limits};
use isomer_observe::Log;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::group_handler::{AppFront, AppResolver};

/// The pause before the gate tries again to open, if it has no file descriptor for the socket.
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// How a gate stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateStop {
    /// Another process accepts the connections that wait in the kernel's queue.
    LeaveQueue,
    /// No other process accepts connections: a gate that is open or has ever been open first accepts the connections
    /// that wait in the kernel's queue.
    AcceptQueue,
}

/// What a gate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GateGoal {
    /// Whether the gate is open.
    pub open: bool,
    /// The number of the last pause. A gate that is closed reports this number after its front doors have drained. When
    /// the number increases, the front doors end their streams of server-sent events.
    pub pause: u64,
    /// How the gate stops; `None` if it continues.
    pub stop: Option<GateStop>,
}

/// A front door that can be closed and opened again.
pub struct FrontGate {
    listener: TcpListener,
    limits: Limits,
    resolver: Arc<AppResolver>,
    connections: Connections,
    log: Log,
    /// Closes the front door that accepts connections, if there is one.
    close: Option<oneshot::Sender<()>>,
    /// Whether the gate has ever been open. Otherwise, clients connected to another process.
    was_open: bool,
    /// The front doors that accept connections or drain. Each returns the number of connections that were cut off.
    fronts: JoinSet<usize>,
    /// The number of the last pause.
    pause: watch::Sender<u64>,
    /// Cuts off the connections of all front doors.
    cut_off: watch::Sender<bool>,
}

impl FrontGate {
    /// Creates a gate that is closed. Its connections are counted in `connections`.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        limits: Limits,
        resolver: Arc<AppResolver>,
        connections: Connections,
        log: Log,
    ) -> Self {
        let (pause, cut_off, fronts) = (watch::Sender::new(0), watch::Sender::new(false), JoinSet::new());
        Self { listener, limits, resolver, connections, log, close: None, was_open: false, fronts, pause, cut_off }
    }

    /// Follows `goals` until the gate is to stop, or the sender is dropped. Calls `drained` with the number of the pause
    /// each time all connections of a closed gate have ended. When the gate stops, its requests may take `grace`.
    /// Returns the number of connections that were cut off.
    pub async fn follow(
        mut self,
        mut goals: watch::Receiver<GateGoal>,
        mut drained: impl FnMut(u64),
        grace: Duration,
    ) -> usize {
        let mut reported = 0;
        loop {
            let goal = *goals.borrow_and_update();
            self.pause.send_replace(goal.pause);
            if let Some(how) = goal.stop {
                let accepts_queue = how == GateStop::AcceptQueue && (goal.open || self.was_open);
                return self.stop(accepts_queue, grace).await;
            }
            let changed = if goal.open {
                match self.open() {
                    Ok(()) => goals.changed().await,
                    Err(error) => {
                        self.log.warn(format!("the front door cannot accept connections yet: {error}"));
                        tokio::time::timeout(OPEN_PAUSE, goals.changed()).await.unwrap_or(Ok(()))
                    }
                }
            } else {
                self.close = None;
                tokio::select! {
                    () = self.ended(), if reported != goal.pause => {
                        drained(goal.pause);
                        reported = goal.pause;
                        Ok(())
                    }
                    changed = goals.changed() => changed,
                }
            };
            if changed.is_err() {
                return self.stop(goal.open, grace).await;
            }
        }
    }

    fn open(&mut self) -> io::Result<()> {
        if self.close.is_none() {
            let front = self.front().with_shared_listener(self.listener.try_clone()?, None)?;
            let (close, closed) = oneshot::channel();
            (self.close, self.was_open) = (Some(close), true);
            self.serve(front, async { drop(closed.await) });
        }
        Ok(())
    }

    async fn stop(mut self, accepts_queue: bool, grace: Duration) -> usize {
        self.close = None;
        if accepts_queue {
            let last = self.listener.try_clone().and_then(|listener| self.front().with_listener(listener, None));
            match last {
                Ok(last) => self.serve(last, std::future::ready(())),
                Err(error) => self.log.warn(format!("connections that wait are not accepted: {error}")),
            }
        }
        // Without the gate's own socket, the kernel refuses connections as soon as the last front door has drained.
        let Self { listener, mut fronts, cut_off, .. } = self;
        drop(listener);
        let all = async { while fronts.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_ok() {
            return 0;
        }
        cut_off.send_replace(true);
        let mut left = 0;
        while let Some(front) = fronts.join_next().await {
            left += front.unwrap_or(0);
        }
        left
    }

    fn front(&self) -> AppFront {
        AppFront::new(self.limits.clone(), self.resolver.clone(), self.log.clone()).with_connections(&self.connections)
    }

    fn serve(&mut self, front: AppFront, stop: impl Future<Output = ()> + Send + 'static) {
        let (mut pause, mut cut_off) = (self.pause.subscribe(), self.cut_off.subscribe());
        let opened_after = *pause.borrow();
        let handed_over = async move {
            if pause.wait_for(|pause| *pause > opened_after).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let cut_off = async move { drop(cut_off.wait_for(|cut_off| *cut_off).await) };
        self.fronts.spawn(front.serve_until_handed_over(stop, handed_over, cut_off));
    }

    /// Waits until no front door accepts or has connections.
    async fn ended(&mut self) {
        while self.fronts.join_next().await.is_some() {}
    }
}
