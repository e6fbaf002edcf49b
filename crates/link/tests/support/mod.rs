//! Helpers of the tests: a callee whose arguments determine what it does, a server to start and stop, and calls.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "helpers of tests, each of which uses some")]

pub mod callee;
pub mod proxy;
pub mod server;

use std::time::{Duration, Instant};

use isomer_ids::PlanDigest;
use isomer_link::{Address, Peer, PeerLimits};
use isomer_wire::{Call, CallContext, CallError, CallFailure, CallResult, Callee as _, FunctionKey};

use callee::Script;

/// A time that is longer than any step of a test takes.
pub const LONG: Duration = Duration::from_secs(20);

/// The delay after a deadline that a test tolerates, because the machine may be busy.
pub const SLACK: Duration = Duration::from_secs(5);

pub const PLAN: PlanDigest = PlanDigest([7; 16]);

pub fn context(timeout: Duration) -> CallContext {
    CallContext {
        deadline: Instant::now() + timeout,
        request: 1,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        plan: PLAN,
    }
}

pub fn call_in(timeout: Duration, image: impl Into<Vec<u8>>) -> Call {
    Call { function: callee::FUNCTION, context: context(timeout), is_idempotent: false, image: image.into() }
}

pub fn call(image: impl Into<Vec<u8>>) -> Call {
    call_in(LONG, image)
}

pub fn idempotent(image: impl Into<Vec<u8>>) -> Call {
    Call { is_idempotent: true, ..call(image) }
}

pub fn unknown(image: impl Into<Vec<u8>>) -> Call {
    Call { function: FunctionKey([0; 16]), ..call(image) }
}

/// Returns limits with which a peer detects failures and reconnects fast.
pub fn quick() -> PeerLimits {
    PeerLimits {
        connect_timeout: Duration::from_millis(500),
        backoff_max: Duration::from_millis(50),
        ..PeerLimits::default()
    }
}

pub fn peer(addresses: &[&Address]) -> Peer {
    peer_with(addresses, quick())
}

pub fn peer_with(addresses: &[&Address], limits: PeerLimits) -> Peer {
    Peer::new("cart", addresses.iter().map(|address| (*address).clone()).collect(), None, limits).unwrap()
}

/// Returns a connected peer.
pub async fn ready(addresses: &[&Address]) -> Peer {
    let peer = peer(addresses);
    peer.wait_ready(Instant::now() + LONG).await.unwrap();
    peer
}

/// Waits until `holds`, which reads the counts of `scripts`, returns true. The test fails if this takes too long.
pub async fn until_counted(what: &str, scripts: &[&Script], holds: impl Fn() -> bool) {
    let mut changes: Vec<_> = scripts.iter().map(|script| script.changes()).collect();
    let counted = async {
        while !holds() {
            futures::future::select_all(changes.iter_mut().map(|changes| Box::pin(changes.changed()))).await.0.unwrap();
        }
    };
    assert!(tokio::time::timeout(LONG, counted).await.is_ok(), "{what} did not come about");
}

/// Waits until `holds` returns true. The test fails if this takes too long. Calls `holds` repeatedly, because a peer
/// sends no notification when its connections change.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Returns the failure of a call that was lost.
#[track_caller]
pub fn lost(answer: CallResult) -> (CallError, String, bool) {
    match answer {
        Err(CallFailure::Lost { error, reason, not_run }) => (error, reason, not_run),
        other => panic!("not lost: {other:?}"),
    }
}

/// Makes a call and asserts that it ends by its deadline.
pub async fn in_time(peer: &Peer, call: Call) -> CallResult {
    let deadline = call.context.deadline;
    let answer = peer.call(call).await;
    assert!(Instant::now() <= deadline + SLACK, "the call outlived its deadline: {answer:?}");
    answer
}
