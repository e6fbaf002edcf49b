//! `isomer compile-child`: the process that a node starts to compile uploaded components. For internal use.

use std::process::ExitCode;

use isomer_node::compiler::{ChildLimits, compile_child};

/// Compile components for a node, within the limits that the flags set.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    memory_bytes: u64,
    #[arg(long)]
    cpu_s: u64,
    #[arg(long)]
    file_bytes: u64,
    #[arg(long)]
    files: u64,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let &Arguments { memory_bytes, cpu_s, file_bytes, files } = arguments;
    compile_child(ChildLimits { memory_bytes, cpu_s, file_bytes, files })
}
