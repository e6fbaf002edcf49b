//! Deploying to a node: what a compiling child takes, what a deployment changes, what is left when the process is killed.
//!
//! The test's own binary is the compiling child too: it is started again with [`CHILD`] in its environment.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod compiling;
mod crash;
mod deploying;
mod node;

use isomer_node::deploy::{ChildLimits, CompilerOptions, Program, compile_child};

const CHILD: &str = "ISOMER_TEST_COMPILE_CHILD";

/// The child's part. Run as an ordinary test it has nothing to do.
#[test]
fn child() {
    let Ok(limits) = std::env::var(CHILD) else { return };
    let mut numbers = limits.split(' ').map(|number| number.parse().unwrap());
    let mut next = || numbers.next().unwrap();
    let limits = ChildLimits { memory_bytes: next(), cpu_s: next(), file_bytes: next(), files: next() };
    let code = compile_child(limits);
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

/// Children of this very binary.
fn compiler(limits: ChildLimits) -> CompilerOptions {
    let ChildLimits { memory_bytes, cpu_s, file_bytes, files } = limits;
    let arguments = ["--exact", "child", "--nocapture", "--test-threads=1"].map(str::to_owned).into();
    let environment = vec![(CHILD.to_owned(), format!("{memory_bytes} {cpu_s} {file_bytes} {files}"))];
    let program = Program { path: std::env::current_exe().unwrap(), arguments, environment };
    CompilerOptions { program, ..CompilerOptions::new(limits) }
}
