//! Checks that this machine can build components.

use std::process::Command;

use isomer_console::{CliError, Console};
use isomer_toolchain::{BuildProgress, GuestToolchain, SystemPackages, TARGET, ToolchainError};

use super::Finding;

/// Checks that Rust is installed.
pub(crate) fn rust() -> Finding {
    const ABOUT: &str = "rust";
    match Command::new("rustc").arg("--version").output() {
        Ok(output) if output.status.success() => {
            Finding::ok(ABOUT, String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(output) => Finding::fail(
            ABOUT,
            format!("`rustc --version` failed: {}", String::from_utf8_lossy(&output.stderr).trim()),
            "rustup default stable",
        ),
        Err(error) => Finding::warn(
            ABOUT,
            format!("`rustc` cannot be run: {error}; components that are already built can be run"),
            "install Rust: https://rustup.rs",
        ),
    }
}

/// Checks that a guest toolchain is installed.
pub(crate) fn guests() -> Finding {
    const ABOUT: &str = "components";
    match GuestToolchain::find() {
        Ok(toolchain) => Finding::ok(ABOUT, toolchain.describe()),
        Err(error) => {
            let hint = error.hints().into_iter().next().unwrap_or_else(|| format!("rustup target add {TARGET}"));
            match error {
                ToolchainError::UnknownOrigin { .. } => Finding::fail(ABOUT, error.to_string(), hint),
                _ => Finding::warn(ABOUT, error.to_string(), format!("{hint} (`isomer doctor --fix` runs it)")),
            }
        }
    }
}

/// Installs a guest toolchain if none is installed. Nothing runs as root: if packages of the operating system are
/// missing, the error contains the command that installs them.
pub(crate) fn install_guests(console: &Console) -> Result<(), CliError> {
    let mut report = |progress: BuildProgress<'_>| match progress {
        BuildProgress::Step(step) => console.message(step),
        BuildProgress::Output(line) => console.message(&format!("    {line}")),
    };
    match GuestToolchain::find_or_install(SystemPackages::Require, &mut report) {
        Ok(_) => Ok(()),
        Err(error) => {
            let hints = error.hints();
            Err(CliError::hinted(error, hints))
        }
    }
}
