//! `isomer-runtime`: the base of the programs that `isomer ship exe` writes. It runs the app that was shipped with it, and
//! does nothing without an app.

use std::process::ExitCode;

use isomer_console::{CliError, Console, print};

/// mimalloc is used because the engine makes many small allocations per request. Huge pages are disabled, because
/// clearing them took a third of the process's startup time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = isomer_exe::run_shipped() {
        return code;
    }
    let version = env!("CARGO_PKG_VERSION");
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "--version" || argument == "-V") {
        return print(&format!("isomer-runtime {version}\n")).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    Console::open().report(&CliError::usage(
        format!("`isomer-runtime` {version} is the base of shipped programs, and contains no app"),
        "make a program of it and an app: isomer ship exe APP --base PATH-OF-THIS-PROGRAM",
    ))
}
