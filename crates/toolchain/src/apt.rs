//! Finds the Debian packages that a guest toolchain needs. Versions come from apt's metadata, so none is hard-coded
//! here.

use std::process::{Command, Stdio};

use crate::error::ToolchainError;

/// The minimum minor version of `rustc` that can compile current bindings: Rust 1.87.
const RUSTC_MINOR_MIN: u32 = 87;

/// The packages of a guest toolchain, by how they are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packages {
    /// The packages that are unpacked into the toolchain's folder, as `name=version`. They are not installed, because
    /// they conflict with rustup and with Debian's other Rust packages.
    pub unpack: Vec<String>,
    /// The packages that are installed: the linker and the shared libraries that the compiler needs.
    pub install: Vec<String>,
    /// The major version of LLVM, which is the suffix of the names of the linker's programs.
    pub llvm: u32,
}

/// Reads apt's metadata and returns the packages of a guest toolchain.
pub(crate) fn packages() -> Result<Packages, ToolchainError> {
    resolve(&|name| {
        let output = Command::new("apt-cache")
            .args(["show", "--no-all-versions", name])
            .stderr(Stdio::null())
            .output()
            .map_err(|source| ToolchainError::CannotRun { command: format!("apt-cache show {name}"), source })?;
        Ok(Stanza::parse(&String::from_utf8_lossy(&output.stdout)))
    })
}

/// apt's metadata of a package, for the version that apt would install.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stanza {
    version: String,
    depends: Vec<String>,
}

impl Stanza {
    /// Parses the first stanza of the output of `apt-cache show`.
    fn parse(text: &str) -> Option<Self> {
        let stanza = text.split("\n\n").next()?;
        let field = |name: &str| {
            let value = stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(value.trim().to_owned())
        };
        let depends = field("Depends").unwrap_or_default();
        // Returns the name in a clause such as `a (>= 1)`. Of alternatives (`b | c`), the first one is used.
        let name = |clause: &str| clause.trim().split([' ', '(', '|', ':']).next().unwrap_or_default().to_owned();
        Some(Self { version: field("Version")?, depends: depends.split(',').map(name).collect() })
    }

    fn dependency(&self, prefix: &str) -> Option<&str> {
        self.depends.iter().map(String::as_str).find(|name| name.starts_with(prefix))
    }
}

/// Follows the dependencies from the compiler to its standard library, LLVM and linker.
fn resolve(show: &dyn Fn(&str) -> Result<Option<Stanza>, ToolchainError>) -> Result<Packages, ToolchainError> {
    let find = |name: &str| {
        show(name)?.ok_or_else(|| ToolchainError::Apt {
            problem: format!("knows no package `{name}`"),
            hint: "apt-get update, with Debian's main and security repositories in /etc/apt".to_owned(),
        })
    };
    let broken = |name: &str, of: &str| ToolchainError::Apt {
        problem: format!("does not say which `{name}…` package `{of}` depends on"),
        hint: "apt-get update".to_owned(),
    };
    let rustc = find("rustc-web")?;
    if minor_version(&rustc.version) < Some(RUSTC_MINOR_MIN) {
        return Err(ToolchainError::Apt {
            problem: format!("has `rustc-web` {}, and 1.{RUSTC_MINOR_MIN} is needed", rustc.version),
            hint: "apt-get update, with Debian's security repository in /etc/apt".to_owned(),
        });
    }
    let std_dev = find("libstd-rust-web-dev")?;
    let std_name = std_dev
        .dependency("libstd-rust-web-")
        .ok_or_else(|| broken("libstd-rust-web-", "libstd-rust-web-dev"))?
        .to_owned();
    let libllvm = find(&std_name)?;
    let libllvm = libllvm.dependency("libllvm").ok_or_else(|| broken("libllvm", &std_name))?.to_owned();
    let llvm = libllvm.trim_start_matches("libllvm").parse().map_err(|_| broken("libllvm", &std_name))?;
    let lld = format!("lld-{llvm}");
    find(&lld)?;
    find("wasi-libc")?;
    // These four packages are built from one source package, so all are downloaded in the compiler's version, even if
    // apt has other versions.
    let version = &rustc.version;
    let mut unpack: Vec<String> = ["rustc-web", &std_name, "libstd-rust-web-dev", "rust-web-src"]
        .iter()
        .map(|name| format!("{name}={version}"))
        .collect();
    unpack.push("wasi-libc".to_owned());
    Ok(Packages { unpack, install: vec![libllvm, lld], llvm })
}

/// Returns the minor version: 96 for `1.96.0+dfsg1-1~deb12u2`.
fn minor_version(version: &str) -> Option<u32> {
    let mut parts = version.split('.');
    (parts.next()? == "1").then(|| parts.next()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian(name: &str, version: &str) -> Option<Stanza> {
        let depends = match name {
            "rustc-web" => "libc6 (>= 2.34), libstd-rust-web-dev (= 1.96.0+dfsg1-1~deb12u2), gcc, libc-dev",
            "libstd-rust-web-dev" => "libstd-rust-web-1.96 (= 1.96.0+dfsg1-1~deb12u2)",
            "libstd-rust-web-1.96" => "libc6 (>= 2.35), libllvm22 (>= 1:22~+rc1~), libstdc++6 (>= 12)",
            "lld-22" | "wasi-libc" => "libc6",
            _ => return None,
        };
        Stanza::parse(&format!(
            "Package: {name}\nVersion: {version}\nDepends: {depends}\nDescription: words\n more\n\n"
        ))
    }

    #[test]
    fn versions_follow_the_metadata() {
        let version = "1.96.0+dfsg1-1~deb12u2";
        let packages = resolve(&|name| Ok(debian(name, version))).expect("all packages are there");
        assert_eq!(packages.llvm, 22);
        assert_eq!(packages.install, ["libllvm22", "lld-22"]);
        assert_eq!(
            packages.unpack,
            [
                "rustc-web=1.96.0+dfsg1-1~deb12u2",
                "libstd-rust-web-1.96=1.96.0+dfsg1-1~deb12u2",
                "libstd-rust-web-dev=1.96.0+dfsg1-1~deb12u2",
                "rust-web-src=1.96.0+dfsg1-1~deb12u2",
                "wasi-libc"
            ]
        );
    }

    #[test]
    fn an_old_compiler_is_refused_with_the_version_that_is_needed() {
        let error = resolve(&|name| Ok(debian(name, "1.85.0+dfsg3-1~deb12u3"))).expect_err("1.85 is too old");
        assert_eq!(error.to_string(), "apt has `rustc-web` 1.85.0+dfsg3-1~deb12u3, and 1.87 is needed");
    }

    #[test]
    fn a_missing_package_is_named() {
        let error = resolve(&|name| Ok(debian(name, "1.96.0").filter(|_| name != "wasi-libc"))).expect_err("no libc");
        assert_eq!(error.to_string(), "apt knows no package `wasi-libc`");
        assert_eq!(error.hints().len(), 1);
    }
}
