//! `isomer ship unit`: writes a systemd unit for a shipped program.

use std::net::SocketAddr;
use std::path::PathBuf;

use isomer_console::{CliError, Console, print};
use serde_json::json;

use crate::shipping::{Unit, UnitOptions, unit};

/// Write a systemd unit for a program of `isomer ship exe`.
///
/// The service is called `isomer-NAME`, so that it replaces no service of the system. It runs as a user of its own, keeps its
/// data in `/var/lib/isomer-NAME`, reads secrets from `/etc/isomer-NAME.env` if that file exists, and has no rights that it
/// does not need.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The program that `isomer ship exe` wrote.
    #[arg(value_name = "PROGRAM")]
    program: PathBuf,
    /// The file to write [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The path of the program on the machine that runs the service [default: the app's name in `/usr/local/bin`].
    #[arg(long, value_name = "PATH")]
    installed_as: Option<PathBuf>,
    /// The address that the service listens on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = isomer_flags::listen)]
    listen: SocketAddr,
    /// Print the name and the text of the unit as JSON on standard output.
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let options = UnitOptions {
        program: &arguments.program,
        installed_as: arguments.installed_as.as_deref(),
        listen: arguments.listen,
    };
    let Unit { name, text } = unit(&options)?;
    if arguments.json {
        return print(&format!("{:#}\n", json!({ "name": name, "unit": text })));
    }
    let Some(file) = &arguments.output else { return print(&text) };
    std::fs::write(file, text).map_err(|error| {
        CliError::from(anyhow::Error::new(error).context(format!("cannot write `{}`", file.display())))
    })?;
    console.message(&format!("{}", file.display()));
    Ok(())
}
