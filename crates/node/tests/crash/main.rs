//! Tests with `kill -9` after every step of a change: afterwards, the node has either the complete old state or the
//! complete new state, and the change can be made again.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `child` | the child process: it opens a node, makes one change, and kills itself after one step of the change |
//! | `app_changes` | changes of an app: its revision, its host names, stop, start, removal |
//! | `state_changes` | changes of tenants and secrets |
//! | `store_changes` | deployments and rollbacks that replace the stores of an app |
//! | `pending_replacements`, `removal` | replacements and removals that a killed process has not finished |
//!
//! This program does not use Rust's built-in test harness, because it is also the program of the child processes.
//! These tests do not depend on the toolchain that the test guests were built with.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod app_changes;
mod child;
#[path = "../deploy/compile_child.rs"]
mod compile_child;
#[allow(dead_code, reason = "shared with the tests of deployments, which use the rest")]
#[path = "../deploy/migrating_app.rs"]
mod migrating_app;
#[allow(dead_code, reason = "shared with the tests of deployments, which use the rest")]
#[path = "../deploy/node.rs"]
mod node;
mod pending_replacements;
mod removal;
mod state_changes;
mod store_changes;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Returns a test that runs `case` on a runtime of its own.
fn test<F: Future<Output = ()>>(name: impl Into<String>, case: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::test(name, || {
        runtime().block_on(case());
        Ok(())
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = arguments.as_slice()
        && first == child::ARGUMENT
    {
        runtime().block_on(child::run(rest));
        return ExitCode::FAILURE;
    }
    let tests = [
        app_changes::tests(),
        state_changes::tests(),
        store_changes::tests(),
        pending_replacements::tests(),
        removal::tests(),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests.into_iter().flatten().collect()).exit_code()
}
