//! Everything that a node keeps, while files cannot grow: what was acknowledged is there, and all works again as soon as there is room, without
//! a restart and after one.
//!
//! The limit of a file's size (`RLIMIT_FSIZE`) stands for the full disk: it can be had and lifted without being root, and holds for real files, so
//! each engine meets its real error in the middle of whatever it does. It is the process's, so this test has one of its own.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use isomer_admin::AUDIT_FILE;
use isomer_admin::audit::{AuditLog, Credential, Entry, Phase, Who};
use isomer_api::{Digest, TenantChange, TenantName};
use isomer_capabilities::kv::{Kv, KvLimits, KvStore};
use isomer_capabilities::sql::{Sql, SqlLimits, SqlSettings, SqlStore, Value};
use isomer_observe::{AppLog, AppLogLimits, AppLogs, LogQuota};
use isomer_runtime::output::{OutputSink as _, Stream};
use isomer_state::{Blobs, Secret, State};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sha2::{Digest as _, Sha256};

const SEED: u64 = 0x00d1_5c00;
const ROUNDS: u64 = 10;
const TRIES: u64 = 6;

/// The least size at which files stop to grow: this test's own output may be a file, too.
const SIZE_MIN: u64 = 96 << 10;

/// Only tells a hang from an answer.
const PATIENCE: Duration = Duration::from_secs(120);

fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

/// What is kept, opened.
struct Kept {
    state: State,
    tenant: TenantName,
    blobs: Blobs,
    audit: AuditLog,
    kv: KvStore,
    sql: SqlStore,
    log: AppLog,
}

/// What was acknowledged: numbers of writes, and their bytes.
#[derive(Default)]
struct Acknowledged {
    of: BTreeMap<&'static str, Vec<(u64, usize)>>,
    refused: BTreeMap<&'static str, u64>,
}

fn content(number: u64, bytes: usize) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(number % 251).unwrap(); bytes];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from(<[u8; 32]>::from(Sha256::digest(bytes)))
}

impl Kept {
    async fn open(dir: &Path) -> Self {
        let state = State::open(&dir.join("state.redb")).unwrap();
        let tenant: TenantName = "t".parse().unwrap();
        state.set_tenant(&tenant, TenantChange::default()).unwrap();
        let sql = Sql::new(&dir.join("sql"), SqlLimits::default()).open("s", SqlSettings::default()).await.unwrap();
        let create = "CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, v BLOB)";
        sql.execute(create.to_owned(), vec![]).await.unwrap();
        Self {
            state,
            tenant,
            blobs: Blobs::open(&dir.join("blobs")).unwrap(),
            audit: AuditLog::open(dir).unwrap(),
            kv: Kv::new(&dir.join("kv"), KvLimits::default()).store("s").await.unwrap(),
            sql,
            log: AppLogs::start(AppLogLimits::default()).unwrap().open(dir.join("log"), &LogQuota::new(u64::MAX)),
        }
    }

    async fn write(&self, what: &str, number: u64, bytes: usize) -> Result<(), String> {
        let content = content(number, bytes);
        match what {
            "state" => {
                let secret = Secret::new(content);
                self.state.set_secret(&self.tenant, &number.to_string(), &secret).map_err(|error| error.to_string())
            }
            "blobs" => {
                let mut upload = self.blobs.upload(&digest(&content)).map_err(|error| error.to_string())?;
                upload.write(&content).map_err(|error| error.to_string())?;
                upload.finish().map_err(|error| error.to_string())
            }
            "audit" => self.audit.write(&entry(number, bytes)).await.map_err(|error| error.to_string()),
            "kv" => self.kv.set(number.to_string(), content).await.map_err(|error| error.to_string()),
            "sql" => {
                let values = vec![Value::Integer(number.cast_signed()), Value::Blob(content)];
                let written = self.sql.execute("INSERT INTO t VALUES (?, ?)".to_owned(), values).await;
                written.map(drop).map_err(|error| error.to_string())
            }
            "log" => {
                self.log.line("c", Stream::Stdout, None, &vec![b'x'; bytes.min(4000)]);
                // A line is not acknowledged: it may be lost, and that is told.
                Err("not acknowledged".to_owned())
            }
            _ => unreachable!("{what}"),
        }
    }

