//! Tests of deployments to a node: the input that the compiler accepts, and the effects of a deployment. The tests with
//! killed processes are in `../crash`.
//!
//! The compiler's child process is a separate program, `child_program.rs`, because it must have a single thread when it
//! enters its sandbox. These tests do not depend on the toolchain that the test guests were built with.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stderr, reason = "the tests print which checks the system does not support")]

mod browser_group;
mod compile_child;
mod compiler;
mod data;
mod deployment;
mod deployment_traces;
mod folders;
mod migrating_app;
mod migration;
mod node;
mod probes;
mod reconciliation;
mod reports;
mod reshape;
mod sandbox;
mod tokens;
mod unknown_outcome;

use compile_child::{PROGRAM, compiler};
