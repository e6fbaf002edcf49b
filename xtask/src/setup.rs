//! `cargo xtask setup`: installs what is missing, says what it does, and leaves alone what is there.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use isomer_toolchain::{GuestToolchain, Progress};

use crate::book;
use crate::project::{self, Project, find_program};

/// What it is set up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Running the tests, those in a browser too.
    Test,
    /// Running the demo.
    Demo,
    /// Running benchmarks, those beside wasmtime's own command line or the others only.
    Bench { wasmtime: bool },
}

/// Drives a browser that is installed already.
const PLAYWRIGHT_VERSION: &str = "1.58.2";

/// The engine's own command line, which benchmarks compare with.
const WASMTIME_VERSION: &str = "48.0.8";

/// As much of it as serving components takes, in both generations of WASI.
const WASMTIME_FEATURES: &str =
    "run,serve,compile,component-model,component-model-async,parallel-compilation,pooling-allocator";

/// Names of programs that the browser test can drive.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

pub(crate) fn run_for(project: &Project, purpose: Purpose) -> Result<()> {
    guest_toolchain()?;
    match purpose {
        Purpose::Demo => {}
        Purpose::Test => {
            rust_component("rustfmt")?;
            rust_component("clippy")?;
            book::install(project)?;
            if browser().is_none() {
                apt_install(&["chromium"])?;
            }
            if find_program("node").is_none() || find_program("npm").is_none() {
                apt_install(&["nodejs", "npm"])?;
            }
            playwright(project)?;
        }
        Purpose::Bench { wasmtime } => {
            if find_program("wrk").is_none() {
                apt_install(&["wrk"])?;
            }
            if wasmtime {
                install_wasmtime(project)?;
            }
        }
    }
    Ok(())
}

/// As [`run_for`], as a task of its own.
pub(crate) fn run(project: &Project, purpose: Purpose) -> Result<()> {
    run_for(project, purpose)?;
    println!("everything is there");
    Ok(())
}

fn guest_toolchain() -> Result<()> {
    match GuestToolchain::find_or_install(&mut show_progress) {
        Ok(toolchain) => {
            println!("guest toolchain: {}", toolchain.describe());
            Ok(())
        }
        Err(error) => {
            let hints: String = error.hints().iter().map(|hint| format!("\nhint: {hint}")).collect();
            bail!("{error}{hints}")
        }
    }
}

/// Shows what an installation does.
pub(crate) fn show_progress(progress: Progress<'_>) {
    match progress {
        Progress::Step(step) => println!("{step}"),
        Progress::Output(line) => println!("    {line}"),
    }
}

fn rust_component(name: &str) -> Result<()> {
    let program = if name == "clippy" { "clippy-driver" } else { name };
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if there.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    run_command(Command::new("rustup").args(["component", "add", name]))
}

/// The browser that tests use.
pub(crate) fn browser() -> Option<PathBuf> {
    BROWSERS.iter().find_map(|name| find_program(name))
}

fn apt_install(packages: &[&str]) -> Result<()> {
    if find_program("apt-get").is_none() {
        bail!("install {} first: there is no apt here to do it", packages.join(" and "));
    }
    let id = Command::new("id").arg("-u").output().context("`id` cannot be run")?;
    let is_root = id.stdout.trim_ascii() == b"0";
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new(if is_root { "apt-get" } else { "sudo" });
        if !is_root {
            command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        }
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run_command(&mut apt_get(&["update", "-qq"]))?;
    let install = [&["install", "-y", "-qq", "--no-install-recommends"], packages].concat();
    run_command(apt_get(&install).stdout(Stdio::null()))
}

/// The folder that has the browser driver in its `node_modules`.
pub(crate) fn playwright_dir(project: &Project) -> PathBuf {
    project.cache.join(format!("playwright-{PLAYWRIGHT_VERSION}"))
}

fn playwright(project: &Project) -> Result<()> {
    let dir = playwright_dir(project);
    if dir.join("node_modules/playwright-core/package.json").is_file() {
        return Ok(());
    }
    // Made beside its place and renamed: an interrupted download is begun anew.
    let partial = project.cache.join(format!("playwright-{PLAYWRIGHT_VERSION}.partial"));
    let _left_over = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).with_context(|| format!("`{}` cannot be made", partial.display()))?;
    let package = format!("playwright-core@{PLAYWRIGHT_VERSION}");
    run_command(
        Command::new("npm")
            .args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&partial)
            .arg(&package)
            .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1"),
    )?;
    std::fs::rename(&partial, &dir).with_context(|| format!("`{}` cannot be put in its place", dir.display()))
}

/// Where `wasmtime` for benchmarks is installed.
pub(crate) fn wasmtime_program(project: &Project) -> PathBuf {
    project.cache.join(format!("wasmtime-{WASMTIME_VERSION}")).join("bin/wasmtime")
}

fn install_wasmtime(project: &Project) -> Result<()> {
    let program = wasmtime_program(project);
    if program.is_file() {
        return Ok(());
    }
    let root = project.cache.join(format!("wasmtime-{WASMTIME_VERSION}"));
    let package = format!("wasmtime-cli@{WASMTIME_VERSION}");
    let mut command = Command::new("cargo");
    command.args(["install", "--locked", &package, "--no-default-features", "--features", WASMTIME_FEATURES, "--root"]);
    // Built as this project's own release is: else the two would differ by their compiler's settings.
    command.arg(root).env("CARGO_PROFILE_RELEASE_LTO", "thin").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "4");
    run_command(&mut command)
}

fn run_command(command: &mut Command) -> Result<()> {
    project::run(command)
}
