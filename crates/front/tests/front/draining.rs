//! A draining front door loses no request: it serves every connection that the kernel has established, and closes each
//! connection without an error.
//!
//! The clients are an open loop: they open connections at a fixed interval, regardless of the results of earlier
//! connections, from the start of the front door until the port is closed. A seed, which a failing test prints,
//! determines the requests on each connection.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use isomer_front::Limits;
use rustls::ClientConfig;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::client::{Http1, Http2, Stream, connect, head, secure};
use crate::world::{Setup, Tls, WAITS, socket, until, within};

/// The number of times that a front door is started and stopped. A stop with idle connections takes a second.
const STOPS: u64 = 5;

/// The number of times that a front door is started and stopped if `ISOMER_LONG` is set.
const STOPS_LONG: u64 = 100;

/// The number of front doors that take over the same listening socket, one after the other.
const SUCCESSORS: u64 = 20;

/// The time between two new connections.
const CONNECT_EVERY: Duration = Duration::from_millis(1);

/// The number of connections that stay open and send one request after the other.
const STEADY: usize = 6;

#[derive(Clone)]
struct Clients {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    http2: bool,
    answers: Arc<AtomicU64>,
}

/// The outcome of a client whose connection was established.
type Outcome = Result<(), String>;

impl Clients {
    /// Opens a connection. Returns `None` if the connection is refused.
    async fn connect(&self) -> Option<Result<Box<dyn Stream>, String>> {
        let stream = match within("connect", connect(self.address)).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return None,
            Err(error) => return Some(Err(format!("connect: {error}"))),
        };
        Some(match &self.tls {
            None => Ok(Box::new(stream)),
            Some(config) => {
                within("a handshake", secure(stream, config.clone())).await.map_err(|it| format!("handshake: {it}"))
            }
        })
    }

    fn answered(&self, status: u16) -> Outcome {
        self.answers.fetch_add(1, Ordering::Relaxed);
        if status == 404 { Ok(()) } else { Err(format!("status {status}")) }
    }

    /// Sends `requests` requests over a connection, or fewer if the server announces the end of the connection.
    async fn use_it(&self, stream: Box<dyn Stream>, requests: u64, mut random: Random) -> Outcome {
        if self.http2 {
            let mut connection = within("an opened connection", Http2::new(stream)).await.map_err(told)?;
            for _ in 0..requests {
                match within("an answer", connection.get("shop.example")).await.map_err(told)? {
                    Some(status) => self.answered(status)?,
                    None => return Ok(()),
                }
                random.pause().await;
            }
            return Ok(());
        }
        let mut connection = Http1::new(stream);
        for number in 0..requests {
            random.pause().await;
            let head = head("shop.example");
            // Splits the head, which is sent in one or two pieces.
            let (first, second) = head.split_at(random.below(head.len() as u64) as usize);
            let exchange = async {
                connection.send(first).await?;
                random.pause().await;
                connection.send(second).await?;
                connection.answer().await
            };
            let answer = within("an answer", exchange).await.map_err(|it| format!("request {number}: {it}"))?;
            self.answered(answer.status)?;
            if answer.is_last {
                return within("the end", connection.closed()).await.map_err(|it| format!("the end: {it}"));
            }
        }
        Ok(())
    }
}

fn told(error: hyper::Error) -> String {
    format!("{error:?}")
}

/// Opens the connections that stay open.
async fn steady(clients: &Clients, seed: u64) -> JoinSet<Option<Outcome>> {
    let mut running = JoinSet::new();
    for number in 0..STEADY {
        let (clients, random) = (clients.clone(), Random::new(seed, number as u64));
        let stream = clients.connect().await.expect("the port is open").expect("a connection");
        running.spawn(async move { Some(clients.use_it(stream, u64::MAX, random).await) });
    }
    running
}

/// Opens connections at a fixed interval until one is refused. Returns their outcomes and the outcomes of the `running`
/// connections.
async fn load(clients: Clients, mut running: JoinSet<Option<Outcome>>, seed: u64) -> Vec<Outcome> {
    let mut connect_times = tokio::time::interval(CONNECT_EVERY);
    // On a busy machine, missed ticks must not open thousands of connections at the same time, because descriptors are
    // limited.
    connect_times.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut outcomes = Vec::new();
    let mut number = STEADY as u64;
    loop {
        tokio::select! {
            _ = connect_times.tick() => {
                let (clients, mut random) = (clients.clone(), Random::new(seed, number));
                number += 1;
                running.spawn(async move {
                    let requests = 1 + random.below(4);
                    match clients.connect().await? {
                        Ok(stream) => Some(clients.use_it(stream, requests, random).await),
                        Err(error) => Some(Err(error)),
                    }
                });
            }
            Some(outcome) = running.join_next() => match outcome.expect("a client does not panic") {
                Some(outcome) => outcomes.push(outcome),
                None => break,
            },
        }
    }
    while let Some(outcome) = running.join_next().await {
        outcomes.extend(outcome.expect("a client does not panic"));
    }
    outcomes
}

