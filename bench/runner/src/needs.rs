//! The programs that benchmarks need, and their installation. Each benchmark lists its needs, so that only the programs
//! of the chosen benchmarks are compiled.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use xtask::project::{self, Project, find_program};
use xtask::setup;

/// A program, or a set of programs, that a benchmark runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// `isomer` itself, in release mode.
    Isomer,
    /// `wrk`, which generates HTTP load.
    Wrk,
    /// The command line of the engine, `wasmtime`. Compiling it takes 10 to 30 minutes, once per version.
    Wasmtime,
    /// The native HTTP server, and the programs that compose components and issue certificates.
    Programs,
    /// The native programs that make the calls of the seam benchmarks by gRPC.
    Grpc,
    /// The program that makes the calls of the seam benchmarks through wasmtime's dynamic values.
    Dynamic,
}

impl Need {
    const ALL: [Self; 6] = [Self::Isomer, Self::Wrk, Self::Wasmtime, Self::Programs, Self::Grpc, Self::Dynamic];

    /// Returns the workspace's package that builds the program, or `None` if the program is installed from elsewhere.
    fn package(self) -> Option<&'static str> {
        match self {
            Self::Isomer => Some("isomer"),
            Self::Programs => Some("isomer-bench-programs"),
            Self::Grpc => Some("isomer-bench-grpc"),
            Self::Dynamic => Some("isomer-bench-dynamic"),
            Self::Wrk | Self::Wasmtime => None,
        }
    }
}

/// Builds or installs the missing programs of `needs`, and the guest toolchain, which every benchmark uses.
pub(crate) fn provide(project: &Project, needs: &BTreeSet<Need>) -> Result<()> {
    setup::guest_toolchain()?;
    for need in needs {
        match need {
            Need::Wrk if find_program("wrk").is_none() => setup::apt_install(&["wrk"])?,
            Need::Wasmtime => install_wasmtime(project)?,
            _ => {}
        }
    }
    // Each package is built by its own command, because packages that are built together share the features of their
    // dependencies.
    for package in needs.iter().filter_map(|need| need.package()) {
        project::run(&mut project.cargo(&["build", "--release", "--locked", "--package", package]))?;
    }
    Ok(())
}

/// Installs all programs that are not built from this workspace.
pub(crate) fn provide_all(project: &Project) -> Result<()> {
    let installed = Need::ALL.into_iter().filter(|need| need.package().is_none()).collect();
    provide(project, &installed)?;
    println!("everything is installed");
    Ok(())
}

/// The version of the program `wasmtime`, which must equal the version of the engine in Isomer.
const WASMTIME_VERSION: &str = "48.0.8";

/// The features of the program `wasmtime` that are needed to serve WASI 0.2 and WASI 0.3 components.
const WASMTIME_FEATURES: &str =
    "run,serve,compile,component-model,component-model-async,parallel-compilation,pooling-allocator";

/// Returns the path of the installed `wasmtime`.
pub(crate) fn wasmtime_program(project: &Project) -> PathBuf {
    wasmtime_root(project).join("bin/wasmtime")
}

fn wasmtime_root(project: &Project) -> PathBuf {
    project.cache.join(format!("wasmtime-{WASMTIME_VERSION}"))
}

fn install_wasmtime(project: &Project) -> Result<()> {
    if wasmtime_program(project).is_file() {
        return Ok(());
    }
    let package = format!("wasmtime-cli@{WASMTIME_VERSION}");
    let mut command = Command::new("cargo");
    command.args(["install", "--locked", &package, "--no-default-features", "--features", WASMTIME_FEATURES, "--root"]);
    command.arg(wasmtime_root(project));
    // These are the settings of this workspace's release profile. With other settings, a comparison of `wasmtime` with
    // Isomer would also compare compiler options.
    command.env("CARGO_PROFILE_RELEASE_LTO", "thin").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "4");
    project::run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_need_is_built_or_installed() {
        let built = Need::ALL.into_iter().filter_map(Need::package).count();
        assert_eq!(built, 4);
        assert!(Need::ALL.is_sorted(), "the needs are in the order in which they are provided");
    }
}
