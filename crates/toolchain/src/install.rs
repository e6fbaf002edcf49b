//! Installs a guest toolchain: with rustup, or from Debian's packages if rustup fails.

use std::process::{Command, Stdio};
use std::time::Duration;

use isomer_diagnostics::chain;

use crate::debian::{self, SystemPackages};
use crate::error::ToolchainError;
use crate::guest::GuestToolchain;
use crate::origin::{TARGET, ToolchainOrigin};
use crate::process::{BuildProgress, ProgressReporter, run_within};

/// The maximum duration of a run of `rustup`. The limit is needed because some networks without internet access drop
/// packets instead of refusing connections.
const RUSTUP_TIME_MAX: Duration = Duration::from_secs(120);

impl GuestToolchain {
    /// Finds an installed toolchain, or installs one: the toolchain that `ISOMER_GUEST_TOOLCHAIN` names, or any
    /// toolchain if the variable is unset. Each step of an installation is reported. Packages of the operating system
    /// are installed only if `system` allows it.
    ///
    /// # Errors
    /// If no toolchain can be installed. The error's hints say how to install one by hand.
    pub fn find_or_install(system: SystemPackages, report: ProgressReporter<'_>) -> Result<Self, ToolchainError> {
        match ToolchainOrigin::chosen()? {
            Some(origin) => Self::find_or_install_from(origin, system, report),
            None => match Self::find_any() {
                Err(ToolchainError::NoGuestTarget) => Self::install(system, report),
                found => found,
            },
        }
    }

    /// Finds the toolchain of the origin `origin`, or installs it.
    ///
    /// # Errors
    /// If the toolchain cannot be installed.
    pub fn find_or_install_from(
        origin: ToolchainOrigin,
        system: SystemPackages,
        report: ProgressReporter<'_>,
    ) -> Result<Self, ToolchainError> {
        match Self::find_from(origin) {
            Err(ToolchainError::NotInstalled { .. }) => {}
            found => return found,
        }
        report(BuildProgress::Step(&format!("installing a guest toolchain from {}", origin.name())));
        match origin {
            ToolchainOrigin::Rustup => add_target(report).and_then(|()| Self::find_from(origin)),
            ToolchainOrigin::Debian => debian::install(system, report),
        }
    }

    /// Installs a toolchain with `rustup target add`, or from Debian's packages if that fails. After an interruption,
    /// another call starts the installation again.
    fn install(system: SystemPackages, report: ProgressReporter<'_>) -> Result<Self, ToolchainError> {
        report(BuildProgress::Step(&format!("installing a Rust toolchain for {TARGET}")));
        let rustup = match add_target(report) {
            Ok(()) => return Self::find_any(),
            Err(error) => error,
        };
        report(BuildProgress::Step(&format!("{rustup}; trying Debian's packages")));
        debian::install(system, report).map_err(|debian| {
            let mut hints = vec![format!("rustup target add {TARGET}")];
            hints.extend(debian.hints());
            hints.dedup();
            ToolchainError::CannotInstall { rustup: rustup.to_string(), debian: chain(&debian), hints }
        })
    }
}

fn add_target(report: ProgressReporter<'_>) -> Result<(), ToolchainError> {
    let mut command = Command::new("rustup");
    // rustup's backtrace is disabled, because it does not help users.
    command.args(["target", "add", TARGET]).env("RUST_BACKTRACE", "0");
    run_within(&mut command, Some(RUSTUP_TIME_MAX), report)?;
    let installed = Command::new("rustup").args(["target", "list", "--installed"]).stderr(Stdio::null()).output();
    match installed {
        Ok(output) if String::from_utf8_lossy(&output.stdout).lines().any(|line| line.trim() == TARGET) => Ok(()),
        _ => Err(ToolchainError::NotInstalled { origin: ToolchainOrigin::Rustup }),
    }
}