/// Starts a front door under load and stops it, several times.
async fn stop_again_and_again(tls: bool, http2: bool) {
    let tls = tls.then(Tls::new);
    let stops = if std::env::var_os("ISOMER_LONG").is_some() { STOPS_LONG } else { STOPS };
    for seed in 0..stops {
        let front = Setup { tls: tls.as_ref().map(|tls| tls.certificates.clone()), ..Setup::default() }.start();
        let answers = Arc::new(AtomicU64::new(0));
        let config = tls.as_ref().map(|tls| tls.client(if http2 { "h2" } else { "http/1.1" }));
        let clients = Clients { address: front.address, tls: config, http2, answers: answers.clone() };
        // These connections are all established before the front door can be stopped.
        let running = steady(&clients, seed).await;
        let loaded = tokio::spawn(load(clients, running, seed));
        let asked = front.resolved.clone();
        let enough = 20 + Random::new(seed, u64::MAX).below(80);
        until("answers", || answers.load(Ordering::Relaxed) >= enough).await;
        let cut_off = within("the end", front.stop()).await.unwrap();
        let outcomes = within("the clients' end", loaded).await.unwrap();
        let lost: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(lost.is_empty(), "seed {seed}: {} of {} clients: {lost:?}", lost.len(), outcomes.len());
        assert_eq!(cut_off, 0, "seed {seed}");
        // Clients get no response to a request that the server announces as not processed. If the server had processed
        // such a request, it would have processed more requests than clients got responses.
        let (asked, answers) = (asked.load(Ordering::Relaxed), answers.load(Ordering::Relaxed));
        assert_eq!(asked, answers, "seed {seed}: requests and answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_http1_is_lost() {
    stop_again_and_again(false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_http1_over_tls_is_lost() {
    stop_again_and_again(true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_http2_is_lost() {
    stop_again_and_again(false, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_http2_over_tls_is_lost() {
    stop_again_and_again(true, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_socket_passes_to_the_next_front_door() {
    let listener = socket();
    let setup = || Setup { shared: true, ..Setup::default() };
    let mut front = setup().start_on(listener.try_clone().unwrap());
    let answers = Arc::new(AtomicU64::new(0));
    let clients = Clients { address: front.address, tls: None, http2: false, answers: answers.clone() };
    let running = steady(&clients, 7).await;
    let loaded = tokio::spawn(load(clients, running, 7));
    for _ in 0..SUCCESSORS {
        let before = answers.load(Ordering::Relaxed);
        until("answers", || answers.load(Ordering::Relaxed) > before + 10).await;
        // The next front door starts after this one has ended. Connections that arrive in the meantime wait in the
        // kernel's queue.
        assert_eq!(within("the end", front.stop()).await.unwrap(), 0);
        front = setup().start_on(listener.try_clone().unwrap());
    }
    // No connection was refused.
    assert!(!loaded.is_finished());
    // The last front door is the only holder of the socket.
    assert_eq!(within("the end", front.stop()).await.unwrap(), 0);
    let last = Setup::default().start_on(listener);
    assert_eq!(within("the end", last.stop()).await.unwrap(), 0);
    let outcomes = within("the clients' end", loaded).await.unwrap();
    let lost: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(lost.is_empty(), "{} of {} clients: {lost:?}", lost.len(), outcomes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_front_door_does_not_wait_for_the_connections_of_its_successor() {
    let listener = socket();
    let setup = |counted_with| Setup { shared: true, counted_with, ..Setup::default() };
    let old = setup(None).start_on(listener.try_clone().unwrap());
    let mut of_old = Http1::new(connect(old.address).await.unwrap());
    of_old.send(head(WAITS)).await.unwrap();
    old.held.arrived(1).await;
    let (connections, held) = (old.connections.clone(), old.held.clone());
    let old = old.stop();
    // The old front door accepts no more connections when its listener has left the queue. Until then, a connection may
    // still arrive at it, and then gets its last response.
    let new = setup(Some(connections.clone())).start_on(listener);
    let mut of_new = loop {
        let mut connection = Http1::new(connect(new.address).await.unwrap());
        if !within("an answer", connection.get("shop.example")).await.unwrap().is_last {
            break connection;
        }
    };
    of_new.send(head(WAITS)).await.unwrap();
    new.held.arrived(1).await;
    until("both connections to be counted", || connections.counts().open == 2).await;
    held.release();
    assert!(within("an answer", of_old.answer()).await.unwrap().is_last);
    assert_eq!(within("the end of the old front door", old).await.unwrap(), 0);
    new.held.release();
    within("an answer", of_new.answer()).await.unwrap();
    assert_eq!(within("the end", new.stop()).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_door_reports_only_its_own_connections_that_were_cut_off() {
    let other = Setup::default().start();
    let _idle = connect(other.address).await.unwrap();
    until("the connection to be taken", || other.connections.counts().open == 1).await;
    let setup = Setup { grace: Duration::ZERO, counted_with: Some(other.connections.clone()), ..Setup::default() };
    let front = setup.start();
    let mut running = Http1::new(connect(front.address).await.unwrap());
    running.send(head(WAITS)).await.unwrap();
    front.held.arrived(1).await;
    assert_eq!(within("the end", front.stop()).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_in_the_kernels_queue_are_served() {
    // No connection is accepted before the front door is stopped.
    let listener = socket();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut connection = Http1::new(connect(address).await.unwrap());
        connection.send(head("shop.example")).await.unwrap();
        waiting.push(connection);
    }
    let serving = Setup::default().drain(listener);
    for mut connection in waiting {
        let answer = within("an answer", connection.answer()).await.unwrap();
        assert!(answer.status == 404 && answer.is_last, "{answer:?}");
    }
    assert_eq!(within("the end", serving).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_gets_a_last_response_after_the_stop() {
    let front = Setup::default().start();
    let mut connection = Http1::new(connect(front.address).await.unwrap());
    let answer = within("an answer", connection.get("shop.example")).await.unwrap();
    assert!(answer.status == 404 && !answer.is_last, "{answer:?}");
    let serving = front.stop();
    // The client does not know yet that the front door drains, so its requests get responses until one response
    // announces the end of the connection.
    let mut answers = 0;
    while !within("an answer", connection.get("shop.example")).await.unwrap().is_last {
        answers += 1;
        assert!(answers < 1_000_000, "it never stops");
    }
    within("the end", connection.closed()).await.unwrap();
    assert_eq!(within("the end", serving).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn running_requests_and_those_that_arrive_while_draining_are_served() {
    let front = Setup::default().start();
    let address = front.address;
    let mut running = Http1::new(connect(address).await.unwrap());
    running.send(head(WAITS)).await.unwrap();
    let mut idle = Http1::new(connect(address).await.unwrap());
    assert_eq!(idle.get("shop.example").await.unwrap().status, 404);
    let mut half = Http1::new(connect(address).await.unwrap());
    assert_eq!(half.get("shop.example").await.unwrap().status, 404);
    half.send("GET / HTTP/1.1\r\nho").await.unwrap();
    let mut silent = Http1::new(connect(address).await.unwrap());
    front.held.arrived(1).await;
    let connections = front.connections.clone();
    until("all connections to be taken", || connections.counts().open == 4).await;
    let held = front.held.clone();
    let serving = front.stop();
    until("the port to be closed", || std::net::TcpStream::connect(address).is_err()).await;
    for connection in [&mut idle, &mut silent] {
        let answer = within("an answer", connection.get("shop.example")).await.unwrap();
        assert!(answer.status == 404 && answer.is_last, "{answer:?}");
        within("the end", connection.closed()).await.unwrap();
    }
    half.send("st: shop.example\r\n\r\n").await.unwrap();
    assert!(within("an answer", half.answer()).await.unwrap().is_last);
    held.release();
    let answer = within("an answer", running.answer()).await.unwrap();
    assert!(answer.status == 500 && answer.is_last, "{answer:?}");
    assert_eq!(within("the end", serving).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed_regularly_after_its_grace() {
    let tls = Tls::new();
    for secured in [None, Some("http/1.1"), Some("h2")] {
        let limits = Limits { idle_grace: Duration::from_millis(20), ..Limits::default() };
        let certificates = secured.map(|_| tls.certificates.clone());
        let front = Setup { limits, tls: certificates, ..Setup::default() }.start();
        let stream = connect(front.address).await.unwrap();
        let mut stream: Box<dyn Stream> = match secured {
            None => Box::new(stream),
            Some(alpn) => secure(stream, tls.client(alpn)).await.unwrap(),
        };
        until("the connection to be taken", || front.connections.counts().open == 1).await;
        let serving = front.stop();
        // Reading over TLS fails if the connection ends without `close_notify`.
        let mut rest = Vec::new();
        within("the end", stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty());
        drop(stream);
        assert_eq!(within("the end", serving).await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_do_not_end_in_time_are_cut_off() {
    let front = Setup { grace: Duration::from_millis(50), ..Setup::default() }.start();
    let mut running = Http1::new(connect(front.address).await.unwrap());
    running.send(head(WAITS)).await.unwrap();
    front.held.arrived(1).await;
    let _silent = connect(front.address).await.unwrap();
    let (connections, _held) = (front.connections.clone(), front.held.clone());
    until("both connections to be taken", || connections.counts().open == 2).await;
    assert_eq!(within("the end", front.stop()).await.unwrap(), 2);
    assert!(within("the end", running.answer()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_not_lost_while_the_request_body_is_unread() {
    const BODY_BYTES: usize = 2 << 20;
    let front = Setup::default().start();
    let mut connection = Http1::new(connect(front.address).await.unwrap());
    let head = format!("POST / HTTP/1.1\r\nhost: shop.example\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
    connection.send(head).await.unwrap();
    // The client reads nothing before it has sent the whole body.
    within("the body", connection.send(vec![0; BODY_BYTES])).await.unwrap();
    assert_eq!(within("an answer", connection.answer()).await.unwrap().status, 404);
}

/// A generator of pseudo-random numbers.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u64, number: u64) -> Self {
        Self((seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03)) | 1)
    }

    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    /// Yields to other tasks a random number of times.
    async fn pause(&mut self) {
        for _ in 0..self.below(8) {
            tokio::task::yield_now().await;
        }
    }
}
