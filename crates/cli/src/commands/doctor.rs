//! `isomer doctor`: checks whether this machine has everything that building and running an app needs.

use std::net::SocketAddr;
use std::path::PathBuf;

use isomer_console::{CliError, Console, FAILED, print};
use isomer_project::AppDir;
use serde_json::json;

use crate::doctor::{CheckState, Finding, disk, port, system, toolchain};

/// Check whether this machine has everything that building and running an app needs: toolchain, port, data directory,
/// system limits.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, or the file of an HTTP component. Without an app,
    /// only what every app needs is checked.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// The address at which `isomer run` will listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = isomer_flags::listen)]
    listen: SocketAddr,
    /// The data directory [default: `.isomer` in the app's folder].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Install the toolchain that builds components if it is missing. Nothing runs as root: if packages of the
    /// operating system are missing, the command that installs them is printed.
    #[arg(long)]
    fix: bool,
    /// Print the findings as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    if arguments.fix {
        toolchain::install_guests(console)?;
    }
    let app = AppDir::open(&arguments.path).ok();
    let here = if arguments.path.is_dir() { arguments.path.clone() } else { PathBuf::from(".") };
    let dir = app.as_ref().map_or(here, |app| app.dir.clone());
    let data = arguments.data.clone().unwrap_or_else(|| dir.join(".isomer"));
    let mut findings = vec![toolchain::rust(), toolchain::guests(), port::free(arguments.listen)];
    findings.extend(disk::data_directory(&data));
    findings.extend([
        disk::space(&data),
        system::map_count(),
        system::open_files(),
        system::node(),
        system::compilers(),
    ]);
    findings.push(system::sockets());
    let failed = findings.iter().any(|finding| finding.state == CheckState::Fail);
    if arguments.json {
        let checks = findings.iter().map(Finding::to_json).collect::<serde_json::Value>();
        print(&format!("{:#}\n", json!({ "ok": !failed, "checks": checks })))?;
    } else {
        let widest = findings.iter().map(|finding| finding.about.len()).max().unwrap_or(0);
        print(&findings.iter().map(|finding| finding.line(widest, console.stdout_colour())).collect::<String>())?;
    }
    if failed { Err(CliError::ExitCode(FAILED)) } else { Ok(()) }
}
