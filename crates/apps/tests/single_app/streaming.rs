//! Tests of bodies that are sent in both directions at the same time, and of clients that disconnect early.

use ::http::{Method, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::harness::body::{pieces, whole};
use crate::harness::{Setup, TestNode, one, start, until, within};

/// Reads the next part of a response's body. Returns `None` at the end of the body.
async fn piece(response: &mut Response<Incoming>) -> Option<Bytes> {
    let frame = within("a piece of the body", response.body_mut().frame()).await?;
    Some(frame.expect("the body is not cut off").into_data().expect("no trailers"))
}

/// Reads exactly `bytes` bytes of a response's body. Bytes after them are kept in `rest`.
async fn read_exactly(response: &mut Response<Incoming>, rest: &mut BytesMut, bytes: usize) -> BytesMut {
    while rest.len() < bytes {
        rest.extend_from_slice(&piece(response).await.expect("more of the body"));
    }
    rest.split_to(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_echoed_while_it_is_sent() {
    let node = start(&one("http-stream", "")).await;
    for mut connection in [node.connect().await, node.connect_http2().await] {
        let (sender, body) = pieces();
        let request = connection.request(Method::POST, "/echo").body(body).expect("a valid request");
        let mut response = connection.send(request).await;
        assert_eq!(response.status(), 200);
        let mut rest = BytesMut::new();
        for number in 0..64_u8 {
            let sent = Bytes::from(vec![number; 64 << 10]);
            sender.send(Ok(sent.clone())).await.expect("the body is still read");
            // The client sends the next part only after it has received this part back, so the node cannot buffer the
            // whole body.
            assert!(read_exactly(&mut response, &mut rest, sent.len()).await == sent, "piece {number}");
        }
        drop(sender);
        let left = within("the body's end", response.into_body().collect()).await.expect("a whole body").to_bytes();
        assert!(rest.is_empty() && left.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reads_a_whole_body() {
    let node = start(&one("http-stream", "")).await;
    for mut connection in [node.connect().await, node.connect_http2().await] {
        let contents = "isomer".repeat(200_000);
        let sum = contents.bytes().map(u64::from).sum::<u64>();
        let response = connection.post("/sum", &contents).await;
        assert_eq!(response.ok(), format!("bytes={} sum={sum}\n", contents.len()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_chunk_arrives_when_it_is_sent() {
    let node = start(&one("http-stream", "")).await;
    for mut connection in [node.connect().await, node.connect_http2().await] {
        // The guest would send the second chunk only after an hour.
        let request = connection.request(Method::GET, "/drip?chunks=2&ms=3600000&bytes=3");
        let mut response = connection.send(request.body(whole("")).expect("valid")).await;
        assert_eq!(piece(&mut response).await.as_deref(), Some(&b"aaa"[..]));
    }
    let response = node.get("/drip?chunks=4&ms=1&bytes=3").await;
    assert_eq!(response.ok(), "aaabbbcccddd");
}

/// Starts a node with a single instance, which handles a request only while no other request uses it.
async fn with_one_instance(guest: &str) -> TestNode {
    Setup::new(&one(guest, "")).options(|options| options.instances_max = Some(1)).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_during_the_response_frees_the_instance() {
    let node = with_one_instance("http-stream").await;
    for http2 in [false, true] {
        let mut connection = if http2 { node.connect_http2().await } else { node.connect().await };
        let request = connection.request(Method::GET, "/drip?chunks=2&ms=3600000");
        let mut response = connection.send(request.body(whole("")).expect("valid")).await;
        piece(&mut response).await.expect("the first chunk");
        drop((response, connection));
        node.event("access", |event| event["target"].as_str().is_some_and(|it| it.starts_with("/drip"))).await;
        assert_eq!(node.post("/echo", "free").await.ok(), "free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_stream_frees_the_instance_and_keeps_the_connection() {
    let node = with_one_instance("http-stream").await;
    let mut connection = node.connect_http2().await;
    for _ in 0..3 {
        let request = connection.request(Method::GET, "/drip?chunks=2&ms=3600000");
        let mut response = connection.send(request.body(whole("")).expect("valid")).await;
        piece(&mut response).await.expect("the first chunk");
        drop(response);
        assert_eq!(connection.post("/echo", "free").await.ok(), "free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_cannot_extend_the_deadline() {
    let manifest = one("http-stream", "limits.request_deadline = \"300ms\"");
    for http2 in [false, true] {
        let node = Setup::new(&manifest).options(|options| options.instances_max = Some(1)).start().await;
        let mut connection = if http2 { node.connect_http2().await } else { node.connect().await };
        let request = connection.request(Method::GET, "/drip?chunks=1000&ms=0&bytes=1000000");
        // The body is larger than all buffers, and the client does not read it.
        let unread = connection.send(request.body(whole("")).expect("valid")).await;
        assert_eq!(unread.status(), 200);
        let free = until("the only instance is free", async || {
            let response = node.post("/echo", "free").await;
            (response.status == 200).then_some(response)
        });
        assert_eq!(free.await.ok(), "free");
        let rest = within("the end", unread.into_body().collect()).await;
        assert!(rest.is_err(), "the body was not cut off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_before_the_response_frees_the_instance() {
    let node = with_one_instance("http-loop").await;
    for target in ["/sleep", "/loop"] {
        let mut raw = node.connect_raw().await;
        raw.write(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        drop(raw);
        assert_eq!(node.get("/").await.ok(), "ok\n", "after {target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_during_its_body_frees_the_instance() {
    let node = with_one_instance("http-stream").await;
    let mut raw = node.connect_raw().await;
    raw.write("POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome of it").await;
    drop(raw);
    assert_eq!(node.post("/sum", "\u{1}\u{2}").await.ok(), "bytes=2 sum=3\n");
}
