//! Tests of deployments to a node: the input that the compiler accepts, the effects of a deployment, and the state
//! after the process is killed.
//!
//! The compiler's child process is a separate program, `child_program.rs`, because it must have a single thread when it
//! enters its sandbox. Guests built with any guest toolchain are sufficient for these tests.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stderr, reason = "the tests print which checks the system does not support")]

mod compiler;
mod crash;
mod deployment;
mod folders;
mod migration;
mod node;
mod pending_replacements;
mod reconciliation;
mod removal;
mod reports;
mod sandbox;
mod tokens;
mod unknown_outcome;

use isomer_node::compiler::{ChildLimits, ChildProgram, CompilerOptions};

/// The path of the program that `child_program.rs` is compiled to.
const PROGRAM: &str = env!("CARGO_BIN_EXE_isomer-test-compile-child");

/// Returns options for a compiler whose child processes run [`PROGRAM`].
fn compiler(limits: ChildLimits) -> CompilerOptions {
    let ChildLimits { memory_bytes, cpu_s, file_bytes, files } = limits;
    let numbers = [memory_bytes, cpu_s, file_bytes, files].map(|number| number.to_string());
    let arguments = std::iter::once("child".to_owned()).chain(numbers).collect();
    let program = ChildProgram { path: PROGRAM.into(), arguments, environment: Vec::new() };
    CompilerOptions { program, ..CompilerOptions::new(limits) }
}
