//! The levels of the platform's own log: the flag `--log` of commands that serve apps, and `ISOMER_LOG` for every
//! command.

use anyhow::Context as _;
use isomer_console::{CliError, Console};
use isomer_observe::{Format, Log};
use isomer_telemetry::{InvalidLevels, Levels};

/// The environment variable with the same meaning as `--log`.
const LOG_VARIABLE: &str = "ISOMER_LOG";

/// The flag that sets the levels of the platform's own log.
#[derive(Debug, Clone, clap::Args)]
pub struct LogFlag {
    /// The level of the platform's own log: `error`, `warn`, `info`, `debug`, `trace` or `off`. A part of the platform
    /// can have its own level, as in `warn,front=debug` [default: `$ISOMER_LOG`, or info].
    #[arg(long = "log", value_name = "LEVEL")]
    log: Option<Levels>,
}

impl LogFlag {
    /// Returns the levels from the flag, or from the environment if the flag was not used.
    pub fn levels(&self) -> Result<Levels, CliError> {
        match &self.log {
            Some(levels) => Ok(levels.clone()),
            None => Ok(levels_from_environment()?.unwrap_or_default()),
        }
    }
}

/// Starts the log of a command that serves no app, on standard error. Returns `None` if the environment sets no level.
pub fn start_command_log(console: &Console) -> Result<Option<Log>, CliError> {
    let Some(levels) = levels_from_environment()? else { return Ok(None) };
    let format = Format::Text { colour: console.colour() };
    let log = Log::start(std::io::stderr(), format, false).context("cannot start the log")?.with_levels(levels);
    isomer_observe::listen_to_events(log.clone());
    Ok(Some(log))
}

fn levels_from_environment() -> Result<Option<Levels>, CliError> {
    let Some(text) = std::env::var_os(LOG_VARIABLE).filter(|text| !text.is_empty()) else { return Ok(None) };
    let levels = text.to_string_lossy().parse().map_err(|error: InvalidLevels| {
        CliError::usage(format!("{LOG_VARIABLE}: {error}"), format!("unset {LOG_VARIABLE}, or set it to `info`"))
    })?;
    Ok(Some(levels))
}
