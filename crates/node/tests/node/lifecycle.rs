//! A new revision while requests run, and the end of a node.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::{Method, Response};
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::harness::body::pieces;
use crate::harness::client::Connection;
use crate::harness::{Setup, TestNode, one, start, until, within};

/// A request that is inside its guest and stays there until the test lets it end.
struct Held {
    response: Response<Incoming>,
    sender: mpsc::Sender<std::io::Result<Bytes>>,
    _connection: Connection,
}

impl Held {
    /// Asks a `http-stream` and waits for the first piece of its answer.
    async fn begin(node: &TestNode) -> Self {
        let mut connection = node.connect().await;
        let (sender, body) = pieces();
        let request = connection.request(Method::POST, "/echo").body(body).expect("a valid request");
        let mut response = connection.send(request).await;
        assert_eq!(response.status(), 200);
        sender.send(Ok(Bytes::from_static(b"begun"))).await.expect("the body is wanted");
        let first = within("the first piece", response.body_mut().frame()).await.expect("a piece").expect("a frame");
        assert_eq!(first.into_data().expect("no trailers"), "begun");
        Self { response, sender, _connection: connection }
    }

    /// Ends the request's body: the rest of the answer, if it is whole.
    async fn end(self) -> hyper::Result<Bytes> {
        self.sender.send(Ok(Bytes::from_static(b" ended"))).await.expect("the body is wanted");
        drop(self.sender);
        Ok(within("the rest", self.response.into_body().collect()).await?.to_bytes())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_revision_takes_over_and_what_runs_ends_with_the_old_one() {
    const IN_FLIGHT: usize = 100;
    let setup = Setup::new(&one("http-stream", "")).options(|it| it.instances_max = Some(IN_FLIGHT as u32 + 1));
    let node = setup.start().await;
    let held = join_all((0..IN_FLIGHT).map(|_| Held::begin(&node))).await;
    let mut kept = node.connect().await;
    assert_eq!(kept.get("/drip?chunks=1").await.ok(), "aaaaa");
    node.take_over(&one("http-hello", "")).await;
    // New requests, over old connections too, meet the new revision.
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
    let asked = async {
        let mut connection = node.connect().await;
        while changing.load(Ordering::Relaxed) {
            for answer in [node.get("/").await, connection.get("/").await] {
                assert!(answer.ok().starts_with("hello") || answer.ok().starts_with("instance="), "{}", answer.text());
            }
        }
    };
    let changed = async {
        for guest in ["counter", "http-hello-p2", "http-hello", "counter"] {
            node.take_over(&one(guest, "")).await;
        }
        changing.store(false, Ordering::Relaxed);
    };
    futures::join!(asked, changed);
    assert!(node.get("/").await.ok().starts_with("instance="));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_finishes_what_runs_and_takes_nothing_new() {
    let mut node = start(&one("http-stream", "")).await;
    let held = Held::begin(&node).await;
    let mut idle = node.connect_raw().await;
    idle.write("GET /drip?chunks=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    idle.read_to("aaaaa").await;
    let mut silent = node.connect_raw().await;
    node.tell_to_stop();
    // Idle connections end at once; new ones are refused.
    idle.read_all().await;
    silent.read_all().await;
    until("a refusal", async || match TcpStream::connect(node.address).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(()),
        _ => None,
    })
    .await;
    assert_eq!(held.end().await.expect("the whole answer"), " ended");
    assert_eq!(node.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_in_time_is_cut_off_and_counted() {
    let mut node = Setup::new(&one("http-stream", "")).grace(Duration::from_millis(100)).start().await;
    let held = [Held::begin(&node).await, Held::begin(&node).await];
    node.tell_to_stop();
    assert_eq!(node.stop().await, held.len());
    for one in held {
        let rest = within("the end", one.response.into_body().collect()).await;
        assert!(rest.is_err(), "the answer looks whole: {rest:?}");
    }
}
