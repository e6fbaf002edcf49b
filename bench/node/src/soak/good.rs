//! Good tenants, with apps for which every correct response is known in advance.
//!
//! - `numbers-N`: responds with the number of its revision and the request's nonce. Administrators change the app's
//!   revision while it serves requests. A response is correct if it is from a revision that served at some moment
//!   between the request and the response.
//! - `counter`: adds numbers in a key-value store. Each client has its own key, for which each response must be the
//!   previous value plus the added number. All clients also share one key, whose sum is checked at the end.
//! - `pair`: two apps that reverse a text. Each app consists of two components, which are fused in one app and isolated
//!   in the other one.

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
use crate::http::{Connection, Response, request};
use crate::numbered::{self, Template};

/// The maximum time for a response to a good tenant. A request without a response in this time is a fault, even next to
/// hostile tenants.
const PATIENCE: Duration = Duration::from_secs(20);
/// The number of apps with changing revisions.
const NUMBERS: u64 = 3;
/// The number of clients of each app with changing revisions.
const CLIENTS: u64 = 2;
/// The number of clients of the app `counter`.
const COUNTERS: u64 = 2;
/// The key to which all clients of the app `counter` add.
const SHARED: &str = "shared";
const PAIR_HOSTS: [&str; 2] = ["fused.pair.test", "isolated.pair.test"];
/// The number of the first actor that is a client of a good tenant. Each actor has a different number, so that no two
/// actors draw the same random numbers.
const ACTORS: u64 = 100;

/// The good tenants, after their deployment.
#[derive(Clone)]
pub struct GoodTenants {
    /// The apps with changing revisions.
    pub numbers: Arc<[Numbers]>,
    shared_sum: Arc<AtomicU64>,
}

/// An app with changing revisions. The response of each revision contains a number.
pub struct Numbers {
    /// The name of the app's tenant.
    pub tenant: String,
    /// The app's host name.
    pub host: String,
    /// The app's index in [`GoodTenants::numbers`].
    pub place: u64,
    history: Mutex<History>,
}

/// The name of the app of a tenant that has only one app.
pub const APP: &str = "main";

/// The revisions that have served, oldest first, each with the number in its responses.
struct History {
    served: Vec<(u32, Option<ReleaseDigest>)>,
    /// The index in `served` of the oldest revision that may still serve requests.
    settled: usize,
}

impl Numbers {
    /// Records that the app is about to be changed to the revision whose responses contain `number`. From now on, a
    /// response of that revision is correct.
    pub fn begin(&self, number: u32) {
        self.history().served.push((number, None));
    }

    /// Records that the latest change, which [`Numbers::begin`] recorded, has succeeded. A response to a request that
    /// is sent from now on must be from this revision.
    pub fn settle(&self, revision: ReleaseDigest) {
        let mut history = self.history();
        history.settled = history.served.len() - 1;
        if let Some(last) = history.served.last_mut() {
            last.1 = Some(revision);
        }
    }

    /// Records that the latest change, which [`Numbers::begin`] recorded, has failed. The previous revision continues
    /// to serve.
    pub fn undo(&self) {
        self.history().served.pop();
    }

    /// Returns the number and the digest of the most recent revision that differs from the current one.
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

    /// Returns the number in the responses of the app's revision `version`.
    #[must_use]
    pub fn number(&self, version: u32) -> u32 {
        1_000_000 * (self.place as u32 + 1) + version
    }

    /// Returns a release of the app that responds with `number`.
    ///
    /// # Errors
    /// If the app's host name is invalid.
    pub fn bundle(&self, template: &Template, number: u32) -> Result<Bundle> {
        Bundle::one(APP, template.component(number), std::slice::from_ref(&self.host))
    }
}

/// Creates the good tenants and deploys their apps.
///
/// # Errors
/// If the node refuses a request.
pub async fn deploy(admin: &Admin, template: &Template, seed: u64) -> Result<GoodTenants> {
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
    Ok(GoodTenants { numbers: numbers.into(), shared_sum: Arc::default() })
}

impl GoodTenants {
    /// Returns the number of good tenants.
    #[must_use]
    pub fn tenants(&self) -> usize {
        self.numbers.len() + 2
    }

    /// Starts the clients of the good tenants.
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

