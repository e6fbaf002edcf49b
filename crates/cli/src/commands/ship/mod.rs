//! `isomer ship`: writes an app in a form in which it leaves this machine.

mod providers;
mod wasm;

use isomer_console::{CliError, Console};

/// Write an app in a form that runs without this command.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    channel: Channel,
}

#[derive(clap::Subcommand)]
enum Channel {
    Wasm(wasm::Arguments),
    #[command(hide = true)]
    Providers(providers::Arguments),
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    match &arguments.channel {
        Channel::Wasm(arguments) => wasm::run(arguments, console),
        Channel::Providers(arguments) => providers::run(arguments, console),
    }
}
