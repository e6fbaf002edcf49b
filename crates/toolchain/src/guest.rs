//! Finds the Rust toolchain that builds guests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::ToolchainError;
use crate::origin::{ORIGIN_VARIABLE, TARGET, ToolchainOrigin};

/// The environment variable that sets the folder of the toolchain made from Debian's packages.
const DIR_VARIABLE: &str = "ISOMER_GUEST_TOOLCHAIN_DIR";

impl ToolchainOrigin {
    /// Returns the origin that `ISOMER_GUEST_TOOLCHAIN` names, or `None` if the variable is unset or empty.
    ///
    /// # Errors
    /// If the value of the variable is not the name of an origin.
    pub fn chosen() -> Result<Option<Self>, ToolchainError> {
        match std::env::var_os(ORIGIN_VARIABLE).filter(|name| !name.is_empty()) {
            None => Ok(None),
            Some(name) => Self::parse(&name.to_string_lossy()).map(Some),
        }
    }

    fn parse(name: &str) -> Result<Self, ToolchainError> {
        let found = Self::ALL.into_iter().find(|origin| origin.name() == name);
        found.ok_or_else(|| ToolchainError::UnknownOrigin { name: name.to_owned() })
    }
}

/// A Rust toolchain that has the guest target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestToolchain {
    /// The folder of the toolchain, or `None` for rustup's default toolchain.
    dir: Option<PathBuf>,
    /// The output of `rustc --version`.
    version: String,
}

impl GuestToolchain {
    /// Finds an installed toolchain: the one that `ISOMER_GUEST_TOOLCHAIN` names. If the variable is unset, the default
    /// toolchain is preferred to the one made from Debian's packages. Installs nothing.
    ///
    /// # Errors
    /// If no such toolchain is installed. The error's hints say how to install one.
    pub fn find() -> Result<Self, ToolchainError> {
        match ToolchainOrigin::chosen()? {
            Some(origin) => Self::find_from(origin),
            None => Self::find_any(),
        }
    }

    /// Finds an installed toolchain as [`GuestToolchain::find`] does if `ISOMER_GUEST_TOOLCHAIN` is unset.
    pub(crate) fn find_any() -> Result<Self, ToolchainError> {
        let mut found = Self::find_from(ToolchainOrigin::Rustup);
        if matches!(found, Err(ToolchainError::NotInstalled { .. })) {
            found = Self::find_from(ToolchainOrigin::Debian);
        }
        found.map_err(|error| match error {
            ToolchainError::NotInstalled { .. } => ToolchainError::NoGuestTarget,
            error => error,
        })
    }

    /// Finds the installed toolchain of this origin. Installs nothing.
    ///
    /// # Errors
    /// If the toolchain is not installed.
    pub fn find_from(origin: ToolchainOrigin) -> Result<Self, ToolchainError> {
        let missing = ToolchainError::NotInstalled { origin };
        match origin {
            ToolchainOrigin::Rustup => {
                let version = rustc_print(None, &["--version"])?;
                let libdir = rustc_print(None, &["--print", "target-libdir", "--target", TARGET]);
                let is_ready = libdir.is_ok_and(|libdir| has_std(Path::new(&libdir)));
                if is_ready { Ok(Self { dir: None, version }) } else { Err(missing) }
            }
            ToolchainOrigin::Debian => guest_dir().and_then(|dir| Self::ready_in(&dir)).ok_or(missing),
        }
    }

    /// Returns the origin of the toolchain.
    pub fn origin(&self) -> ToolchainOrigin {
        if self.dir.is_none() { ToolchainOrigin::Rustup } else { ToolchainOrigin::Debian }
    }

    /// Returns the target folder for artifacts of this toolchain: `shared` for the default toolchain, a folder in it
    /// for any other toolchain.
    ///
    /// Cargo gives a component the same file name with every compiler. So if two toolchains shared a target folder,
    /// every switch between them would build the components again, and simultaneous builds would read each other's
    /// components.
    pub fn target_dir(&self, shared: &Path) -> PathBuf {
        match self.origin() {
            ToolchainOrigin::Rustup => shared.to_owned(),
            origin => shared.join(format!("guests-by-{}", origin.name())),
        }
    }

