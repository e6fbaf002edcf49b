//! What can go wrong while installing or building, each with the way out.

use std::path::PathBuf;

use crate::TARGET;

/// A failure of the toolchain or of a build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolchainError {
    /// No Rust at all.
    #[error("`rustc` and `cargo` cannot be run")]
    NoRust(#[source] std::io::Error),
    /// Rust is there, its guest target is not.
    #[error("no Rust toolchain here can build for `{TARGET}`")]
    NoGuestTarget,
}

impl ToolchainError {
    /// What the user can do about it: one line each.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::NoRust(_) => vec!["install Rust: https://rustup.rs".to_owned()],
            Self::NoGuestTarget => vec![
                format!("rustup target add {TARGET}"),
                "isomer doctor --fix (on Debian: sets up a guest toolchain from Debian's packages)".to_owned(),
            ],
        }
    }
}

/// An i/o failure with the path that it was about.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be {action}", path.display())]
pub struct PathError {
    /// The file or folder.
    pub path: PathBuf,
    /// What was tried, as a past participle: `read`, `written`.
    pub action: &'static str,
    /// Why it failed.
    pub source: std::io::Error,
}
