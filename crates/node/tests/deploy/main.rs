//! Tests of deployments to a node: which input a compiling child accepts, what a deployment changes, and what remains
//! when the process is killed.
//!
//! The compiling child is a separate program, `child_program.rs`, because it must have one thread when it confines
//! itself. The guests are only payload: any guest toolchain will do.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stderr, reason = "what could not be checked is printed")]

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

/// The program of `child_program.rs`.
const PROGRAM: &str = env!("CARGO_BIN_EXE_isomer-test-compile-child");

/// Starts children of this program.
fn compiler(limits: ChildLimits) -> CompilerOptions {
    let ChildLimits { memory_bytes, cpu_s, file_bytes, files } = limits;
    let numbers = [memory_bytes, cpu_s, file_bytes, files].map(|number| number.to_string());
    let arguments = std::iter::once("child".to_owned()).chain(numbers).collect();
    let program = ChildProgram { path: PROGRAM.into(), arguments, environment: Vec::new() };
    CompilerOptions { program, ..CompilerOptions::new(limits) }
}
