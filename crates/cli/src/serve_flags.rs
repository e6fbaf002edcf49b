//! Flags of the commands that serve an app.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use isomer_app_test::parse_stub;
use isomer_console::CliError;
use isomer_manifest::MONOLITH;
use isomer_serve::{ServeOptions, TestMode};

use crate::address_flags;
use crate::log_flag::LogFlag;

/// Flags of commands that serve an app.
#[derive(clap::Args)]
pub(crate) struct ServeFlags {
    /// The app's shape.
    #[arg(long, default_value = MONOLITH)]
    shape: String,
    /// Where to listen: `localhost:3000`, a port alone (on 127.0.0.1), `[::1]:3000`, or `0.0.0.0:3000` for all networks. Port 0 lets the
    /// system choose.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address_flags::listen)]
    listen: SocketAddr,
    /// The data directory [default: `.isomer` in the app's folder].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print one line of JSON on standard output when the app is ready, and log in JSON.
    #[arg(long)]
    json: bool,
    /// Log every request.
    #[arg(long)]
    access_log: bool,
    #[command(flatten)]
    log: LogFlag,
    /// How long running requests may take after the signal to stop, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
    /// Serve a test: compiled code is in this folder, the line for programs is printed while the log is for people, and the process stops
    /// when its standard input ends.
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "json")]
    test_mode: Option<PathBuf>,
    /// Derive the time of day and randomness from the request and the component. For tests: random values can be predicted.
    #[arg(long, hide = true, requires = "test_mode")]
    deterministic: bool,
    /// Take secrets from the files of this folder that have their names.
    #[arg(long, value_name = "DIR", hide = true, requires = "test_mode")]
    test_secrets: Option<PathBuf>,
    /// Send requests for this host to that address instead.
    #[arg(long = "stub", value_name = "HOST=ADDRESS", hide = true, requires = "test_mode", value_parser = parse_stub)]
    stubs: Vec<(String, SocketAddr)>,
}

impl ServeFlags {
    /// Whether the process serves a test.
    pub(crate) fn is_test_mode(&self) -> bool {
        self.test_mode.is_some()
    }

    /// The options that the flags and the environment give.
    pub(crate) fn options(&self) -> Result<ServeOptions, CliError> {
        let test_mode = self.test_mode.as_ref().map(|code| TestMode {
            code: code.clone(),
            deterministic: self.deterministic,
            secrets: self.test_secrets.clone(),
            stubs: self.stubs.iter().cloned().collect(),
        });
        Ok(ServeOptions {
            shape: self.shape.clone(),
            listen: self.listen,
            data: self.data.clone(),
            json: self.json,
            access_log: self.access_log,
            log_levels: self.log.levels()?,
            grace: Duration::from_secs(self.grace),
            test_mode,
        })
    }
}
