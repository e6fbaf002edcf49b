//! One address of a group, and the task that keeps a connection to the address.
//!
//! ```text
//!              ┌──────────── lost, or shutting down ─────────────┐
//!              ▼                                                 │
//!   Connecting ── connected ─────────────────────────────────► Ready
//!        │                                                       ▲
//!        └── failed ──► Down ── pause, attempt, pause, attempt … ┘
//! ```
//!
//! Calls wait while the endpoint is `Connecting`, and fail immediately while it is `Down`, because the last attempt to
//! connect has failed. The task replaces a lost connection without a pause, unless the connection lived only for a
//! short time. A connection that shuts down accepts no new calls and ends when its last call has ended. New calls use
//! the next connection.

use std::sync::Arc;

use isomer_transport::{Backoff, Jitter, Limiter};
use isomer_wire::{CallError, CallResult};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::address::Address;
use crate::call_frame::CallFrame;
use crate::client_connection::{ClientConnection, FailedAttempt};
use crate::connect::connect;
use crate::limits::PeerLimits;
use crate::tls::Tls;

/// The state of an address.
#[derive(Clone)]
pub(crate) enum EndpointState {
    /// An attempt to connect is running. It is the first attempt since the endpoint was created, or since its last
    /// connection ended.
    Connecting,
    /// Calls use this connection.
    Ready(Arc<ClientConnection>),
    /// The last attempt to connect failed, for the contained reason.
    Down(Arc<str>),
}

/// One address of a group.
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    /// Counts the bytes of results that are being read. Shared by all addresses of the group.
    result_bytes: Limiter,
    state: watch::Sender<EndpointState>,
    /// Counts the calls in flight to the address.
    calls: Limiter,
}

impl Endpoint {
    pub(crate) fn new(address: Address, result_bytes: Limiter) -> Self {
        let state = watch::Sender::new(EndpointState::Connecting);
        Self { address, result_bytes, state, calls: Limiter::new(usize::MAX) }
    }

    pub(crate) fn state(&self) -> EndpointState {
        self.state.borrow().clone()
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(*self.state.borrow(), EndpointState::Ready(_))
    }

    pub(crate) fn is_down(&self) -> bool {
        matches!(*self.state.borrow(), EndpointState::Down(_))
    }

    /// Waits until the address is connected.
    pub(crate) async fn ready(&self) {
        let mut state = self.state.subscribe();
        // `wait_for` fails only if the sender is dropped, but `self` holds the sender.
        let _ = state.wait_for(|state| matches!(state, EndpointState::Ready(_))).await;
    }

    /// Returns the number of calls in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.calls.in_use()
    }

    /// Makes one attempt at a call. Waits for a connection if the endpoint is connecting, and fails immediately if it
    /// is down.
    pub(crate) async fn call(&self, frame: &CallFrame, limits: &PeerLimits) -> Result<CallResult, FailedAttempt> {
        let connection = match self.state() {
            EndpointState::Ready(connection) => connection,
            EndpointState::Down(reason) => return Err(down(&reason)),
            EndpointState::Connecting => {
                let mut state = self.state.subscribe();
                let changed = state.wait_for(|state| !matches!(state, EndpointState::Connecting)).await;
                match changed.map(|state| state.clone()) {
                    Ok(EndpointState::Ready(connection)) => connection,
                    Ok(EndpointState::Down(reason)) => return Err(down(&reason)),
                    Ok(EndpointState::Connecting) | Err(_) => return Err(down("no attempt to connect is running")),
                }
            }
        };
        let max = limits.calls_max.min(connection.calls_max);
        let permit = self.calls.try_acquire_within(1, max).ok_or_else(|| {
            let reason = format!("{max} calls are already in flight");
            FailedAttempt { error: CallError::Overloaded, reason, not_run: true, is_connection_ended: false }
        })?;
        let result = connection.call(frame, limits.image_bytes_max).await;
        drop(permit);
        if result.as_ref().is_err_and(|failed| failed.is_connection_ended) {
            self.replace(&connection);
        }
        result
    }

    /// Sets the state to `Connecting` if `connection` is the current one, so that further calls wait for the next
    /// connection.
    fn replace(&self, connection: &Arc<ClientConnection>) {
        let is_replaced = self.state.send_if_modified(|state| match state {
            EndpointState::Ready(current) if Arc::ptr_eq(current, connection) => {
                *state = EndpointState::Connecting;
                true
            }
            _ => false,
        });
        if is_replaced {
            connection.ended.notify_one();
        }
    }

    /// Connects, and replaces each connection that ends, until the task is aborted.
    pub(crate) async fn run(self: Arc<Self>, tls: Option<Tls>, limits: PeerLimits, jitter: Arc<Jitter>) {
        let backoff = Backoff { first: limits.backoff_min, max: limits.backoff_max };
        let mut connections = JoinSet::new();
        let mut failures = 0;
        loop {
            while connections.try_join_next().is_some() {}
            let attempt = async {
                let stream = connect(&self.address, tls.as_ref()).await?;
                ClientConnection::open(stream, &limits, self.result_bytes.clone(), &mut connections).await
            };
            let attempted = timeout(limits.connect_timeout, attempt).await;
            let reason = match attempted.unwrap_or_else(|_| Err("it does not respond".to_owned())) {
                Ok((connection, ended)) => {
                    let since = Instant::now();
                    let connection = Arc::new(connection);
                    self.state.send_replace(EndpointState::Ready(connection.clone()));
                    let reason = tokio::select! {
                        ended = ended => ended.unwrap_or_default(),
                        () = connection.ended.notified() => "it ended the connection".to_owned(),
                    };
                    if since.elapsed() >= limits.backoff_max {
                        failures = 0;
                    }
                    if failures == 0 {
                        failures = 1;
                        self.state.send_replace(EndpointState::Connecting);
                        continue;
                    }
                    reason
                }
                Err(reason) => reason,
            };
            failures += 1;
            self.state.send_replace(EndpointState::Down(reason.into()));
            sleep(jitter.spread(backoff.pause(failures))).await;
        }
    }
}

fn down(reason: &str) -> FailedAttempt {
    FailedAttempt {
        error: CallError::Unreachable,
        reason: reason.to_owned(),
        not_run: true,
        is_connection_ended: false,
    }
}
