//! Runs test programs, several at a time.
//!
//! `cargo test` runs test programs one after another. So while a program waits (for a timeout, a restart, a drained
//! connection), the processors are idle; on a machine with two processors, they were idle for a third of the time. Here
//! as many programs run concurrently as there are processors: first those that build the test guests, then those that
//! took the longest in the previous run. Every program runs, even if others fail. Each program writes its output to a
//! file, which is printed if the program fails.
//!
//! cargo-nextest was rejected: it starts a process for each test, but the tests of one program share compiled
//! components.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use isomer_toolchain::{ORIGIN_VARIABLE, ToolchainOrigin};

use super::build::TestProgram;
use crate::project::Project;

/// The time after which a program is killed. The slowest program takes two minutes on two processors.
const TIME_MAX: Duration = Duration::from_secs(20 * 60);
/// The interval at which running programs are checked.
const POLL: Duration = Duration::from_millis(20);

/// The package whose tests build all test guests.
const GUESTS_PACKAGE: &str = "isomer-test-guests";

/// The settings for running test programs.
pub(crate) struct Settings {
    /// The number of programs that run concurrently.
    pub jobs: usize,
    /// Environment variables that are set for every program.
    pub variables: Vec<(&'static str, String)>,
}

/// A test program, and the guests that it runs with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TestRun<'a> {
    pub program: &'a TestProgram,
    /// The toolchain that builds the guests; `None` for the one that is chosen by default.
    pub guests: Option<ToolchainOrigin>,
}

impl TestRun<'_> {
    /// Returns a unique name: `isomer/cli`, or `isomer/cli with guests built by debian`.
    fn id(&self) -> String {
        match self.guests {
            None => self.program.id(),
            Some(origin) => format!("{} with guests built by {}", self.program.id(), origin.name()),
        }
    }

    /// Returns the environment variables that select the guests.
    fn variables(&self) -> Option<(&'static str, &'static str)> {
        self.guests.map(|origin| (ORIGIN_VARIABLE, origin.name()))
    }

    /// Returns the command that repeats the run.
    fn command_line(&self) -> String {
        let variables = self.variables().map(|(name, value)| format!("{name}={value} ")).unwrap_or_default();
        variables + &self.program.command_line()
    }
}

/// The result of one run.
struct RunResult<'a> {
    test: TestRun<'a>,
    log: PathBuf,
    time: Duration,
    /// The processor time of the program and of its exited child processes; 0 if the system does not provide this time.
    cpu_seconds: f64,
    /// The reason why the program failed, or `None`.
    failure: Option<String>,
}

/// Runs all programs.
///
/// # Errors
/// If a program failed. The error is returned after all programs have run, and names each failed program.
pub(crate) fn run(project: &Project, tests: &[TestRun<'_>], settings: &Settings) -> Result<()> {
    let logs = project.target.join("test-output");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot create `{}`", logs.display()))?;
    let durations_file = logs.join("durations.json");
    let durations = read_durations(&durations_file);
    let queue = Mutex::new(in_order(tests, &durations).into_iter());
    let finished = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..settings.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let Some(test) = queue.lock().unwrap_or_else(PoisonError::into_inner).next() else { return };
                    let done = run_one(test, &logs, settings);
                    // The output is printed under the lock, so that outputs of different programs are not mixed.
                    let mut finished = finished.lock().unwrap_or_else(PoisonError::into_inner);
                    done.print();
                    finished.push(done);
                }
            });
        }
    });
    let finished = finished.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(finished.len() == tests.len(), "only {} of {} programs were run", finished.len(), tests.len());
    write_durations(&durations_file, &finished)?;
    let failed: Vec<String> = finished
        .iter()
        .filter_map(|done| Some(format!("\n  {}: {}", done.test.command_line(), done.failure.as_ref()?)))
        .collect();
    ensure!(failed.is_empty(), "{} of {} test programs failed:{}", failed.len(), finished.len(), failed.concat());
    Ok(())
}

fn run_one<'a>(test: TestRun<'a>, logs: &Path, settings: &Settings) -> RunResult<'a> {
    let log = logs.join(format!("{}.log", test.id().replace(['/', ' '], "-")));
    let begin = Instant::now();
    let mut cpu_seconds = 0.0;
    let failure = run_to_end(test, &log, settings, &mut cpu_seconds);
    let failure = failure.unwrap_or_else(|error| Some(format!("{error:#}")));
    RunResult { test, log, time: begin.elapsed(), cpu_seconds, failure }
}

/// Runs a program until it exits. Returns the reason why it failed, or `None` if it succeeded.
fn run_to_end(test: TestRun<'_>, log: &Path, settings: &Settings, cpu_seconds: &mut f64) -> Result<Option<String>> {
    let program = test.program;
    let output = File::create(log).with_context(|| format!("cannot write `{}`", log.display()))?;
    let mut command = Command::new(&program.executable);
    // The program runs in the folder of its package, as `cargo test` runs it.
    command.current_dir(&program.dir).env("CARGO_MANIFEST_DIR", &program.dir);
    command.envs(settings.variables.iter().map(|(name, value)| (name, value)));
    command.envs(test.variables());
    command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
    let mut child = command.spawn().with_context(|| format!("cannot run `{}`", program.executable.display()))?;
    let begin = Instant::now();
    let stat = format!("/proc/{}/stat", child.id());
    loop {
        if let Some(seconds) = std::fs::read_to_string(&stat).ok().and_then(|stat| parse_cpu(&stat)) {
            *cpu_seconds = seconds;
        }
        if let Some(status) = child.try_wait()? {
            return Ok((!status.success()).then(|| status.to_string()));
        }
        if begin.elapsed() > TIME_MAX {
            kill(&mut child);
            return Ok(Some(format!("killed after {} s", TIME_MAX.as_secs())));
        }
        std::thread::sleep(POLL);
    }
}

