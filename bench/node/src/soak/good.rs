//! Good tenants: apps whose every answer is known before it comes.
//!
//! - `numbers-N`: answers with the number of its revision and the request's nonce. The admins change its revision while it serves;
//!   a right answer is one of a revision that served at some moment between the request and its answer.
//! - `counter`: adds in a key-value store. Each client has a key of its own, where each answer is the one before plus what was
//!   added; all of them share another key, whose sum is known at the end.
//! - `pair`: two components, fused and isolated, that turn a text around.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use isomer_ids::ReleaseDigest;
use tokio::task::JoinSet;

use super::generous;
use super::tally::Tally;
use crate::admin::Admin;
use crate::bundle::{Bundle, manifest};
use crate::chance::Chance;
use crate::http::{Answer, Connection, request};
use crate::numbered::{self, Template};

/// How long an answer may take. Hostile tenants are beside; a good one's answer is late long before this.
const PATIENCE: Duration = Duration::from_secs(20);
/// Apps whose revision is changed, and clients of each.
const NUMBERS: u64 = 3;
const CLIENTS: u64 = 2;
/// Clients that count.
const COUNTERS: u64 = 2;
/// The store key that all of them share.
const SHARED: &str = "shared";
const PAIR_HOSTS: [&str; 2] = ["fused.pair.test", "isolated.pair.test"];
/// Where actors' numbers begin, so that no two draw the same.
const ACTORS: u64 = 100;

/// The good tenants, deployed.
#[derive(Clone)]
pub struct Good {
    /// Those whose revision is changed.
    pub numbers: Arc<[Numbers]>,
    shared_sum: Arc<AtomicU64>,
}

/// An app whose revision is changed while it serves.
pub struct Numbers {
    /// Its tenant's name.
    pub tenant: String,
    /// Its host name.
    pub host: String,
    /// Its number among the others.
    pub place: u64,
    history: Mutex<History>,
}

/// The name of each tenant's app.
pub const APP: &str = "main";

/// Revisions that have served, by the numbers that they answer with.
struct History {
    served: Vec<(u32, Option<ReleaseDigest>)>,
    /// Where in `served` the revision is that surely serves, or one after it.
    settled: usize,
}

impl Numbers {
    /// A change to a revision with this number begins.
    pub fn begin(&self, number: u32) {
        self.history().served.push((number, None));
    }

    /// The change is done.
    pub fn settle(&self, revision: ReleaseDigest) {
        let mut history = self.history();
        history.settled = history.served.len() - 1;
        if let Some(last) = history.served.last_mut() {
            last.1 = Some(revision);
        }
    }

    /// The change was refused: what served before goes on.
    pub fn undo(&self) {
        self.history().served.pop();
    }

    /// The number and the name of the revision before the one that serves.
    #[must_use]
    pub fn before(&self) -> Option<(u32, ReleaseDigest)> {
        let history = self.history();
        let current = history.served.last()?.1.clone();
        let older = history.served.iter().rev().find(|(_, revision)| *revision != current)?;
        Some((older.0, older.1.clone()?))
    }

    fn settled(&self) -> usize {
        self.history().settled
    }