    /// Returns the toolchain in `dir`, or `None` if it is not complete.
    pub(crate) fn ready_in(dir: &Path) -> Option<Self> {
        if !has_std(&dir.join("lib/rustlib").join(TARGET).join("lib")) {
            return None;
        }
        // `rustc` cannot run if a library that it needs was removed or replaced.
        let version = rustc_print(Some(dir), &["--version"]).ok()?;
        Some(Self { dir: Some(dir.to_owned()), version })
    }

    /// Returns a `cargo` command that uses this toolchain. The caller adds the arguments, for example `build --target`
    /// with [`TARGET`].
    pub fn cargo_command(&self) -> Command {
        command("cargo", self.dir.as_deref())
    }

    /// Returns a one-line description of the toolchain for people.
    pub fn describe(&self) -> String {
        match &self.dir {
            None => format!("{} with {TARGET}", self.version),
            Some(dir) => format!("{} with {TARGET} in {}", self.version, dir.display()),
        }
    }

    /// Returns the output of `rustc --version`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// Returns the folder of the toolchain made from Debian's packages: the value of `ISOMER_GUEST_TOOLCHAIN_DIR`, or a
/// folder in the user's cache folder if the variable is unset.
pub(crate) fn guest_dir() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
        // rustup accepts the folder of a toolchain only as an absolute path.
        return std::path::absolute(dir).ok();
    }
    Some(cache_dir()?.join("guest-toolchain"))
}

/// Returns Isomer's folder in the user's cache folder.
pub fn cache_dir() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(cache.join("isomer"))
}

/// Returns a command that runs `program` of the toolchain in `dir`, or of the default toolchain. An environment
/// variable tells rustup's proxies which toolchain to run.
pub(crate) fn command(program: &str, dir: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    if let Some(dir) = dir {
        command.env("RUSTUP_TOOLCHAIN", dir);
    }
    // If this process was started by Cargo, its environment contains variables that the outer Cargo sets. They must not
    // reach the inner Cargo: for example, a compiler wrapper of the outer Cargo would compile an app's packages and
    // their dependencies with different toolchains.
    for variable in [
        "CARGO",
        "RUSTC",
        "RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
        "RUSTDOC",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_MAKEFLAGS",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Runs `rustc` with `arguments` and returns its output without the final newline.
pub(crate) fn rustc_print(dir: Option<&Path>, arguments: &[&str]) -> Result<String, ToolchainError> {
    let output =
        command("rustc", dir).args(arguments).stderr(Stdio::null()).output().map_err(ToolchainError::NoRust)?;
    if !output.status.success() {
        let problem = format!("`rustc {}` ended with {}", arguments.join(" "), output.status);
        return Err(ToolchainError::NoRust(std::io::Error::other(problem)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Returns whether the folder contains the standard library.
fn has_std(libdir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(libdir) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_parsed_by_name() {
        for origin in ToolchainOrigin::ALL {
            assert_eq!(ToolchainOrigin::parse(origin.name()).expect("its own name"), origin);
        }
        let error = ToolchainOrigin::parse("nightly").expect_err("no origin");
        assert_eq!(error.to_string(), "ISOMER_GUEST_TOOLCHAIN is `nightly`, not `rustup` or `debian`");
    }

    #[test]
    fn toolchains_never_share_a_target_folder() {
        let toolchain = |dir: Option<&str>| GuestToolchain { dir: dir.map(PathBuf::from), version: String::new() };
        let shared = Path::new("/target");
        assert_eq!(toolchain(None).target_dir(shared), shared);
        assert_eq!(toolchain(Some("/cache")).target_dir(shared), shared.join("guests-by-debian"));
    }
}
