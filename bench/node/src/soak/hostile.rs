//! Hostile tenants: each with small quotas, each with one way to do harm, again and again.
//!
//! What their requests come to is theirs to bear and only counted. What matters is what the good tenants and the node see of it.

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

/// Clients of each attack.
const CLIENTS: u64 = 2;
/// How long a client waits at most between two attacks: they are to go on, not to keep the machine from everything else.
const PAUSE_MS: usize = 60;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Where actors' numbers begin.
const ACTORS: u64 = 10_000;

/// A way to do harm.
struct Attack {
    name: &'static str,
    guest: &'static str,
    path: &'static str,
    how: How,
}

/// What its client does.
#[derive(Clone, Copy)]
enum How {
    /// Asks and waits for the answer.
    Ask,
    /// Asks and is gone before an answer can be there.
    Leave,
    /// Reads an answer without an end, a few bytes at a time, then is gone.
    ReadSlowly,
    /// Sends a body without an end, a few bytes at a time, then is gone.
    WriteSlowly,
}

const fn attack(name: &'static str, guest: &'static str, path: &'static str, how: How) -> Attack {
    Attack { name, guest, path, how }
}

const ATTACKS: [Attack; 20] = [
    attack("traps", "http-trap", "/trap", How::Ask),
    attack("traps-late", "http-trap", "/late", How::Ask),
    attack("exits", "http-trap", "/exit", How::Ask),
    attack("loops", "http-loop", "/loop", How::Ask),
    attack("loops-late", "http-loop", "/late", How::Ask),
    attack("recurses", "deep-recursion", "/endless", How::Ask),
    attack("grows", "memory-hog", "/grow", How::Ask),
    attack("allocates", "memory-hog", "/allocate?bytes=100000000", How::Ask),
    attack("floods-the-log", "output-flood", "/stdout?bytes=3000000&line=100", How::Ask),
    attack("leaves", "sleeper", "/?ms=60000", How::Leave),
    attack("reads-slowly", "http-stream", "/drip?chunks=1000000&ms=0&bytes=65536", How::ReadSlowly),
    attack("writes-slowly", "http-stream", "/sum", How::WriteSlowly),
    // More of these, each with what must come of it, are in the node's own tests.
    attack("storms-calls", "hostile", "/host-calls", How::Ask),
    attack("storms-waits", "hostile", "/waiting-calls", How::Ask),
    attack("storms-yields", "hostile", "/yields", How::Ask),
    attack("storms-tasks", "hostile", "/tasks", How::Ask),
    attack("leaks-handles", "hostile", "/handles", How::Ask),
    attack("leaks-streams", "hostile", "/streams", How::Ask),
    attack("leaks-calls", "hostile", "/subtasks", How::Ask),
    attack("leaks-fields", "hostile", "/heavy-fields", How::Ask),
];

/// What a hostile tenant may use: enough to attack, not enough to take the machine.
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

/// Makes the hostile tenants and deploys their apps; gives how many.
///
/// # Errors
/// When the node refuses.
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

/// Lets the clients of those begin whose names are wanted.
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
        tally.count_hostile(attack.name, outcome.unwrap_or_else(|_| "no answer".to_owned()));
        sleep(Duration::from_millis(chance.below(PAUSE_MS) as u64)).await;
    }
}

/// One attack; gives what it came to.
async fn once(attack: &Attack, connection: &mut Connection, chance: &mut Chance) -> Result<String> {
    let ask = request("GET", attack.path, &host(attack.name), &[], b"");
    match attack.how {
        How::Ask => Ok(connection.ask(&ask, PATIENCE).await?.status.to_string()),
        How::Leave => {
            connection.open().await?.write_all(&ask).await?;
            sleep(Duration::from_millis(chance.below(30) as u64)).await;
            connection.close();
            Ok("left".to_owned())
        }
        How::ReadSlowly => {
            let stream = connection.open().await?;
            stream.write_all(&ask).await?;
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
        How::WriteSlowly => {
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
