//! All tenants except one use as many instances, connections and SQL statements as they can at the same time. The last
//! tenant must still be served.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::attacked_node;
use crate::harness::body::whole;
use crate::harness::client::Connection;
use crate::harness::{one, until, within};
use crate::world::TestTenancy;

/// The name of the attack, which `docs/reference/attacks.md` also lists.
pub(crate) const NAME: &str = "all resources, by all tenants but one";

/// The number of greedy tenants, which use as many resources as they can.
const GREEDY: u8 = 8;

/// The number of SQL threads that the greedy tenants use: two for the reads of each store. This test leaves some
/// threads free, because endless statements on all threads would use the processor time of the other tests. The test in
/// `crates/capabilities/tests/guests/charges.rs` checks that a tenant gets a thread when all threads are busy.
const SQL_THREADS: usize = 2 * GREEDY as usize;

/// The number of apps of each greedy tenant. The maximum number of instances of one app is lower than that of a tenant,
/// so a tenant needs several apps to reach its maximum.
const APPS: usize = 3;

/// The maximum number of instances of the node.
const INSTANCES: u32 = 64;
const SLEEPERS: usize = 20;

/// The maximum number of connections of the node, all of which the greedy tenants use.
const CONNECTIONS: usize = 256;
const CONNECTIONS_OF_SOURCE: usize = CONNECTIONS / GREEDY as usize;

/// The number of concurrent statements of a tenant, which is higher than the number of threads for a store.
const STATEMENTS: usize = 20;

const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

/// A tenant whose clients use as many resources as they can.
struct Greedy {
    name: String,
    from: IpAddr,
    requests: usize,
    running: Vec<JoinHandle<()>>,
    /// The number of the tenant's requests that were refused because there was no free instance.
    refused: Arc<AtomicUsize>,
    half_open: Vec<TcpStream>,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_tenant_is_served_when_all_others_use_their_quotas() {
    let _exclusive = attacked_node::exclusive().await;
    let limit = |limits: &mut isomer_front::Limits| {
        limits.connections_max = CONNECTIONS;
        limits.connections_per_source_max = CONNECTIONS_OF_SOURCE;
        limits.head_timeout = Duration::from_secs(3600);
    };
    let world = TestTenancy::sized(INSTANCES, limit, |options| options.instances_max = None).await;
    let grants = "grants.kv = [\"default\"]\ngrants.sql = [\"default\"]\nlimits.request_deadline = \"1h\"\n\
        [sql.default]\nstatement_timeout = \"1h\"";
    let mut all = Vec::new();
    for number in 1..=GREEDY {
        let mut greedy = Greedy::new(number);
        // With a lower quota of processor time, the tenant's statements would end. This test is about the resources
        // that running statements use.
        world.tenant(&greedy.name, |quotas| quotas.cpu_ms_per_second = u32::MAX);
        for app in 0..APPS {
            world.put(&greedy.name, &format!("app-{app}"), &[&greedy.host(app)], &one("hostile", grants));
        }
        greedy.send(&world, 0, Method::POST, &format!("/sql?at-once={STATEMENTS}"), ENDLESS).await;
        all.push(greedy);
    }
    until("the statements to run", async || (sql_threads() >= SQL_THREADS).then_some(())).await;
    for greedy in &mut all {
        for number in 0..SLEEPERS {
            greedy.send(&world, number % APPS, Method::GET, "/sleep", "").await;
        }
        greedy.half_open(&world).await;
    }
    let last = &all[all.len() - 1];
    until("all instances to be taken", async || (last.refused.load(Ordering::Relaxed) > 0).then_some(())).await;
    world.tenant("last", |_| {});
    world.deploy("last", "main", &["last.test"], &one("hostile", grants)).await;
    let from = address(GREEDY + 1);
    // On a node with so few instances, the guaranteed share of a tenant is one instance, so a request may wait until
    // the previous request has ended.
    for _ in 0..5 {
        assert_eq!(served(&world, from, Method::GET, "/ok", "").await, "ok\n");
        assert_eq!(served(&world, from, Method::POST, "/sql", "SELECT 1").await, "got SELECT 1: 1\n");
        assert_eq!(served(&world, from, Method::GET, "/large-value?bytes=10", "").await, "set\n");
    }
    assert!(world.usage("last").refused.is_empty(), "{:?}", world.usage("last"));
    for Greedy { name, running, refused, .. } in &all {
        assert!(running.iter().all(|request| !request.is_finished()), "{name} lost a request");
        // The tenant's statements use its only guaranteed instance, so all its other requests may be refused.
        assert!(refused.load(Ordering::Relaxed) <= SLEEPERS, "{name} has no instance");
    }
    // The requests are aborted, because closing a store waits for the threads that still run its statements.
    for request in all.iter().flat_map(|greedy| &greedy.running) {
        request.abort();
    }
    for Greedy { name, .. } in &all {
        until("the requests to end", async || (world.usage(name).requests_now == 0).then_some(())).await;
    }
}

/// Returns the number of SQL threads of this process.
fn sql_threads() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("this process's own folder");
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "isomer-sql").count()
}

