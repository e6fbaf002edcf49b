//! Calls between a healthy client and a healthy server: results arrive unchanged, over each transport, many at the same
//! time.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_ids::PlanDigest;
use isomer_link::{Address, PeerLimits, ServerLimits};
use isomer_wire::image::IMAGE_BYTES_MAX;
use isomer_wire::{CallError, CallFailure, Callee as _};
use support::proxy::{Deed, Proxy, Way};
use support::server::TestServer;
use support::{LONG, call, call_in, in_time, lost, peer_with, quick, ready, unknown, until, until_counted};

fn socket(folder: &tempfile::TempDir) -> Address {
    Address::Unix(folder.path().join("run").join("cart.sock"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_arrives_whole_and_its_answer_too() {
    let folder = tempfile::tempdir().unwrap();
    for address in [socket(&folder), "127.0.0.1:0".parse().unwrap()] {
        let server = TestServer::at(&address).await;
        let peer = ready(&[&server.address]).await;
        for size in [0, 1, 4095, 4096, 4097, 70_000, 1 << 20, IMAGE_BYTES_MAX as usize] {
            let image: Vec<u8> = (0..size).map(|index| (index * 31 % 251) as u8).collect();
            let answer = in_time(&peer, call(image.clone())).await.unwrap();
            assert!(answer == image, "{size} bytes over {address}");
        }
        let sent = call(b"echo:context".to_vec());
        peer.call(sent.clone()).await.unwrap();
        let got = server.script.last();
        assert_eq!(got.function, sent.function);
        assert_eq!(got.image, sent.image);
        assert_eq!(got.context.request, sent.context.request);
        assert_eq!(got.context.traceparent, sent.context.traceparent);
        assert_eq!(got.context.plan, sent.context.plan);
        // The frame carries the remaining time, so the callee's deadline is later than the caller's by the time for
        // which the frame is in transit.
        let later = got.context.deadline.saturating_duration_since(sent.context.deadline);
        assert!(later < LONG / 2, "the deadline moved by {later:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_arrive_as_they_are() {
    let server = TestServer::tcp().await;
    let peer = ready(&[&server.address]).await;
    assert_eq!(peer.call(call(b"trap".to_vec())).await, Err(CallFailure::trap("unreachable")));
    let (error, reason, not_run) = lost(peer.call(unknown(b"echo".to_vec())).await);
    assert_eq!((error, not_run), (CallError::Refused, true));
    assert!(reason.contains("`cart`") && reason.contains("unknown function"), "{reason}");
    let mut other = call(b"echo".to_vec());
    other.context.plan = PlanDigest([9; 16]);
    assert_eq!(lost(peer.call(other).await).0, CallError::Refused);
    match peer.call(call(b"panic".to_vec())).await {
        Err(CallFailure::Trap { reason, .. }) => assert!(reason.contains("panicked"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(peer.call(call(b"echo:after".to_vec())).await.unwrap(), b"echo:after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_call_delays_no_other() {
    let server = TestServer::tcp().await;
    let peer = Arc::new(ready(&[&server.address]).await);
    let slow = tokio::spawn(peer.call(call(b"wait:gate".to_vec())));
    // Large calls in transit and unread replies must not delay other calls.
    let large: Vec<_> = (0..8).map(|_| peer.call(call(vec![1; 4 << 20]))).collect();
    until_counted("the slow call began", &[&server.script], || server.script.started() > 0).await;
    let many: Vec<_> = (0..500_u32).map(|number| tokio::spawn(peer.call(call(number.to_le_bytes())))).collect();
    for (number, answer) in many.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap().unwrap(), (number as u32).to_le_bytes());
    }
    assert!(!slow.is_finished());
    drop(large);
    server.script.open("gate");
    assert_eq!(slow.await.unwrap().unwrap(), b"wait:gate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnected_caller_cancels_its_calls() {
    let server = TestServer::tcp().await;
    let peer = ready(&[&server.address]).await;
    let calls: Vec<_> = (0..200).map(|_| tokio::spawn(peer.call(call(b"hang".to_vec())))).collect();
    until_counted("the calls began", &[&server.script], || server.script.started() == 200).await;
    calls.iter().for_each(|call| call.abort());
    until_counted("the callee's futures are dropped", &[&server.script], || server.script.dropped() == 200).await;
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    assert_eq!((server.script.started(), server.script.ended()), (201, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_hold_on_both_sides() {
    let server = TestServer::tcp().await;
    let peer = ready(&[&server.address]).await;
    let timeout = Duration::from_millis(100);
    let call = call_in(timeout, b"hang".to_vec());
    let deadline = call.context.deadline;
    let (error, reason, not_run) = lost(in_time(&peer, call).await);
    assert_eq!((error, not_run), (CallError::Deadline, false), "{reason}");
    // A timer never fires early, so this assertion holds on every machine.
    assert!(Instant::now() >= deadline);
    until_counted("the callee's future is dropped", &[&server.script], || server.script.dropped() == 1).await;
    let (error, _, not_run) = lost(in_time(&peer, call_in(Duration::ZERO, b"echo".to_vec())).await);
    assert_eq!((error, not_run), (CallError::Deadline, true));
    assert_eq!(server.script.started(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_server_fails_calls_at_once() {
    let limits = ServerLimits { calls_max: 2, images_bytes_max: 1 << 20, ..ServerLimits::default() };
    let server = TestServer::with(&"127.0.0.1:0".parse().unwrap(), None, limits, Arc::default()).await;
    let peer = ready(&[&server.address]).await;
    // The arguments are smaller than the maximum of one call, but larger than the maximum of all calls together. So the
    // server does not read the call.
    let (error, _, not_run) = lost(peer.call(call(vec![0; 2 << 20])).await);
    assert_eq!((error, not_run), (CallError::Overloaded, true));
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(peer.call(call(b"wait:gate".to_vec())))).collect();
    until_counted("the calls began", &[&server.script], || server.script.started() == 2).await;
    for size in [4, 1 << 20] {
        let (error, reason, not_run) = lost(peer.call(call(vec![0; size])).await);
        assert_eq!((error, not_run), (CallError::Overloaded, true), "{reason}");
    }
    server.script.open("gate");
    for call in held {
        call.await.unwrap().unwrap();
    }
    until_counted("there is room", &[&server.script], || server.script.ended() == 2).await;
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    // The client's own limit refuses the second call.
    let small = peer_with(&[&server.address], PeerLimits { calls_max: 1, ..quick() });
    small.wait_ready(Instant::now() + LONG).await.unwrap();
    let held = tokio::spawn(small.call(call(b"wait:other".to_vec())));
    until_counted("the call began", &[&server.script], || server.script.started() == 4).await;
    assert_eq!(lost(small.call(call(b"echo".to_vec())).await).0, CallError::Overloaded);
    server.script.open("other");
    held.await.unwrap().unwrap();
}

/// An overloaded server responds to the head of a call and resets the stream, perhaps before the body is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn early_refusals_leave_the_connection_and_its_calls_alone() {
    let limits = ServerLimits { calls_max: 1, ..ServerLimits::default() };
    let server = TestServer::with(&"127.0.0.1:0".parse().unwrap(), None, limits, Arc::default()).await;
    let peer = Arc::new(ready(&[&server.address]).await);
    let held = tokio::spawn(peer.call(call(b"wait:gate".to_vec())));
    until_counted("the call began", &[&server.script], || server.script.started() == 1).await;
    let callers = (0..8).map(|_| {
        let peer = peer.clone();
        tokio::spawn(async move {
            for _ in 0..2000 {
                let (error, reason, not_run) = lost(peer.call(call(b"echo".to_vec())).await);
                assert_eq!((error, not_run), (CallError::Overloaded, true), "{reason}");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    server.script.open("gate");
    assert_eq!(held.await.unwrap().unwrap(), b"wait:gate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_have_a_limit_on_each_way() {
    let limits = ServerLimits { image_bytes_max: 1000, ..ServerLimits::default() };
    let server = TestServer::with(&"127.0.0.1:0".parse().unwrap(), None, limits, Arc::default()).await;
    let peer = ready(&[&server.address]).await;
    assert_eq!(peer.call(call(vec![b'e'; 1000])).await.unwrap().len(), 1000);
    let (error, reason, not_run) = lost(peer.call(call(vec![b'e'; 1001])).await);
    assert_eq!((error, not_run), (CallError::Refused, true));
    assert!(reason.contains("`image` has 1001 bytes, at most 1000"), "{reason}");
    let (error, ..) = lost(peer.call(call(vec![0; IMAGE_BYTES_MAX as usize + 1])).await);
    assert_eq!(error, CallError::Refused);
    let small = peer_with(&[&server.address], PeerLimits { image_bytes_max: 10, ..quick() });
    let (error, reason, not_run) = lost(small.call(call(vec![b'e'; 11])).await);
    assert_eq!((error, not_run), (CallError::Refused, false));
    assert!(reason.contains("`image` has 11 bytes, at most 10"), "{reason}");
    // Other calls of the same connection are not affected.
    assert_eq!(small.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_are_being_read_have_a_limit_together() {
    let server = TestServer::tcp().await;
    let small = peer_with(&[&server.address], PeerLimits { results_bytes_max: 10, ..quick() });
    small.wait_ready(Instant::now() + LONG).await.unwrap();
    let (error, reason, not_run) = lost(small.call(call(vec![b'e'; 11])).await);
    assert_eq!((error, not_run), (CallError::Overloaded, false), "{reason}");
    // All permits have been returned, including the one of the failed call.
    for _ in 0..3 {
        assert_eq!(small.call(call(b"echo-of-10".to_vec())).await.unwrap(), b"echo-of-10");
    }
}

/// The limit for results that are being read applies to all connections of a peer together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_of_several_addresses_share_one_limit() {
    const RESULT_BYTES: usize = 1 << 20;
    let servers = [TestServer::tcp().await, TestServer::tcp().await];
    let proxies = [Proxy::new(&servers[0].address).await, Proxy::new(&servers[1].address).await];
    let limits = PeerLimits { results_bytes_max: RESULT_BYTES * 3 / 2, ..quick() };
    let peer = Arc::new(peer_with(&[&proxies[0].address, &proxies[1].address], limits));
    until("both are connected", || peer.healthy() == 2).await;
    let scripts = servers.each_ref().map(|server| &*server.script);
    // The proxies forward only the beginning of each reply, which contains the length of the result.
    for proxy in &proxies {
        let mut forwarded = 0;
        proxy.rule(move |way, bytes| {
            forwarded += if way == Way::Back { bytes.len() } else { 0 };
            if forwarded > RESULT_BYTES / 2 { Deed::Delay(LONG) } else { Deed::Send(bytes.to_vec()) }
        });
    }
    let start_call = || {
        let peer = peer.clone();
        tokio::spawn(async move { peer.call(call(vec![b'e'; RESULT_BYTES])).await })
    };
    let first = start_call();
    until_counted("it began", &scripts, || servers.iter().any(|server| server.script.started() == 1)).await;
    // The second call uses the other address, which has fewer calls in flight.
    let second = start_call();
    until_counted("both have run", &scripts, || servers.iter().all(|server| server.script.ended() == 1)).await;
    let (refused, _, others) = futures::future::select_all([first, second]).await;
    let (error, reason, not_run) = lost(refused.unwrap());
    assert_eq!((error, not_run), (CallError::Overloaded, false), "{reason}");
    for other in others {
        assert!(!other.is_finished(), "there is room for one");
        other.abort();
    }
}

/// The connection's own task polls each call first. After a call whose first poll took too long, like the calls of this
/// test, the next calls run in new tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callees_that_never_wait_are_served_too() {
    let server = TestServer::tcp().await;
    let peer = ready(&[&server.address]).await;
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(peer.call(call(b"spin:2".to_vec())))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), b"spin:2");
    }
}
