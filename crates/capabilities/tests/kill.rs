//! Kills a process with `kill -9`, fifty times. The next process must find everything that was acknowledged before.
//!
//! A child process writes to a key-value store and an SQL store, and prints what was acknowledged. The parent kills the
//! child after a random number of lines, and then opens the stores itself. This test does not use the standard test
//! harness, because the child processes run the same program.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use isomer_capabilities::DataDir;
use isomer_capabilities::kv::{Kv, KvLimits};
use isomer_capabilities::sql::{Sql, SqlLimits, SqlSettings, Value};
use libtest_mimic::{Arguments, Trial};

const ROUNDS: u64 = 50;
const SEED: u64 = 0x6b11_6b11;

/// The first argument of a child process. It is followed by the folder of the stores and the first number to write.
const CHILD: &str = "write";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let [first, dir, number] = arguments.as_slice()
        && first == CHILD
    {
        runtime.block_on(write(Path::new(dir), number.parse().unwrap()));
        return ExitCode::SUCCESS;
    }
    let test = Trial::test("acknowledged_writes_survive_kill", move || {
        runtime.block_on(acknowledged_writes_survive_kill());
        Ok(())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![test]).exit_code()
}

/// The work of a child process: writes numbers, starting with `first`, until the process is killed.
async fn write(dir: &Path, first: u64) {
    let data = DataDir::open(dir).unwrap();
    let kv = Kv::new(&data.kv(), KvLimits::default());
    let pairs = kv.store("pairs").await.unwrap();
    let sql = Sql::new(&data.sql(), SqlLimits::default());
    let rows = sql.open("rows", SqlSettings::default()).await.unwrap();
    rows.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY)".to_owned(), vec![]).await.unwrap();
    let say = |line: String| {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(line.as_bytes()).unwrap();
        stdout.flush().unwrap();
    };
    let write_pairs = async {
        for n in first.. {
            pairs.set(format!("{n:012}"), n.to_string().into_bytes()).await.unwrap();
            say(format!("\nkv {n}\n"));
        }
    };
    let write_rows = async {
        for n in first.. {
            rows.execute("INSERT INTO t VALUES (?)".to_owned(), vec![Value::Integer(n.cast_signed())]).await.unwrap();
            say(format!("\nsql {n}\n"));
        }
    };
    tokio::join!(write_pairs, write_rows);
}

async fn acknowledged_writes_survive_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged_kv, mut acknowledged_sql) = (Vec::new(), Vec::new());
    let mut random = SEED;
    for round in 0..ROUNDS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lines_until_kill = 1 + (random >> 33) % 20;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(CHILD)
            .arg(dir.path())
            .arg((round * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = 0;
        // Continues to read after the kill, because every line in the pipe was acknowledged.
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            let (kind, n) = line.split_once(' ').unwrap_or_default();
            match (kind, n.parse::<u64>()) {
                ("kv", Ok(n)) => acknowledged_kv.push(n),
                ("sql", Ok(n)) => acknowledged_sql.push(n),
                _ => continue,
            }
            said += 1;
            if said == lines_until_kill {
                child.kill().unwrap();
            }
        }
        let status = child.wait().unwrap();
        assert!(said >= lines_until_kill && !status.success(), "seed {SEED:#x}, round {round}: {status}, {said} lines");
        check(dir.path(), &acknowledged_kv, &acknowledged_sql, round).await;
    }
    assert!(acknowledged_kv.len() > 50 && acknowledged_sql.len() > 50, "both kinds of store were written");
}

async fn check(dir: &Path, pairs: &[u64], rows: &[u64], round: u64) {
    let at = format!("seed {SEED:#x}, round {round}");
    let data = DataDir::open(dir).unwrap();
    let store = Kv::new(&data.kv(), KvLimits::default()).store("pairs").await.unwrap();
    for n in pairs {
        let value = store.get(format!("{n:012}")).await.unwrap();
        assert_eq!(value, Some(n.to_string().into_bytes()), "{at}: the pair {n} was acknowledged");
    }
    let store = Sql::new(&data.sql(), SqlLimits::default()).open("rows", SqlSettings::default()).await.unwrap();
    let found = store.query("SELECT n FROM t".to_owned(), vec![]).await.unwrap();
    let found: std::collections::HashSet<_> = found
        .rows
        .into_iter()
        .map(|row| match row[..] {
            [Value::Integer(n)] => n.cast_unsigned(),
            _ => panic!("{at}: {row:?}"),
        })
        .collect();
    for n in rows {
        assert!(found.contains(n), "{at}: the row {n} was acknowledged");
    }
}
