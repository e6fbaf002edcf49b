//! Installing a guest toolchain: with rustup, else from Debian's packages.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::guest::guest_dir;
use crate::process::run_within;
use crate::{GuestToolchain, Progress, Reporter, TARGET, ToolchainError, debian};

/// A download that takes longer is given up: where there is no way out, some networks never answer.
const RUSTUP_TIME: Duration = Duration::from_secs(120);

impl GuestToolchain {
    /// Find a toolchain, or install one. What is done is reported; nothing is reported where one is ready.
    pub fn find_or_install(report: Reporter<'_>) -> Result<Self, ToolchainError> {
        match Self::find() {
            Err(ToolchainError::NoGuestTarget) => Self::install(report),
            found => found,
        }
    }

    /// Install one: `rustup target add`, else from Debian's packages (which needs root or sudo where the linker is not
    /// installed yet). Harmless to repeat; an interrupted installation is begun anew.
    pub fn install(report: Reporter<'_>) -> Result<Self, ToolchainError> {
        report(Progress::Step(&format!("no Rust toolchain for {TARGET} here: installing one")));
        let rustup = match add_target(report) {
            Ok(()) => return Self::find(),
            Err(error) => error,
        };
        report(Progress::Step(&format!("{rustup}; trying Debian's packages")));
        let dir =
            guest_dir().ok_or_else(|| no_way(rustup.to_string(), "no cache folder: HOME is not set".to_owned()))?;
        if !debian::is_debian() {
            return Err(no_way(rustup.to_string(), "this is not Debian".to_owned()));
        }
        debian::install(&dir, report).map_err(|error| {
            let mut refusal = no_way(rustup.to_string(), describe(&error));
            if let ToolchainError::CannotInstall { hints, .. } = &mut refusal {
                hints.extend(error.hints());
                hints.dedup();
            }
            refusal
        })?;
        Self::ready_in(&dir).ok_or(ToolchainError::NoGuestTarget)
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
        _ => Err(ToolchainError::NoGuestTarget),
    }
}

fn no_way(rustup: String, debian: String) -> ToolchainError {
    ToolchainError::CannotInstall { rustup, debian, hints: vec![format!("rustup target add {TARGET}")] }
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
