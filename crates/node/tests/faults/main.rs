//! Tests of all data of a node while system calls fail, one at a time. Acknowledged data is kept, and everything works
//! again as soon as the system calls succeed again, with and without a restart. The same holds if the process is killed
//! during a call.
//!
//! For each kind of fault and data, the tests select a few calls at random, from the seed `ISOMER_SEED`. With
//! `ISOMER_LONG=1`, they test all calls.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod node_data;
mod system;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use isomer_api::TraceQuery;
use isomer_observe::AppLog;
use isomer_telemetry::{Event, EventSink as _, StandardStream, TraceSink as _};
use isomer_traces::TraceStore;
use libtest_mimic::{Arguments, Trial};
use node_data::{ALL, Acknowledged, NodeData, UNACKNOWLEDGED, trace};
use system::{Fault, Faults};

/// For each kind of data and fault: the number of system calls at which the fault is tried, except in a long run, which
/// tries every call.
const FAULT_CALLS: u64 = 4;

/// The number of different system calls at which a process is killed, each in its own run. A long run tries every call.
const KILLS: u64 = 24;

/// The sizes in bytes of the writes that may fail. Two of the writes span several pages, and one fits into a page.
const SIZES: [usize; 3] = [60_000, 300, 20_000];

/// The maximum time that a test waits for a condition. Only a test that hangs waits that long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The first argument of a child process that makes some of its own system calls fail. The second argument is the
/// folder to which the child writes.
const FAILING: &str = "failing";

/// The first argument of a child process that is killed at one of its system calls. The second argument is the folder
/// to which the child writes, and the third one is the number of the system call.
const KILLED: &str = "killed";

/// Runs the tests, or one of the children that they start. This program does not use Rust's built-in test harness: a
/// child must not share its process with other tests, and the harness would list the child as a test.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [FAILING, dir] => run_with_failing_calls(Path::new(dir)),
        [KILLED, dir, place] => run_until_killed(Path::new(dir), place.parse().unwrap()),
        _ => {
            let test = |name, test: fn()| {
                Trial::test(name, move || {
                    test();
                    Ok(())
                })
            };
            let tests = vec![
                test(
                    "failing_calls_lose_nothing_and_everything_recovers",
                    failing_calls_lose_nothing_and_everything_recovers,
                ),
                test(
                    "a_killed_process_leaves_what_it_has_acknowledged",
                    a_killed_process_leaves_what_it_has_acknowledged,
                ),
            ];
            return libtest_mimic::run(&Arguments::from_args(), tests).exit_code();
        }
    }
    ExitCode::SUCCESS
}

struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(std::env::var("ISOMER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x00fa_0175))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }

    /// Returns the numbers of the calls to test, out of `all`: all of them in a long run, otherwise `few` of them,
    /// including the first.
    fn call_numbers(&mut self, all: u64, few: u64) -> Vec<u64> {
        if std::env::var_os("ISOMER_LONG").is_some() || all <= few {
            return (0..all).collect();
        }
        std::iter::once(0).chain((1..few).map(|_| self.below(all))).collect()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

struct Tried<'a> {
    dir: &'a Path,
    faults: &'a Faults,
    acknowledged: Acknowledged,
    number: u64,
}

impl Tried<'_> {
    /// Makes some writes, which may fail.
    async fn write(&mut self, data: &NodeData, what: &'static str) {
        for bytes in SIZES {
            self.number += 1;
            let written = tokio::time::timeout(PATIENCE, data.write(what, self.number, bytes)).await;
            self.acknowledged.note(what, self.number, bytes, &written.expect("no write waits for ever"));
        }
    }

    /// Waits until writes to the data succeed again, and checks the data.
    async fn recover(&mut self, at: &str, data: &NodeData, what: &'static str) {
        let until = Instant::now() + PATIENCE;
        if what == "log" {
            self.number += 1;
            return recover_log(at, &data.log, &format!("output as {}", self.number), until);
        }
        if what == "traces" {
            self.number += 1;
            return recover_traces(at, &data.traces, self.number);
        }
        loop {
            self.number += 1;
            match data.write(what, self.number, 3_000).await {
                Ok(()) => return self.acknowledged.note(what, self.number, 3_000, &Ok(())),
                Err(error) => assert!(Instant::now() < until, "{at}: {error}"),
            }
            tokio::time::sleep(node_data::POLL_INTERVAL).await;
        }
    }

    async fn try_fault(&mut self, data: &NodeData, what: &'static str, fault: Fault, place: u64, seed: u64) -> u64 {
        let at = format!("ISOMER_SEED={seed}: {what}, {fault:?} at call {place}");
        self.faults.begin(fault, place);
        self.write(data, what).await;
        let calls = self.faults.end();
        self.recover(&at, data, what).await;
        data.check(&at, self.dir, &self.acknowledged).await;
        calls
    }
}

/// Records a trace, and checks that it is stored.
fn recover_traces(at: &str, traces: &TraceStore, number: u64) {
    traces.record(trace(number, 100));
    let page = traces.query(&TraceQuery::default()).unwrap_or_else(|error| panic!("{at}: {error}"));
    let newest = page.traces.first().map(|trace| trace.request.clone());
    assert_eq!(newest, Some(format!("{number:016x}")), "{at}");
}

fn recover_log(at: &str, log: &AppLog, output: &str, until: Instant) {
    let (stream, line) = (StandardStream::Stdout, output.as_bytes());
    log.emit(Event::OutputLine { component: "c", stream, request: None, trace: None, line });
    let last = log.last(5).unwrap_or_else(|error| panic!("{at}: {error}"));
    assert!(last.iter().any(|line| line.text == output) && Instant::now() < until, "{at}: {last:?}");
}

/// Returns a command that runs this program as a child. The tests need children, because a filter of system calls
/// cannot be removed from a process.
fn child(kind: &str, dir: &Path) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.arg(kind).arg(dir);
    child
}

/// Returns a new folder. It is in memory (`/dev/shm`) if the system has that folder, because on a disk the tests would
/// wait for thousands of syncs. Faults and kills have the same effects in memory. A long run uses the disk.
fn folder() -> tempfile::TempDir {
    let is_long = std::env::var_os("ISOMER_LONG").is_some();
    let in_memory = if is_long { None } else { tempfile::tempdir_in("/dev/shm").ok() };
    in_memory.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

fn failing_calls_lose_nothing_and_everything_recovers() {
    let dir = folder();
    let ended = child(FAILING, dir.path()).output().unwrap();
    let output = [ended.stdout, ended.stderr].concat();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&output));
}

/// Runs in a child: makes system calls fail and checks the data.
fn run_with_failing_calls(dir: &Path) {
    let faults = Faults::install(dir);
    let mut random = Random::new();
    let seed = random.0;
    runtime().block_on(async {
        let mut data = NodeData::open(dir).await.unwrap();
        let mut tried = Tried { dir, faults: &faults, acknowledged: Acknowledged::default(), number: 0 };
        for fault in Fault::ALL {
            for what in ALL {
                // Counts the calls to which the fault applies. None of them fails, because `u64::MAX` of them succeed
                // before the first one fails.
                let calls = tried.try_fault(&data, what, fault, u64::MAX, seed).await;
                // These kinds of data write to files that are already open. So it may be that no call opens a file, or
                // that a write succeeds although opening a further file failed.
                let opens_nothing = fault == Fault::NoDescriptors && ["state", "kv", "audit", "sql"].contains(&what);
                let syncs_nothing = fault == Fault::NotSynced && UNACKNOWLEDGED.contains(&what);
                assert!(calls > 0 || opens_nothing || syncs_nothing, "{fault:?} applies to no call of {what}");
                let before = tried.acknowledged.refused.get(what).copied().unwrap_or(0);
                for place in random.call_numbers(calls, FAULT_CALLS) {
                    tried.try_fault(&data, what, fault, place, seed).await;
                }
                let refused = tried.acknowledged.refused.get(what).copied().unwrap_or(0) - before;
                assert!(refused > 0 || calls == 0 || opens_nothing, "{fault:?} never occurred in {what}");
            }
            // Opening the data may fail during the fault. Opening it afterwards must find all data.
            for place in random.call_numbers(40, FAULT_CALLS) {
                let at = format!("ISOMER_SEED={seed}: a start, {fault:?} at call {place}");
                drop(data);
                faults.begin(fault, place);
                let opened = NodeData::open(dir).await;
                faults.end();
                drop(opened);
                data = NodeData::open(dir).await.unwrap_or_else(|error| panic!("{at}: {error}"));
                data.check(&at, dir, &tried.acknowledged).await;
            }
        }
    });
}

