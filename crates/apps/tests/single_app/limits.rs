//! Tests of the front door's limits: the size and duration of what a client sends. A client reaches each limit.

use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use futures::future::join_all;

use crate::harness::body::{pieces, repeated, whole};
use crate::harness::{Setup, one, start, until};

/// A timeout that expires in a test, and that is long enough for a busy machine.
const SHORT: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn too_many_or_too_large_headers_are_refused() {
    let setup = Setup::new(&one("http-hello", ""));
    let node = setup.limits(|limits| (limits.headers_max, limits.head_bytes_max) = (20, 16 << 10)).start().await;
    let many = |count: usize| (0..count).map(|number| format!("x-{number}: a\r\n")).collect::<String>();
    for (headers, status) in [
        (many(19), 200),
        (many(20), 431),
        (format!("x: {}\r\n", "a".repeat(8 << 10)), 200),
        (format!("x: {}\r\n", "a".repeat(16 << 10)), 431),
    ] {
        let mut raw = node.connect_raw().await;
        // The write may fail, because the node may close the connection before it has read everything.
        let _ = raw.try_write(format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).await;
        let head = raw.read_to("\r\n\r\n").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{} bytes: {head}", headers.len());
    }
    let mut connection = node.connect_http2().await;
    let request = connection.request(Method::GET, "/").header("x", "a".repeat(32 << 10));
    let refused = connection.try_send(request.body(whole("")).expect("a valid request")).await;
    assert!(refused.is_err() || refused.is_ok_and(|response| response.status() == 431));
    assert_eq!(node.get("/").await.ok(), "hello from WASI 0.3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_complete_head_is_closed() {
    let setup = Setup::new(&one("http-hello", ""));
    let node = setup.limits(|limits| limits.head_timeout = SHORT).start().await;
    let closed = async |sent: &str| {
        let mut raw = node.connect_raw().await;
        raw.write(sent).await;
        let response = raw.read_all().await;
        assert!(response.is_empty() || response.starts_with("HTTP/1.1 4"), "{sent:?}: {response}");
    };
    join_all(["", "P", "PRI * HTTP/2.0\r\n", "G", "GET / HTTP/1.1\r\nHost: a\r\nX-Slow:"].map(closed)).await;
    // A connection that waits for its next request is idle.
    let mut raw = node.connect_raw().await;
    raw.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let response = raw.read_all().await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    // An HTTP/2 connection without requests is also idle, although the client responds to pings.
    let mut connection = node.connect_http2().await;
    connection.get("/").await.ok();
    connection.closed().await;
    // A connection is not idle while a request runs, even if the request takes longer than `head_timeout`.
    let slow = Setup::new(&one("sleeper", "")).limits(|limits| limits.head_timeout = SHORT).start().await;
    assert_eq!(slow.get("/?ms=1200").await.ok(), "slept=1200 together=1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_beyond_the_limit_replaces_an_idle_one() {
    let node = Setup::new(&one("http-hello", "")).limits(|limits| limits.connections_max = 1).start().await;
    let mut first = node.connect().await;
    first.get("/first").await.ok();
    // The client may receive its response shortly before the node considers the connection idle.
    until("the first connection to be idle", async || {
        let mut next = node.connect_raw().await;
        let _ = next.try_write("GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        next.read_bytes().await.starts_with(b"HTTP/1.1 200 ").then_some(())
    })
    .await;
    first.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_larger_than_its_limit_is_refused() {
    let node = start(&one("http-stream", "limits.body = \"1KiB\"")).await;
    for mut connection in [node.connect().await, node.connect_http2().await] {
        let full = connection.post("/sum", &"a".repeat(1024)).await;
        assert_eq!(full.ok(), format!("bytes=1024 sum={}\n", 1024 * u64::from(b'a')));
    }
    for http2 in [false, true] {
        // The first body announces its length. The length of the second body is only known while it is received.
        for body in [whole("a".repeat(1025)), repeated(Bytes::from(vec![b'a'; 100]), 11)] {
            let mut connection = if http2 { node.connect_http2().await } else { node.connect().await };
            let request = connection.request(Method::POST, "/sum").body(body).expect("a valid request");
            connection.exchange(request).await.problem(413);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_started_response_is_aborted_if_the_body_is_too_large() {
    let node = start(&one("http-stream", "limits.body = \"1KiB\"")).await;
    let mut raw = node.connect_raw().await;
    let chunk = format!("258\r\n{}\r\n", "a".repeat(600));
    raw.write(format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}")).await;
    assert!(raw.read_to("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    raw.read_to(&"a".repeat(600)).await;
    raw.write(&chunk).await;
    let rest = raw.read_all().await;
    assert!(!rest.ends_with("0\r\n\r\n"), "the response was not cut off: {rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_body_times_out() {
    let setup = Setup::new(&one("http-stream", ""));
    let node =
        setup.limits(|limits| limits.body_timeout = SHORT).options(|it| it.instances_max = Some(1)).start().await;
    for _ in 0..3 {
        let mut raw = node.connect_raw().await;
        raw.write("POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
        let head = raw.read_to("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
        assert!(head.contains("content-type: application/problem+json\r\n"), "{head}");
    }
    let mut connection = node.connect_http2().await;
    let (_sender, body) = pieces();
    let request = connection.request(Method::POST, "/sum").body(body).expect("a valid request");
    connection.exchange(request).await.problem(408);
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_continue_is_answered() {
    let node = start(&one("http-stream", "limits.body = \"1KiB\"")).await;
    let mut raw = node.connect_raw().await;
    raw.write("POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(raw.read_to("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.write([1, 2, 3]).await;
    assert!(raw.read_to("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    raw.read_to("bytes=3 sum=6\n").await;
    // If a body is refused because of its announced length, the node does not ask for it with 100 Continue.
    let mut raw = node.connect_raw().await;
    raw.write("POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n").await;
    assert!(raw.read_to("\r\n\r\n").await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_disconnected() {
    let setup = Setup::new(&one("http-stream", ""));
    let node =
        setup.limits(|limits| limits.write_timeout = SHORT).options(|it| it.instances_max = Some(1)).start().await;
    let mut raw = node.connect_raw().await;
    raw.write("GET /drip?chunks=1000&ms=0&bytes=1000000 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    raw.read_to("\r\n\r\n").await;
    // The client reads no more. When the node has cancelled the request, the only instance is free again.
    let event = node.event("access", |event| event["method"] == "GET").await;
    assert!(event["body_bytes"].as_u64().is_some_and(|bytes| bytes < 1_000_000_000), "{event}");
    assert_eq!(node.post("/echo", "free").await.ok(), "free");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_limit_are_refused_at_once() {
    let setup = Setup::new(&one("http-stream", ""));
    let node = setup.limits(|limits| limits.requests_max = 2).start().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = node.connect().await;
        let (sender, body) = pieces();
        sender.send(Ok(Bytes::from_static(b"started"))).await.expect("the body is still read");
        let request = connection.request(Method::POST, "/echo").body(body).expect("a valid request");
        held.push((connection.send(request).await, connection, sender));
    }
    let refused = node.get("/drip").await;
    refused.problem(503);
    assert_eq!(refused.header("retry-after"), "1");
    // A refusal does not end the connection. After another request has ended, the next request is admitted.
    drop(held.pop());
    let mut connection = node.connect().await;
    let admitted = until("room for one more", async || {
        let response = connection.get("/drip?chunks=1").await;
        (response.status == 200).then_some(response)
    });
    assert_eq!(admitted.await.ok(), "aaaaa");
}
