//! The client side of a link: a [`Callee`] that sends each call to one of the addresses of a group.
//!
//! **Choice.** The client picks two connected addresses at random and uses the one with fewer calls in flight. If no
//! address is connected, a call waits for an address that is connecting. No call uses an address that is down. If all
//! addresses are down, the attempt fails immediately.
//!
//! **Retries.** Only a call that failed because its address was unreachable or overloaded is repeated, with at most
//! [`PeerLimits::attempts_max`] attempts in total. If the call certainly did not run, it is repeated without a pause:
//! at an address that was not tried yet, or at the same address over its next connection. If this is not possible, or
//! if the call may have run, it is repeated only if it is idempotent, after a pause. Otherwise, the failure is returned
//! to the caller, because a call that may have run must not run twice.
//!
//! **Deadline.** A timer of this process ends every call at its deadline, regardless of the network.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use isomer_transport::{Backoff, Jitter, Limiter};
use isomer_wire::{Call, CallError, CallFailure, CallHead, CallResult, Callee};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::address::Address;
use crate::call_frame::CallFrame;
use crate::client_connection::FailedAttempt;
use crate::endpoint::{Endpoint, EndpointState};
use crate::error::LinkError;
use crate::limits::PeerLimits;
use crate::tls::Tls;

/// The maximum number of addresses of one group.
pub const ADDRESSES_MAX: usize = 64;

/// The client of a group that has one or more addresses. Dropping the client closes its connections.
pub struct Peer {
    group: Arc<Group>,
    /// The tasks of the connections. Dropping the set aborts them.
    _connections: JoinSet<()>,
}

struct Group {
    name: String,
    endpoints: Vec<Arc<Endpoint>>,
    limits: PeerLimits,
    jitter: Arc<Jitter>,
}

impl Peer {
    /// Creates a client of the group `name` (used in messages) at `addresses`. Every address must be able to serve
    /// every call. Starts to connect, so this must be called within a tokio runtime with timers and I/O.
    ///
    /// # Errors
    /// If `addresses` is empty or too long, or if an address is on another machine and `tls` is `None`.
    pub fn new(name: &str, addresses: Vec<Address>, tls: Option<Tls>, limits: PeerLimits) -> Result<Self, LinkError> {
        if addresses.is_empty() {
            return Err(LinkError::NoAddress { group: name.to_owned() });
        }
        if addresses.len() > ADDRESSES_MAX {
            let (group, found) = (name.to_owned(), addresses.len());
            return Err(LinkError::TooManyAddresses { group, found, max: ADDRESSES_MAX });
        }
        if let Some(address) = addresses.iter().find(|address| tls.is_none() && !address.is_local()) {
            return Err(LinkError::Cleartext { address: address.clone() });
        }
        let jitter = Arc::new(Jitter::new());
        let result_bytes = Limiter::new(limits.results_bytes_max);
        let endpoint = |address| Arc::new(Endpoint::new(address, result_bytes.clone()));
        let endpoints: Vec<_> = addresses.into_iter().map(endpoint).collect();
        let mut connections = JoinSet::new();
        for endpoint in &endpoints {
            connections.spawn(endpoint.clone().run(tls.clone(), limits.clone(), jitter.clone()));
        }
        let group = Group { name: name.to_owned(), endpoints, limits, jitter };
        Ok(Self { group: Arc::new(group), _connections: connections })
    }

    /// Returns the number of addresses that are connected.
    pub fn healthy(&self) -> usize {
        self.group.endpoints.iter().filter(|endpoint| endpoint.is_ready()).count()
    }

    /// Waits until an address is connected.
    ///
    /// # Errors
    /// If no address is connected by `deadline`: [`CallError::Unreachable`], with the reason why one of the addresses is
    /// not connected.
    pub async fn wait_ready(&self, deadline: std::time::Instant) -> Result<(), CallFailure> {
        let endpoints = &self.group.endpoints;
        let mut ready: FuturesUnordered<_> = endpoints.iter().map(|endpoint| endpoint.ready()).collect();
        match timeout_at(Instant::from_std(deadline), ready.next()).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let (endpoint, reason) = self.group.reason();
                Err(CallFailure::unreachable(self.group.describe(endpoint, CallError::Unreachable, &reason), true))
            }
        }
    }
}

impl Callee for Peer {
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>> {
        let group = self.group.clone();
        Box::pin(async move { group.call(call).await })
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.group.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
        f.debug_struct("Peer").field("group", &self.group.name).field("addresses", &addresses).finish()
    }
}

impl Group {
    async fn call(&self, call: Call) -> CallResult {
        let deadline = Instant::from_std(call.context.deadline);
        match timeout_at(deadline, self.attempts(call)).await {
            Ok(result) => result,
            Err(_) => {
                Err(CallFailure::deadline(format!("`{}` did not return a result before the deadline", self.name)))
            }
        }
    }