/// Runs in a child: writes until the process is killed at the system call number `place`, counted among the calls to
/// which [`Fault::Killed`] applies.
fn run_until_killed(dir: &Path, place: u64) {
    let faults = Faults::install(dir);
    runtime().block_on(async {
        faults.begin(Fault::Killed, place);
        let data = NodeData::open(dir).await.unwrap();
        for number in 0..2 {
            for what in ALL {
                let written = data.write(what, number + place.min(1 << 32) * 10, 20_000).await;
                let mut stdout = std::io::stdout().lock();
                writeln!(stdout, "\nwrote {what} {number} {}", written.is_ok()).unwrap();
                stdout.flush().unwrap();
            }
        }
        drop(data);
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "\ncalls {}", faults.end()).unwrap();
    });
}

/// Runs this program as a child that is killed at the system call number `place`, counted among the calls to which
/// [`Fault::Killed`] applies. Returns the words of each line of the child's output, and whether the child succeeded.
fn run_child(dir: &Path, place: u64) -> (Vec<Vec<String>>, bool) {
    let mut child = child(KILLED, dir).arg(place.to_string()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let output = lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    (output, child.wait().unwrap().success())
}

fn a_killed_process_leaves_what_it_has_acknowledged() {
    let dir = folder();
    let mut random = Random::new();
    let seed = random.0;
    let (output, succeeded) = run_child(dir.path(), u64::MAX);
    let calls = output.iter().find(|line| line.first().is_some_and(|first| first == "calls"));
    let calls: u64 = calls.unwrap_or_else(|| panic!("{output:?}"))[1].parse().unwrap();
    assert!(succeeded && calls > 50, "{calls}");
    let (mut acknowledged, mut killed) = (Acknowledged::default(), 0);
    for place in random.call_numbers(calls, KILLS) {
        let at = format!("ISOMER_SEED={seed}: killed at call {place}");
        // Every second run continues with the data of the previous run.
        if place.is_multiple_of(2) {
            acknowledged = Acknowledged::default();
            std::fs::remove_dir_all(dir.path()).unwrap();
            std::fs::create_dir(dir.path()).unwrap();
        }
        let (output, succeeded) = run_child(dir.path(), place);
        killed += u64::from(!succeeded);
        for line in output.iter().filter(|line| line.first().is_some_and(|first| first == "wrote")) {
            let [_, what, number, is_ok] = line.as_slice() else { continue };
            let what = ALL.into_iter().find(|known| known == what).unwrap();
            if is_ok == "true" {
                acknowledged.note(what, number.parse::<u64>().unwrap() + place * 10, 20_000, &Ok(()));
            }
        }
        runtime().block_on(async {
            let data = NodeData::open(dir.path()).await.unwrap_or_else(|error| panic!("{at}: {error}"));
            data.check(&at, dir.path(), &acknowledged).await;
            recover_log(&at, &data.log, "output after it", Instant::now() + PATIENCE);
            recover_traces(&at, &data.traces, place.max(1));
        });
    }
    assert!(killed > KILLS / 2, "{killed} of {KILLS} were killed");
}
