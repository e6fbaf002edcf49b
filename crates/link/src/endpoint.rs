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
use std::sync::atomic::{AtomicUsize, Ordering};

use isomer_wire::{Answer, CallError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::address::Address;
use crate::budget::Budget;
use crate::channel::{Channel, Lost};
use crate::connect::connect;
use crate::frame::Frame;
use crate::limits::PeerLimits;
use crate::random::{Random, doubled};
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
    answers: Arc<Budget>,
    state: watch::Sender<State>,
    in_flight: AtomicUsize,
}

impl Endpoint {
    pub(crate) fn new(address: Address, answers: Arc<Budget>) -> Self {
        let state = watch::Sender::new(State::Connecting);
        Self { address, answers, state, in_flight: AtomicUsize::new(0) }
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
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Makes one attempt at a call: waits for a connection that is being made, and not for one that cannot be.
    pub(crate) async fn call(&self, frame: &Frame, limits: &PeerLimits) -> Result<Answer, Lost> {
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
        let place = Place::take(&self.in_flight, limits.calls_max.min(channel.calls_max))?;
        let answered = channel.call(frame, limits.image_bytes_max).await;
        drop(place);
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
    pub(crate) async fn run(self: Arc<Self>, tls: Option<Tls>, limits: PeerLimits, random: Arc<Random>) {
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
            sleep(random.jitter(doubled(limits.backoff_min, failures, limits.backoff_max))).await;
        }
    }
}

fn down(reason: &str) -> Lost {
    Lost { error: CallError::Unreachable, reason: reason.to_owned(), not_run: true, is_over: false }
}

/// A call's place among those in flight.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(in_flight: &'a AtomicUsize, max: usize) -> Result<Self, Lost> {
        let place = Self(in_flight);
        if in_flight.fetch_add(1, Ordering::Relaxed) < max {
            return Ok(place);
        }
        let reason = format!("{max} calls are in flight already");
        Err(Lost { error: CallError::Overloaded, reason, not_run: true, is_over: false })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
