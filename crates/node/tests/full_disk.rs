//! A test of all data of a node while files cannot grow. Acknowledged data is kept, and everything works again as soon
//! as there is space, with and without a restart.
//!
//! A limit on the size of files (`RLIMIT_FSIZE`) simulates a full disk. The test can set and remove the limit without
//! root. The limit applies to real files, so each storage engine gets a real error from the kernel, at any point of its
//! work. It also applies to the whole process, so this test is a separate program.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "faults/node_data.rs"]
mod node_data;

use std::time::{Duration, Instant};

use isomer_api::TraceQuery;
use isomer_telemetry::{Event, EventSink as _, StandardStream, TraceSink as _};
use node_data::{ALL, Acknowledged, NodeData, UNACKNOWLEDGED, trace};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const SEED: u64 = 0x00d1_5c00;
const ROUNDS: u64 = 10;
const TRIES: u64 = 6;

/// The smallest maximum size of files, in bytes, with which the test simulates a full disk. It must leave room for this
/// test's own output, which may also be a file.
const SIZE_MIN: u64 = 96 << 10;

/// The maximum time that a test waits for a condition. Only a test that hangs waits that long.
const PATIENCE: Duration = Duration::from_secs(120);

fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_no_acknowledged_write_and_recovery_needs_no_restart() {
    // With a handler for SIGXFSZ, a write beyond the limit fails with an error. Without a handler, the signal would end
    // the process.
    let xfsz = tokio::signal::unix::SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    let _handled = tokio::signal::unix::signal(xfsz).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = NodeData::open(dir.path()).await.unwrap();
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
                acknowledged.note(what, number, *bytes, &data.write(what, number, *bytes).await);
            }
        }
        limit_files(None);
        for what in ALL.into_iter().filter(|what| !UNACKNOWLEDGED.contains(what)) {
            let until = Instant::now() + PATIENCE;
            loop {
                number += 1;
                match data.write(what, number, 30_000).await {
                    Ok(()) => break acknowledged.note(what, number, 30_000, &Ok(())),
                    Err(error) => assert!(Instant::now() < until, "{at}: {what}: {error}"),
                }
                tokio::time::sleep(node_data::POLL_INTERVAL).await;
            }
        }
        let text = format!("written in round {round}");
        let (stream, line) = (StandardStream::Stdout, text.as_bytes());
        data.log.emit(Event::OutputLine { component: "c", stream, request: None, trace: None, line });
        let last = data.log.last(3).unwrap();
        assert!(last.iter().any(|line| line.text == text), "{at}: {last:?}");
        data.traces.record(trace(number, 100));
        let traces = data.traces.query(&TraceQuery::default()).unwrap().traces;
        assert!(traces.first().is_some_and(|trace| trace.request == format!("{number:016x}")), "{at}: {traces:?}");
        data.check(&at, dir.path(), &acknowledged).await;
    }
    for what in ["state", "audit", "kv", "sql"] {
        assert!(acknowledged.refused.get(what).is_some_and(|times| *times > 0), "{what} never reached the limit");
    }
    drop(data);
    NodeData::open(dir.path()).await.unwrap().check("after a restart", dir.path(), &acknowledged).await;
}
