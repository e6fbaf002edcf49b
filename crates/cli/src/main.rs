//! The `isomer` command: one file a subcommand, in `commands/`.
//!
//! Standard output is for machines and for what was asked for; everything said to people goes to standard error.
//! Exit codes: 0 done, 1 failed, 2 the command line or the manifest is wrong.

mod app_dir;
mod commands;
mod console;
mod doctor;
mod environment;
mod fail;
mod grant_flags;
mod outbound;
mod processes;
#[cfg(test)]
mod reference;
mod rehearsal;
mod serving;
mod user_dirs;
mod wasm_file;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::console::Console;

/// A request makes many small allocations in the engine's bookkeeping. Without huge pages: clearing them cost a third of a start.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Run applications made of WebAssembly components: in one process, in many, on many machines, without changing a line.
#[derive(Parser)]
#[command(name = "isomer", version, propagate_version = true, arg_required_else_help = true, after_long_help = environment::help())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(commands::new::Arguments),
    Build(commands::build::Arguments),
    Run(Box<commands::run::Arguments>),
    Dev(Box<commands::dev::Arguments>),
    Plan(commands::plan::Arguments),
    Test(commands::test::Arguments),
    Exec(commands::exec::Arguments),
    Wit(commands::wit::Arguments),
    Doctor(commands::doctor::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let console = Console::new();
    let done = match arguments.command {
        Command::New(arguments) => commands::new::run(&arguments, &console),
        Command::Build(arguments) => commands::build::run(&arguments, &console),
        Command::Run(arguments) => commands::run::run(&arguments, &console),
        Command::Dev(arguments) => commands::dev::run(&arguments, &console),
        Command::Plan(arguments) => commands::plan::run(&arguments, &console),
        Command::Test(arguments) => commands::test::run(&arguments, &console),
        Command::Exec(arguments) => commands::exec::run(arguments, &console),
        Command::Wit(arguments) => commands::wit::run(&arguments, &console),
        Command::Doctor(arguments) => commands::doctor::run(&arguments, &console),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fail) => fail.report(&console),
    }
}
