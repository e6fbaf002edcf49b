//! The options of a compiler whose child processes run the test program `child_program.rs`.

use isomer_node::compiler::{ChildLimits, ChildProgram, CompilerOptions};

/// The path of the program that `child_program.rs` is compiled to.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_isomer-test-compile-child");

/// Returns options for a compiler whose child processes run [`PROGRAM`].
pub(crate) fn compiler(limits: ChildLimits) -> CompilerOptions {
    let ChildLimits { memory_bytes, cpu_s, file_bytes, files } = limits;
    let numbers = [memory_bytes, cpu_s, file_bytes, files].map(|number| number.to_string());
    let arguments = std::iter::once("child".to_owned()).chain(numbers).collect();
    let program = ChildProgram { path: PROGRAM.into(), arguments, environment: Vec::new() };
    CompilerOptions { program, ..CompilerOptions::new(limits) }
}
