//! Malformed input to a server: bytes that are not HTTP/2, HTTP/2 that is not a call, calls that are not frames. The
//! server refuses the input or closes the connection, and continues to serve other clients.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request as HttpRequest, StatusCode};
use isomer_link::{Address, ServerLimits, health};
use isomer_wire::image::IMAGE_BYTES_MAX;
use isomer_wire::{CallError, CallHead, CallResult, Callee as _, FrameReader, ReplyHead};
use support::server::TestServer;
use support::{LONG, call, call_in, lost, peer, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn dial(address: &Address) -> TcpStream {
    let Address::Tcp { port, .. } = address else { panic!("TCP only") };
    TcpStream::connect(("127.0.0.1", *port)).await.unwrap()
}

/// A plain HTTP/2 client.
struct Client(h2::client::SendRequest<Bytes>);

impl Client {
    async fn new(address: &Address) -> Self {
        let (sender, connection) = h2::client::handshake(dial(address).await).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// Sends a request whose body has these pieces. Returns the status and the body of the response.
    async fn ask(&mut self, method: Method, path: &str, body: &[&[u8]]) -> Result<(StatusCode, Vec<u8>), h2::Error> {
        let mut request = HttpRequest::new(());
        (*request.method_mut(), *request.uri_mut()) = (method, path.parse().unwrap());
        futures::future::poll_fn(|cx| self.0.poll_ready(cx)).await?;
        let (response, mut stream) = self.0.send_request(request, body.is_empty())?;
        for (index, piece) in body.iter().enumerate() {
            // Sending fails if the server has responded early and reset the stream.
            let _ = stream.send_data(Bytes::copy_from_slice(piece), index + 1 == body.len());
        }
        let response = response.await?;
        let status = response.status();
        let (mut body, mut bytes) = (response.into_body(), Vec::new());
        while let Some(piece) = body.data().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok((status, bytes))
    }

    async fn call(&mut self, body: &[&[u8]]) -> CallResult {
        let (status, bytes) = self.ask(Method::POST, "/", body).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        let mut reader = FrameReader::<ReplyHead>::new(IMAGE_BYTES_MAX as usize);
        reader.push(&bytes).unwrap();
        let (reply, body) = reader.finish().unwrap();
        reply.into_result(body).unwrap()
    }
}

fn frame() -> Vec<u8> {
    let call = call(b"echo:stranger".to_vec());
    let mut frame = Vec::new();
    CallHead::of(&call, Instant::now()).unwrap().encode(&mut frame).unwrap();
    [frame, call.image].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_are_refused_and_not_run() {
    let server = TestServer::tcp().await;
    let mut client = Client::new(&server.address).await;
    let good = frame();
    assert_eq!(client.call(&[&good]).await.unwrap(), b"echo:stranger");
    let one_by_one: Vec<&[u8]> = good.chunks(1).collect();
    assert_eq!(client.call(&one_by_one).await.unwrap(), b"echo:stranger");
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    for (bytes, words) in [
        (with(0, &[3]), "`version` is 3, expected 2"),
        (with(1, &[128]), "`flags` is 0x80"),
        (with(4, &[0xff; 4]), "`image` has 4294967295 bytes, at most 16777216"),
        (with(8, &[0xff; 8]), "`remaining`"),
        (with(48, &[0; 8]), "`request` is 0"),
        (good[..50].to_vec(), "6 bytes before the end of its `head`"),
        (good[..good.len() - 1].to_vec(), "1 bytes before the end of its `image`"),
        ([&good[..], b"more"].concat(), "4 bytes follow the end of the frame"),
        (vec![0], "`version` is 0"),
    ] {
        let (error, reason, not_run) = lost(client.call(&[&bytes]).await);
        assert_eq!((error, not_run), (CallError::Refused, true));
        assert!(reason.contains(words), "{reason}");
    }
    // A body whose announced size exceeds the maximum is sent anyway. The server does not read it to its end.
    let huge = vec![0; 4 << 20];
    let (error, ..) = lost(client.call(&[&with(4, &[0xff; 4]), &huge, &huge]).await);
    assert_eq!(error, CallError::Refused);
    assert_eq!(client.call(&[&good]).await.unwrap(), b"echo:stranger");
    assert_eq!(server.script.started(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_does_not_arrive_is_not_waited_for() {
    let limits = ServerLimits { body_timeout: Duration::from_millis(50), ..ServerLimits::default() };
    let server = TestServer::with(&"127.0.0.1:0".parse().unwrap(), None, limits, Default::default()).await;
    let mut client = Client::new(&server.address).await;
    let mut request = HttpRequest::new(());
    *request.method_mut() = Method::POST;
    let (response, mut body) = client.0.send_request(request, false).unwrap();
    body.send_data(Bytes::copy_from_slice(&frame()[..80]), false).unwrap();
    let mut answer = response.await.unwrap().into_body();
    let bytes = answer.data().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("the rest of the call did not arrive in time"));
    assert_eq!(server.script.started(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_health_check_and_calls_are_served() {
    let server = TestServer::tcp().await;
    let mut client = Client::new(&server.address).await;
    assert_eq!(client.ask(Method::GET, "/", &[]).await.unwrap(), (StatusCode::OK, Vec::new()));
    assert_eq!(client.ask(Method::GET, "/other", &[]).await.unwrap().0, StatusCode::NOT_FOUND);
    assert_eq!(client.ask(Method::PUT, "/", &[b"x"]).await.unwrap().0, StatusCode::METHOD_NOT_ALLOWED);
    health(&server.address, None, Instant::now() + LONG).await.unwrap();
    assert_eq!(server.script.started(), 0);
    let address = server.kill().await;
    let error = health(&address, None, Instant::now() + LONG).await.unwrap_err();
    assert_eq!(error, format!("`{address}`: no process listens there"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_do_no_harm() {
    let limits = ServerLimits { handshake_timeout: Duration::from_millis(200), ..ServerLimits::default() };
    let server = TestServer::with(&"127.0.0.1:0".parse().unwrap(), None, limits, Default::default()).await;
    let peer = peer(&[&server.address]);
    let rounds = if std::env::var_os("ISOMER_LONG").is_some() { 5000 } else { 60 };
    for seed in 1..=rounds {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed);
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let noise: Vec<u8> = (0..random() % 2000).map(|_| random() as u8).collect();
        let mut stream = dial(&server.address).await;
        if seed % 2 == 0 {
            // The preface of HTTP/2 and a valid frame, so that the following random bytes are parsed as frames.
            let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
            let head = [0, 0, (random() % 100) as u8, (random() % 10) as u8, random() as u8, 0, 0, 0, 1];
            let _ = stream.write_all(&head).await;
        }
        let _ = stream.write_all(&noise).await;
        let _ = stream.shutdown().await;
        // The server ends the connection.
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "seed {seed}: the connection stays open");
    }
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    assert_eq!(server.script.started(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_are_closed_for_others() {
    let limits =
        ServerLimits { handshake_timeout: Duration::from_millis(100), connections_max: 2, ..ServerLimits::default() };
    let server = TestServer::with(&"127.0.0.1:0".parse().unwrap(), None, limits, Default::default()).await;
    let _silent = [dial(&server.address).await, dial(&server.address).await];
    let peer = peer(&[&server.address]);
    until("the peer is let in", || peer.healthy() == 1).await;
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
}

/// A client never opens its window, so replies cannot be sent. The server buffers a limited number of bytes for a
/// limited time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_is_bounded_and_cut_off() {
    let (bytes, timeout) = (400 << 10, Duration::from_secs(2));
    let limits =
        ServerLimits { images_bytes_max: 1 << 20, calls_max: 4, response_timeout: timeout, ..ServerLimits::default() };
    let server = TestServer::with(&"127.0.0.1:0".parse().unwrap(), None, limits, Default::default()).await;
    let peer = peer(&[&server.address]);
    peer.wait_ready(Instant::now() + LONG).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let handshake = builder.initial_window_size(0).handshake::<_, Bytes>(dial(&server.address).await);
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let call_of = |bytes: usize| {
        let call = call(vec![b'e'; bytes]);
        let mut frame = Vec::new();
        CallHead::of(&call, Instant::now()).unwrap().encode(&mut frame).unwrap();
        Bytes::from([frame, call.image].concat())
    };
    let mut unread = Vec::new();
    for _ in 0..2 {
        futures::future::poll_fn(|cx| sender.poll_ready(cx)).await.unwrap();
        let mut request = HttpRequest::new(());
        *request.method_mut() = Method::POST;
        let (response, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(call_of(bytes), true).unwrap();
        unread.push(response.await.unwrap().into_body());
    }
    // The unread replies leave only a part of `images_bytes_max`. It is enough for a small reply to another client, but
    // not for a large one.
    assert_eq!(peer.call(call(b"echo".to_vec())).await.unwrap(), b"echo");
    let (error, reason, not_run) = lost(peer.call(call(vec![b'e'; bytes])).await);
    assert_eq!((error, not_run), (CallError::Overloaded, false), "{reason}");
    for mut body in unread {
        // The stream is reset long before the deadline of the calls.
        let ended = tokio::time::timeout(LONG / 2, body.data()).await.expect("the stream is reset in time");
        let error = ended.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
    }
    assert_eq!(peer.call(call(vec![b'e'; bytes])).await.unwrap().len(), bytes);
}

/// Each byte arrives in time, but the whole call does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_arrives_byte_by_byte_ends_in_time() {
    let short = Duration::from_millis(200);
    let limits = ServerLimits { reading_timeout: short, ..ServerLimits::default() };
    let address = "127.0.0.1:0".parse().unwrap();
    let hasty = TestServer::with(&address, None, limits, Default::default()).await;
    let patient = TestServer::tcp().await;
    for (server, timeout) in [(&hasty, LONG), (&patient, short)] {
        let mut client = Client::new(&server.address).await;
        let call = call_in(timeout, vec![b'e'; 64 << 10]);
        let mut head = Vec::new();
        CallHead::of(&call, Instant::now()).unwrap().encode(&mut head).unwrap();
        let mut request = HttpRequest::new(());
        *request.method_mut() = Method::POST;
        let (response, mut body) = client.0.send_request(request, false).unwrap();
        body.send_data(Bytes::from(head), false).unwrap();
        let drip = tokio::spawn(async move {
            while body.send_data(Bytes::from_static(b"e"), false).is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let answered = tokio::time::timeout(LONG / 2, response).await.expect("it is read for ever");
        let bytes = answered.unwrap().into_body().data().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains("the rest of the call did not arrive in time"));
        assert_eq!(server.script.started(), 0);
        drip.abort();
    }
}
