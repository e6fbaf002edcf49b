//! Hostile tenants, each with small quotas and one kind of attack, which it repeats.
//!
//! The outcomes of the attacks are counted and not judged. The soak judges their effect on the good tenants and on the
//! node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use isomer_api::{QuotaChange, TenantChange};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::tally::Tally;
use crate::admin::Admin;
use crate::bundle::{Bundle, manifest};
use crate::chance::Chance;
use crate::http::{Connection, request};

/// The number of clients of each attack.
const CLIENTS: u64 = 2;
/// The maximum pause of a client between two attacks, in milliseconds. The pauses are short, so that the attacks hardly
/// stop, and long enough to leave processor time for the good tenants.
const PAUSE_MS: usize = 60;
/// The maximum time that a client waits for a response.
const PATIENCE: Duration = Duration::from_secs(3);
/// The number of the first actor that is a client of a hostile tenant. Each actor has a different number, so that no
/// two actors draw the same random numbers.
const ACTORS: u64 = 10_000;

/// A kind of attack: a request to a test guest, and the behaviour of the client.
struct Attack {
    name: &'static str,
    guest: &'static str,
    path: &'static str,
    how: Behaviour,
}

/// The behaviour of a client.
#[derive(Clone, Copy)]
enum Behaviour {
    /// The client sends a request and waits for the response.
    Request,
    /// The client sends a request and disconnects without waiting for the response.
    Leave,
    /// The client reads an endless response slowly, a few bytes at a time, then disconnects.
    ReadSlowly,
    /// The client sends an endless request body slowly, a few bytes at a time, then disconnects.
    WriteSlowly,
}

const fn attack(name: &'static str, guest: &'static str, path: &'static str, how: Behaviour) -> Attack {
    Attack { name, guest, path, how }
}

const ATTACKS: [Attack; 20] = [
    attack("traps", "http-trap", "/trap", Behaviour::Request),
    attack("traps-late", "http-trap", "/late", Behaviour::Request),
    attack("exits", "http-trap", "/exit", Behaviour::Request),
    attack("loops", "http-loop", "/loop", Behaviour::Request),
    attack("loops-late", "http-loop", "/late", Behaviour::Request),
    attack("recurses", "deep-recursion", "/endless", Behaviour::Request),
    attack("grows", "memory-hog", "/grow", Behaviour::Request),
    attack("allocates", "memory-hog", "/allocate?bytes=100000000", Behaviour::Request),
    attack("floods-the-log", "output-flood", "/stdout?bytes=3000000&line=100", Behaviour::Request),
    attack("leaves", "sleeper", "/?ms=60000", Behaviour::Leave),
    attack("reads-slowly", "http-stream", "/drip?chunks=1000000&ms=0&bytes=65536", Behaviour::ReadSlowly),
    attack("writes-slowly", "http-stream", "/sum", Behaviour::WriteSlowly),
    // The tests of the node contain more attacks with the guest `hostile`, each with its expected outcome.
    attack("storms-calls", "hostile", "/host-calls", Behaviour::Request),
    attack("storms-waits", "hostile", "/waiting-calls", Behaviour::Request),
    attack("storms-yields", "hostile", "/yields", Behaviour::Request),
    attack("storms-tasks", "hostile", "/tasks", Behaviour::Request),
    attack("leaks-handles", "hostile", "/handles", Behaviour::Request),
    attack("leaks-streams", "hostile", "/streams", Behaviour::Request),
    attack("leaks-calls", "hostile", "/subtasks", Behaviour::Request),
    attack("leaks-fields", "hostile", "/heavy-fields", Behaviour::Request),
];

/// Returns the quotas of a hostile tenant: large enough for an attack, too small to use up the machine.
fn quotas() -> TenantChange {
    TenantChange {
        quotas: QuotaChange {
            memory_bytes: Some(64 << 20),
            cpu_ms_per_second: Some(50),
            requests_concurrent: Some(8),
            requests_per_second: Some(50),
            requests_burst: Some(50),
            storage_bytes: Some(16 << 20),
            log_bytes_per_hour: Some(1 << 20),
            ..QuotaChange::default()
        },
        hosts: None,
    }
}

fn host(name: &str) -> String {
    format!("{name}.hostile.test")
}

/// Creates the hostile tenants and deploys their apps. Returns the number of hostile tenants.
///
/// # Errors
/// If the node refuses a request.
pub async fn deploy(admin: &Admin) -> Result<usize> {
    for Attack { name, guest, .. } in &ATTACKS {
        admin.set_tenant(name, &quotas()).await?;
        let limits = "\n[components.main.limits]\nmemory = \"32MiB\"\nrequest_deadline = \"1s\"\n";
        let bundle =
            Bundle::new(&manifest(name, limits), &[("main", isomer_test_guests::bytes(guest))], &[host(name)])?;
        admin.deploy(name, "main", &bundle).await.with_context(|| format!("cannot deploy `{guest}`"))?;
    }
    Ok(ATTACKS.len())
}

/// Starts the clients of the attacks for whose name `wanted` returns `true`.
pub fn spawn(
    actors: &mut JoinSet<()>,
    front: SocketAddr,
    seed: u64,
    tally: &Arc<Tally>,
    wanted: &dyn Fn(&str) -> bool,
) {
    for (number, attack) in (0..).zip(&ATTACKS).filter(|(_, attack)| wanted(attack.name)) {
        tally.expect_hostile(attack.name);
        for client in 0..CLIENTS {
            let chance = Chance::for_actor(seed, ACTORS + 10 * number + client);
            actors.spawn(attack_on(attack, front, chance, tally.clone()));
        }
    }
}

async fn attack_on(attack: &'static Attack, front: SocketAddr, mut chance: Chance, tally: Arc<Tally>) {
    let mut connection = Connection::new(front);
    while !tally.is_stopped() && !tally.is_lost() {
        let outcome = once(attack, &mut connection, &mut chance).await;
        tally.count_hostile(attack.name, outcome.unwrap_or_else(|_| "no response".to_owned()));
        sleep(Duration::from_millis(chance.below(PAUSE_MS) as u64)).await;
    }
}

/// Makes one attack and returns its outcome, for example the status of the response.
async fn once(attack: &Attack, connection: &mut Connection, chance: &mut Chance) -> Result<String> {
    let request = request("GET", attack.path, &host(attack.name), &[], b"");
    match attack.how {
        Behaviour::Request => Ok(connection.send(&request, PATIENCE).await?.status.to_string()),
        Behaviour::Leave => {
            connection.open().await?.write_all(&request).await?;
            sleep(Duration::from_millis(chance.below(30) as u64)).await;
            connection.close();
            Ok("disconnected".to_owned())
        }
        Behaviour::ReadSlowly => {
            let stream = connection.open().await?;
            stream.write_all(&request).await?;
            let mut bytes = [0; 512];
            for _ in 0..chance.below(40) {
                if timeout(PATIENCE, stream.read(&mut bytes)).await?? == 0 {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
            connection.close();
            Ok("read slowly".to_owned())
        }
        Behaviour::WriteSlowly => {
            let stream = connection.open().await?;
            let head = format!(
                "POST {} HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n",
                attack.path,
                host(attack.name)
            );
            stream.write_all(head.as_bytes()).await?;
            for _ in 0..chance.below(40) {
                stream.write_all(b"3\r\nabc\r\n").await?;
                sleep(Duration::from_millis(20)).await;
            }
            connection.close();
            Ok("wrote slowly".to_owned())
        }
    }
}
