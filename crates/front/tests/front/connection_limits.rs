//! The maximum number of connections, and which connections are closed to make room.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use isomer_front::Limits;

use crate::client::{Http1, connect_from, head};
use crate::world::{PATIENCE, Setup, Tls, WAITS, until, within};

/// Incomplete data that a client may send before it stops: nothing, parts of heads, a part of the HTTP/2 preface.
const HALVES: &[&str] = &["", "G", "GET / HTTP/1.1\r\nhost: sh", "PRI * HTTP/2.0\r\n"];

/// Incomplete data over TLS: nothing, or the beginning of a handshake.
const HALF_HANDSHAKES: &[&str] = &["", "\u{16}\u{3}\u{1}"];

#[tokio::test(flavor = "multi_thread")]
async fn half_open_requests_of_one_address_do_not_keep_others_out() {
    let tls = Tls::new();
    // In the second case, the maximum per address equals the total maximum, so the address with the most connections
    // must lose one.
    for (max, per_source_max) in [(64, 16), (64, 64)] {
        for secured in [false, true] {
            let limits = Limits {
                connections_max: max,
                connections_per_source_max: per_source_max,
                // Long timeouts, so that no timeout closes a connection.
                head_timeout: PATIENCE * 10,
                handshake_timeout: PATIENCE * 10,
                ..Limits::default()
            };
            let front = Setup { limits, tls: secured.then(|| tls.certificates.clone()), ..Setup::default() }.start();
            let halves = if secured { HALF_HANDSHAKES } else { HALVES };
            let mut held = Vec::new();
            for number in 0..max * 2 {
                let mut half = Http1::new(connect_from(1, front.address).await.unwrap());
                // Sending fails if the front door has already closed the connection.
                let _ = half.send(halves[number % halves.len()]).await;
                held.push(half);
            }
            until("all connections to be accepted", || front.connections.counts().accepted == max as u64 * 2).await;
            let counts = front.connections.counts();
            assert_eq!((counts.open, counts.evicted), (per_source_max, (max * 2 - per_source_max) as u64));
            for _ in 0..3 {
                let stream = connect_from(2, front.address).await.unwrap();
                let answer = if secured {
                    let stream = crate::client::secure(stream, tls.client("http/1.1"));
                    let stream = within("a handshake", stream).await.unwrap();
                    within("an answer", Http1::new(stream).get("shop.example")).await
                } else {
                    within("an answer", Http1::new(stream).get("shop.example")).await
                };
                assert_eq!(answer.unwrap().status, 404);
            }
            assert_eq!(front.connections.counts().refused, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_a_request_is_never_closed_for_another() {
    let limits = Limits { connections_max: 3, connections_per_source_max: 2, ..Limits::default() };
    let front = Setup { limits, ..Setup::default() }.start();
    let mut running = Vec::new();
    for last in [1, 1, 2] {
        let mut connection = Http1::new(connect_from(last, front.address).await.unwrap());
        connection.send(head(WAITS)).await.unwrap();
        running.push(connection);
        front.held.arrived(running.len()).await;
    }
    // Opens a connection from 127.0.0.1, which exceeds the maximum per address, and one from 127.0.0.3, which exceeds
    // the total maximum. The server closes both immediately.
    for last in [1, 3] {
        let mut refused = Http1::new(connect_from(last, front.address).await.unwrap());
        assert!(within("the end", refused.get("shop.example")).await.is_err());
    }
    let counts = front.connections.counts();
    assert_eq!((counts.open, counts.evicted, counts.refused), (3, 0, 2));
    front.held.release();
    for connection in &mut running {
        assert_eq!(within("an answer", connection.answer()).await.unwrap().status, 500);
    }
    // The connections are idle now, so they can be closed to make room for others.
    until("a connection to be closed", || {
        drop(std::net::TcpStream::connect(front.address));
        front.connections.counts().evicted > 0
    })
    .await;
}