fn kill(child: &mut Child) {
    // Both calls fail only if the process has already exited.
    let _killed = child.kill();
    let _waited = child.wait();
}

impl RunResult<'_> {
    fn print(&self) {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let result = if self.failure.is_some() { "FAILED" } else { "ok" };
        let count = passed(&text).map(|count| format!("  {count} tests")).unwrap_or_default();
        let (time, cpu) = (self.time.as_secs_f64(), self.cpu_seconds);
        println!("{result:<8}{time:>7.1} s  cpu {cpu:>6.1} s  {}{count}", self.test.id());
        if let Some(failure) = &self.failure {
            println!("{text}\n── end of the output of {} ({failure})", self.test.id());
        }
    }
}

/// Returns the number of passed tests in the last result line of the test harness.
fn passed(output: &str) -> Option<u32> {
    let line = output.lines().rev().find(|line| line.starts_with("test result: "))?;
    let before = line.split_once(" passed")?.0;
    before.rsplit(' ').next()?.parse().ok()
}

/// Returns the sum of `utime`, `stime`, `cutime` and `cstime` (fields 14 to 17) of `/proc/PID/stat`, in seconds. The
/// fields are counted from the end of the program's name, because the name may contain spaces and brackets.
fn parse_cpu(stat: &str) -> Option<f64> {
    let ticks = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4);
    let sum: u64 = ticks.map(str::parse::<u64>).sum::<Result<u64, _>>().ok()?;
    // Linux's interface to programs always has 100 ticks per second.
    Some(sum as f64 / 100.0)
}

/// The duration of each program in the previous run, in seconds, by [`TestRun::id`].
type Durations = BTreeMap<String, f64>;

/// Orders the programs: first those that only build the test guests, one for each toolchain, because most other
/// programs would wait for these builds; then the others by duration, longest first. A program without a known duration
/// counts as the longest.
fn in_order<'a>(tests: &[TestRun<'a>], durations: &Durations) -> Vec<TestRun<'a>> {
    let mut ordered = tests.to_vec();
    let seconds = |test: &TestRun<'_>| match test.program.package.as_str() {
        GUESTS_PACKAGE => f64::INFINITY,
        _ => durations.get(&test.id()).copied().unwrap_or(f64::MAX),
    };
    ordered.sort_by(|a, b| seconds(b).total_cmp(&seconds(a)));
    ordered
}

/// Returns the durations that the previous run measured; empty if there was no previous run.
fn read_durations(path: &Path) -> Durations {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let entries = json.as_object().into_iter().flatten();
    entries.filter_map(|(name, seconds)| Some((name.clone(), seconds.as_f64()?))).collect()
}

fn write_durations(path: &Path, finished: &[RunResult<'_>]) -> Result<()> {
    let durations: Durations = finished.iter().map(|done| (done.test.id(), done.time.as_secs_f64())).collect();
    let text = serde_json::to_string_pretty(&durations)?;
    std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(target: &str) -> TestProgram {
        TestProgram {
            package: "isomer-node".to_owned(),
            target: target.to_owned(),
            kind: "test".to_owned(),
            executable: format!("/t/{target}").into(),
            dir: "/t".into(),
        }
    }

    fn run(program: &TestProgram) -> TestRun<'_> {
        TestRun { program, guests: None }
    }

    #[test]
    fn a_run_with_other_guests_is_named_and_repeated_with_them() {
        let program = program("deploy");
        let test = TestRun { guests: Some(ToolchainOrigin::Debian), ..run(&program) };
        assert_eq!(test.id(), "isomer-node/deploy with guests built by debian");
        assert!(test.command_line().starts_with("ISOMER_GUEST_TOOLCHAIN=debian cargo t "));
    }

    #[test]
    fn guests_are_built_first_and_unknown_programs_run_before_the_longest() {
        let [short, long, new, mut guests] = ["short", "long", "new", "guests"].map(program);
        guests.package = GUESTS_PACKAGE.to_owned();
        let durations = [(short.id(), 1.0), (long.id(), 9.0)].into_iter().collect();
        let order: Vec<String> = in_order(&[&short, &long, &new, &guests].map(run), &durations)
            .iter()
            .map(|test| test.program.target.clone())
            .collect();
        assert_eq!(order, ["guests", "new", "long", "short"]);
    }

    #[test]
    fn processor_time_includes_child_processes() {
        assert_eq!(parse_cpu("7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 40 2 50 8 20 0 1 0 5 6 7"), Some(1.0));
        assert_eq!(parse_cpu("7"), None);
    }

    #[test]
    fn the_number_of_passed_tests_is_read() {
        let line = "test result: ok. 14 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.04s";
        assert_eq!(passed(&format!("running 14 tests\n\n{line}\n")), Some(14));
        assert_eq!(passed("no harness\n"), None);
    }

    #[test]
    fn a_program_that_fails_or_cannot_be_run_is_reported() {
        let logs = std::env::temp_dir().join(format!("isomer-xtask-programs-{}", std::process::id()));
        std::fs::create_dir_all(&logs).expect("a temporary folder");
        let settings = Settings { jobs: 1, variables: Vec::new() };
        let failure = |executable: &str| {
            let program = TestProgram { executable: executable.into(), dir: "/".into(), ..program("a") };
            run_one(run(&program), &logs, &settings).failure
        };
        assert_eq!(failure("/bin/true"), None);
        assert!(failure("/bin/false").expect("the program fails").contains("exit status: 1"));
        assert!(failure("/no/such/program").expect("the program fails").contains("cannot run"));
        std::fs::remove_dir_all(&logs).expect("removed");
    }
}
