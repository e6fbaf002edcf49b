//! Installing a guest toolchain: with rustup, else from Debian's packages.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::run_within;
use crate::{GuestToolchain, Origin, Progress, Reporter, TARGET, ToolchainError, debian};

/// A download that takes longer is given up: where there is no way out, some networks never answer.
const RUSTUP_TIME: Duration = Duration::from_secs(120);

impl GuestToolchain {
    /// Finds a toolchain, or installs one: the one that `ISOMER_GUEST_TOOLCHAIN` names, else any. What is done is reported;
    /// nothing is reported where one is ready.
    pub fn find_or_install(report: Reporter<'_>) -> Result<Self, ToolchainError> {
        match Origin::chosen()? {
            Some(origin) => Self::find_or_install_from(origin, report),
            None => match Self::find_any() {
                Err(ToolchainError::NoGuestTarget) => Self::install(report),
                found => found,
            },
        }
    }

    /// Finds the toolchain of this origin, or installs it.
    pub fn find_or_install_from(origin: Origin, report: Reporter<'_>) -> Result<Self, ToolchainError> {
        match Self::find_from(origin) {
            Err(ToolchainError::NotInstalled { .. }) => {}
            found => return found,
        }
        report(Progress::Step(&format!("no guest toolchain by {} here: installing it", origin.name())));
        match origin {
            Origin::Rustup => add_target(report).and_then(|()| Self::find_from(origin)),
            Origin::Debian => debian::install(report),
        }
    }

    /// Installs one: `rustup target add`, else from Debian's packages (which needs root or sudo where the linker is not
    /// installed yet). Harmless to repeat; an interrupted installation is begun anew.
    pub(crate) fn install(report: Reporter<'_>) -> Result<Self, ToolchainError> {
        report(Progress::Step(&format!("no Rust toolchain for {TARGET} here: installing one")));
        let rustup = match add_target(report) {
            Ok(()) => return Self::find_any(),
            Err(error) => error,
        };
        report(Progress::Step(&format!("{rustup}; trying Debian's packages")));
        debian::install(report).map_err(|debian| {
            let mut hints = vec![format!("rustup target add {TARGET}")];
            hints.extend(debian.hints());
            hints.dedup();
            ToolchainError::CannotInstall { rustup: rustup.to_string(), debian: describe(&debian), hints }
        })
    }
}

fn add_target(report: Reporter<'_>) -> Result<(), ToolchainError> {
    // Rustup's own retries and the error's trace of a developer's machine say nothing to the user.
    let mut command = Command::new("rustup");
    command.args(["target", "add", TARGET]).env("RUST_BACKTRACE", "0");
    run_within(&mut command, Some(RUSTUP_TIME), report)?;
    let installed = Command::new("rustup").args(["target", "list", "--installed"]).stderr(Stdio::null()).output();
    match installed {
        Ok(output) if String::from_utf8_lossy(&output.stdout).lines().any(|line| line.trim() == TARGET) => Ok(()),
        _ => Err(ToolchainError::NotInstalled { origin: Origin::Rustup }),
    }
}

/// An error and its causes on one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
