//! Finding the Rust toolchain that builds guests.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::ToolchainError;

/// The Rust target that guests are built for. WASI 0.3 guests are built for it too: their bindings import 0.3 interfaces.
pub const TARGET: &str = "wasm32-wasip2";

/// Environment variable: the folder of the toolchain that is put together from Debian's packages.
const DIR_VARIABLE: &str = "ISOMER_GUEST_TOOLCHAIN_DIR";

/// Environment variable: the name under which rustup knows that toolchain.
const NAME_VARIABLE: &str = "ISOMER_GUEST_TOOLCHAIN";

/// A Rust toolchain that has the guest target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestToolchain {
    /// The folder of the toolchain that rustup is told to use; `None` for the default one.
    dir: Option<PathBuf>,
    /// `rustc`'s own line about its version: artifacts of another compiler are rebuilt.
    version: String,
}

impl GuestToolchain {
    /// Find a toolchain that is ready: the default one, else the one put together before. Changes nothing.
    pub fn find() -> Result<Self, ToolchainError> {
        let version = rustc_print(None, &["--version"])?;
        if let Ok(libdir) = rustc_print(None, &["--print", "target-libdir", "--target", TARGET])
            && has_std(Path::new(&libdir))
        {
            return Ok(Self { dir: None, version });
        }
        let dir = guest_dir().ok_or(ToolchainError::NoGuestTarget)?;
        Self::ready_in(&dir).ok_or(ToolchainError::NoGuestTarget)
    }

    /// The toolchain in `dir`, if it is whole.
    pub(crate) fn ready_in(dir: &Path) -> Option<Self> {
        if !has_std(&dir.join("lib/rustlib").join(TARGET).join("lib")) {
            return None;
        }
        // Fails where a library that it needs has been removed or replaced since.
        let version = rustc_print(Some(dir), &["--version"]).ok()?;
        Some(Self { dir: Some(dir.to_owned()), version })
    }

    /// A `cargo` command that uses this toolchain. The caller adds `build --target` [`TARGET`] and the rest.
    pub fn cargo_command(&self) -> Command {
        command("cargo", self.dir.as_deref())
    }

    /// One line about it for a person.
    pub fn describe(&self) -> String {
        match &self.dir {
            None => format!("{} with {TARGET}", self.version),
            Some(dir) => format!("{} with {TARGET} in {}", self.version, dir.display()),
        }
    }

    /// `rustc`'s version line.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// Where the toolchain made from Debian's packages lies: `ISOMER_GUEST_TOOLCHAIN_DIR`, else in the user's cache folder.
pub(crate) fn guest_dir() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
        // Rustup takes a toolchain's folder only as an absolute path.
        return std::path::absolute(dir).ok();
    }
    Some(cache_dir()?.join("guest-toolchain"))
}

/// The user's cache folder for this project.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(cache.join("isomer"))
}

/// The name under which rustup knows the toolchain made from Debian's packages: `ISOMER_GUEST_TOOLCHAIN`, else `isomer-guest`.
pub(crate) fn toolchain_name() -> OsString {
    std::env::var_os(NAME_VARIABLE).filter(|name| !name.is_empty()).unwrap_or_else(|| "isomer-guest".into())
}

/// A program of a Rust toolchain: rustup's proxy picks the toolchain by the environment.
pub(crate) fn command(program: &str, dir: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    if let Some(dir) = dir {
        command.env("RUSTUP_TOOLCHAIN", dir);
    }
    // What an outer cargo tells the programs that it runs is not meant for this one.
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_MAKEFLAGS"] {
        command.env_remove(variable);
    }
    command
}

/// What `rustc` prints, without the final newline.
pub(crate) fn rustc_print(dir: Option<&Path>, arguments: &[&str]) -> Result<String, ToolchainError> {
    let output =
        command("rustc", dir).args(arguments).stderr(Stdio::null()).output().map_err(ToolchainError::NoRust)?;
    if !output.status.success() {
        let problem = format!("`rustc {}` gave {}", arguments.join(" "), output.status);
        return Err(ToolchainError::NoRust(std::io::Error::other(problem)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Is the standard library there?
fn has_std(libdir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(libdir) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}
