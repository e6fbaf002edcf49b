//! Calls while the server or the network fails. Each call ends in time, states correctly whether it may have run, and
//! never runs twice unless it is idempotent.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_link::{Address, PeerLimits, ServerLimits};
use isomer_wire::{CallError, Callee as _};
use support::callee::Script;
use support::proxy::{Deed, Proxy, Way};
use support::server::TestServer;
use support::{LONG, call, call_in, idempotent, in_time, lost, peer, peer_with, quick, ready, until, until_counted};
use tokio::sync::{oneshot, watch};

/// The maximum duration of calls that fail immediately. It is far shorter than their deadline.
const FAST: Duration = Duration::from_secs(5);

async fn again(address: &Address, script: &Arc<Script>) -> TestServer {
    TestServer::with(address, None, ServerLimits::default(), script.clone()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_the_call() {
    let server = TestServer::tcp().await;
    let peer = ready(&[&server.address]).await;
    let script = server.script.clone();
    let address = server.kill().await;
    until("the peer knows", || peer.healthy() == 0).await;
    for call in [call(b"echo".to_vec()), idempotent(b"echo".to_vec())] {
        let start = Instant::now();
        let (error, reason, not_run) = lost(peer.call(call).await);
        assert_eq!((error, not_run), (CallError::Unreachable, true), "{reason}");
        assert!(start.elapsed() < FAST, "it did not fail fast");
        assert!(reason.starts_with(&format!("`cart` at `{address}` is unreachable: ")), "{reason}");
    }
    assert_eq!(script.started(), 0);
    let _server = again(&address, &script).await;
    peer.wait_ready(Instant::now() + LONG).await.unwrap();
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_during_the_call() {
    let server = TestServer::tcp().await;
    let script = server.script.clone();
    let peer = ready(&[&server.address]).await;
    let once = tokio::spawn(peer.call(call(b"wait:gate".to_vec())));
    until_counted("the call began", &[&script], || script.started() == 1).await;
    let address = server.kill().await;
    let (error, reason, not_run) = lost(once.await.unwrap());
    assert_eq!((error, not_run), (CallError::Unreachable, false), "{reason}");
    let server = again(&address, &script).await;
    peer.wait_ready(Instant::now() + LONG).await.unwrap();
    script.open("gate");
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    assert_eq!((script.started(), script.dropped()), (2, 1), "the call was run again");
    // Idempotent calls are retried.
    let many = PeerLimits { attempts_max: 1000, retry_pause: Duration::from_millis(5), ..quick() };
    let patient = peer_with(&[&address], many);
    patient.wait_ready(Instant::now() + LONG).await.unwrap();
    let twice = tokio::spawn(patient.call(idempotent(b"wait:other".to_vec())));
    until_counted("the call began", &[&script], || script.started() == 3).await;
    server.kill().await;
    let _server = again(&address, &script).await;
    until_counted("the call began again", &[&script], || script.started() == 4).await;
    script.open("other");
    assert_eq!(twice.await.unwrap().unwrap(), b"wait:other");
    assert_eq!(script.started(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_call() {
    for (call, runs) in [(call(b"echo".to_vec()), 1), (idempotent(b"echo".to_vec()), 2)] {
        let server = TestServer::tcp().await;
        let proxy = Proxy::new(&server.address).await;
        let peer = ready(&[&proxy.address]).await;
        let (script, mut is_cut) = (server.script.clone(), false);
        // The proxy loses the reply.
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
    let server = TestServer::tcp().await;
    let proxy = Proxy::new(&server.address).await;
    let peer = ready(&[&proxy.address]).await;
    // There are many rounds, because it is random whether a call or the connection's task first detects that the
    // connection was cut.
    for round in 1..=15 {
        let held = tokio::spawn(peer.call(call(b"hang".to_vec())));
        until_counted("the call began", &[&server.script], || server.script.started() == 2 * round - 1).await;
        proxy.close();
        assert_eq!(lost(held.await.unwrap()).0, CallError::Unreachable);
        until_counted("the callee's future is dropped", &[&server.script], || server.script.dropped() == round).await;
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
    let server = TestServer::tcp().await;
    let proxy = Proxy::new(&server.address).await;
    let peer = ready(&[&proxy.address]).await;
    proxy.rule(|_, _| Deed::Delay(Duration::from_millis(30)));
    assert_eq!(in_time(&peer, call(b"echo".to_vec())).await.unwrap(), b"echo");
    proxy.rule(|_, _| Deed::Delay(Duration::from_secs(3600)));
    let (error, _, not_run) = lost(in_time(&peer, call_in(Duration::from_millis(100), b"echo".to_vec())).await);
    assert_eq!((error, not_run), (CallError::Deadline, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_is_detected_and_replaced() {
    let server = TestServer::tcp().await;
    let proxy = Proxy::new(&server.address).await;
    let keep_alive = Duration::from_millis(400);
    let limits = PeerLimits { keep_alive_interval: keep_alive, keep_alive_timeout: keep_alive, ..quick() };
    let peer = peer_with(&[&proxy.address], limits);
    peer.wait_ready(Instant::now() + LONG).await.unwrap();
    proxy.stall();
    // A call with a short deadline fails at its deadline. A call with a long deadline fails before its deadline, with
    // the error `Unreachable`.
    let (error, ..) = lost(in_time(&peer, call_in(Duration::from_millis(20), b"echo".to_vec())).await);
    assert!(matches!(error, CallError::Deadline), "{error:?}");
    let (error, reason, _) = lost(peer.call(call(b"echo".to_vec())).await);
    assert_eq!(error, CallError::Unreachable, "{reason}");
    until("the peer knows", || peer.healthy() == 0).await;
    // An address whose server accepts connections but sends nothing counts as down.
    let start = Instant::now();
    let (error, _, not_run) = lost(peer.call(call(b"echo".to_vec())).await);
    assert_eq!((error, not_run), (CallError::Unreachable, true));
    assert!(start.elapsed() < FAST, "it did not fail fast");
    proxy.heal();
    peer.wait_ready(Instant::now() + LONG).await.unwrap();
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
}

/// A server detects half-open connections too, and then cancels their calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_a_vanished_caller_are_cancelled() {
    let keep_alive = Duration::from_millis(100);
    let limits = ServerLimits { keep_alive_interval: keep_alive, keep_alive_timeout: keep_alive, ..Default::default() };
    let server = TestServer::with(&"127.0.0.1:0".parse().unwrap(), None, limits, Arc::default()).await;
    let proxy = Proxy::new(&server.address).await;
    let peer = ready(&[&proxy.address]).await;
    let held = tokio::spawn(peer.call(call(b"hang".to_vec())));
    until_counted("the call began", &[&server.script], || server.script.started() == 1).await;
    proxy.stall();
    until_counted("the callee's future is dropped", &[&server.script], || server.script.dropped() == 1).await;
    held.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_after_any_byte_runs_a_call_at_most_once() {
    let server = TestServer::tcp().await;
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
        let before = server.script.started();
        let answer = in_time(&peer, call(vec![b'e'; 200])).await;
        let ran = server.script.started() - before;
        assert!(ran <= 1, "cut after {size} bytes: run {ran} times");
        match answer {
            Ok(_) => assert_eq!(ran, 1),
            answer => {
                let (error, reason, not_run) = lost(answer);
                assert_eq!(error, CallError::Unreachable, "cut after {size} bytes: {reason}");
                assert!(!(not_run && ran == 1), "cut after {size} bytes: the call ran, but is reported as not run");
            }
        }
        runs += ran;
        drop(peer);
        proxy.heal();
    }
    // In some rounds, the connection was cut before the whole call had arrived, and in others after that.
    assert!(runs > 0 && runs < 50, "{runs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_bytes_end_one_connection() {
    let server = TestServer::tcp().await;
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
        // Any result is allowed: links inside a machine have no checksum that would detect changed bytes. Between
        // machines, TLS detects them.
        let before = server.script.started();
        let _ = in_time(&peer, call_in(Duration::from_millis(300), vec![b'e'; 100])).await;
        assert!(server.script.started() - before <= 1, "changed byte {at}: run twice");
        drop(peer);
        proxy.heal();
    }
    let peer = peer(&[&server.address]);
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_bytes_end_a_connection_and_a_repeated_connection_is_new_calls() {
    let server = TestServer::tcp().await;
    let proxy = Proxy::new(&server.address).await;
    let first = ready(&[&proxy.address]).await;
    assert_eq!(first.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    let recorded = proxy.recorded();
    // A stream carries one call, so repeated bytes on the same connection are not a second call.
    proxy.rule(|way, bytes| match way {
        Way::There => Deed::Send(bytes.repeat(2)),
        Way::Back => Deed::Send(bytes.to_vec()),
    });
    let _ = in_time(&first, call_in(Duration::from_millis(500), b"echo".to_vec())).await;
    assert!(server.script.started() <= 2);
    drop(first);
    let before = server.script.started();
    let Address::Tcp { port, .. } = &server.address else { unreachable!() };
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", *port)).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &recorded).await.unwrap();
    until_counted("the call of the repeated connection ran", &[&server.script], || {
        server.script.started() == before + 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_goes_to_the_less_loaded_and_away_from_the_dead() {
    let (one, other) = (TestServer::tcp().await, TestServer::tcp().await);
    let peer = ready(&[&one.address, &other.address]).await;
    until("both are connected", || peer.healthy() == 2).await;
    let mut held = Vec::new();
    for count in 1..=10 {
        held.push(tokio::spawn(peer.call(call(b"wait:gate".to_vec()))));
        until_counted("the call began", &[&one.script, &other.script], || {
            one.script.started() + other.script.started() == count
        })
        .await;
    }
    assert_eq!((one.script.started(), other.script.started()), (5, 5));
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
    assert_eq!(failures, 5, "exactly the calls of the dead server are lost");
    let back = again(&dead, &Arc::default()).await;
    until("both are connected", || peer.healthy() == 2).await;
    for _ in 0..50 {
        peer.call(call(b"echo".to_vec())).await.unwrap();
    }
    assert!(back.script.started() > 0, "the server that came back gets no calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_connection_counts_for_the_deadline() {
    let server = TestServer::tcp().await;
    let proxy = Proxy::new(&server.address).await;
    let (release, released) = oneshot::channel();
    let mut released = Some(released);
    let (held, mut is_held) = watch::channel(false);
    proxy.rule(move |way, bytes| match released.take_if(|_| way == Way::There) {
        Some(released) => {
            held.send_replace(true);
            Deed::Hold(released)
        }
        None => Deed::Send(bytes.to_vec()),
    });
    let peer = peer_with(&[&proxy.address], PeerLimits { connect_timeout: LONG, ..quick() });
    let call = call(b"echo".to_vec());
    let deadline = call.context.deadline;
    let result = tokio::spawn(peer.call(call));
    is_held.wait_for(|is_held| *is_held).await.unwrap();
    // The pause is the subject of the test: if the wait for the connection did not count for the deadline, the callee's
    // deadline would be later by this pause.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let released_at = Instant::now();
    release.send(()).unwrap();
    assert_eq!(result.await.unwrap().unwrap(), b"echo");
    // The frame contains the time that is left when the call is sent. So the callee's deadline is later than the
    // caller's only by the time that the frame travels. However slow the machine is, this is at most the time since the
    // test released the held bytes. If the time for which the call waited for the release did not count for the
    // deadline, the callee's deadline would be later by this time as well.
    let late = server.script.last().context.deadline.saturating_duration_since(deadline);
    assert!(late <= released_at.elapsed(), "the callee has {late:?} more than the caller");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_from_a_full_replica_to_another() {
    let limits = ServerLimits { calls_max: 1, ..ServerLimits::default() };
    let address = "127.0.0.1:0".parse().unwrap();
    let script: Arc<Script> = Arc::default();
    let one = TestServer::with(&address, None, limits.clone(), script.clone()).await;
    let other = TestServer::with(&address, None, limits, script.clone()).await;
    let both = ready(&[&one.address, &other.address]).await;
    until("both are connected", || both.healthy() == 2).await;
    // A call of another client. The client `both` does not count this call.
    let other_peer = ready(&[&one.address]).await;
    let held = tokio::spawn(other_peer.call(call(b"wait:gate".to_vec())));
    until_counted("the call began", &[&script], || script.started() == 1).await;
    for _ in 0..30 {
        assert_eq!(both.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    }
    assert_eq!(lost(other_peer.call(call(b"echo".to_vec())).await).0, CallError::Overloaded);
    script.open("gate");
    held.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_server_finishes_its_calls() {
    let mut one = TestServer::tcp().await;
    let other = TestServer::tcp().await;
    let peer = Arc::new(ready(&[&one.address, &other.address]).await);
    until("both are connected", || peer.healthy() == 2).await;
    let held: Vec<_> = (0..10).map(|_| tokio::spawn(peer.call(call(b"wait:gate".to_vec())))).collect();
    until_counted("the calls began", &[&one.script, &other.script], || {
        one.script.started() + other.script.started() == 10
    })
    .await;
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
