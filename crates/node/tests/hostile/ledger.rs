//! What the host holds for a tenant is charged to it: attacks on the host's own memory, at as many requests at once as the tenant may
//! have, beside a neighbour. The process may grow by what the tenants are charged and by [`UNCHARGED_BYTES_MAX`], whatever the attack is.
//!
//! Each attack has a process of its own, which is this test program again, since memory that an allocator has once taken it keeps.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{join, join_all};
use http::Method;
use http_body_util::BodyExt as _;
use isomer_node::revision::Components;

use crate::harness::body::{repeated, whole};
use crate::harness::one;
use crate::vitals::resident_bytes;
use crate::wat;
use crate::world::World;

/// Names the attack that a process is to make.
const ATTACK: &str = "ISOMER_TEST_LEDGER";

/// What a process may grow by beyond what its tenants are charged: code, the arguments of the calls that the executor's threads are
/// in (32 MiB each), what connections hold before it is known for whom, the log's queue, what the allocator keeps.
const UNCHARGED_BYTES_MAX: u64 = 320 << 20;

/// A process that has grown by so much is ended before it hurts the machine.
const RUNAWAY_BYTES: u64 = 3 << 30;

/// How long requests of the attacker run.
const DEADLINE_MS: u64 = 4000;

/// An attack on the host's memory.
struct Hoard {
    name: &'static str,
    target: &'static str,
    client: Client,
    /// Requests at once.
    at_once: usize,
}

/// What the client of the attack does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    /// Reads the answer.
    Reads,
    /// Sends without an end, over HTTP/2.
    Sends,
    /// Reads only the head of the answer, over HTTP/2.
    ReadsNot,
}

/// All of them; the names are also in `docs/security.md`.
const HOARDS: &[Hoard] = &[
    Hoard { name: "fields in many requests", target: "/kept-fields", client: Client::Reads, at_once: 256 },
    Hoard { name: "values behind handles", target: "/kept-values", client: Client::Reads, at_once: 32 },
    Hoard { name: "names as long as a call can pass", target: "/long-names", client: Client::Reads, at_once: 16 },
    Hoard { name: "globals without number", target: GLOBALS, client: Client::Reads, at_once: 256 },
    Hoard { name: "bodies that no guest reads", target: "/sleep", client: Client::Sends, at_once: 128 },
    Hoard { name: "bodies that no client reads", target: "/body", client: Client::ReadsNot, at_once: 128 },
];

/// The target of the component that has globals.
const GLOBALS: &str = "/globals";

/// The names of all of them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    HOARDS.iter().map(|hoard| hoard.name)
}

#[test]
fn what_the_host_holds_is_charged_to_who_caused_it() {
    if let Ok(name) = std::env::var(ATTACK) {
        let hoard = HOARDS.iter().find(|hoard| hoard.name == name).expect("an attack of the list");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(suffer(hoard));
    }
    for hoard in HOARDS {
        let this = std::env::current_exe().expect("this program");
        let made = Command::new(this)
            .args(["--exact", "ledger::what_the_host_holds_is_charged_to_who_caused_it", "--nocapture"])
            .env(ATTACK, hoard.name)
            .output();
        let made = made.expect("this program starts");
        let said = [made.stdout, made.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(made.status.success(), "{}: {}\n{said}", hoard.name, made.status);
    }
}

async fn suffer(hoard: &Hoard) {
    let world = Arc::new(World::of(&["attacker", "neighbour"], |options| options.instances_max = None).await);
    // It asks as fast as it is answered.
    world.tenant("neighbour", |quotas| (quotas.requests_per_second, quotas.requests_burst) = (u32::MAX, u32::MAX));
    let limits = format!("limits.memory = \"64MiB\"\nlimits.request_deadline = \"{DEADLINE_MS}ms\"");
    let manifest = one("hostile", &format!("grants.kv = [\"default\"]\n{limits}"));
    let revision = world.make_of("attacker", "main", &manifest, |app| {
        if hoard.target == GLOBALS {
            app.components.keys().map(|name| (name.clone(), globals().into())).collect::<Components>()
        } else {
            crate::harness::components(app)
        }
    });
    world.put_made("attacker", "main", &["attacker.test"], &revision);
    world.deploy("neighbour", "main", &["neighbour.test"], &one("http-hello", "")).await;
    // What is made once is made before anything is measured.
    neighbour_is_served(&world).await;
    world.get("attacker.test", "/ok").await;
    let watch = Watch::start(&world);
    let over = AtomicBool::new(false);
    let attacking = async {
        join_all((0..hoard.at_once).map(|_| attack(&world, hoard))).await;
        over.store(true, Ordering::Relaxed);
    };
    let working = async {
        loop {
            neighbour_is_served(&world).await;
            if over.load(Ordering::Relaxed) {
                break;
            }
        }
    };
    join(attacking, working).await;
    neighbour_is_served(&world).await;
    let Seen { grown, charged, excess } = watch.stop();
    let figures = format!("grown {} MiB, charged {} MiB, excess {} MiB", grown >> 20, charged >> 20, excess >> 20);
    println!("{}: {figures}", hoard.name);
    assert!(excess <= UNCHARGED_BYTES_MAX, "{figures}");
}

async fn neighbour_is_served(world: &World) {
    assert_eq!(world.get("neighbour.test", "/").await.ok(), "hello from WASI 0.3\n");
}

/// What the node makes of it is looked at elsewhere: here it may be refused, stopped or served.
async fn attack(world: &World, hoard: &Hoard) {
    let http2 = hoard.client != Client::Reads;
    let mut connection = world.connect_with("attacker.test", http2).await;
    let (method, body) = match hoard.client {
        Client::Sends => (Method::POST, repeated(vec![b'x'; 16 << 10].into(), 1 << 20)),
        Client::Reads | Client::ReadsNot => (Method::GET, whole("")),
    };
    let request = connection.request(method, hoard.target).body(body).expect("a valid request");
    let Ok(response) = connection.try_send(request).await else { return };
    if hoard.client == Client::ReadsNot {
        // The deadline is over.
        tokio::time::sleep(Duration::from_millis(DEADLINE_MS)).await;
    }
    let mut body = response.into_body();
    while let Some(Ok(_)) = body.frame().await {}
}

/// A component with as many globals as its instances may nearly have.
fn globals() -> Vec<u8> {
    wat::handler(&"(global (mut v128) (v128.const i64x2 1 1))".repeat(200_000), "")
}

/// The most that was seen.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Bytes that the process had more than at the beginning.
    grown: u64,
    /// Bytes that the tenants were charged.
    charged: u64,
    /// Bytes that the process had grown by more than the most that had been charged until then.
    excess: u64,
}

/// A thread that looks at the process's memory all the while.
struct Watch {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn start(world: &Arc<World>) -> Self {
        let (seen, over) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let (world, noted, told) = (world.clone(), seen.clone(), over.clone());
        let baseline = resident_bytes();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let charged: u64 = ["attacker", "neighbour"].map(|it| world.usage(it).memory_bytes).iter().sum();
                let grown = resident_bytes().saturating_sub(baseline);
                let mut seen = noted.lock().expect("nobody panics with it");
                seen.grown = seen.grown.max(grown);
                seen.charged = seen.charged.max(charged);
                seen.excess = seen.excess.max(grown.saturating_sub(seen.charged));
                if grown > RUNAWAY_BYTES {
                    eprintln!("{seen:?}");
                    std::process::abort();
                }
                drop(seen);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { seen, over, thread }
    }

    fn stop(self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch does not panic");
        *self.seen.lock().expect("nobody panics with it")
    }
}
