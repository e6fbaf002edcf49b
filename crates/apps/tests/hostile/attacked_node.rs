//! The attacked node, which serves an attacker and a neighbour, and the checks after each attack.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use crate::attacks::{Attack, AttackRequest};
use crate::disk_attacks::make_links;
use crate::harness::body::{Body, pieces, repeated, whole};
use crate::harness::client::Connection;
use crate::harness::{Setup, TestNode, until, within};
use crate::process_resources::{self, ProcessResources};

/// The deadline of the attacker's requests.
pub(crate) const DEADLINE_MS: u64 = 400;

/// The maximum number of repetitions of an attack that had no effect before its deadline. This happens if the machine
/// is busy with other tests.
const REPEATS_MAX: usize = 10;

/// The number of connections that an SQL store keeps open.
const SQL_CONNECTIONS: usize = 3;

/// Locks a mutex, so that only one attack runs at a time. Each attack measures the resources of the whole process.
pub(crate) async fn exclusive() -> MutexGuard<'static, ()> {
    static EXCLUSIVE: Mutex<()> = Mutex::const_new(());
    EXCLUSIVE.lock().await
}

/// A node that serves two components: an attacker, and a neighbour that receives ordinary requests.
pub(crate) struct AttackedNode {
    node: TestNode,
}

/// The result of one request of an attack, as its client sees it.
#[derive(Debug, Default)]
struct Outcome {
    status: u16,
    /// The request ID, if the response is a problem that the platform has sent.
    id: Option<String>,
    /// The first part of the response's body, as text.
    text: String,
    /// Whether the response was cut off.
    broken: bool,
}

/// The maximum number of bytes of a body that are stored. The rest of the body is discarded.
const TEXT_BYTES_MAX: usize = 64 << 10;

impl AttackedNode {
    /// Starts the node.
    pub(crate) async fn open() -> Self {
        let manifest = format!(
            r#"
            [components.hostile]
            wasm = "hostile"
            routes = ["/hostile/..."]
            isolate = true
            grants.kv = ["default"]
            grants.sql = ["default"]
            grants.http = ["127.0.0.1"]
            grants.dirs = [{{ host = "shared", guest = "/data", write = true }}]
            limits.memory = "64MiB"
            limits.request_deadline = "{DEADLINE_MS}ms"
            [sql.default]
            statement_timeout = "1h"
            [components.neighbour]
            wasm = "http-hello"
            routes = ["/neighbour/..."]
            isolate = true
            grants.kv = ["own"]
            grants.sql = ["own"]
            "#
        );
        let setup = Setup::new(&manifest).options(|options| {
            // There is one instance, which serves only one request. So the next request gets the same slot of the pool.
            options.instances_max = Some(1);
            options.requests_per_instance_max = Some(1);
        });
        make_links(setup.folder());
        let stage = Self { node: setup.start().await };
        // The first requests do all initialisation that happens only once, so that later measurements do not include
        // it.
        stage.attacker_is_well("the start").await;
        stage.neighbour_answers().await;
        stage.open_stores().await;
        stage
    }

