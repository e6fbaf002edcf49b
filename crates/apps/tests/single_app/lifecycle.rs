//! Tests of a new revision that takes over while requests run, and of stopping a node.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::{Method, Response};
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::harness::body::{pieces, whole};
use crate::harness::client::Connection;
use crate::harness::{PATIENCE, Setup, TestNode, one, start, until, within};

/// A request that stays in its guest until the test ends it.
struct Held {
    response: Response<Incoming>,
    sender: mpsc::Sender<std::io::Result<Bytes>>,
    _connection: Connection,
}

impl Held {
    /// Sends a request to `http-stream` and waits for the first part of its response.
    async fn begin(node: &TestNode) -> Self {
        let mut connection = node.connect().await;
        let (sender, body) = pieces();
        let request = connection.request(Method::POST, "/echo").body(body).expect("a valid request");
        let mut response = connection.send(request).await;
        assert_eq!(response.status(), 200);
        sender.send(Ok(Bytes::from_static(b"started"))).await.expect("the body is still read");
        let first = within("the first piece", response.body_mut().frame()).await.expect("a piece").expect("a frame");
        assert_eq!(first.into_data().expect("no trailers"), "started");
        Self { response, sender, _connection: connection }
    }

    /// Ends the request's body and returns the rest of the response.
    ///
    /// # Errors
    /// If the response is cut off.
    async fn end(self) -> hyper::Result<Bytes> {
        self.sender.send(Ok(Bytes::from_static(b" ended"))).await.expect("the body is still read");
        drop(self.sender);
        Ok(within("the rest", self.response.into_body().collect()).await?.to_bytes())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn running_requests_finish_with_the_old_revision() {
    const IN_FLIGHT: usize = 100;
    let setup = Setup::new(&one("http-stream", "")).options(|it| it.instances_max = Some(IN_FLIGHT as u32 + 1));
    let node = setup.start().await;
    let held = join_all((0..IN_FLIGHT).map(|_| Held::begin(&node))).await;
    let mut kept = node.connect().await;
    assert_eq!(kept.get("/drip?chunks=1").await.ok(), "aaaaa");
    node.take_over(&one("http-hello", "")).await;
    // The new revision handles new requests, including those over earlier connections.
    assert_eq!(kept.get("/drip?chunks=1").await.ok(), "hello from WASI 0.3\n");
    assert_eq!(node.get("/").await.ok(), "hello from WASI 0.3\n");
    let ended = join_all(held.into_iter().map(Held::end)).await;
    let failed: Vec<_> = ended.into_iter().filter(|body| !body.as_ref().is_ok_and(|body| body == " ended")).collect();
    assert!(failed.is_empty(), "{} of {IN_FLIGHT}: {failed:?}", failed.len());
    assert_eq!(node.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_never_fail_while_revisions_change() {
    let node = start(&one("http-hello", "")).await;
    let changing = AtomicBool::new(true);
    let requests = async {
        let mut connection = node.connect().await;
        while changing.load(Ordering::Relaxed) {
            for response in [node.get("/").await, connection.get("/").await] {
                assert!(
                    response.ok().starts_with("hello") || response.ok().starts_with("instance="),
                    "{}",
                    response.text()
                );
            }
        }
    };
    let changed = async {
        for guest in ["counter", "http-hello-p2", "http-hello", "counter"] {
            node.take_over(&one(guest, "")).await;
        }
        changing.store(false, Ordering::Relaxed);
    };
    futures::join!(requests, changed);
    assert!(node.get("/").await.ok().starts_with("instance="));
}

/// The results of all clients: the number of responses, and the errors of lost requests.
#[derive(Default)]
struct Clients {
    responses: AtomicU64,
    lost: Mutex<Vec<String>>,
}

impl Clients {
    /// Sends `requests` requests over one connection, or until the server ends the connection. Returns `false` if the
    /// connection is refused.
    async fn ask(&self, address: SocketAddr, http2: bool, requests: usize) -> bool {
        let stream = match within("connect", TcpStream::connect(address)).await {
            Ok(stream) => stream,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                return false;
            }
        };
        let mut connection = Connection::over(stream, http2, "shop.example").await;
        for _ in 0..requests {
            let request = connection.request(Method::GET, "/").body(whole("")).expect("a valid request");
            match within("a response", connection.try_send(request)).await {
                Ok(response) => {
                    let is_last = response.headers().get("connection").is_some_and(|value| value == "close");
                    match within("the body", response.into_body().collect()).await {
                        Ok(_) => self.responses.fetch_add(1, Ordering::Relaxed),
                        Err(error) => return self.lose(&error),
                    };
                    if is_last {
                        return true;
                    }
                }
                // The server has announced the end of the connection, so the request was not sent or not processed.
                Err(error) if http2 && (error.is_canceled() || error.is_closed() || is_goaway(&error)) => return true,
                Err(error) => return self.lose(&error),
            }
        }
        true
    }

    fn lose(&self, error: &hyper::Error) -> bool {
        self.lost.lock().expect("no thread panics with it").push(format!("{error:?}"));
        true
    }
}

/// Returns whether the server has announced that it accepts no more requests over this connection: by GOAWAY without an
/// error.
fn is_goaway(error: &hyper::Error) -> bool {
    format!("{error:?}").contains("NO_ERROR, Remote")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_revisions_change_and_the_node_stops() {
    let setup = Setup::new(&one("http-hello", "")).limits(|limits| limits.idle_grace = PATIENCE);
    let mut node = setup.start().await;
    let (address, clients) = (node.address, Arc::new(Clients::default()));
    let mut running = JoinSet::new();
    for number in 0..8 {
        let clients = clients.clone();
        running.spawn(async move { clients.ask(address, number % 2 == 0, usize::MAX).await });
    }
    // This task opens new connections until one is refused.
    let arriving = {
        let clients = clients.clone();
        tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(2));
            let mut number = 0;
            loop {
                tokio::select! {
                    _ = pace.tick() => {
                        let clients = clients.clone();
                        number += 1;
                        running.spawn(async move { clients.ask(address, number % 2 == 0, 1 + number % 3).await });
                    }
                    Some(accepted) = running.join_next() => if !accepted.expect("a client does not panic") {
                        break;
                    },
                }
            }
            running.join_all().await;
        })
    };
    let more = async || {
        let before = clients.responses.load(Ordering::Relaxed);
        until("responses", async || (clients.responses.load(Ordering::Relaxed) > before + 20).then_some(())).await;
    };
    more().await;
    for guest in ["http-hello-p2", "http-hello", "http-hello-p2"] {
        node.take_over(&one(guest, "")).await;
        more().await;
    }
    node.request_stop();
    within("the clients' end", arriving).await.expect("no client panics");
    assert_eq!(node.stop().await, 0);
    let lost = clients.lost.lock().expect("no thread panics with it");
    assert!(lost.is_empty(), "{} lost in addition to {:?} responses: {lost:?}", lost.len(), clients.responses);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_finishes_requests_and_accepts_no_new_ones() {
    let mut node = start(&one("http-stream", "")).await;
    let held = Held::begin(&node).await;
    let mut idle = node.connect_raw().await;
    idle.write("GET /drip?chunks=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    idle.read_to("aaaaa").await;
    let mut silent = node.connect_raw().await;
    node.request_stop();
    // The node closes each idle connection after its client has sent nothing for a short time, and refuses new
    // connections.
    idle.read_all().await;
    silent.read_all().await;
    until("a refusal", async || match TcpStream::connect(node.address).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(()),
        _ => None,
    })
    .await;
    assert_eq!(held.end().await.expect("the whole response"), " ended");
    assert_eq!(node.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_grace_period_are_cut_off_and_counted() {
    let mut node = Setup::new(&one("http-stream", "")).grace(Duration::from_millis(100)).start().await;
    let held = [Held::begin(&node).await, Held::begin(&node).await];
    node.request_stop();
    assert_eq!(node.stop().await, held.len());
    for one in held {
        let rest = within("the end", one.response.into_body().collect()).await;
        assert!(rest.is_err(), "the response was not cut off: {rest:?}");
    }
}
