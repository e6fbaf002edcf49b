//! Finds or installs the guest toolchain and says what it does: `cargo run -p isomer-toolchain --example install`.
#![allow(clippy::print_stdout, reason = "a program")]

use isomer_toolchain::{GuestToolchain, Progress};

fn main() -> std::process::ExitCode {
    let result = GuestToolchain::find_or_install(&mut |progress| match progress {
        Progress::Step(step) => println!("{step}"),
        Progress::Output(line) => println!("    {line}"),
    });
    match result {
        Ok(toolchain) => {
            println!("{}", toolchain.describe());
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            println!("error: {error}");
            for hint in error.hints() {
                println!("hint: {hint}");
            }
            std::process::ExitCode::FAILURE
        }
    }
}
