//! Errors of installing and building, with hints.

use std::path::PathBuf;
use std::process::ExitStatus;

use isomer_display::ProcessExit;
use isomer_ids::ComponentName;

use crate::origin::{ORIGIN_VARIABLE, TARGET, ToolchainOrigin};

/// A failure to find or install a guest toolchain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolchainError {
    /// Rust is not installed.
    #[error("`rustc` and `cargo` cannot be run")]
    NoRust(#[source] std::io::Error),
    /// Rust is installed, but not for the guest target.
    #[error("no Rust toolchain for `{TARGET}` is installed")]
    NoGuestTarget,
    /// The toolchain of one origin is not installed.
    #[error("{}", match origin {
        ToolchainOrigin::Rustup => format!("the default Rust toolchain has no target `{TARGET}`"),
        ToolchainOrigin::Debian => "no guest toolchain assembled from Debian's packages is installed".to_owned(),
    })]
    NotInstalled {
        /// The origin.
        origin: ToolchainOrigin,
    },
    /// `ISOMER_GUEST_TOOLCHAIN` names no origin.
    #[error("{ORIGIN_VARIABLE} is `{name}`, not `{}` or `{}`", ToolchainOrigin::Rustup.name(), ToolchainOrigin::Debian.name())]
    UnknownOrigin {
        /// The variable's value.
        name: String,
    },
    /// Debian's packages cannot be used on another system.
    #[error("this is not Debian")]
    NotDebian,
    /// There is no folder for a toolchain.
    #[error("no cache folder: HOME is not set")]
    NoCacheDir,
    /// Neither rustup nor Debian's packages could install a toolchain.
    #[error("no Rust toolchain for `{TARGET}` could be installed: {rustup}; {debian}")]
    CannotInstall {
        /// The error of rustup.
        rustup: String,
        /// The error of Debian's packages.
        debian: String,
        /// The commands to run by hand.
        hints: Vec<String>,
    },
    /// A package is missing or too old.
    #[error("apt {problem}")]
    Apt {
        /// The problem, beginning with the verb.
        problem: String,
        /// The commands to run by hand.
        hint: String,
    },
    /// A file that the packages or the default toolchain should contain is missing.
    #[error("`{}` is missing {of}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The place that should contain it.
        of: &'static str,
    },
    /// A program could not be started.
    #[error("`{command}` cannot be run")]
    CannotRun {
        /// The whole command.
        command: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("`{command}` {}", ProcessExit::from(*status))]
    CommandFailed {
        /// The whole command.
        command: String,
        /// The exit status.
        status: ExitStatus,
        /// The last lines of its output; they were reported when they were printed.
        output: String,
    },
    /// A program took too long and was stopped.
    #[error("`{command}` was stopped after {seconds} s")]
    TimedOut {
        /// The whole command.
        command: String,
        /// The time limit in seconds.
        seconds: u64,
        /// The last lines of its output.
        output: String,
    },
    /// An i/o error of a file or folder.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl ToolchainError {
    /// Returns whether an installation failed because the machine lacks or forbids something (another system, no root,
    /// no network), rather than because something is broken.
    pub fn is_unsupported_machine(&self) -> bool {
        match self {
            Self::NotDebian | Self::NoCacheDir | Self::Apt { .. } | Self::TimedOut { .. } => true,
            // These programs do nothing here but download and install.
            Self::CommandFailed { command, .. } | Self::CannotRun { command, .. } => {
                ["rustup ", "apt-get ", "sudo "].iter().any(|program| command.starts_with(program))
            }
            _ => false,
        }
    }

    /// Returns hints for the user, one line each.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::NoRust(_) => vec!["install Rust: https://rustup.rs".to_owned()],
            Self::NoGuestTarget => {
                vec![format!("rustup target add {TARGET}"), "without rustup's server: isomer doctor --fix".to_owned()]
            }
            Self::NotInstalled { origin: ToolchainOrigin::Rustup } => vec![format!("rustup target add {TARGET}")],
            Self::NotInstalled { origin: ToolchainOrigin::Debian } => {
                vec![format!("{ORIGIN_VARIABLE}=debian isomer doctor --fix")]
            }
            Self::UnknownOrigin { .. } => vec![format!("unset {ORIGIN_VARIABLE} to use the one that is installed")],
            Self::CannotInstall { hints, .. } => hints.clone(),
            Self::Apt { hint, .. } => vec![hint.clone()],
            Self::Missing { .. } | Self::CannotRun { .. } | Self::CommandFailed { .. } | Self::TimedOut { .. } => {
                vec![format!("rustup target add {TARGET}")]
            }
            Self::NotDebian | Self::NoCacheDir | Self::Path(_) => Vec::new(),
        }
    }
}

