//! One address of a group, and the task that keeps a connection to it.
//!
//! ```text
//!              ┌────────────── lost, or going away ──────────────┐
//!              ▼                                                 │
//!   Connecting ── connected ─────────────────────────────────► Ready
//!        │                                                       ▲
//!        └── failed ──► Down ── pause, attempt, pause, attempt … ┘
//! ```
//!
//! Calls wait while it is `Connecting`, and fail at once while it is `Down`: somebody has tried, and in vain. A connection that is
//! lost is made anew without a pause, unless the last one did not live long. A connection that is going away takes no
//! new calls and ends with its last one, beside its successor.

use std::sync::Arc;

use isomer_transport::{Backoff, Jitter, Limiter};
use isomer_wire::{CallError, CallResult};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::address::Address;
use crate::channel::{Channel, Lost};
use crate::connect::connect;
use crate::frame::Frame;
use crate::limits::PeerLimits;
use crate::tls::Tls;

/// How an address is doing.
#[derive(Clone)]
pub(crate) enum State {
    /// An attempt runs, and none has failed since the last connection.
    Connecting,
    /// Calls go over this.
    Ready(Arc<Channel>),
    /// The last attempt failed.
    Down(Arc<str>),
}

/// One address of a group.
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    /// Room for answers, shared by all addresses of the group.
    answers: Limiter,
    state: watch::Sender<State>,
    /// Calls in flight.
    calls: Limiter,
}

impl Endpoint {
    pub(crate) fn new(address: Address, answers: Limiter) -> Self {
        let state = watch::Sender::new(State::Connecting);
        Self { address, answers, state, calls: Limiter::new(usize::MAX) }
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(*self.state.borrow(), State::Ready(_))
    }

    pub(crate) fn is_down(&self) -> bool {
        matches!(*self.state.borrow(), State::Down(_))
    }

    /// Resolves when there is a connection.
    pub(crate) async fn ready(&self) {
        let mut state = self.state.subscribe();
        // Fails only without the sender, which is ours.
        let _ = state.wait_for(|state| matches!(state, State::Ready(_))).await;
    }

    /// Calls in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.calls.in_use()
    }

    /// Makes one attempt at a call: waits for a connection that is being made, and not for one that cannot be.
    pub(crate) async fn call(&self, frame: &Frame, limits: &PeerLimits) -> Result<CallResult, Lost> {
        let channel = match self.state() {
            State::Ready(channel) => channel,
            State::Down(reason) => return Err(down(&reason)),
            State::Connecting => {
                let mut state = self.state.subscribe();
                let settled = state.wait_for(|state| !matches!(state, State::Connecting)).await;
                match settled.map(|state| state.clone()) {
                    Ok(State::Ready(channel)) => channel,
                    Ok(State::Down(reason)) => return Err(down(&reason)),
                    Ok(State::Connecting) | Err(_) => return Err(down("nobody connects")),
                }
            }
        };
        let max = limits.calls_max.min(channel.calls_max);
        let permit = self.calls.try_acquire_within(1, max).ok_or_else(|| {
            let reason = format!("{max} calls are in flight already");
            Lost { error: CallError::Overloaded, reason, not_run: true, is_over: false }
        })?;
        let answered = channel.call(frame, limits.image_bytes_max).await;
        drop(permit);
        if answered.as_ref().is_err_and(|lost| lost.is_over) {
            self.leave(&channel);
        }
        answered
    }

    /// No more calls over `channel`: the next ones wait for its successor.
    fn leave(&self, channel: &Arc<Channel>) {
        let is_left = self.state.send_if_modified(|state| match state {
            State::Ready(current) if Arc::ptr_eq(current, channel) => {
                *state = State::Connecting;
                true
            }
            _ => false,
        });
        if is_left {
            channel.is_over.notify_one();
        }
    }

    /// Keeps a connection for ever.
    pub(crate) async fn run(self: Arc<Self>, tls: Option<Tls>, limits: PeerLimits, jitter: Arc<Jitter>) {
        let backoff = Backoff { first: limits.backoff_min, max: limits.backoff_max };
        let mut connections = JoinSet::new();
        let mut failures = 0;
        loop {
            while connections.try_join_next().is_some() {}
            let attempt = async {
                let stream = connect(&self.address, tls.as_ref()).await?;
                Channel::open(stream, &limits, self.answers.clone(), &mut connections).await
            };
            let attempted = timeout(limits.connect_timeout, attempt).await;
            let reason = match attempted.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
                Ok((channel, ended)) => {
                    let since = Instant::now();
                    let channel = Arc::new(channel);
                    self.state.send_replace(State::Ready(channel.clone()));
                    let reason = tokio::select! {
                        ended = ended => ended.unwrap_or_default(),
                        () = channel.is_over.notified() => "it ended the connection".to_owned(),
                    };
                    if since.elapsed() >= limits.backoff_max {
                        failures = 0;
                    }
                    if failures == 0 {
                        failures = 1;
                        self.state.send_replace(State::Connecting);
                        continue;
                    }
                    reason
                }
                Err(reason) => reason,
            };
            failures += 1;
            self.state.send_replace(State::Down(reason.into()));
            sleep(jitter.spread(backoff.pause(failures))).await;
        }
    }
}

fn down(reason: &str) -> Lost {
    Lost { error: CallError::Unreachable, reason: reason.to_owned(), not_run: true, is_over: false }
}
