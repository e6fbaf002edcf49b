//! The `isomer` command. Each subcommand is a file in `commands/`.
//!
//! Results go to standard output, as JSON if `--json` is used. Messages for people go to standard error. The exit code
//! is 0 for success, 1 for a failure, and 2 for a wrong command line: see [`isomer_console::CliError`].

mod app_consent;
mod app_source;
mod commands;
mod doctor;
mod environment;
mod grant_flags;
mod hosting;
mod key_files;
mod observed;
#[cfg(test)]
mod reference;
mod remote;
mod reporting_outbound;
mod serve_flags;
mod shipping;
mod signing;
mod user_dirs;

use isomer_console::Console;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// mimalloc is used because the engine makes many small allocations per request. Huge pages are disabled, because
/// clearing them took a third of the process's startup time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Run apps made of WebAssembly components: in one process, in several processes, or on several machines,
/// without code changes.
#[derive(Parser)]
#[command(name = "isomer", version, propagate_version = true, arg_required_else_help = true, after_long_help = environment::help())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(commands::new::Arguments),
    Add(commands::add::Arguments),
    Build(commands::build::Arguments),
    Run(Box<commands::run::Arguments>),
    Dev(Box<commands::dev::Arguments>),
    Plan(commands::plan::Arguments),
    Ship(commands::ship::Arguments),
    Test(commands::test::Arguments),
    Exec(commands::exec::Arguments),
    Wit(commands::wit::Arguments),
    Clean(commands::clean::Arguments),
    Doctor(commands::doctor::Arguments),
    Node(commands::node::Arguments),
    Deploy(Box<commands::deploy::Arguments>),
    Push(commands::push::Arguments),
    Pull(commands::pull::Arguments),
    Verify(commands::verify::Arguments),
    Keys(commands::keys::Arguments),
    Apps(commands::apps::Arguments),
    Status(commands::status::Arguments),
    Dashboard(commands::dashboard::Arguments),
    Logs(commands::logs::Arguments),
    Traces(Box<commands::traces::Arguments>),
    Trace(commands::trace::Arguments),
    Metrics(commands::metrics::Arguments),
    Top(commands::top::Arguments),
    Advise(commands::advise::Arguments),
    Revisions(commands::revisions::Arguments),
    Rollback(commands::rollback::Arguments),
    Swap(commands::swap::Arguments),
    Reshape(commands::reshape::Arguments),
    Stop(commands::stop::Arguments),
    Start(commands::start::Arguments),
    Remove(commands::remove::Arguments),
    Tenants(commands::tenants::Arguments),
    Tenant(commands::tenant::Arguments),
    Secrets(commands::secrets::Arguments),
    Tokens(commands::tokens::Arguments),
    Completions(commands::completions::Arguments),
    #[command(hide = true)]
    Manual(commands::manual::Arguments),
    #[command(hide = true)]
    CompileChild(commands::compile_child::Arguments),
}

impl Command {
    /// Returns whether `main` must not start a log for the command, because the command starts its own log or has none.
    fn logs_itself(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Dev(_) | Self::Node(_) | Self::CompileChild(_))
    }
}

fn main() -> ExitCode {
    if let Some(code) = isomer_exe::run_shipped() {
        return code;
    }
    let arguments = Arguments::parse();
    let console = Console::open();
    let log = if arguments.command.logs_itself() { Ok(None) } else { isomer_flags::start_command_log(&console) };
    let log = match log {
        Ok(log) => log,
        Err(error) => return console.report(&error),
    };
    let done = match arguments.command {
        Command::New(arguments) => commands::new::run(&arguments, &console),
        Command::Add(arguments) => commands::add::run(&arguments, &console),
        Command::Build(arguments) => commands::build::run(&arguments, &console),
        Command::Run(arguments) => commands::run::run(&arguments, &console),
        Command::Dev(arguments) => commands::dev::run(&arguments, &console),
        Command::Plan(arguments) => commands::plan::run(&arguments, &console),
        Command::Ship(arguments) => commands::ship::run(&arguments, &console),
        Command::Test(arguments) => commands::test::run(&arguments, &console),
        Command::Exec(arguments) => commands::exec::run(arguments, &console),
        Command::Wit(arguments) => commands::wit::run(&arguments, &console),
        Command::Clean(arguments) => commands::clean::run(&arguments, &console),
        Command::Doctor(arguments) => commands::doctor::run(&arguments, &console),
        Command::Node(arguments) => commands::node::run(&arguments, &console),
        Command::Deploy(arguments) => commands::deploy::run(&arguments, &console),
        Command::Push(arguments) => commands::push::run(&arguments, &console),
        Command::Pull(arguments) => commands::pull::run(&arguments, &console),
        Command::Verify(arguments) => commands::verify::run(&arguments, &console),
        Command::Keys(arguments) => commands::keys::run(&arguments, &console),
        Command::Apps(arguments) => commands::apps::run(&arguments, &console),
        Command::Status(arguments) => commands::status::run(&arguments, &console),
        Command::Dashboard(arguments) => commands::dashboard::run(&arguments, &console),
        Command::Logs(arguments) => commands::logs::run(&arguments, &console),
        Command::Traces(arguments) => commands::traces::run(&arguments, &console),
        Command::Trace(arguments) => commands::trace::run(&arguments, &console),
        Command::Metrics(arguments) => commands::metrics::run(&arguments, &console),
        Command::Top(arguments) => commands::top::run(&arguments, &console),
        Command::Advise(arguments) => commands::advise::run(&arguments, &console),
        Command::Revisions(arguments) => commands::revisions::run(&arguments, &console),
        Command::Rollback(arguments) => commands::rollback::run(&arguments, &console),
        Command::Swap(arguments) => commands::swap::run(&arguments, &console),
        Command::Reshape(arguments) => commands::reshape::run(&arguments, &console),
        Command::Stop(arguments) => commands::stop::run(&arguments, &console),
        Command::Start(arguments) => commands::start::run(&arguments, &console),
        Command::Remove(arguments) => commands::remove::run(&arguments, &console),
        Command::Tenants(arguments) => commands::tenants::run(&arguments, &console),
        Command::Tenant(arguments) => commands::tenant::run(&arguments, &console),
        Command::Secrets(arguments) => commands::secrets::run(&arguments, &console),
        Command::Tokens(arguments) => commands::tokens::run(&arguments, &console),
        Command::Completions(arguments) => commands::completions::run(&arguments, &Arguments::command()),
        Command::Manual(arguments) => commands::manual::run(&arguments, Arguments::command()),
        Command::CompileChild(arguments) => return commands::compile_child::run(&arguments),
    };
    if let Some(log) = log {
        log.flush();
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => console.report(&error),
    }
}