/// A failure to build a component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No guest toolchain.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// The folder of `cargo = "DIR"` is not a package.
    #[error("component `{component}`: `{}` is not the folder of a Cargo package", dir.display())]
    NoPackage {
        /// The component.
        component: ComponentName,
        /// The folder.
        dir: PathBuf,
        /// Cargo's output.
        output: String,
    },
    /// The compiler found errors.
    #[error("cargo could not build {}", list(components))]
    Cargo {
        /// The components that were being built.
        components: Vec<ComponentName>,
        /// The last lines of cargo's output; they were reported when they were printed.
        output: String,
    },
    /// The compiler found errors in a package that components depend on.
    #[error("cargo could not build the package `{package}`, which the app's components depend on")]
    Dependency {
        /// The package.
        package: String,
        /// The last lines of cargo's output; they were reported when they were printed.
        output: String,
    },
    /// The package builds no component, or more than one.
    #[error("component `{component}`: package `{package}` {problem}")]
    Artifact {
        /// The component.
        component: ComponentName,
        /// The Cargo package.
        package: String,
        /// The problem, beginning with the verb.
        problem: String,
    },
    /// `command = "…"` failed.
    #[error("component `{component}`: command `{command}` {status}")]
    Command {
        /// The component.
        component: ComponentName,
        /// The command.
        command: String,
        /// The program's end, as a phrase that begins with a verb.
        status: String,
        /// The last lines of its output; they were reported when they were printed.
        output: String,
    },
    /// The command's inputs are more files than can be checked for changes.
    #[error(
        "component `{component}`: its command may read {most} files or more, which is too many to check for changes"
    )]
    TooManyFiles {
        /// The component.
        component: ComponentName,
        /// The maximum number of files that are checked.
        most: usize,
    },
    /// The file does not exist.
    #[error("component `{component}`: there is no file `{}`", path.display())]
    NoFile {
        /// The component.
        component: ComponentName,
        /// The file.
        path: PathBuf,
        /// The command that should have made it.
        made_by: Option<String>,
    },
    /// An i/o error of a file or folder.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl BuildError {
    /// Returns hints for the user, one line each.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Toolchain(error) => error.hints(),
            Self::NoPackage { .. } => vec!["`cargo` names the folder that has the package's Cargo.toml".to_owned()],
            Self::Artifact { .. } => {
                vec!["a component's package has a library with `crate-type = [\"cdylib\"]`, or one program".to_owned()]
            }
            Self::TooManyFiles { .. } => {
                vec!["name what it reads: `inputs = [\"src\", \"package.json\"]`, relative to isomer.toml".to_owned()]
            }
            Self::NoFile { made_by: Some(command), .. } => {
                vec![format!("`wasm` names the file that `{command}` makes, relative to isomer.toml")]
            }
            Self::NoFile { made_by: None, .. } => {
                vec!["`wasm` names a component that is already built, relative to isomer.toml".to_owned()]
            }
            // Cargo prints this among much else, and itself ends with an exit code.
            Self::Cargo { output, .. } | Self::Dependency { output, .. } if output.contains("(signal: 9, SIGKILL") => {
                vec![
                    "a compiler was killed by SIGKILL (possibly out of memory): CARGO_BUILD_JOBS=1 needs less"
                        .to_owned(),
                ]
            }
            Self::Command { output, .. } => {
                let printed = if output.trim().is_empty() { "it printed nothing" } else { "its output is above" };
                vec![format!("{printed}; it is run by a shell, in the folder of isomer.toml")]
            }
            Self::Cargo { .. } | Self::Dependency { .. } | Self::Path(_) => Vec::new(),
        }
    }

    /// Returns the last output of the compiler or command, if one was run.
    pub fn output(&self) -> Option<&str> {
        match self {
            Self::NoPackage { output, .. }
            | Self::Cargo { output, .. }
            | Self::Dependency { output, .. }
            | Self::Command { output, .. } => Some(output),
            Self::Toolchain(ToolchainError::CommandFailed { output, .. } | ToolchainError::TimedOut { output, .. }) => {
                Some(output)
            }
            _ => None,
        }
    }
}

/// An i/o error with its path.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be {action}", path.display())]
pub struct PathError {
    /// The file or folder.
    pub path: PathBuf,
    /// The failed action as a past participle: `read`, `written`.
    pub action: &'static str,
    /// The system's error.
    pub source: std::io::Error,
}

fn list(components: &[ComponentName]) -> String {
    let names: Vec<String> = components.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
