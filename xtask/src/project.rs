//! The project's folders, and functions that run programs in them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The option of cargo that compiles crates which declare a newer Rust than the compiler's. `js-component-bindgen` depends
/// on such crates: they declare the minimum of the release that they belong to, but need no feature of it. Cargo has no
/// setting for this option, so it is part of every command.
const IGNORE_RUST_VERSION: &str = "--ignore-rust-version";

/// The subcommands of cargo that compile, as far as this project uses them.
const COMPILING: [&str; 5] = ["build", "check", "doc", "run", "test"];

/// The checked-out repository.
pub struct Project {
    /// The root folder of the repository.
    pub root: PathBuf,
    /// The target folder of the workspace, into which cargo builds.
    pub target: PathBuf,
    /// The folder for the tools that this project installs. It is in the user's cache folder.
    pub cache: PathBuf,
    metadata: Value,
}

impl Project {
    /// Finds the workspace's folders and packages with `cargo metadata`.
    ///
    /// # Errors
    /// If `cargo metadata` fails.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .canonicalize()
            .context("cannot find the repository's folder")?;
        let output = Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(&root)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run `cargo metadata`")?;
        ensure!(output.status.success(), "`cargo metadata` failed ({})", output.status);
        let metadata: Value = serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")?;
        let target = metadata["target_directory"].as_str().context("`cargo metadata` names no target folder")?.into();
        let home = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
            .context("HOME is not set")?;
        Ok(Self { root, target, cache: home.join("isomer"), metadata })
    }

    /// Returns the workspace's packages, as `cargo metadata` describes them.
    pub fn packages(&self) -> &[Value] {
        self.metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns a command that runs `program` in the root folder of the repository.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        // Cargo has set these variables for this program. They are removed, so that each cargo process that this
        // program starts sets its own.
        for variable in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"] {
            command.env_remove(variable);
        }
        command
    }

    /// Returns a command that runs cargo with the given arguments in the root folder of the repository. The first
    /// argument is the subcommand. Subcommands that compile get the option [`IGNORE_RUST_VERSION`].
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("cargo");
        let compiles = arguments.first().is_some_and(|subcommand| COMPILING.contains(subcommand));
        let (subcommand, options) = arguments.split_at(usize::from(compiles));
        command.args(subcommand).args(compiles.then_some(IGNORE_RUST_VERSION)).args(options);
        command
    }

    /// Reads a text file. `path` is relative to the root folder of the repository.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self, path: &str) -> Result<String> {
        std::fs::read_to_string(self.root.join(path)).with_context(|| format!("cannot read `{path}`"))
    }

    /// Returns the folder of the example app.
    pub fn boutique(&self) -> PathBuf {
        self.root.join("examples/boutique")
    }
}

/// Prints a command and runs it. The command inherits the output of this program.
///
/// # Errors
/// If the command cannot be started, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let line = show(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("cannot run `{line}`"))?;
    ensure!(status.success(), "`{line}` failed ({status})");
    Ok(())
}

/// Replaces this process with the command, so that the command receives all signals. Returns only on failure.
///
/// # Errors
/// If the command cannot be started.
#[cfg(unix)]
pub fn hand_over(command: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec()).with_context(|| format!("cannot run `{}`", show(command)))
}

/// Runs the command and waits until it exits, because this system cannot replace a process.
///
/// # Errors
/// If the command cannot be started, or fails.
#[cfg(not(unix))]
pub fn hand_over(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run `{}`", show(command)))?;
    ensure!(status.success(), "`{}` failed ({status})", show(command));
    Ok(())
}

/// Returns the command as a person would type it.
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Returns the path of a program, if a folder in `PATH` contains it.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}
