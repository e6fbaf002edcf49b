//! What a call comes to when the other side or the way to it fails: it ends in time, says truly whether it may have run, and is
//! never run twice unless its caller said that it may be.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_link::{Address, PeerLimits, ServerLimits};
use isomer_wire::{CallError, Callee as _};
use support::callee::Script;
use support::proxy::{Deed, Proxy, Way};
use support::server::Running;
use support::{LONG, call, call_in, idempotent, in_time, lost, peer, peer_with, quick, ready, until};

/// Calls that fail fast end long before their deadline.
const FAST: Duration = Duration::from_secs(5);

async fn again(address: &Address, script: &Arc<Script>) -> Running {
    Running::with(address, None, ServerLimits::default(), script.clone()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_the_call() {
    let server = Running::tcp().await;
    let peer = ready(&[&server.address]).await;
    let script = server.script.clone();
    let address = server.kill().await;
    until("the peer knows", || peer.healthy() == 0).await;
    for call in [call(b"echo".to_vec()), idempotent(b"echo".to_vec())] {
        let begun = Instant::now();
        let (error, reason, not_run) = lost(peer.call(call).await);
        assert_eq!((error, not_run), (CallError::Unreachable, true), "{reason}");
        assert!(begun.elapsed() < FAST, "it did not fail fast");
        assert!(reason.starts_with(&format!("`cart` at `{address}` is unreachable: ")), "{reason}");
    }
    assert_eq!(script.begun(), 0);
    let _server = again(&address, &script).await;
    peer.wait_ready(Instant::now() + LONG).await.unwrap();
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_during_the_call() {
    let server = Running::tcp().await;
    let script = server.script.clone();
    let peer = ready(&[&server.address]).await;
    let once = tokio::spawn(peer.call(call(b"wait:gate".to_vec())));
    until("the call began", || script.begun() == 1).await;
    let address = server.kill().await;
    let (error, reason, not_run) = lost(once.await.unwrap());
    assert_eq!((error, not_run), (CallError::Unreachable, false), "{reason}");
    let server = again(&address, &script).await;
    peer.wait_ready(Instant::now() + LONG).await.unwrap();
    script.open("gate");
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    assert_eq!((script.begun(), script.dropped()), (2, 1), "the call was run again");
    // One that is idempotent is tried again.
    let many = PeerLimits { attempts_max: 1000, retry_pause: Duration::from_millis(5), ..quick() };
    let patient = peer_with(&[&address], many);
    patient.wait_ready(Instant::now() + LONG).await.unwrap();
    let twice = tokio::spawn(patient.call(idempotent(b"wait:other".to_vec())));
    until("the call began", || script.begun() == 3).await;
    server.kill().await;
    let _server = again(&address, &script).await;
    until("the call began again", || script.begun() == 4).await;
    script.open("other");
    assert_eq!(twice.await.unwrap().unwrap(), b"wait:other");
    assert_eq!(script.begun(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_call() {
    for (call, runs) in [(call(b"echo".to_vec()), 1), (idempotent(b"echo".to_vec()), 2)] {
        let server = Running::tcp().await;
        let proxy = Proxy::new(&server.address).await;
        let peer = ready(&[&proxy.address]).await;
        let (script, mut is_cut) = (server.script.clone(), false);
        // The answer is lost on its way.
        proxy.rule(move |way, bytes| {
            if way == Way::Back && script.ended() == 1 && !std::mem::replace(&mut is_cut, true) {
                return Deed::SendAndCut(Vec::new());
            }
            Deed::Send(bytes.to_vec())
        });
        let answer = peer.call(call).await;
        if runs == 1 {
            let (error, reason, not_run) = lost(answer);
            assert_eq!((error, not_run), (CallError::Unreachable, false), "{reason}");
        } else {
            assert_eq!(answer.unwrap(), b"echo");
        }
        peer.wait_ready(Instant::now() + LONG).await.unwrap();
        assert_eq!(server.script.ended(), runs);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_cut_heals() {
    let server = Running::tcp().await;
    let proxy = Proxy::new(&server.address).await;
    let peer = ready(&[&proxy.address]).await;
    // Often, as what is noticed of a cut connection first, by its calls or by itself, is chance.
    for round in 1..=15 {
        let held = tokio::spawn(peer.call(call(b"hang".to_vec())));
        until("the call began", || server.script.begun() == 2 * round - 1).await;
        proxy.close();
        assert_eq!(lost(held.await.unwrap()).0, CallError::Unreachable);
        until("the callee's future is dropped", || server.script.dropped() == round).await;
        until("the peer knows", || peer.healthy() == 0).await;
        let (error, reason, not_run) = lost(peer.call(call(b"echo".to_vec())).await);
        assert_eq!((error, not_run), (CallError::Unreachable, true), "{reason}");
        proxy.heal();
        peer.wait_ready(Instant::now() + LONG).await.unwrap();
        assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delays_are_waited_for_until_the_deadline() {
    let server = Running::tcp().await;
    let proxy = Proxy::new(&server.address).await;
    let peer = ready(&[&proxy.address]).await;
    proxy.rule(|_, _| Deed::Delay(Duration::from_millis(30)));
    assert_eq!(in_time(&peer, call(b"echo".to_vec())).await.unwrap(), b"echo");
    proxy.rule(|_, _| Deed::Delay(Duration::from_secs(3600)));
    let (error, _, not_run) = lost(in_time(&peer, call_in(Duration::from_millis(100), b"echo".to_vec())).await);
    assert_eq!((error, not_run), (CallError::Deadline, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_is_noticed_and_made_anew() {
    let server = Running::tcp().await;
    let proxy = Proxy::new(&server.address).await;
    let keep_alive = Duration::from_millis(400);
    let limits = PeerLimits { keep_alive_interval: keep_alive, keep_alive_timeout: keep_alive, ..quick() };
    let peer = peer_with(&[&proxy.address], limits);
    peer.wait_ready(Instant::now() + LONG).await.unwrap();
    proxy.stall();
    // Whoever has little time waits no longer than that; whoever has much learns what happened.
    let (error, ..) = lost(in_time(&peer, call_in(Duration::from_millis(20), b"echo".to_vec())).await);
    assert!(matches!(error, CallError::Deadline), "{error:?}");
    let (error, reason, _) = lost(peer.call(call(b"echo".to_vec())).await);
    assert_eq!(error, CallError::Unreachable, "{reason}");
    until("the peer knows", || peer.healthy() == 0).await;
    // Whoever answers the connection and says nothing is not there.
    let begun = Instant::now();
    let (error, _, not_run) = lost(peer.call(call(b"echo".to_vec())).await);
    assert_eq!((error, not_run), (CallError::Unreachable, true));
    assert!(begun.elapsed() < FAST, "it did not fail fast");
    proxy.heal();
    peer.wait_ready(Instant::now() + LONG).await.unwrap();
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
}

/// The server too lets go of those who are silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_vanishes_is_let_go() {
    let keep_alive = Duration::from_millis(100);
    let limits = ServerLimits { keep_alive_interval: keep_alive, keep_alive_timeout: keep_alive, ..Default::default() };
    let server = Running::with(&"127.0.0.1:0".parse().unwrap(), None, limits, Arc::default()).await;
    let proxy = Proxy::new(&server.address).await;
    let peer = ready(&[&proxy.address]).await;
    let held = tokio::spawn(peer.call(call(b"hang".to_vec())));
    until("the call began", || server.script.begun() == 1).await;
    proxy.stall();
    until("the callee's future is dropped", || server.script.dropped() == 1).await;
    held.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_after_any_byte_runs_a_call_at_most_once() {
    let server = Running::tcp().await;
    let proxy = Proxy::new(&server.address).await;
    let mut runs = 0;
    for size in (0..400).step_by(7) {
        let peer = ready(&[&proxy.address]).await;
        let mut left = size;
        proxy.rule(move |way, bytes| match way {
            Way::There if bytes.len() > left => Deed::SendAndCut(bytes[..left].to_vec()),
            Way::There => {
                left -= bytes.len();
                Deed::Send(bytes.to_vec())
            }
            Way::Back => Deed::Send(bytes.to_vec()),
        });
        let before = server.script.begun();
        let answer = in_time(&peer, call(vec![b'e'; 200])).await;
        let ran = server.script.begun() - before;
        assert!(ran <= 1, "cut after {size} bytes: run {ran} times");
        match answer {
            Ok(_) => assert_eq!(ran, 1),
            answer => {
                let (error, reason, not_run) = lost(answer);
                assert_eq!(error, CallError::Unreachable, "cut after {size} bytes: {reason}");
                assert!(!(not_run && ran == 1), "cut after {size} bytes: said not to have run");
            }
        }
        runs += ran;
        drop(peer);
        proxy.heal();
    }
    // Some cuts were before the call's end, some behind it.
    assert!(runs > 0 && runs < 50, "{runs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_bytes_hurt_one_connection() {
    let server = Running::tcp().await;
    let proxy = Proxy::new(&server.address).await;
    for (at, way) in (0..300).step_by(11).flat_map(|at| [(at, Way::There), (at, Way::Back)]) {
        let peer = ready(&[&proxy.address]).await;
        let mut left = at;
        proxy.rule(move |went, bytes| {
            let mut bytes = bytes.to_vec();
            if went == way {
                if let Some(byte) = bytes.get_mut(left) {
                    *byte ^= 0x55;
                }
                left = left.wrapping_sub(bytes.len());
            }
            Deed::Send(bytes)
        });
        // Any answer is one: no checksum guards bytes inside a machine, and TLS does outside.
        let before = server.script.begun();
        let _ = in_time(&peer, call_in(Duration::from_millis(300), vec![b'e'; 100])).await;
        assert!(server.script.begun() - before <= 1, "changed byte {at}: run twice");
        drop(peer);
        proxy.heal();
    }
    let peer = peer(&[&server.address]);
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_bytes_end_a_connection_and_a_repeated_connection_is_new_calls() {
    let server = Running::tcp().await;
    let proxy = Proxy::new(&server.address).await;
    let first = ready(&[&proxy.address]).await;
    assert_eq!(first.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    let recorded = proxy.recorded();
    // A stream has one call: the same bytes once more on the same connection are none.
    proxy.rule(|way, bytes| match way {
        Way::There => Deed::Send(bytes.repeat(2)),
        Way::Back => Deed::Send(bytes.to_vec()),
    });
    let _ = in_time(&first, call_in(Duration::from_millis(500), b"echo".to_vec())).await;
    assert!(server.script.begun() <= 2);
    drop(first);
    let before = server.script.begun();
    let Address::Tcp { port, .. } = &server.address else { unreachable!() };
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", *port)).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &recorded).await.unwrap();
    until("the call of the repeated connection ran", || server.script.begun() == before + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_goes_to_the_less_loaded_and_away_from_the_dead() {
    let (one, other) = (Running::tcp().await, Running::tcp().await);
    let peer = ready(&[&one.address, &other.address]).await;
    until("both are connected", || peer.healthy() == 2).await;
    let mut held = Vec::new();
    for count in 1..=10 {
        held.push(tokio::spawn(peer.call(call(b"wait:gate".to_vec()))));
        until("the call began", || one.script.begun() + other.script.begun() == count).await;
    }
    assert_eq!((one.script.begun(), other.script.begun()), (5, 5));
    let dead = one.kill().await;
    until("the peer knows", || peer.healthy() == 1).await;
    for _ in 0..50 {
        assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    }
    other.script.open("gate");
    let mut failures = 0;
    for call in held {
        failures += usize::from(call.await.unwrap().is_err());
    }
    assert_eq!(failures, 5, "exactly the dead one's calls are lost");
    let back = again(&dead, &Arc::default()).await;
    until("both are connected", || peer.healthy() == 2).await;
    for _ in 0..50 {
        peer.call(call(b"echo".to_vec())).await.unwrap();
    }
    assert!(back.script.begun() > 0, "the one that came back gets nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_connection_is_not_given_its_time_again() {
    let pause = Duration::from_millis(1500);
    let server = Running::tcp().await;
    let proxy = Proxy::new(&server.address).await;
    let mut is_first = true;
    proxy.rule(move |way, bytes| {
        if way == Way::There && std::mem::take(&mut is_first) {
            return Deed::Delay(pause);
        }
        Deed::Send(bytes.to_vec())
    });
    let peer = peer_with(&[&proxy.address], PeerLimits { connect_timeout: LONG, ..quick() });
    let (begun, call) = (Instant::now(), call(b"echo".to_vec()));
    let deadline = call.context.deadline;
    assert_eq!(peer.call(call).await.unwrap(), b"echo");
    assert!(begun.elapsed() >= pause, "the connection was not held back");
    let late = server.script.last().context.deadline.saturating_duration_since(deadline);
    assert!(late < pause / 2, "the callee has {late:?} more than the caller");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_replica_hands_on() {
    let limits = ServerLimits { calls_max: 1, ..ServerLimits::default() };
    let address = "127.0.0.1:0".parse().unwrap();
    let script: Arc<Script> = Arc::default();
    let one = Running::with(&address, None, limits.clone(), script.clone()).await;
    let other = Running::with(&address, None, limits, script.clone()).await;
    let both = ready(&[&one.address, &other.address]).await;
    until("both are connected", || both.healthy() == 2).await;
    // Somebody else's call, of which this peer knows nothing.
    let alone = ready(&[&one.address]).await;
    let held = tokio::spawn(alone.call(call(b"wait:gate".to_vec())));
    until("the call began", || script.begun() == 1).await;
    for _ in 0..30 {
        assert_eq!(both.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    }
    assert_eq!(lost(alone.call(call(b"echo".to_vec())).await).0, CallError::Overloaded);
    script.open("gate");
    held.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_ends_what_runs_and_loses_nothing() {
    let mut one = Running::tcp().await;
    let other = Running::tcp().await;
    let peer = Arc::new(ready(&[&one.address, &other.address]).await);
    until("both are connected", || peer.healthy() == 2).await;
    let held: Vec<_> = (0..10).map(|_| tokio::spawn(peer.call(call(b"wait:gate".to_vec())))).collect();
    until("the calls began", || one.script.begun() + other.script.begun() == 10).await;
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let peer = peer.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
                }
            })
        })
        .collect();
    one.stop();
    for caller in callers {
        caller.await.unwrap();
    }
    one.script.open("gate");
    other.script.open("gate");
    for call in held {
        assert_eq!(call.await.unwrap().unwrap(), b"wait:gate");
    }
    assert_eq!(one.stopped().await, 0);
}
