//! Can components be built here?

use std::process::Command;

use isomer_toolchain::{GuestToolchain, TARGET, ToolchainError};

use super::Finding;

/// Rust itself.
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

/// The target that components are built for.
pub(crate) fn guests() -> Finding {
    const ABOUT: &str = "components";
    match GuestToolchain::find() {
        Ok(toolchain) => Finding::ok(ABOUT, toolchain.describe()),
        Err(error) => {
            let hint = error.hints().into_iter().next().unwrap_or_else(|| format!("rustup target add {TARGET}"));
            match error {
                ToolchainError::UnknownOrigin { .. } => Finding::fail(ABOUT, error.to_string(), hint),
                _ => Finding::warn(ABOUT, format!("{error}; `isomer build` will try to install it"), hint),
            }
        }
    }
}
