//! The `isomer` command: one file a subcommand, in `commands/`.
//!
//! Standard output is for machines and for what was asked for; everything said to people goes to standard error.
//! Exit codes: 0 done, 1 failed, 2 the command line or the manifest is wrong.

mod app_dir;
mod commands;
mod console;
mod fail;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::console::Console;

/// Run applications made of WebAssembly components: in one process today, elsewhere tomorrow, without changing a line.
#[derive(Parser)]
#[command(name = "isomer", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(commands::run::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let console = Console::new();
    let done = match arguments.command {
        Command::Run(arguments) => commands::run::run(arguments, &console),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fail) => fail.report(&console),
    }
}