    async fn check(&self, at: &str, dir: &Path, acknowledged: &Acknowledged) {
        let audit = std::fs::read_to_string(dir.join(AUDIT_FILE)).unwrap();
        let secrets = self.state.secrets(&self.tenant).unwrap();
        for (what, writes) in &acknowledged.of {
            for (number, bytes) in writes {
                let content = content(*number, *bytes);
                let is_there = match *what {
                    "state" => secrets.get(&number.to_string()).is_some_and(|secret| secret.reveal() == content),
                    "blobs" => std::fs::read(self.blobs.path(&digest(&content))).is_ok_and(|found| found == content),
                    "audit" => {
                        audit.lines().any(|line| line == serde_json::to_string(&entry(*number, *bytes)).unwrap())
                    }
                    "kv" => self.kv.get(number.to_string()).await.unwrap() == Some(content),
                    "sql" => {
                        let values = vec![Value::Integer(number.cast_signed())];
                        let rows = self.sql.query("SELECT v FROM t WHERE n = ?".to_owned(), values).await.unwrap().rows;
                        rows == [[Value::Blob(content)]]
                    }
                    _ => unreachable!("{what}"),
                };
                assert!(is_there, "{at}: {what} {number} of {bytes} bytes was acknowledged");
            }
        }
    }
}

fn entry(number: u64, bytes: usize) -> Entry {
    Entry {
        at_ms: 0,
        action_id: number,
        phase: Phase::Begin,
        who: Who { peer: None, uid: None, pid: None, token: Credential::Valid },
        action: "test",
        tenant: None,
        app: None,
        object: Some("x".repeat(bytes.min(20_000))),
        details: serde_json::Value::Null,
        status: None,
        problem: None,
        revision: None,
        untold: None,
    }
}

const ALL: [&str; 6] = ["state", "blobs", "audit", "kv", "sql", "log"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_kept_while_files_cannot_grow_and_all_works_again_when_they_can() {
    // Without it, the signal ends the process; with it, the write fails.
    let xfsz = tokio::signal::unix::SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    let _handled = tokio::signal::unix::signal(xfsz).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let kept = Kept::open(dir.path()).await;
    let mut acknowledged = Acknowledged::default();
    let (mut random, mut number) = (SEED, 0);
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..ROUNDS {
        let size = SIZE_MIN + next(1 << 20);
        let at = format!("seed {SEED:#x}, round {round}, files of at most {size} bytes");
        let sizes: Vec<_> = (0..TRIES).map(|_| usize::try_from(8 + next(60_000)).unwrap()).collect();
        limit_files(Some(size));
        for what in ALL {
            for bytes in &sizes {
                number += 1;
                match kept.write(what, number, *bytes).await {
                    Ok(()) => acknowledged.of.entry(what).or_default().push((number, *bytes)),
                    Err(_) => *acknowledged.refused.entry(what).or_default() += 1,
                }
            }
        }
        limit_files(None);
        for what in ALL.into_iter().filter(|what| *what != "log") {
            let until = Instant::now() + PATIENCE;
            loop {
                number += 1;
                match kept.write(what, number, 30_000).await {
                    Ok(()) => break acknowledged.of.entry(what).or_default().push((number, 30_000)),
                    Err(error) => assert!(Instant::now() < until, "{at}: {what}: {error}"),
                }
                tokio::task::yield_now().await;
            }
        }
        let said = format!("said in round {round}");
        kept.log.line("c", Stream::Stdout, None, said.as_bytes());
        let last = kept.log.last(3).unwrap();
        assert!(last.iter().any(|line| line.text == said), "{at}: {last:?}");
        kept.check(&at, dir.path(), &acknowledged).await;
    }
    for what in ["state", "audit", "kv", "sql"] {
        assert!(acknowledged.refused.get(what).is_some_and(|times| *times > 0), "{what} never met the limit");
    }
    drop(kept);
    Kept::open(dir.path()).await.check("after a restart", dir.path(), &acknowledged).await;
}
