//! The memory that the host holds for a tenant is charged to that tenant. Each attack is made by as many concurrent
//! requests as a tenant may have, while a neighbour is served. During any attack, the process may grow by the bytes
//! charged to the tenants plus [`UNCHARGED_BYTES_MAX`].
//!
//! Child processes, which run this test program, make the attacks, because an allocator keeps freed memory. Each attack
//! on the host's own memory has its own process. The other attacks run one after another, in one process per kind. All
//! attacks together take minutes, so an ordinary run makes only a quarter of the attacks that share a process:
//! `ISOMER_SEED=N` selects the quarter, and `ISOMER_LONG=1` makes all attacks.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{join, join_all};
use http::Method;
use http_body_util::BodyExt as _;
use isomer_seam::Components;

use crate::attacked_node::make_links;
use crate::attacks::{AttackRequest, CORPUS};
use crate::disk::{self, ON_DISK};
use crate::harness::body::{pieces, repeated, whole};
use crate::harness::{one, within};
use crate::instantiation::STARTS;
use crate::process_resources::resident_bytes;
use crate::wat_components;
use crate::world::TestTenancy;

/// The environment variable that selects the group of attacks that a child process makes.
const GROUP: &str = "ISOMER_TEST_LEDGER";

/// The environment variable that selects every fourth attack of a group, starting at the given index. If it is not set,
/// all attacks of the group are made.
const QUARTER: &str = "ISOMER_TEST_LEDGER_QUARTER";

/// The number of ordinary runs that together make all attacks.
const QUARTERS: usize = 4;

/// The number of child processes that run concurrently.
const PROCESSES: usize = 2;

/// The maximum number of bytes that a process may grow by in addition to the bytes charged to its tenants. This memory
/// contains code, the arguments of calls on the executor's threads (32 MiB each), data of connections before their
/// tenant is known, the log's queue, and freed memory that the allocator keeps.
const UNCHARGED_BYTES_MAX: u64 = 320 << 20;

/// A process that grows by more than this number of bytes is ended, before it affects the machine.
const RUNAWAY_BYTES: u64 = 3 << 30;

/// The number of concurrent requests of an attack: the default quota of a tenant.
const AT_ONCE: usize = 256;

/// The number of instances of the node. It exceeds the number of a tenant's requests, so that quotas are the limit.
const INSTANCES: u32 = 2048;

/// The deadline of the attacker's requests, in milliseconds.
const DEADLINE_MS: u64 = 1000;

/// The deadline of the attacker's requests if the attack needs time to accumulate memory, in milliseconds.
const LONG_DEADLINE_MS: u64 = 4000;

/// The number of bytes of a response's body that are checked.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// An attack that is defined in this file, because it needs many concurrent requests.
struct Hoard {
    name: &'static str,
    ask: AttackRequest,
    http2: bool,
    at_once: usize,
}

/// All attacks that are defined in this file. `docs/reference/attacks.md` also lists their names.
const HOARDS: &[Hoard] = &[
    Hoard { name: "fields in many requests", ask: AttackRequest::Get("kept-fields"), http2: false, at_once: AT_ONCE },
    Hoard { name: "values behind handles", ask: AttackRequest::Get("kept-values"), http2: false, at_once: 32 },
    Hoard { name: "names of maximum length", ask: AttackRequest::Get("long-names"), http2: false, at_once: 16 },
    Hoard { name: GLOBALS, ask: AttackRequest::Get(""), http2: false, at_once: AT_ONCE },
    Hoard { name: "bodies that no guest reads", ask: AttackRequest::Endless("sleep"), http2: true, at_once: 128 },
    Hoard { name: "bodies that no client reads", ask: AttackRequest::Unread("body"), http2: true, at_once: 128 },
];

/// The name of the attack by a component with many globals.
const GLOBALS: &str = "many globals";

/// Returns the names of all attacks that are defined in this file.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    HOARDS.iter().map(|hoard| hoard.name)
}

/// An attack that is made by concurrent requests.
struct ConcurrentAttack {
    name: &'static str,
    ask: AttackRequest,
    http2: bool,
    at_once: usize,
    deadline_ms: u64,
    /// The component that makes the attack, or `None` for the guest `hostile`.
    component: Option<Vec<u8>>,
    /// Texts that no response may contain.
    never: &'static [&'static str],
}

/// Returns all attacks, by the group of attacks that share a process.
fn groups() -> BTreeMap<&'static str, Vec<ConcurrentAttack>> {
    let crowd = |name, ask| ConcurrentAttack {
        name,
        ask,
        http2: false,
        at_once: AT_ONCE,
        deadline_ms: DEADLINE_MS,
        component: None,
        never: &[],
    };
    let mut groups: BTreeMap<&'static str, Vec<ConcurrentAttack>> = BTreeMap::new();
    for attack in CORPUS {
        let group = if attack.kind == "hoards" { attack.name } else { attack.kind };
        groups
            .entry(group)
            .or_default()
            .push(ConcurrentAttack { never: attack.must.never, ..crowd(attack.name, attack.ask) });
    }
    for attack in ON_DISK {
        groups.entry("disk").or_default().push(ConcurrentAttack { never: &["got "], ..crowd(attack.name, attack.ask) });
    }
    for start in STARTS {
        let component = Some(wat_components::handler(start.fields, start.body));
        groups
            .entry("starts")
            .or_default()
            .push(ConcurrentAttack { component, ..crowd(start.name, AttackRequest::Get("")) });
    }
    for &Hoard { name, ask, http2, at_once } in HOARDS {
        let component = (name == GLOBALS).then(globals);
        let deadline_ms = LONG_DEADLINE_MS;
        groups.insert(name, vec![ConcurrentAttack { http2, at_once, deadline_ms, component, ..crowd(name, ask) }]);
    }
    groups
}

