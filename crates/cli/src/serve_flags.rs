//! Flags of the commands that serve an app.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use isomer_app_test::parse_stub;
use isomer_console::CliError;
use isomer_manifest::MONOLITH;
use isomer_serve::{ServeOptions, TestMode};
use isomer_telemetry::SamplingPolicy;

use isomer_flags::{AdminFlag, LogFlag, TelemetryFlag};

/// The flags of commands that serve an app.
#[derive(clap::Args)]
pub(crate) struct ServeFlags {
    /// The shape of the app.
    #[arg(long, default_value = MONOLITH)]
    shape: String,
    /// The address to listen on: `localhost:3000`, only a port (on 127.0.0.1), `[::1]:3000`, or `0.0.0.0:3000` for all
    /// networks. With port 0, the system chooses a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = isomer_flags::listen)]
    listen: SocketAddr,
    /// The address of the admin API, through which `isomer traces`, `isomer logs` and others observe the app: a loopback
    /// address, or `unix:PATH`. `off` switches the admin API off.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = isomer_flags::admin_or_off)]
    admin: AdminFlag,
    /// The data directory [default: `.isomer` in the app's folder].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print one line of JSON on standard output when the app is ready, and write the log in JSON.
    #[arg(long)]
    json: bool,
    /// Log every request.
    #[arg(long)]
    access_log: bool,
    #[command(flatten)]
    log: LogFlag,
    #[command(flatten)]
    telemetry: TelemetryFlag,
    /// The maximum time that requests in progress may take to finish after the signal to stop, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
    /// Serve an app for `isomer test`: use this folder for compiled code, print the line of JSON that `--json` prints
    /// but write the log for people, and stop when standard input is closed.
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "json")]
    test_mode: Option<PathBuf>,
    /// Derive the time of day and random values from the request and the component. Only for tests, because the values
    /// can be predicted.
    #[arg(long, hide = true, requires = "test_mode")]
    deterministic: bool,
    /// Read the secrets from files in this folder. A file has the name of its secret.
    #[arg(long, value_name = "DIR", hide = true, requires = "test_mode")]
    test_secrets: Option<PathBuf>,
    /// Send requests for HOST to ADDRESS instead.
    #[arg(long = "stub", value_name = "HOST=ADDRESS", hide = true, requires = "test_mode", value_parser = parse_stub)]
    stubs: Vec<(String, SocketAddr)>,
}

impl ServeFlags {
    /// Returns whether the process serves an app for `isomer test`.
    pub(crate) fn is_test_mode(&self) -> bool {
        self.test_mode.is_some()
    }

    /// Returns the options from the flags and the environment.
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
            admin: self.admin.address().filter(|_| test_mode.is_none()),
            data: self.data.clone(),
            json: self.json,
            access_log: self.access_log,
            log_levels: self.log.levels()?,
            sampling: self.telemetry.sampling(SamplingPolicy::LOCAL),
            grace: Duration::from_secs(self.grace),
            test_mode,
        })
    }
}
