//! The memory that the platform holds for a tenant is charged to that tenant. Each attack is made by as many concurrent
//! requests as a tenant may have, while a neighbour is served. During any attack, the process may grow by the bytes
//! charged to the tenants plus a fixed maximum.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `hoards` | the attacks that need many concurrent requests |
//! | `groups` | all attacks, also those of the program `hostile`, by the group that shares a process |
//! | `attack` | the work of a child process: it makes attacks, and compares its memory with the charges |
//! | `watch` | the thread that measures the memory |
//!
//! Child processes, which run this program, make the attacks, because an allocator keeps freed memory. Each attack on
//! the platform's own memory has its own process. The other attacks run one after another, in one process per kind. All
//! attacks together take minutes, so an ordinary run makes only a quarter of the attacks that share a process:
//! `ISOMER_SEED=N` selects the quarter, and `ISOMER_LONG=1` makes all attacks.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the figures of a measured process are printed")]

mod attack;
#[allow(dead_code, reason = "shared with the tests of single attacks, which check the responses")]
#[path = "../hostile/attacks.rs"]
mod attacks;
#[allow(dead_code, reason = "shared with the tests of single attacks, which check the responses")]
#[path = "../hostile/disk_attacks.rs"]
mod disk_attacks;
mod groups;
#[allow(dead_code, reason = "shared with the other tests of this crate, which use the rest")]
#[path = "../harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "shared with the tests of single attacks, which compare the names with the documentation")]
mod hoards;
#[allow(dead_code, reason = "shared with the tests of single attacks, which use the rest")]
#[path = "../hostile/process_resources.rs"]
mod process_resources;
#[allow(dead_code, reason = "shared with the tests of single attacks, which check the responses")]
#[path = "../hostile/start_functions.rs"]
mod start_functions;
#[path = "../hostile/wat_components.rs"]
mod wat_components;
mod watch;
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests of tenants, which use the rest")]
#[path = "../tenancy/world.rs"]
mod world;

use std::process::{Command, ExitCode};
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};

/// The first argument of a child process. The name of a group of attacks follows, and the number that selects a
/// quarter of them, if only a quarter is to be made.
const CHILD: &str = "make-attacks";

/// The number of parts into which the attacks are divided. An ordinary run makes only one part; a long run makes all
/// attacks.
const QUARTERS: usize = 4;

/// The number of child processes that run concurrently, unless the option `--test-threads` sets another number.
const PROCESSES: usize = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = arguments.as_slice()
        && first == CHILD
    {
        run_child(rest);
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(PROCESSES);
    let is_printed = arguments.nocapture;
    let quarter = quarter();
    let groups = groups::groups();
    // The groups that take longest come first.
    let mut names: Vec<&str> = groups.keys().copied().collect();
    names.sort_by_key(|name| std::cmp::Reverse(groups[name].iter().map(|attack| attack.deadline_ms).sum::<u64>()));
    let test = |name| {
        Trial::test(format!("host_memory_is_charged_to_the_tenant_that_caused_it::{name}"), move || {
            run(name, quarter, is_printed)
        })
    };
    libtest_mimic::run(&arguments, names.into_iter().map(test).collect()).exit_code()
}

/// The attacks of a group share a process. Returns the number that selects a quarter of each group's attacks, or `None`
/// to make all attacks.
fn quarter() -> Option<u64> {
    if std::env::var_os("ISOMER_LONG").is_some_and(|value| !value.is_empty() && value != "0") {
        return None;
    }
    let seed = match std::env::var("ISOMER_SEED") {
        Ok(text) => text.parse().expect("ISOMER_SEED is a number"),
        Err(_) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.expect("the clock is after 1970").as_secs() % QUARTERS as u64
        }
    };
    eprintln!("ISOMER_SEED={seed}");
    Some(seed)
}

/// Starts a child process that makes the attacks of a group, and waits until it ends.
///
/// # Errors
/// If the process fails; the error is its output.
fn run(group: &str, quarter: Option<u64>, is_printed: bool) -> Result<(), Failed> {
    let started_at = Instant::now();
    let made = Command::new(std::env::current_exe().expect("this program"))
        .args([CHILD, group])
        .args(quarter.map(|quarter| quarter.to_string()))
        .output();
    let made = made.expect("this program starts");
    let output = [made.stdout, made.stderr].map(|output| String::from_utf8_lossy(&output).into_owned()).concat();
    let seconds = started_at.elapsed().as_secs_f32();
    if is_printed {
        println!("{group} ({seconds:.1} s):\n{output}");
    }
    if made.status.success() { Ok(()) } else { Err(format!("{} after {seconds:.1} s\n{output}", made.status).into()) }
}

/// Makes the attacks of a group, in a child process.
fn run_child(arguments: &[String]) {
    let (name, quarter) = match arguments {
        [name] => (name, None),
        [name, quarter] => (name, Some(quarter.parse::<usize>().expect("a number"))),
        _ => panic!("not a group and a number: {arguments:?}"),
    };
    let mut attacks = groups::groups().remove(name.as_str()).expect("a group of the list");
    if let Some(quarter) = quarter
        && attacks.len() > 1
    {
        let step = QUARTERS.min(attacks.len());
        attacks = attacks.into_iter().skip(quarter % step).step_by(step).collect();
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(attack::attack(&attacks));
}
