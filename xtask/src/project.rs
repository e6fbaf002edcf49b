//! The project's folders, and running programs in them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The checked-out repository.
pub(crate) struct Project {
    /// The repository's folder.
    pub root: PathBuf,
    /// Cargo's target folder.
    pub target: PathBuf,
    /// The user's cache folder for this project's tools.
    pub cache: PathBuf,
    metadata: Value,
}

impl Project {
    /// Ask cargo.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().context("no repository here")?;
        let output = Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(&root)
            .stderr(Stdio::inherit())
            .output()
            .context("`cargo metadata` cannot be run")?;
        ensure!(output.status.success(), "`cargo metadata` failed ({})", output.status);
        let metadata: Value = serde_json::from_slice(&output.stdout).context("`cargo metadata` gives no JSON")?;
        let target = metadata["target_directory"].as_str().context("`cargo metadata` names no target folder")?.into();
        let home = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
            .context("HOME is not set")?;
        Ok(Self { root, target, cache: home.join("isomer"), metadata })
    }

    /// The workspace's packages, as `cargo metadata` describes them.
    pub(crate) fn packages(&self) -> &[Value] {
        self.metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// A command that runs in the repository's folder.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        // Told by the cargo that runs this program; another cargo must find out for itself.
        for variable in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"] {
            command.env_remove(variable);
        }
        command
    }

    /// `cargo` with these arguments.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("cargo");
        command.args(arguments);
        command
    }

    /// The folder of the example app.
    pub(crate) fn boutique(&self) -> PathBuf {
        self.root.join("examples/boutique")
    }
}

/// Show a command, run it with this program's own output, and fail if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = show(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("`{line}` cannot be run"))?;
    ensure!(status.success(), "`{line}` failed ({status})");
    Ok(())
}

/// The command as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Is there such a program in the search path?
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}