    async fn attempts(&self, call: Call) -> CallResult {
        let is_idempotent = call.is_idempotent;
        let frame = self.frame(call)?;
        let mut tried = 0_u64;
        let mut attempt = 1;
        loop {
            let index = self.choose(tried);
            let endpoint = &self.endpoints[index];
            let failed = match endpoint.call(&frame, &self.limits).await {
                Ok(result) => match as_failed_attempt(result) {
                    Ok(result) => return result,
                    Err(failed) => failed,
                },
                Err(failed) => failed,
            };
            tried |= 1 << index;
            let again = if attempt >= self.limits.attempts_max {
                None
            } else {
                self.pause_before_next(&failed, endpoint, tried, is_idempotent, attempt)
            };
            let Some(pause) = again else {
                let FailedAttempt { error, reason, not_run, .. } = failed;
                return Err(CallFailure::Lost { error, reason: self.describe(endpoint, error, &reason), not_run });
            };
            if !pause.is_zero() {
                sleep(pause).await;
            }
            attempt += 1;
        }
    }

    /// Encodes `call` as a frame.
    fn frame(&self, call: Call) -> Result<CallFrame, CallFailure> {
        let now = Instant::now().into_std();
        let deadline = call.context.deadline;
        if deadline <= now {
            let reason = format!("the deadline passed before `{}` was called", self.name);
            return Err(CallFailure::Lost { error: CallError::Deadline, reason, not_run: true });
        }
        let cannot = |error| CallFailure::refused(format!("`{}` cannot be called: {error}", self.name));
        let request = CallHead::of(&call, now).map_err(cannot)?;
        Ok(CallFrame { request, deadline, image: call.image.into() })
    }

    /// Returns the index of the address for the next attempt. Prefers addresses whose bit in `tried` is not set.
    fn choose(&self, tried: u64) -> usize {
        if self.endpoints.len() == 1 { 0 } else { self.choose_of_many(tried) }
    }

    fn choose_of_many(&self, tried: u64) -> usize {
        let is_new = |index: &usize| tried & (1 << index) == 0;
        let all = || 0..self.endpoints.len();
        let ready = |index: &usize| self.endpoints[*index].is_ready();
        let alive = |index: &usize| !self.endpoints[*index].is_down();
        // Each of the following lines iterates over at most 64 addresses and does not allocate.
        self.less_loaded(all().filter(is_new).filter(ready))
            .or_else(|| self.less_loaded(all().filter(is_new).filter(alive)))
            .or_else(|| self.less_loaded(all().filter(alive)))
            .unwrap_or_else(|| self.jitter.below(self.endpoints.len()))
    }

    /// Picks two of `among` at random and returns the one with fewer calls in flight.
    fn less_loaded(&self, among: impl Iterator<Item = usize> + Clone) -> Option<usize> {
        let count = among.clone().count();
        if count == 0 {
            return None;
        }
        let first = self.jitter.below(count);
        let mut chosen = among.clone().nth(first)?;
        if count > 1 {
            let second = (first + 1 + self.jitter.below(count - 1)) % count;
            let other = among.clone().nth(second)?;
            if self.endpoints[other].in_flight() < self.endpoints[chosen].in_flight() {
                chosen = other;
            }
        }
        Some(chosen)
    }

    /// Returns the pause before the call is retried, or `None` if the call is not retried.
    fn pause_before_next(
        &self,
        failed: &FailedAttempt,
        endpoint: &Endpoint,
        tried: u64,
        is_idempotent: bool,
        attempt: u32,
    ) -> Option<Duration> {
        if !matches!(failed.error, CallError::Unreachable | CallError::Overloaded) {
            return None;
        }
        let has_other =
            (0..self.endpoints.len()).any(|index| tried & (1 << index) == 0 && !self.endpoints[index].is_down());
        if failed.not_run && (has_other || (failed.is_connection_ended && !endpoint.is_down())) {
            return Some(Duration::ZERO);
        }
        let backoff = Backoff { first: self.limits.retry_pause, max: self.limits.backoff_max };
        is_idempotent.then(|| self.jitter.spread(backoff.pause(attempt)))
    }

    /// Returns an address that is down, and the reason. If no address is down, returns the first address, with the
    /// reason that it does not respond.
    fn reason(&self) -> (&Endpoint, String) {
        let down = self.endpoints.iter().find_map(|endpoint| match endpoint.state() {
            EndpointState::Down(reason) => Some((&**endpoint, reason.to_string())),
            _ => None,
        });
        down.unwrap_or_else(|| (&*self.endpoints[0], "it does not respond".to_owned()))
    }

    fn describe(&self, endpoint: &Endpoint, error: CallError, reason: &str) -> String {
        let is = match error {
            CallError::Unreachable => "is unreachable",
            CallError::Deadline => "missed the deadline",
            CallError::Overloaded => "is overloaded",
            CallError::Refused => "refused the call",
        };
        format!("`{}` at `{}` {is}: {reason}", self.name, endpoint.address)
    }
}

/// If the server reports that the call was lost, returns a failed attempt, so that the call can be retried.
fn as_failed_attempt(result: CallResult) -> Result<CallResult, FailedAttempt> {
    match result {
        Err(CallFailure::Lost { error, reason, not_run }) => {
            Err(FailedAttempt { error, reason, not_run, is_connection_ended: false })
        }
        result => Ok(result),
    }
}
