//! Only trusted proxies can announce clients with the PROXY protocol.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::net::{IpAddr, Ipv4Addr};

use isomer_front::{IpNetwork, Limits, Proxies};

use crate::client::{Http1, Http2, connect_from, head, secure};
use crate::world::{Setup, TestFront, Tls, WAITS, within};

/// Starts a front door that trusts the proxy 127.0.0.2.
fn behind_a_proxy(proxy_protocol: bool, tls: Option<&Tls>) -> TestFront {
    let proxy = IpNetwork { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), prefix: 32 };
    let proxies = Proxies { trusted: vec![proxy], proxy_protocol };
    let limits = Limits { connections_per_source_max: 1, ..Limits::default() };
    Setup { limits, proxies, tls: tls.map(|tls| tls.certificates.clone()), ..Setup::default() }.start()
}

fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.1 40000 80\r\n").into_bytes()
}

fn v2(client: [u8; 4]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &client, &[192, 0, 2, 1, 0, 1, 0, 80]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_count_for_the_client_that_the_proxy_names() {
    let front = behind_a_proxy(true, None);
    let through = async |header: Vec<u8>, host: &str| {
        let mut connection = Http1::new(connect_from(2, front.address).await.unwrap());
        // The header is sent in one write with the request, to check that bytes after the header are not lost.
        connection.send([header, head(host).into_bytes()].concat()).await.unwrap();
        connection
    };
    let mut one = through(v1("198.51.100.1"), WAITS).await;
    let mut two = through(v2([198, 51, 100, 2]), WAITS).await;
    front.held.arrived(2).await;
    // Each of these clients has one connection, with a request in progress.
    for header in [v1("198.51.100.1"), v2([198, 51, 100, 2])] {
        assert!(within("the end", through(header, "shop.example").await.answer()).await.is_err());
    }
    for header in [v1("198.51.100.3"), b"PROXY UNKNOWN\r\n".to_vec(), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec()] {
        assert_eq!(within("an answer", through(header, "shop.example").await.answer()).await.unwrap().status, 404);
    }
    assert_eq!(front.connections.counts().refused, 2);
    front.held.release();
    for connection in [&mut one, &mut two] {
        assert_eq!(within("an answer", connection.answer()).await.unwrap().status, 500);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_front_door_closes_the_connections_of_the_proxys_greedy_client_and_no_others() {
    let proxy = IpNetwork { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), prefix: 32 };
    let proxies = Proxies { trusted: vec![proxy], proxy_protocol: true };
    let limits = Limits { connections_max: 8, connections_per_source_max: 8, ..Limits::default() };
    let front = Setup { limits, proxies, ..Setup::default() }.start();
    let connect = async |header: Vec<u8>| {
        let mut connection = Http1::new(connect_from(2, front.address).await.unwrap());
        connection.send(header).await.unwrap();
        connection
    };
    let mut modest = Vec::new();
    // The proxy does not state the clients of these connections. There are more of them than the client of `greedy`
    // ever has, but they must stay open.
    for _ in 0..5 {
        let mut connection = connect(b"PROXY UNKNOWN\r\n".to_vec()).await;
        assert_eq!(within("an answer", connection.get("shop.example")).await.unwrap().status, 404);
        modest.push(connection);
    }
    // The greedy client connects again and again, and starts a second request on each connection. The response to the
    // first request shows that the front door has read the client's address.
    let mut greedy = Vec::new();
    for _ in 0..30 {
        let mut connection = connect(v1("203.0.113.9")).await;
        assert_eq!(within("an answer", connection.get("shop.example")).await.unwrap().status, 404);
        connection.send("GET / HT").await.unwrap();
        greedy.push(connection);
    }
    let counts = front.connections.counts();
    assert_eq!((counts.open, counts.evicted, counts.refused), (8, 27, 0));
    for connection in &mut modest {
        assert_eq!(within("an answer", connection.get("shop.example")).await.unwrap().status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_comes_before_tls() {
    let tls = Tls::new();
    let front = behind_a_proxy(true, Some(&tls));
    for (number, alpn) in ["http/1.1", "h2"].into_iter().enumerate() {
        let mut stream = connect_from(2, front.address).await.unwrap();
        let header = v2([198, 51, 100, u8::try_from(number).unwrap()]);
        tokio::io::AsyncWriteExt::write_all(&mut stream, &header).await.unwrap();
        let stream = within("a handshake", secure(stream, tls.client(alpn))).await.unwrap();
        let status = if alpn == "h2" {
            within("an answer", Http2::new(stream).await.unwrap().get("shop.example")).await.unwrap()
        } else {
            Some(within("an answer", Http1::new(stream).get("shop.example")).await.unwrap().status)
        };
        assert_eq!(status, Some(404));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_proxy_is_believed_and_it_has_to_send_the_header() {
    let front = behind_a_proxy(true, None);
    // From an address that is not the proxy's, a PROXY header is invalid HTTP. From the proxy's address, a connection
    // without a PROXY header is closed.
    let mut other = Http1::new(connect_from(3, front.address).await.unwrap());
    other.send(v1("198.51.100.1")).await.unwrap();
    assert_eq!(within("an answer", other.answer()).await.unwrap().status, 400);
    let mut silent = Http1::new(connect_from(2, front.address).await.unwrap());
    assert!(within("the end", silent.get("shop.example")).await.is_err());
    let mut other = Http1::new(connect_from(3, front.address).await.unwrap());
    assert_eq!(within("an answer", other.get("shop.example")).await.unwrap().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_without_the_protocol_has_as_many_connections_as_it_needs() {
    let front = behind_a_proxy(false, None);
    let mut running = Vec::new();
    for number in 1..=10 {
        let mut connection = Http1::new(connect_from(2, front.address).await.unwrap());
        connection.send(head(WAITS)).await.unwrap();
        front.held.arrived(number).await;
        running.push(connection);
    }
    assert_eq!(front.connections.counts().open, 10);
}
