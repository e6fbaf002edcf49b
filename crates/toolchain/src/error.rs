//! Errors of installing toolchains and building components, with hints.

use std::path::PathBuf;
use std::process::ExitStatus;

use isomer_display::ProcessExit;
use isomer_ids::ComponentName;

use crate::origin::{ORIGIN_VARIABLE, TARGET, ToolchainOrigin};

/// A failure to find or install a guest toolchain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolchainError {
    /// `rustc` or `cargo` is not installed.
    #[error("`rustc` and `cargo` cannot be run")]
    NoRust(#[source] std::io::Error),
    /// Rust is installed, but neither the default toolchain nor one made from Debian's packages has the guest target.
    #[error("no Rust toolchain for `{TARGET}` is installed")]
    NoGuestTarget,
    /// The requested toolchain is not installed.
    #[error("{}", match origin {
        ToolchainOrigin::Rustup => format!("the default Rust toolchain has no target `{TARGET}`"),
        ToolchainOrigin::Debian => "no guest toolchain assembled from Debian's packages is installed".to_owned(),
    })]
    NotInstalled {
        /// The origin of the requested toolchain.
        origin: ToolchainOrigin,
    },
    /// The value of `ISOMER_GUEST_TOOLCHAIN` is not the name of an origin.
    #[error("{ORIGIN_VARIABLE} is `{name}`, not `{}` or `{}`", ToolchainOrigin::Rustup.name(), ToolchainOrigin::Debian.name())]
    UnknownOrigin {
        /// The value of `ISOMER_GUEST_TOOLCHAIN`.
        name: String,
    },
    /// The operating system is not Debian, so Debian's packages cannot be used.
    #[error("the operating system is not Debian")]
    NotDebian,
    /// The user has no cache folder, in which the toolchain would be assembled.
    #[error("no cache folder: HOME is not set")]
    NoCacheDir,
    /// A toolchain could be installed neither with rustup nor from Debian's packages.
    #[error("no Rust toolchain for `{TARGET}` could be installed: {rustup}; {debian}")]
    CannotInstall {
        /// The error of installing with rustup.
        rustup: String,
        /// The error of installing from Debian's packages.
        debian: String,
        /// The commands that the user can run instead.
        hints: Vec<String>,
    },
    /// apt does not know a package, or knows only a version that is too old.
    #[error("apt {problem}")]
    Apt {
        /// The problem, as a phrase that begins with a verb.
        problem: String,
        /// The command that the user can run to solve the problem.
        hint: String,
    },
    /// A file that Debian's packages or the default toolchain should contain is missing.
    #[error("`{}` is missing {of}", path.display())]
    Missing {
        /// The missing file.
        path: PathBuf,
        /// The place that should contain the file, as the end of the message: `in the default Rust toolchain`.
        of: &'static str,
    },
    /// A program could not be started.
    #[error("`{command}` cannot be run")]
    CannotRun {
        /// The command with its arguments.
        command: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A program ended with an exit status other than 0.
    #[error("`{command}` {}", ProcessExit::from(*status))]
    CommandFailed {
        /// The command with its arguments.
        command: String,
        /// The program's exit status.
        status: ExitStatus,
        /// The last lines that the program printed. They have been reported already.
        output: String,
    },
    /// A program did not finish within its time limit and was stopped.
    #[error("`{command}` was stopped after {seconds} s")]
    TimedOut {
        /// The command with its arguments.
        command: String,
        /// The time limit of the program in seconds.
        seconds: u64,
        /// The last lines that the program printed.
        output: String,
    },
    /// A file or folder could not be read or written.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl ToolchainError {
    /// Returns whether the installation failed because this machine cannot support it (another operating system, no
    /// root, no network). Other errors mean that something is broken.
    pub fn is_unsupported_machine(&self) -> bool {
        match self {
            Self::NotDebian | Self::NoCacheDir | Self::Apt { .. } | Self::TimedOut { .. } => true,
            // These programs only download and install packages. So if one of them fails, this machine cannot provide the
            // package, and nothing else is broken.
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
            Self::UnknownOrigin { .. } => {
                vec![format!("unset {ORIGIN_VARIABLE} to use the toolchain that is installed")]
            }
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
    /// The guest toolchain could not be found.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// The folder that `cargo = "DIR"` names does not contain a Cargo package.
    #[error("component `{component}`: `{}` is not the folder of a Cargo package", dir.display())]
    NoPackage {
        /// The component whose source is wrong.
        component: ComponentName,
        /// The folder that the manifest names.
        dir: PathBuf,
        /// The error that Cargo printed.
        output: String,
    },
    /// Cargo could not build components.
    #[error("cargo could not build {}", list(components))]
    Cargo {
        /// The components whose packages failed.
        components: Vec<ComponentName>,
        /// The last lines that Cargo printed. They have been reported already.
        output: String,
    },
    /// Cargo could not build a package that components depend on.
    #[error("cargo could not build the package `{package}`, which the app's components depend on")]
    Dependency {
        /// The name of the package.
        package: String,
        /// The last lines that Cargo printed. They have been reported already.
        output: String,
    },
    /// A component's package makes no component, or several.
    #[error("component `{component}`: package `{package}` {problem}")]
    Artifact {
        /// The component that the package should make.
        component: ComponentName,
        /// The name of the Cargo package.
        package: String,
        /// The problem, as a phrase that begins with a verb.
        problem: String,
    },
    /// The command of a component (`command = "…"`) failed.
    #[error("component `{component}`: command `{command}` {status}")]
    Command {
        /// The component that the command should make.
        component: ComponentName,
        /// The command, as in the manifest.
        command: String,
        /// How the command ended, as a phrase that begins with a verb: `exited with code 1`.
        status: String,
        /// The last lines that the command printed. They have been reported already.
        output: String,
    },
    /// A command has too many inputs to check them for changes.
    #[error(
        "the command of component `{component}` may read {most} files or more, which is too many to check for changes"
    )]
    TooManyFiles {
        /// The component that the command makes.
        component: ComponentName,
        /// The maximum number of input files.
        most: usize,
    },
    /// The file of a component does not exist.
    #[error("component `{component}`: there is no file `{}`", path.display())]
    NoFile {
        /// The component that the file should contain.
        component: ComponentName,
        /// The path of the missing file.
        path: PathBuf,
        /// The command that ran and should have made the file, if the component has a command.
        made_by: Option<String>,
    },
    /// A file or folder could not be read or written.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl BuildError {
    /// Returns hints for the user, one line each.
    pub fn hints(&self) -> Vec<String> {
        if let Some(package) = self.output().and_then(missing_wit_package) {
            return vec![wit_hint(package)];
        }
        match self {
            Self::Toolchain(error) => error.hints(),
            Self::NoPackage { .. } => {
                vec!["set `cargo` to the folder that contains the package's Cargo.toml".to_owned()]
            }
            Self::Artifact { .. } => {
                vec!["give the package one library with `crate-type = [\"cdylib\"]`, or one program".to_owned()]
            }
            Self::TooManyFiles { .. } => {
                vec!["list the files that the command reads: `inputs = [\"src\", \"package.json\"]`, relative to isomer.toml".to_owned()]
            }
            Self::NoFile { made_by: Some(command), .. } => {
                vec![format!("set `wasm` to the file that `{command}` makes, relative to isomer.toml")]
            }
            Self::NoFile { made_by: None, .. } => {
                vec!["set `wasm` to the file of a component that is already built, relative to isomer.toml".to_owned()]
            }
            // If a compiler is killed, Cargo itself exits with a code. Only its output contains the signal.
            Self::Cargo { output, .. } | Self::Dependency { output, .. } if output.contains("(signal: 9, SIGKILL") => {
                vec![
                    "a compiler was killed by SIGKILL (possibly out of memory): set CARGO_BUILD_JOBS=1 to use less memory"
                        .to_owned(),
                ]
            }
            Self::Command { output, .. } => {
                let printed = if output.trim().is_empty() {
                    "the command printed nothing"
                } else {
                    "the output of the command is above"
                };
                vec![format!("{printed}; a shell runs the command in the folder of isomer.toml")]
            }
            Self::Cargo { .. } | Self::Dependency { .. } | Self::Path(_) => Vec::new(),
        }
    }

    /// Returns the last lines that the compiler or command printed, if one ran.
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

/// A failed operation on a file or folder, with the path.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be {action}", path.display())]
pub struct PathError {
    /// The path of the file or folder.
    pub path: PathBuf,
    /// The operation that failed, as a past participle: `read`, `written`.
    pub action: &'static str,
    /// The error of the operating system.
    pub source: std::io::Error,
}

/// Returns the WIT package that a generator of bindings did not find, from the `output` of a build. All generators that
/// use the crate `wit-parser` print the same message.
fn missing_wit_package(output: &str) -> Option<&str> {
    let named = output.split("package '").skip(1).filter_map(|rest| rest.split_once('\''));
    named.filter(|(_, rest)| rest.starts_with(" not found")).map(|(name, _)| name).next()
}

/// Returns the hint for a WIT package that is missing. `isomer wit` writes only packages of the platform.
fn wit_hint(package: &str) -> String {
    if package.starts_with("wasi:") || package.starts_with("isomer:") {
        format!(
            "to write the platform's packages that the app's worlds use, such as `{package}`, into wit/deps: isomer wit"
        )
    } else {
        format!("put the WIT files of `{package}` into a folder in wit/deps")
    }
}

fn list(components: &[ComponentName]) -> String {
    let names: Vec<String> = components.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_wit_package_has_a_hint() {
        let hints =
            |output: &str| BuildError::Dependency { package: "x".to_owned(), output: output.to_owned() }.hints();
        let output = "error: failed to resolve directory while parsing WIT for path [/a/wit]\n\n\
            Caused by:\n    package 'wasi:keyvalue@0.2.0-draft2' not found. known packages:\n        app:hello\n\n\
            \x20        --> /a/wit/app.wit:4:10\n";
        assert!(hints(output)[0].ends_with("`wasi:keyvalue@0.2.0-draft2`, into wit/deps: isomer wit"), "{output}");
        assert_eq!(
            hints("package 'shop:parts' not found"),
            ["put the WIT files of `shop:parts` into a folder in wit/deps"]
        );
        assert_eq!(hints("error: package 'a' and 'b' not found"), [""; 0]);
    }
}