/// Returns the IP address that the clients of a tenant use.
fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, number).into()
}

async fn connect(world: &TestTenancy, from: IpAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    within("connect", socket.connect(world.address())).await
}

impl Greedy {
    fn new(number: u8) -> Self {
        let (name, from) = (format!("greedy-{number}"), address(number));
        Self { name, from, requests: 0, running: Vec::new(), refused: Arc::default(), half_open: Vec::new() }
    }

    fn host(&self, app: usize) -> String {
        format!("app-{app}.{}.test", self.name)
    }

    /// Sends a request over a new connection. Returns when the request has reached the guest or was refused.
    async fn send(&mut self, world: &TestTenancy, app: usize, method: Method, target: &str, body: &'static str) {
        let stream = connect(world, self.from).await.expect("a connection");
        let mut connection = Connection::over(stream, false, &self.host(app)).await;
        let request = connection.request(method, target).body(whole(Bytes::from(body))).expect("a valid request");
        let refused = self.refused.clone();
        self.running.push(tokio::spawn(async move {
            let response = connection.try_send(request).await.expect("a response");
            assert_eq!(response.status(), 503, "the request is refused");
            refused.fetch_add(1, Ordering::Relaxed);
            // The connection is also kept open after a refused request.
            std::future::pending::<()>().await;
        }));
        self.requests += 1;
        // Wait for the request, because the node would close a connection without a request to make room for the next
        // connection.
        until("the request to be in progress or refused", async || {
            let refused = self.refused.load(Ordering::Relaxed);
            (world.usage(&self.name).requests_now as usize + refused >= self.requests).then_some(())
        })
        .await;
    }

    /// Opens the maximum number of connections that one address may have, each with an incomplete request.
    async fn half_open(&mut self, world: &TestTenancy) {
        for _ in 0..CONNECTIONS_OF_SOURCE {
            let mut stream = connect(world, self.from).await.expect("a connection");
            // The write fails if the node has already closed this connection to make room for another one.
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: gre").await;
            self.half_open.push(stream);
        }
    }
}

/// Sends a request to the last tenant's app, checks that it is served, and returns the response's body.
async fn served(world: &TestTenancy, from: IpAddr, method: Method, target: &str, body: &'static str) -> String {
    let (status, text) = ask(world, from, "last.test", method, target, body).await;
    assert_eq!(status, 200, "{target}: {text}");
    text
}

/// Sends a request over a new connection from the IP address `from`. Returns the status and the body of the response.
async fn ask(
    world: &TestTenancy,
    from: IpAddr,
    host: &str,
    method: Method,
    target: &str,
    body: &'static str,
) -> (u16, String) {
    let stream = connect(world, from).await.expect("a connection");
    let mut connection = Connection::over(stream, false, host).await;
    let request = connection.request(method, target).body(whole(Bytes::from(body))).expect("a valid request");
    let response = connection.send(request).await;
    let status = response.status().as_u16();
    let body = within("the whole response", response.into_body().collect()).await.expect("the whole response");
    (status, String::from_utf8_lossy(&body.to_bytes()).into_owned())
}