    /// Makes the attacker's SQL store open all connections that it keeps: one writer and, after the first concurrent
    /// reads, two readers.
    async fn open_stores(&self) {
        self.exchange(Method::GET, "/hostile/large-value?bytes=1", whole("")).await;
        until("the connections of the SQL store", async || {
            let counting =
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) SELECT count(*) FROM n";
            self.exchange(Method::POST, "/hostile/sql?at-once=20", whole(counting)).await;
            // The node runs in this process, so the files that it opens are this process's files.
            (process_resources::open_files("/default.sqlite") == SQL_CONNECTIONS).then_some(())
        })
        .await;
    }

    /// Runs one attack and checks everything that the attack must not affect. Returns descriptions of the failed checks
    /// of its responses.
    pub(crate) async fn attack(&self, attack: &Attack) -> Vec<String> {
        let name = attack.name;
        let before = ProcessResources::take();
        let mut log_before = 0;
        self.node.events_since(&mut log_before);
        let over = AtomicBool::new(false);
        let attacking = async {
            let mut outcomes = within(name, self.make(attack)).await;
            for _ in 0..REPEATS_MAX {
                if attack.must.status.contains(&504) || outcomes.iter().all(|outcome| outcome.status != 504) {
                    break;
                }
                outcomes = within(name, self.make(attack)).await;
            }
            over.store(true, Ordering::Relaxed);
            outcomes
        };
        let neighbour = async {
            loop {
                self.neighbour_answers().await;
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        };
        let (outcomes, ()) = futures::future::join(attacking, neighbour).await;
        let mut complaints = Vec::new();
        for outcome in &outcomes {
            complaints.extend(self.judge(attack, outcome, log_before).await);
        }
        self.attacker_is_well(name).await;
        self.neighbour_answers().await;
        assert_eq!(self.node.get("/.isomer/health").await.ok(), "ok\n", "{name}");
        before.come_back(name).await;
        complaints
    }

    async fn make(&self, attack: &Attack) -> Vec<Outcome> {
        let target = |path: &str| {
            let separator = if path.contains('?') { '&' } else { '?' };
            format!("/hostile/{path}{separator}url={}", self.node.address)
        };
        match attack.ask {
            AttackRequest::Get(path) => vec![self.exchange(Method::GET, &target(path), whole("")).await],
            AttackRequest::Post(path, body) => vec![self.exchange(Method::POST, &target(path), whole(body)).await],
            AttackRequest::Endless(path) => {
                let body = repeated(Bytes::from(vec![b'x'; 16 << 10]), usize::MAX >> 20);
                vec![self.exchange(Method::POST, &target(path), body).await]
            }
            AttackRequest::Stalled(path) => {
                let (sender, body) = pieces();
                let outcome = self.exchange(Method::POST, &target(path), body).await;
                drop(sender);
                vec![outcome]
            }
            AttackRequest::Storm(path, times) => {
                let target = target(path);
                let requests = (0..times).map(|_| self.exchange(Method::GET, &target, whole("")));
                futures::future::join_all(requests).await
            }
            AttackRequest::Unread(path) => {
                let mut connection = self.node.connect().await;
                let request = connection.request(Method::GET, &target(path)).body(whole("")).expect("a valid request");
                let response = connection.send(request).await;
                let status = response.status().as_u16();
                // The client reads nothing of the body until the guest has ended and its slot is free again.
                self.attacker_is_well(attack.name).await;
                let broken = within("the end", response.into_body().collect()).await.is_err();
                vec![Outcome { status, broken, ..Outcome::default() }]
            }
        }
    }

    /// Sends a request over a new connection and reads the response.
    async fn exchange(&self, method: Method, target: &str, body: Body) -> Outcome {
        let mut connection = Connection::http1(self.node.address).await;
        let request = connection.request(method, target).body(body).expect("a valid request");
        let Ok(response) = connection.try_send(request).await else {
            return Outcome { broken: true, ..Outcome::default() };
        };
        let mut outcome = Outcome { status: response.status().as_u16(), ..Outcome::default() };
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) if outcome.text.len() < TEXT_BYTES_MAX => {
                    let data = frame.into_data().unwrap_or_default();
                    outcome.text += &String::from_utf8_lossy(&data[..data.len().min(TEXT_BYTES_MAX)]);
                }
                Ok(_) => {}
                Err(_) => {
                    outcome.broken = true;
                    break;
                }
            }
        }
        let problem = serde_json::from_str::<Value>(&outcome.text).ok();
        outcome.id = problem.and_then(|problem| Some(problem["id"].as_str()?.to_owned()));
        outcome
    }

    /// Returns descriptions of the differences between `outcome` and the expected result of the attack.
    async fn judge(&self, attack: &Attack, outcome: &Outcome, log_before: usize) -> Vec<String> {
        let (name, must) = (attack.name, &attack.must);
        let mut complaints = Vec::new();
        let mut check = |well: bool, what: String| {
            if !well {
                complaints.push(format!("{name}: {what}: {outcome:?}"));
            }
        };
        check(must.status.contains(&outcome.status), format!("not the status {:?}", must.status));
        // A response with an `id` is an error response of the platform itself, which is always complete.
        let broken = must.broken && outcome.id.is_none();
        check(broken == outcome.broken, format!("cut off is not {broken}"));
        for part in must.contains {
            check(outcome.text.contains(part), format!("does not contain `{part}`"));
        }
        for never in must.never {
            check(!outcome.text.contains(never), format!("contains `{never}`"));
        }
        if must.log.is_empty() || outcome.status == 503 {
            return complaints;
        }
        let is_it = |event: &Value| match &outcome.id {
            Some(id) => event["request"] == id.as_str(),
            None => event["response_cut_off"] == true,
        };
        let what = format!("{name}: an event `failed` in the log");
        let event = self.node.event_after(log_before, &what, |event| event["event"] == "failed" && is_it(event)).await;
        let reported = event["reason"].as_str().is_some_and(|reason| reason.contains(must.log));
        check(reported && event["component"] == "hostile", format!("the log does not contain `{}`: {event}", must.log));
        complaints
    }

    /// Waits until the attacker's slot is free again, and checks that the next guest finds no data in it.
    async fn attacker_is_well(&self, after: &str) {
        let what = format!("{after}: a free instance");
        let found = until(&what, async || {
            let found = self.exchange(Method::GET, "/hostile/canary?bytes=16777216", whole("")).await;
            // The request may fail while the attack still occupies the slot, or because the machine is busy with other
            // tests.
            (found.status == 200 && !found.broken).then_some(found.text)
        });
        let found = found.await;
        assert!(found.starts_with("found=0 dirty=0 grown="), "{after}: {found}");
    }

    async fn neighbour_answers(&self) {
        assert_eq!(self.node.get("/neighbour/").await.ok(), "hello from WASI 0.3\n");
    }
}
