//! Kills the supervisor or a member at each step of a change of the shape: afterwards, the app serves in the old or the new
//! shape, and no acknowledged write is lost.
//!
//! An ordinary run kills the supervisor at each step of a successful change, and a member at steps that the seed
//! `ISOMER_SEED` selects. With `ISOMER_LONG=1`, the tests cover all steps, also those that undo a change, between all kinds
//! of shapes. The process is killed as soon as the log reports the step, so the kill hits a random moment of the step.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::reshape::{app, is_long, shape};
use crate::reshape_load::{CREATE, INSERT, Load, OnFailure, assert_written};
use crate::support::{Server, TIMEOUT, Workspace, signal};

/// The steps of a successful change that moves stores, as the log reports them.
const STEPS: [&str; 5] = [
    "preparing the new arrangement",
    "new connections wait until the requests in progress have finished",
    "stopping the previous arrangement",
    "starting the new arrangement",
    "the new arrangement takes over",
];

/// The steps that undo a change whose new arrangement is not healthy.
const UNDOING: [&str; 2] = ["discarding the new arrangement", "starting the previous arrangement again"];

/// Changes that move the stores: from one process to several, back, and between several.
const MOVES: [[&str; 2]; 3] = [["monolith", "split"], ["split", "monolith"], ["split", "micro"]];

/// The number of kills of a member in an ordinary run.
const MEMBER_KILLS: usize = 2;

/// The health check that fails: it reads a table that does not exist.
const UNHEALTHY: &str = "health = \"/check/read/ready/c\"";

/// A generator of pseudo-random numbers (SplitMix64).
struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    fn from_environment() -> Self {
        let seed = std::env::var("ISOMER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x12);
        Self { seed, state: seed }
    }

    fn below(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let number = mixed ^ (mixed >> 31);
        usize::try_from(number % u64::try_from(below).unwrap()).unwrap()
    }
}

/// The writes that the clients of all rounds have made.
#[derive(Default)]
struct Written {
    increments: u64,
    inserts: u64,
    /// The maximum number of further writes: those whose response did not arrive.
    unknown: u64,
}

impl Written {
    /// Stops the clients, and adds their writes.
    fn add(&mut self, load: Load) {
        // The requests that wait at the end of a client are counted when the client has ended.
        let counts = load.counts();
        let (increments, inserts) = load.stop();
        self.increments += increments;
        self.inserts += inserts;
        self.unknown += counts.failed();
    }

    fn assert_in(&self, server: &Server) {
        assert_written(server, (self.increments, self.inserts), self.unknown);
    }
}

/// Returns an app with an empty table.
fn app_with_table(health: &str) -> Workspace {
    let workspace = app(health);
    let server = workspace.serve(&["run"]);
    assert_eq!(server.get(CREATE).0, 200);
    assert_eq!(server.stop(), Some(0));
    workspace
}

/// Kills the supervisor when its log reports `step` of the change `from` to `to`. The app is then started in each of both
/// shapes.
fn kill_supervisor(workspace: &Workspace, written: &mut Written, step: &str, [from, to]: [&str; 2]) {
    let server = workspace.serve(&["run", "--shape", from]);
    let load = Load::start(server.address(), OnFailure::Panic);
    load.wait_for_writes(2);
    let mut reshape = workspace.command(&["reshape", to]).spawn().unwrap();
    server.wait_for_log(step);
    load.expect_kill();
    signal("KILL", server.pid());
    let _ = reshape.wait();
    // Each of the two clients of each store may have a write in flight.
    written.unknown += 2;
    written.add(load);
    for shape_name in [to, from] {
        let server = workspace.serve(&["run", "--shape", shape_name]);
        written.assert_in(&server);
        assert_eq!(shape(workspace), shape_name, "{step}");
        assert_eq!(server.stop(), Some(0));
    }
}

/// Returns the members that run now.
fn members(supervisor: u32) -> BTreeSet<u32> {
    let is_member = |pid: &u32| {
        // The name of the process is in parentheses, and may contain spaces.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        parent == Some(supervisor) && arguments.split(|byte| *byte == 0).any(|argument| argument == b"--member")
    };
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(is_member).collect()
}

/// Kills a member when the log reports `step` of the change `from` to `to`. The supervisor must then serve in one of the
/// shapes, and it must be the shape that it reports.
fn kill_member(workspace: &Workspace, written: &mut Written, step: &str, [from, to]: [&str; 2], random: &mut Random) {
    let server = workspace.serve(&["run", "--shape", from]);
    let load = Load::start(server.address(), OnFailure::Continue);
    load.wait_for_writes(2);
    let mut reshape = workspace.command(&["reshape", to]).spawn().unwrap();
    server.wait_for_log(step);
    let deadline = Instant::now() + TIMEOUT;
    let running = loop {
        let running: Vec<_> = members(server.pid()).into_iter().collect();
        if !running.is_empty() {
            break running;
        }
        assert!(Instant::now() < deadline, "ISOMER_SEED={}: {step}: no member runs", random.seed);
        std::thread::sleep(Duration::from_millis(1));
    };
    signal("KILL", running[random.below(running.len())]);
    let is_changed = reshape.wait().unwrap().success();
    // The supervisor starts the member again, if it belongs to the arrangement that serves.
    load.wait_for_writes(8);
    assert_eq!(shape(workspace), if is_changed { to } else { from }, "ISOMER_SEED={}: {step}", random.seed);
    written.add(load);
    written.assert_in(&server);
    assert_eq!(server.get(INSERT).0, 200);
    written.inserts += 1;
    assert_eq!(server.stop(), Some(0));
    let server = workspace.serve(&["run"]);
    written.assert_in(&server);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_kill_of_the_supervisor_at_each_step_loses_no_acknowledged_write() {
    let (workspace, mut written) = (app_with_table(""), Written::default());
    for (number, step) in STEPS.into_iter().enumerate() {
        let all = if is_long() { &MOVES[..] } else { &MOVES[number % MOVES.len()..][..1] };
        for change in all {
            kill_supervisor(&workspace, &mut written, step, *change);
        }
    }
}

#[test]
fn a_kill_of_the_supervisor_that_undoes_a_change_loses_no_acknowledged_write() {
    let (workspace, mut written) = (app_with_table(UNHEALTHY), Written::default());
    let mut random = Random::from_environment();
    for step in UNDOING {
        let all = if is_long() { &MOVES[..] } else { &MOVES[random.below(MOVES.len())..][..1] };
        for change in all {
            kill_supervisor(&workspace, &mut written, step, *change);
        }
    }
}

#[test]
fn a_kill_of_a_member_at_a_step_leaves_one_of_both_shapes() {
    let (workspace, mut written) = (app_with_table(""), Written::default());
    let mut random = Random::from_environment();
    // Between these shapes, members run at each step.
    let (change, times) = (["split", "micro"], if is_long() { 3 } else { 1 });
    let steps: Vec<_> = match is_long() {
        true => STEPS.to_vec(),
        false => (0..MEMBER_KILLS).map(|_| STEPS[random.below(STEPS.len())]).collect(),
    };
    for step in steps {
        for _ in 0..times {
            kill_member(&workspace, &mut written, step, change, &mut random);
        }
    }
}