    fn served_since(&self, settled: usize, number: u32) -> bool {
        self.history().served[settled..].iter().any(|(served, _)| *served == number)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for its `version`th revision.
    #[must_use]
    pub fn number(&self, version: u32) -> u32 {
        1_000_000 * (self.place as u32 + 1) + version
    }

    /// Its release with this number.
    ///
    /// # Errors
    /// When its host name is none.
    pub fn bundle(&self, template: &Template, number: u32) -> Result<Bundle> {
        Bundle::one(APP, template.component(number), std::slice::from_ref(&self.host))
    }
}

/// Makes the good tenants and deploys their apps.
///
/// # Errors
/// When the node refuses.
pub async fn deploy(admin: &Admin, template: &Template, seed: u64) -> Result<Good> {
    let mut numbers = Vec::new();
    for place in 0..NUMBERS {
        let app = Numbers {
            tenant: format!("numbers-{place}"),
            host: format!("n{place}.numbers.test"),
            place,
            history: Mutex::new(History { served: Vec::new(), settled: 0 }),
        };
        admin.set_tenant(&app.tenant, &generous()).await?;
        let number = app.number((seed % 7) as u32);
        app.begin(number);
        let deployed = admin.deploy(&app.tenant, APP, &app.bundle(template, number)?).await?;
        app.settle(deployed.revision);
        numbers.push(app);
    }
    admin.set_tenant("counter", &generous()).await?;
    let counter = manifest("counter", "\n[components.main.grants]\nkv = [\"default\"]\n");
    let component = isomer_test_guests::bytes("kv-probe");
    let counter = Bundle::new(&counter, &[("main", component)], &["counter.test".to_owned()])?;
    admin.deploy("counter", APP, &counter).await?;
    admin.set_tenant("pair", &generous()).await?;
    for (host, isolate) in PAIR_HOSTS.iter().zip([false, true]) {
        let app = host.split('.').next().unwrap_or_default();
        let manifest = format!(
            "[app]\nname = \"{app}\"\nversion = \"1.0.0\"\n\n[components.ping]\nwasm = \"ping.wasm\"\nroutes = [\"/...\"]\n\n\
             [components.pong]\nwasm = \"pong.wasm\"\nisolate = {isolate}\n"
        );
        let components = ["ping", "pong"].map(|name| (name, isomer_test_guests::bytes(name)));
        admin.deploy("pair", app, &Bundle::new(&manifest, &components, &[(*host).to_owned()])?).await?;
    }
    Ok(Good { numbers: numbers.into(), shared_sum: Arc::default() })
}

impl Good {
    /// How many tenants.
    #[must_use]
    pub fn tenants(&self) -> usize {
        self.numbers.len() + 2
    }

    /// Lets their clients begin.
    pub fn spawn(&self, actors: &mut JoinSet<()>, front: SocketAddr, seed: u64, tally: &Arc<Tally>) {
        let chance = |actor| Chance::for_actor(seed, ACTORS + actor);
        for place in 0..self.numbers.len() {
            for client in 0..CLIENTS {
                let chance = chance(10 * place as u64 + client);
                actors.spawn(ask_numbers(self.numbers.clone(), place, front, chance, tally.clone()));
            }
        }
        for client in 0..COUNTERS {
            actors.spawn(count(client, front, chance(500 + client), self.shared_sum.clone(), tally.clone()));
        }
        for (actor, host) in (600..).zip(PAIR_HOSTS) {
            actors.spawn(turn_around(host, front, chance(actor), tally.clone()));
        }
    }

