//! The level of the program's own log: `--log` of commands that serve, `ISOMER_LOG` for every command.

use anyhow::Context as _;
use isomer_console::{CommandError, Console};
use isomer_observe::{Format, Log};
use isomer_telemetry::{InvalidLevels, Levels};

/// The environment variable that says what `--log` says.
const LOG_VARIABLE: &str = "ISOMER_LOG";

/// The level of the program's own log.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LogFlag {
    /// The level of the platform's own log: `error`, `warn`, `info`, `debug`, `trace` or `off`; also for parts of it, as
    /// `warn,front=debug` [default: `$ISOMER_LOG`, or info].
    #[arg(long = "log", value_name = "LEVEL")]
    log: Option<Levels>,
}

impl LogFlag {
    /// What the flag says, else what the environment says.
    pub(crate) fn levels(&self) -> Result<Levels, CommandError> {
        match &self.log {
            Some(levels) => Ok(levels.clone()),
            None => Ok(of_environment()?.unwrap_or_default()),
        }
    }
}

/// The log of a command that does not serve: only where the environment asks for one, on standard error.
pub(crate) fn of_command(console: &Console) -> Result<Option<Log>, CommandError> {
    let Some(levels) = of_environment()? else { return Ok(None) };
    let format = Format::Text { colour: console.colour() };
    let log = Log::start(std::io::stderr(), format, false).context("cannot start the log")?.with_levels(levels);
    isomer_observe::listen_to_events(log.clone());
    Ok(Some(log))
}

fn of_environment() -> Result<Option<Levels>, CommandError> {
    let Some(text) = std::env::var_os(LOG_VARIABLE).filter(|text| !text.is_empty()) else { return Ok(None) };
    let levels = text.to_string_lossy().parse().map_err(|error: InvalidLevels| {
        CommandError::usage(format!("{LOG_VARIABLE}: {error}"), format!("unset {LOG_VARIABLE}, or set it to `info`"))
    })?;
    Ok(Some(levels))
}
