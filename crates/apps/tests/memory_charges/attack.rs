//! The work of a child process: it makes attacks, and measures its own memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{join, join_all};
use http::Method;
use http_body_util::BodyExt as _;
use isomer_seam::Components;

use crate::attacks::AttackRequest;
use crate::disk_attacks::{GRANT, STORAGE_BYTES, make_links};
use crate::groups::ConcurrentAttack;
use crate::harness::body::{pieces, repeated, whole};
use crate::harness::{one, within};
use crate::process_resources::resident_bytes;
use crate::watch::{MemoryPeaks, Watch};
use crate::world::TestTenancy;

/// The maximum number of bytes that a process may grow by in addition to the bytes charged to its tenants. This memory
/// contains code, the arguments of calls on the executor's threads (32 MiB each), data of connections before their
/// tenant is known, the log's queue, and freed memory that the allocator keeps.
const UNCHARGED_BYTES_MAX: u64 = 320 << 20;

/// The number of instances of the node. It exceeds a tenant's maximum number of requests, so an attack is limited by
/// the tenant's quotas, not by this number.
const INSTANCES: u32 = 2048;

/// The number of bytes of a response's body that are checked.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Makes the attacks one after another, on one node.
pub(crate) async fn attack(attacks: &[ConcurrentAttack]) {
    let world = Arc::new(TestTenancy::sized(INSTANCES, |_| {}, |options| options.instances_max = None).await);
    // The neighbour needs a high quota, because it sends the next request as soon as it has a response.
    world.tenant("neighbour", |quotas| (quotas.requests_per_second, quotas.requests_burst) = (u32::MAX, u32::MAX));
    // With lower quotas of requests and processor time, the attacker would be stopped before it uses memory.
    world.tenant("attacker", |quotas| {
        (quotas.requests_per_second, quotas.requests_burst) = (u32::MAX, u32::MAX);
        quotas.cpu_ms_per_second = u32::MAX;
        quotas.storage_bytes = STORAGE_BYTES;
    });
    for (number, attack) in attacks.iter().enumerate() {
        let manifest = one(
            "hostile",
            &format!(
                "grants.kv = [\"default\"]\ngrants.sql = [\"default\"]\ngrants.http = [\"localhost\"]\n{}\n\
                limits.memory = \"64MiB\"\nlimits.request_deadline = \"{}ms\"\n[sql.default]\nstatement_timeout = \"1h\"",
                GRANT, attack.deadline_ms
            ),
        );
        let (app, hosts) = (format!("app-{number}"), [host(number)]);
        make_links(&world.folder().join("attacker").join(&app).join("dirs"));
        let revision = world.make_of("attacker", &app, &manifest, |app| match &attack.component {
            Some(bytes) => {
                app.components.keys().map(|name| (name.clone(), bytes.clone().into())).collect::<Components>()
            }
            None => crate::harness::components(app),
        });
        world.put_made("attacker", &app, &hosts.each_ref().map(String::as_str), &revision);
    }
    world.deploy("neighbour", "main", &["neighbour.test"], &one("http-hello", "")).await;
    // The first requests do all initialisation that happens only once, so that later measurements do not include it.
    neighbour_is_served(&world).await;
    for (number, attack) in attacks.iter().enumerate() {
        if attack.component.is_none() {
            world.get(&host(number), "/ok").await;
        }
    }
    let baseline = resident_bytes();
    for (number, attack) in attacks.iter().enumerate() {
        bear(&world, attack, &host(number), baseline).await;
    }
}

/// Returns the host name of the app that makes the attack `number`.
fn host(number: usize) -> String {
    format!("attack-{number}.test")
}

/// Runs an attack while the neighbour sends requests, and checks the growth of the process.
async fn bear(world: &Arc<TestTenancy>, attack: &ConcurrentAttack, host: &str, baseline: u64) {
    let name = attack.name;
    let watch = Watch::start(world, name, baseline);
    let over = AtomicBool::new(false);
    let attacking = async {
        let outcomes = join_all((0..attack.at_once).map(|_| make(world, attack, host)));
        let outcomes = within(name, outcomes).await;
        over.store(true, Ordering::Relaxed);
        outcomes
    };
    let working = async {
        let mut served = 0;
        loop {
            neighbour_is_served(world).await;
            served += 1;
            if over.load(Ordering::Relaxed) {
                return served;
            }
        }
    };
    let (outcomes, served) = join(attacking, working).await;
    neighbour_is_served(world).await;
    let MemoryPeaks { grown, charged, excess } = watch.stop();
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for Outcome { status, text } in &outcomes {
        *statuses.entry(*status).or_default() += 1;
        for never in attack.never {
            assert!(!text.contains(never), "{name}: contains `{never}`: {text}");
        }
    }
    let figures = format!(
        "{name}: grown {} MiB, charged {} MiB, excess {} MiB, neighbour served {served} times, responses {statuses:?}",
        grown >> 20,
        charged >> 20,
        excess >> 20
    );
    println!("{figures}");
    assert!(excess <= UNCHARGED_BYTES_MAX, "{figures}");
    // If all requests had one of these statuses, no guest would have run, and the attack would have tested nothing.
    assert!(statuses.keys().any(|status| ![0, 404, 429, 503].contains(status)), "{figures}");
}

async fn neighbour_is_served(world: &TestTenancy) {
    assert_eq!(world.get("neighbour.test", "/").await.ok(), "hello from WASI 0.3\n");
}

/// The result of one request. It may be refused, stopped or served; other tests check which.
struct Outcome {
    /// The status of the response; 0 means no response.
    status: u16,
    /// The first part of the response's body, as text.
    text: String,
}

async fn make(world: &TestTenancy, attack: &ConcurrentAttack, host: &str) -> Outcome {
    let mut connection = world.connect_with(host, attack.http2).await;
    let mut kept = None;
    let (method, path, body) = match attack.ask {
        AttackRequest::Get(path) | AttackRequest::Storm(path, _) | AttackRequest::Unread(path) => {
            (Method::GET, path, whole(""))
        }
        AttackRequest::Post(path, body) => (Method::POST, path, whole(body)),
        AttackRequest::Endless(path) => {
            (Method::POST, path, repeated(Bytes::from(vec![b'x'; 16 << 10]), usize::MAX >> 20))
        }
        AttackRequest::Stalled(path) => {
            let (sender, body) = pieces();
            kept = Some(sender);
            (Method::POST, path, body)
        }
    };
    let separator = if path.contains('?') { '&' } else { '?' };
    let target = format!("/{path}{separator}url=localhost:{}", world.address().port());
    let request = connection.request(method, &target).body(body).expect("a valid request");
    let mut outcome = Outcome { status: 0, text: String::new() };
    let Ok(response) = connection.try_send(request).await else { return outcome };
    outcome.status = response.status().as_u16();
    if matches!(attack.ask, AttackRequest::Unread(_)) {
        // The client reads nothing until the deadline has passed.
        tokio::time::sleep(Duration::from_millis(attack.deadline_ms)).await;
    }
    let mut body = response.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        let data = frame.into_data().unwrap_or_default();
        let left = TEXT_BYTES_MAX - outcome.text.len().min(TEXT_BYTES_MAX);
        outcome.text += &String::from_utf8_lossy(&data[..data.len().min(left)]);
    }
    drop(kept);
    outcome
}
