//! All tenants but one hold as much as they get, of everything at once: instances, connections, threads of SQL. The last one comes
//! then, and is served.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::body::whole;
use crate::harness::client::Connection;
use crate::harness::{one, until, within};
use crate::stage;
use crate::world::World;

/// The attack's name, also in `docs/security.md`.
pub(crate) const NAME: &str = "everything that there is, by all tenants but one";

/// Tenants that hold what they get. Together they may have all threads of SQL that are shared.
const GREEDY: u8 = 8;

/// Instances that the node has room for, and requests that each of the greedy ones has it hold.
const INSTANCES: u32 = 64;
const SLEEPERS: usize = 20;

/// Connections of the node, and of one source. The greedy ones have all of them.
const CONNECTIONS: usize = 256;
const CONNECTIONS_OF_SOURCE: usize = CONNECTIONS / GREEDY as usize;

/// Statements at once: more than a tenant has threads.
const STATEMENTS: usize = 20;

const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

/// What a greedy tenant's clients hold.
struct Held {
    tenant: String,
    sleeping: Vec<JoinHandle<u16>>,
    _statements: JoinHandle<u16>,
    _half_open: Vec<TcpStream>,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_tenant_is_served_when_all_others_hold_what_they_can() {
    let _alone = stage::alone().await;
    let limit = |limits: &mut isomer_front::Limits| {
        limits.connections_max = CONNECTIONS;
        limits.connections_per_source_max = CONNECTIONS_OF_SOURCE;
        limits.head_timeout = Duration::from_secs(3600);
    };
    let world = World::sized(INSTANCES, limit, |options| options.instances_max = None).await;
    let grants = "grants.kv = [\"default\"]\ngrants.sql = [\"default\"]\nlimits.request_deadline = \"1h\"\n\
        [sql.default]\nstatement_timeout = \"1h\"";
    let mut held = Vec::new();
    for number in 1..=GREEDY {
        let tenant = format!("greedy-{number}");
        // Its processor time would end its statements, and what it holds is looked at here.
        world.tenant(&tenant, |quotas| quotas.cpu_ms_per_second = u32::MAX);
        world.put(&tenant, "main", &[&format!("{tenant}.test")], &one("hostile", grants));
        held.push(hold(&world, tenant, number).await);
    }
    let refused = |held: &Held| held.sleeping.iter().filter(|request| request.is_finished()).count();
    until("all instances to be taken", async || (refused(&held[held.len() - 1]) > 0).then_some(())).await;
    world.tenant("last", |_| {});
    world.deploy("last", "main", &["last.test"], &one("hostile", grants)).await;
    world.deploy("last", "kv", &["kv.last.test"], &one("kv-probe", "grants.kv = [\"default\"]")).await;
    let from = address(GREEDY + 1);
    for round in 1..=5 {
        assert_eq!(ask(&world, from, "last.test", Method::GET, "/ok", "").await, (200, "ok\n".to_owned()));
        let rows = ask(&world, from, "last.test", Method::POST, "/sql", "SELECT 1").await;
        assert_eq!(rows, (200, "got SELECT 1: 1\n".to_owned()));
        let count = ask(&world, from, "kv.last.test", Method::GET, "/increment?key=n&delta=1", "").await;
        assert_eq!(count, (200, format!("{round}\n")));
    }
    assert!(world.usage("last").refused.is_empty(), "{:?}", world.usage("last"));
    for Held { tenant, sleeping, .. } in held {
        assert!(sleeping.iter().any(|request| !request.is_finished()), "{tenant} has let go what it held");
    }
}

/// The address that a tenant's clients have.
fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, number).into()
}

async fn connect(world: &World, from: IpAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    within("connect", socket.connect(world.address())).await
}

/// Has the node hold what it can for a tenant.
async fn hold(world: &World, tenant: String, number: u8) -> Held {
    let (from, host) = (address(number), format!("{tenant}.test"));
    let open = async || Connection::over(connect(world, from).await.expect("a connection"), false, &host).await;
    let send = |mut connection: Connection, method: Method, target: &str, body: &'static str| {
        let request = connection.request(method, target).body(whole(Bytes::from(body))).expect("a valid request");
        tokio::spawn(async move {
            let answered = connection.try_send(request).await;
            // Its connection stays open, too.
            let status = answered.map_or(0, |response| response.status().as_u16());
            std::mem::forget(connection);
            status
        })
    };
    // They come first: later there may be no instance for them. Nothing else here takes so much processor time.
    let statements = send(open().await, Method::POST, &format!("/sql?at-once={STATEMENTS}"), ENDLESS);
    until("statements to run", async || (world.usage(&tenant).cpu_us > 300_000).then_some(())).await;
    let mut sleeping = Vec::new();
    for _ in 0..SLEEPERS {
        sleeping.push(send(open().await, Method::GET, "/sleep", ""));
    }
    // One whose request has not come yet would be closed for the next one.
    until("the requests to come", async || {
        let refused = sleeping.iter().filter(|request: &&JoinHandle<u16>| request.is_finished()).count();
        (world.usage(&tenant).requests_now as usize + refused == 1 + SLEEPERS).then_some(())
    })
    .await;
    let mut half_open = Vec::new();
    for _ in 0..CONNECTIONS_OF_SOURCE {
        let mut stream = connect(world, from).await.expect("a connection");
        // It may be closed for the next one.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: gre").await;
        half_open.push(stream);
    }
    Held { tenant, sleeping, _statements: statements, _half_open: half_open }
}

/// A request over a connection of its own from this address.
async fn ask(
    world: &World,
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
    let body = within("the whole answer", response.into_body().collect()).await.expect("the whole answer");
    (status, String::from_utf8_lossy(&body.to_bytes()).into_owned())
}