#[test]
fn host_memory_is_charged_to_the_tenant_that_caused_it() {
    let mut groups = groups();
    if let Ok(name) = std::env::var(GROUP) {
        let mut attacks = groups.remove(&*name).expect("a group of the list");
        if let Ok(quarter) = std::env::var(QUARTER)
            && attacks.len() > 1
        {
            let quarter: usize = quarter.parse().expect("a number");
            let step = QUARTERS.min(attacks.len());
            attacks = attacks.into_iter().skip(quarter % step).step_by(step).collect();
        }
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(attack(&attacks));
    }
    let made: usize = groups.values().map(Vec::len).sum();
    assert_eq!(made, CORPUS.len() + ON_DISK.len() + STARTS.len() + HOARDS.len(), "each attack is in a group");
    let quarter = quarter();
    // The groups that take longest come first.
    let mut names: Vec<&str> = groups.keys().copied().collect();
    names.sort_by_key(|name| std::cmp::Reverse(groups[name].iter().map(|attack| attack.deadline_ms).sum::<u64>()));
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..PROCESSES {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(output) = run(name, quarter) {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(output);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Returns the number that selects a quarter of the attacks that share a process, or `None` to make all attacks.
fn quarter() -> Option<u64> {
    if std::env::var_os("ISOMER_LONG").is_some_and(|value| !value.is_empty() && value != "0") {
        return None;
    }
    let seed = match std::env::var("ISOMER_SEED") {
        Ok(text) => text.parse().expect("ISOMER_SEED is a number"),
        Err(_) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.expect("the clock is after 1970").as_secs() % QUARTERS as u64
        }
    };
    println!("ISOMER_SEED={seed}");
    Some(seed)
}

/// Starts a child process that makes the attacks of a group, and waits until it ends.
///
/// # Errors
/// If the process fails; the error is its output.
fn run(group: &str, quarter: Option<u64>) -> Result<(), String> {
    let started_at = Instant::now();
    let made = Command::new(std::env::current_exe().expect("this program"))
        .envs(quarter.map(|quarter| (QUARTER, quarter.to_string())))
        .args(["--exact", "memory_charges::host_memory_is_charged_to_the_tenant_that_caused_it", "--nocapture"])
        .env(GROUP, group)
        .output();
    let made = made.expect("this program starts");
    let output = [made.stdout, made.stderr].map(|output| String::from_utf8_lossy(&output).into_owned()).concat();
    println!("{group} ({:.1} s):\n{output}", started_at.elapsed().as_secs_f32());
    if made.status.success() { Ok(()) } else { Err(format!("{group}: {}\n{output}", made.status)) }
}

async fn attack(attacks: &[ConcurrentAttack]) {
    let world = Arc::new(TestTenancy::sized(INSTANCES, |_| {}, |options| options.instances_max = None).await);
    // The neighbour needs a high quota, because it sends the next request as soon as it has a response.
    world.tenant("neighbour", |quotas| (quotas.requests_per_second, quotas.requests_burst) = (u32::MAX, u32::MAX));
    // With lower quotas of requests and processor time, the attacker would be stopped before it uses memory.
    world.tenant("attacker", |quotas| {
        (quotas.requests_per_second, quotas.requests_burst) = (u32::MAX, u32::MAX);
        quotas.cpu_ms_per_second = u32::MAX;
        quotas.storage_bytes = disk::STORAGE_BYTES;
    });
    for (number, attack) in attacks.iter().enumerate() {
        let manifest = one(
            "hostile",
            &format!(
                "grants.kv = [\"default\"]\ngrants.sql = [\"default\"]\ngrants.http = [\"localhost\"]\n{}\n\
                limits.memory = \"64MiB\"\nlimits.request_deadline = \"{}ms\"\n[sql.default]\nstatement_timeout = \"1h\"",
                disk::GRANT,
                attack.deadline_ms
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

/// Returns a component whose instances have nearly as many globals as they may have.
fn globals() -> Vec<u8> {
    wat_components::handler(&"(global (mut v128) (v128.const i64x2 1 1))".repeat(200_000), "")
}

/// The maximums that were measured, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct MemoryPeaks {
    /// The growth of the process's resident memory since the start.
    grown: u64,
    /// The memory that was charged to all tenants together.
    charged: u64,
    /// The growth of the process minus the maximum that was charged until then.
    excess: u64,
}

/// A thread that repeatedly measures the process's memory.
struct Watch {
    seen: Arc<Mutex<MemoryPeaks>>,
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn start(world: &Arc<TestTenancy>, attack: &'static str, baseline: u64) -> Self {
        let (seen, over) = (Arc::new(Mutex::new(MemoryPeaks::default())), Arc::new(AtomicBool::new(false)));
        let (world, noted, is_over) = (world.clone(), seen.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let charged: u64 = ["attacker", "neighbour"].map(|it| world.usage(it).memory_bytes).iter().sum();
                let grown = resident_bytes().saturating_sub(baseline);
                let mut seen = noted.lock().expect("no thread panics with it");
                seen.grown = seen.grown.max(grown);
                seen.charged = seen.charged.max(charged);
                seen.excess = seen.excess.max(grown.saturating_sub(seen.charged));
                if grown > RUNAWAY_BYTES {
                    eprintln!("{attack}: {seen:?}");
                    std::process::abort();
                }
                drop(seen);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { seen, over, thread }
    }

    fn stop(self) -> MemoryPeaks {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch does not panic");
        *self.seen.lock().expect("no thread panics with it")
    }
}
