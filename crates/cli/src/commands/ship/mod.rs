//! `isomer ship`: writes an app in a form that runs on other machines.

mod all;
mod exe;
mod image;
mod providers;
mod unit;
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
    Exe(exe::Arguments),
    Unit(unit::Arguments),
    Image(image::Arguments),
    Wasm(wasm::Arguments),
    #[command(long_flag = "all")]
    All(all::Arguments),
    #[command(hide = true)]
    Providers(providers::Arguments),
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    match &arguments.channel {
        Channel::Exe(arguments) => exe::run(arguments, console),
        Channel::Unit(arguments) => unit::run(arguments, console),
        Channel::Image(arguments) => image::run(arguments, console),
        Channel::Wasm(arguments) => wasm::run(arguments, console),
        Channel::All(arguments) => all::run(arguments, console),
        Channel::Providers(arguments) => providers::run(arguments, console),
    }
}