    /// Checks the counter to which all clients add. Its correct value is known only after all clients have stopped.
    pub async fn check_at_the_end(&self, front: SocketAddr, tally: &Tally) {
        let read = add(&mut Connection::new(front), SHARED, 0).await;
        let wanted = self.shared_sum.load(Ordering::Relaxed);
        match read {
            Ok(sum) if sum == wanted => tally.count_correct(),
            Ok(sum) => tally.fault(format!("the shared counter is {sum} instead of {wanted}")),
            Err(error) => tally.fault(format!("cannot read the shared counter: {error:#}")),
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
        let number = connection.send(&request, PATIENCE).await.and_then(|response| {
            ok(&response)?;
            numbered::number_of(&response.body, &nonce)
                .with_context(|| format!("the response has a wrong format or nonce: {}", response.text()))
        });
        match number {
            Ok(number) if app.served_since(settled, number) => tally.count_correct(),
            Ok(number) => tally.fault(format!(
                "`{}` responded from revision {number}, which did not serve during the request",
                app.host
            )),
            Err(error) => tally.fault(format!("`{}`: {error:#}", app.host)),
        }
        // Now and then, the client closes its connection and opens a new one for the next request.
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
            // `shared_sum` may be increased before the request is sent, because it is compared only after all requests.
            shared_sum.fetch_add(delta, Ordering::Relaxed);
            add(&mut connection, SHARED, delta).await.map(drop)
        } else {
            sum += delta;
            add(&mut connection, &own, delta).await.and_then(|counted| {
                ensure!(counted == sum, "key `{own}` is {counted} instead of {sum}");
                Ok(())
            })
        };
        match counted {
            Ok(()) => tally.count_correct(),
            Err(error) => {
                // Without a response, the client does not know whether its number was added, so it stops.
                return tally.fault(format!("`counter`: {error:#}"));
            }
        }
    }
}

async fn add(connection: &mut Connection, key: &str, delta: u64) -> Result<u64> {
    let path = format!("/increment?key={key}&delta={delta}");
    let response = connection.send(&request("POST", &path, "counter.test", &[], b""), PATIENCE).await?;
    ok(&response)?;
    response.text().trim().parse().with_context(|| format!("the response is not a number: {}", response.text()))
}

async fn turn_around(host: &'static str, front: SocketAddr, mut chance: Chance, tally: Arc<Tally>) {
    let mut connection = Connection::new(front);
    while !tally.is_stopped() && !tally.is_lost() {
        let body: Vec<u8> = (0..chance.below(3000)).map(|_| b'a' + chance.below(26) as u8).collect();
        let wanted: Vec<u8> = body.iter().rev().copied().collect();
        let response = connection.send(&request("POST", "/reverse", host, &[], &body), PATIENCE).await;
        let checked = response.and_then(|response| {
            ok(&response)?;
            ensure!(
                response.body == wanted,
                "the response is not the reversed request body of {} bytes: {}",
                body.len(),
                response.text()
            );
            Ok(())
        });
        match checked {
            Ok(()) => tally.count_correct(),
            Err(error) => tally.fault(format!("`{host}`: {error:#}")),
        }
    }
}

fn ok(response: &Response) -> Result<()> {
    ensure!(response.status == 200, "status {}: {}", response.status, response.text());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_revisions_that_served_during_the_request_are_correct() {
        let revision = |byte| ReleaseDigest::from([byte; 16]);
        let history = Mutex::new(History { served: Vec::new(), settled: 0 });
        let app = Numbers { tenant: "t".to_owned(), host: "h".to_owned(), place: 0, history };
        app.begin(1);
        app.settle(revision(1));
        let settled = app.settled();
        app.begin(2);
        assert!(app.served_since(settled, 1) && app.served_since(settled, 2) && !app.served_since(settled, 3));
        app.settle(revision(2));
        // A response of revision 1 is still correct, because the request was sent before the change to revision 2 had
        // succeeded.
        assert!(app.served_since(settled, 1));
        assert!(!app.served_since(app.settled(), 1));
        assert_eq!(app.before(), Some((1, revision(1))));
        app.begin(3);
        app.undo();
        assert!(!app.served_since(app.settled(), 3) && app.served_since(app.settled(), 2));
    }
}
