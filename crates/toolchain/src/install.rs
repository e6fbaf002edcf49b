//! Installing a guest toolchain: with rustup, else from Debian's packages.

use std::process::{Command, Stdio};
use std::time::Duration;

use isomer_diagnostics::chain;

use crate::debian::{self, SystemPackages};
use crate::error::ToolchainError;
use crate::guest::GuestToolchain;
use crate::origin::{TARGET, ToolchainOrigin};
use crate::process::{BuildProgress, ProgressReporter, run_within};

/// The maximum time that `rustup` may take. On some networks without internet access, connections are never refused.
const RUSTUP_TIME_MAX: Duration = Duration::from_secs(120);

impl GuestToolchain {
    /// Finds a toolchain, or installs one: the one that `ISOMER_GUEST_TOOLCHAIN` names, or any if it names none. Every
    /// step of an installation is reported; nothing is reported if a toolchain is already installed. Packages of the
    /// operating system are installed only if `system` allows it.
    ///
    /// # Errors
    /// If none can be installed; the error's hints say how to install one by hand.
    pub fn find_or_install(system: SystemPackages, report: ProgressReporter<'_>) -> Result<Self, ToolchainError> {
        match ToolchainOrigin::chosen()? {
            Some(origin) => Self::find_or_install_from(origin, system, report),
            None => match Self::find_any() {
                Err(ToolchainError::NoGuestTarget) => Self::install(system, report),
                found => found,
            },
        }
    }

    /// Finds the toolchain of this origin, or installs it.
    ///
    /// # Errors
    /// If it cannot be installed.
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

    /// Installs a toolchain with `rustup target add`, or from Debian's packages if that fails. Can be repeated: an
    /// interrupted installation starts again.
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
    // rustup's own backtrace is disabled, as it does not help users.
    command.args(["target", "add", TARGET]).env("RUST_BACKTRACE", "0");
    run_within(&mut command, Some(RUSTUP_TIME_MAX), report)?;
    let installed = Command::new("rustup").args(["target", "list", "--installed"]).stderr(Stdio::null()).output();
    match installed {
        Ok(output) if String::from_utf8_lossy(&output.stdout).lines().any(|line| line.trim() == TARGET) => Ok(()),
        _ => Err(ToolchainError::NotInstalled { origin: ToolchainOrigin::Rustup }),
    }
}