    /// Looks at what can be known only when everybody is done.
    pub async fn check_at_the_end(&self, front: SocketAddr, tally: &Tally) {
        let asked = add(&mut Connection::new(front), SHARED, 0).await;
        let wanted = self.shared_sum.load(Ordering::Relaxed);
        match asked {
            Ok(sum) if sum == wanted => tally.count_right(),
            Ok(sum) => tally.fault(format!("the shared counter is {sum}, and {wanted} was added")),
            Err(error) => tally.fault(format!("the shared counter cannot be read: {error:#}")),
        }
    }
}

async fn ask_numbers(all: Arc<[Numbers]>, place: usize, front: SocketAddr, mut chance: Chance, tally: Arc<Tally>) {
    let app = &all[place];
    let mut connection = Connection::new(front);
    while !tally.is_stopped() && !tally.is_lost() {
        let nonce = format!("{:x}", chance.next());
        let request = request("GET", &format!("/?nonce={nonce}"), &app.host, &[], b"");
        let settled = app.settled();
        let number = connection.ask(&request, PATIENCE).await.and_then(|answer| {
            ok(&answer)?;
            numbered::number_of(&answer.body, &nonce).with_context(|| format!("another's answer: {}", answer.text()))
        });
        match number {
            Ok(number) if app.served_since(settled, number) => tally.count_right(),
            Ok(number) => tally.fault(format!("`{}` answered with {number}, which does not serve", app.host)),
            Err(error) => tally.fault(format!("`{}`: {error:#}", app.host)),
        }
        // Some clients come back with a new connection.
        if chance.below(50) == 0 {
            connection.close();
        }
    }
}

async fn count(client: u64, front: SocketAddr, mut chance: Chance, shared_sum: Arc<AtomicU64>, tally: Arc<Tally>) {
    let own = format!("own-{client}");
    let mut connection = Connection::new(front);
    let mut sum = 0;
    while !tally.is_stopped() && !tally.is_lost() {
        let delta = chance.next() % 10;
        let counted = if chance.below(4) == 0 {
            // Before it is asked: whoever reads the sum at the end has waited for all of these.
            shared_sum.fetch_add(delta, Ordering::Relaxed);
            add(&mut connection, SHARED, delta).await.map(drop)
        } else {
            sum += delta;
            add(&mut connection, &own, delta).await.and_then(|counted| {
                ensure!(counted == sum, "`{own}` is {counted}, and should be {sum}");
                Ok(())
            })
        };
        match counted {
            Ok(()) => tally.count_right(),
            Err(error) => {
                // What a lost answer has counted is not known, so this client knows nothing any more.
                return tally.fault(format!("`counter`: {error:#}"));
            }
        }
    }
}

async fn add(connection: &mut Connection, key: &str, delta: u64) -> Result<u64> {
    let path = format!("/increment?key={key}&delta={delta}");
    let answer = connection.ask(&request("POST", &path, "counter.test", &[], b""), PATIENCE).await?;
    ok(&answer)?;
    answer.text().trim().parse().with_context(|| format!("no number: {}", answer.text()))
}

async fn turn_around(host: &'static str, front: SocketAddr, mut chance: Chance, tally: Arc<Tally>) {
    let mut connection = Connection::new(front);
    while !tally.is_stopped() && !tally.is_lost() {
        let body: Vec<u8> = (0..chance.below(3000)).map(|_| b'a' + chance.below(26) as u8).collect();
        let wanted: Vec<u8> = body.iter().rev().copied().collect();
        let answer = connection.ask(&request("POST", "/reverse", host, &[], &body), PATIENCE).await;
        let checked = answer.and_then(|answer| {
            ok(&answer)?;
            ensure!(answer.body == wanted, "{} bytes are not turned around: {}", body.len(), answer.text());
            Ok(())
        });
        match checked {
            Ok(()) => tally.count_right(),
            Err(error) => tally.fault(format!("`{host}`: {error:#}")),
        }
    }
}

fn ok(answer: &Answer) -> Result<()> {
    ensure!(answer.status == 200, "status {}: {}", answer.status, answer.text());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_served_meanwhile_is_right_and_nothing_else() {
        let revision = |byte| ReleaseDigest::from([byte; 16]);
        let history = Mutex::new(History { served: Vec::new(), settled: 0 });
        let app = Numbers { tenant: "t".to_owned(), host: "h".to_owned(), place: 0, history };
        app.begin(1);
        app.settle(revision(1));
        let asked = app.settled();
        app.begin(2);
        assert!(app.served_since(asked, 1) && app.served_since(asked, 2) && !app.served_since(asked, 3));
        app.settle(revision(2));
        // Asked before the change, and after it.
        assert!(app.served_since(asked, 1));
        assert!(!app.served_since(app.settled(), 1));
        assert_eq!(app.before(), Some((1, revision(1))));
        app.begin(3);
        app.undo();
        assert!(!app.served_since(app.settled(), 3) && app.served_since(app.settled(), 2));
    }
}
