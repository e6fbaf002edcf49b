//! What can go wrong while installing or building, each with the way out.

use std::path::PathBuf;
use std::process::ExitStatus;

use isomer_display::Ended;
use isomer_manifest::ComponentName;

use crate::guest::ORIGIN_VARIABLE;
use crate::{Origin, TARGET};

/// A failure to find or install a guest toolchain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolchainError {
    /// No Rust at all.
    #[error("`rustc` and `cargo` cannot be run")]
    NoRust(#[source] std::io::Error),
    /// Rust is there, its guest target is not.
    #[error("no Rust toolchain here can build for `{TARGET}`")]
    NoGuestTarget,
    /// The toolchain of one origin is not installed.
    #[error("{}", match origin {
        Origin::Rustup => format!("the default Rust toolchain has no target `{TARGET}`"),
        Origin::Debian => "no guest toolchain made from Debian's packages is installed".to_owned(),
    })]
    NotInstalled {
        /// Which.
        origin: Origin,
    },
    /// `ISOMER_GUEST_TOOLCHAIN` names no origin.
    #[error("{ORIGIN_VARIABLE} is `{name}`, not `{}` or `{}`", Origin::Rustup.name(), Origin::Debian.name())]
    UnknownOrigin {
        /// Its value.
        name: String,
    },
    /// Debian's packages cannot be used on another system.
    #[error("this is not Debian")]
    NotDebian,
    /// There is no place for a toolchain.
    #[error("no cache folder: HOME is not set")]
    NoCacheDir,
    /// Neither rustup nor Debian's packages gave a toolchain.
    #[error("no Rust toolchain for `{TARGET}` could be installed: {rustup}; {debian}")]
    CannotInstall {
        /// Why not with rustup.
        rustup: String,
        /// Why not from Debian's packages.
        debian: String,
        /// What somebody could do by hand.
        hints: Vec<String>,
    },
    /// A package is missing or too old.
    #[error("apt {problem}")]
    Apt {
        /// What is wrong, from the verb on.
        problem: String,
        /// What somebody could do by hand.
        hint: String,
    },
    /// Something that the packages or the default toolchain should have is not there.
    #[error("`{}` is missing {of}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Where it should have come from.
        of: &'static str,
    },
    /// A program could not be started.
    #[error("`{command}` cannot be run")]
    CannotRun {
        /// The whole command.
        command: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("`{command}` {}", Ended::from(*status))]
    CommandFailed {
        /// The whole command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its output; they were reported when they were printed.
        output: String,
    },
    /// A program took too long and was stopped.
    #[error("`{command}` was stopped after {seconds} s")]
    TimedOut {
        /// The whole command.
        command: String,
        /// The time that it had.
        seconds: u64,
        /// The last lines of its output.
        output: String,
    },
    /// A file or folder.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl ToolchainError {
    /// Returns whether an installation failed for want of something that the machine does not have or allow (another system,
    /// no root, no network), not because something is broken.
    pub fn is_for_want_of_means(&self) -> bool {
        match self {
            Self::NotDebian | Self::NoCacheDir | Self::Apt { .. } | Self::TimedOut { .. } => true,
            // Both do nothing here but download and install.
            Self::CommandFailed { command, .. } | Self::CannotRun { command, .. } => {
                ["rustup ", "apt-get ", "sudo "].iter().any(|program| command.starts_with(program))
            }
            _ => false,
        }
    }

    /// What the user can do about it: one line each.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::NoRust(_) => vec!["install Rust: https://rustup.rs".to_owned()],
            Self::NoGuestTarget | Self::NotInstalled { origin: Origin::Rustup } => {
                vec![format!("rustup target add {TARGET}")]
            }
            Self::NotInstalled { origin: Origin::Debian } => {
                vec![format!("`{ORIGIN_VARIABLE}=debian isomer build` in an app's folder installs it")]
            }
            Self::UnknownOrigin { .. } => vec![format!("unset {ORIGIN_VARIABLE} to use whichever is installed")],
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
    /// The guest toolchain.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// `cargo = "DIR"` is no package.
    #[error("component `{component}`: `{}` is not the folder of a Cargo package", dir.display())]
    NoPackage {
        /// The component.
        component: ComponentName,
        /// The folder.
        dir: PathBuf,
        /// What cargo says about it.
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
    /// The package makes no component, or several.
    #[error("component `{component}`: package `{package}` {problem}")]
    Artifact {
        /// The component.
        component: ComponentName,
        /// The Cargo package.
        package: String,
        /// What it makes instead, from the verb on.
        problem: String,
    },
    /// `command = "…"` failed.
    #[error("component `{component}`: command `{command}` {status}")]
    Command {
        /// The component.
        component: ComponentName,
        /// The command.
        command: String,
        /// How it ended, from the verb on.
        status: String,
        /// The last lines of its output; they were reported when they were printed.
        output: String,
    },
    /// A command may read more files than are looked at, so it would not run again when one of the others changes.
    #[error("component `{component}`: its command may read {most} files or more, and so many are not looked at")]
    TooManyFiles {
        /// The component.
        component: ComponentName,
        /// How many are.
        most: usize,
    },
    /// The file is not there.
    #[error("component `{component}`: there is no file `{}`", path.display())]
    NoFile {
        /// The component.
        component: ComponentName,
        /// The file.
        path: PathBuf,
        /// The command that should have made it.
        made_by: Option<String>,
    },
    /// A file or folder.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl BuildError {
    /// What the user can do about it: one line each.
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
            // Cargo says it among much else, and ends with an exit code itself.
            Self::Cargo { output, .. } | Self::Dependency { output, .. } if output.contains("(signal: 9, SIGKILL") => {
                vec![
                    "a compiler was killed by SIGKILL (possibly out of memory): CARGO_BUILD_JOBS=1 needs less"
                        .to_owned(),
                ]
            }
            Self::Command { output, .. } => {
                let printed =
                    if output.trim().is_empty() { "it printed nothing" } else { "what it printed stands above" };
                vec![format!("{printed}; a shell runs it in the folder of isomer.toml")]
            }
            Self::Cargo { .. } | Self::Dependency { .. } | Self::Path(_) => Vec::new(),
        }
    }

    /// What the compiler or command printed last, where one ran.
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

fn list(components: &[ComponentName]) -> String {
    let names: Vec<String> = components.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
