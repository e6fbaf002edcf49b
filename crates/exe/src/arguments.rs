//! The command line of a shipped program.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{CommandFactory as _, FromArgMatches as _};
use isomer_flags::{AdminFlag, LogFlag, TelemetryFlag, ValueFlags};
use isomer_manifest::App;
use isomer_parcel::exe::ExeIndex;

/// The flags of a shipped program: those of `isomer run` that concern an app that is already built. A flag may be repeated, so
/// that flags can be added to those of a service or an image.
#[derive(clap::Parser)]
#[command(disable_version_flag = true, args_override_self = true)]
pub(crate) struct Arguments {
    /// The address to listen on: `localhost:3000`, only a port (on 127.0.0.1), `[::1]:3000`, or `0.0.0.0:3000` for all
    /// networks. With port 0, the system chooses a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = isomer_flags::listen)]
    pub(crate) listen: SocketAddr,
    /// The data directory [default: `$STATE_DIRECTORY` of a systemd service, or a folder with the app's name in
    /// `~/.local/state/isomer`].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The address of the admin API, through which `isomer traces`, `isomer logs` and others observe the app: a loopback
    /// address, or `unix:PATH`. `off` switches the admin API off.
    #[arg(long, value_name = "ADDR", default_value = "off", value_parser = isomer_flags::admin_or_off)]
    pub(crate) admin: AdminFlag,
    /// Print one line of JSON on standard output when the app is ready, and write the log in JSON. With `--version`,
    /// print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Log every request.
    #[arg(long)]
    pub(crate) access_log: bool,
    #[command(flatten)]
    pub(crate) log: LogFlag,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryFlag,
    /// The maximum time that requests in progress may take to finish after the signal to stop, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) grace: u64,
    #[command(flatten)]
    pub(crate) values: ValueFlags,
    /// Print the version of the app, its digest, and what the program was made with.
    #[arg(short = 'V', long)]
    pub(crate) version: bool,
    /// Print the app's software bill of materials (CycloneDX, JSON).
    #[arg(long, conflicts_with = "version")]
    pub(crate) sbom: bool,
    /// Verify the app in this file (not the runtime), and that its code is complete for this runtime. Prints nothing if all is
    /// well, and exits.
    #[arg(long, conflicts_with_all = ["version", "sbom"])]
    pub(crate) verify: bool,
}

impl Arguments {
    /// Parses the arguments of this process. Ends the process after `--help` and after an error.
    pub(crate) fn parse(app: &App, index: &ExeIndex) -> Self {
        let about = format!(
            "{} {} as one program, with the runtime of Isomer {}.\n\nRelease {}, shape {}.",
            app.name, app.version, index.isomer, index.digest, index.release.shape
        );
        // clap keeps names for the life of the process.
        let name: &'static str = String::leak(app.name.clone());
        let mut matches = Self::command().name(name).about(about).get_matches();
        Self::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
    }
}
