//! Assembles a guest toolchain from Debian's packages, for machines that cannot reach rustup's server.
//!
//! Debian has no package of the standard library for the guest target. But it has a compiler (`rustc-web`, which the
//! security repository keeps up to date for building browsers), the source of the standard library, a linker for
//! WebAssembly and WASI's C library. The compiler is unpacked and not installed, because it conflicts with rustup's
//! compiler. The standard library is built once and copied into the compiler's folder, where an ordinary
//! `cargo build --target` finds it.
//! `wasm-component-ld`, which converts modules to components, comes from rustup's default toolchain.
//!
//! The toolchain is assembled and tested in a folder next to its final one. Renaming this folder is the last step.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::apt::{self, Packages};
use crate::error::{PathError, ToolchainError};
use crate::files::{at, make_dir, remove, rename};
use crate::guest::{GuestToolchain, command, guest_dir, rustc_print};
use crate::origin::{TARGET, ToolchainOrigin};
use crate::process::{BuildProgress, ProgressReporter, run};

/// The name of the toolchain in rustup: `cargo +isomer-guest`.
const RUSTUP_NAME: &str = "isomer-guest";

/// Whether installing a toolchain may also install packages of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemPackages {
    /// Missing packages are installed with apt, as root, or with `sudo` if it needs no password.
    Install,
    /// Missing packages are an error, and nothing runs as root.
    Require,
}

/// Assembles the toolchain in the folder [`guest_dir`], unless the folder already contains a complete toolchain.
pub(crate) fn install(system: SystemPackages, report: ProgressReporter<'_>) -> Result<GuestToolchain, ToolchainError> {
    if !Path::new("/etc/debian_version").exists() || !Path::new("/usr/bin/apt-get").exists() {
        return Err(ToolchainError::NotDebian);
    }
    let dir = guest_dir().ok_or(ToolchainError::NoCacheDir)?;
    install_in(&dir, system, report)?;
    GuestToolchain::ready_in(&dir).ok_or(ToolchainError::NotInstalled { origin: ToolchainOrigin::Debian })
}

/// Assembles the toolchain in `dir`, unless `dir` already contains a complete toolchain, and registers it with rustup.
fn install_in(dir: &Path, system: SystemPackages, report: ProgressReporter<'_>) -> Result<(), ToolchainError> {
    let parent = dir.parent().unwrap_or(Path::new("/"));
    make_dir(parent)?;
    // The lock allows one installation at a time. A process that waited for it finds the toolchain complete. The lock
    // is released when the file is closed.
    let lock_path = sibling(dir, "lock");
    let lock = File::create(&lock_path).map_err(at(&lock_path, "made"))?;
    lock.lock().map_err(at(&lock_path, "locked"))?;
    if GuestToolchain::ready_in(dir).is_none() {
        let packages = install_packages(system, report)?;
        let work = sibling(dir, "work");
        // The folder exists if an earlier installation was interrupted.
        remove(&work)?;
        make_dir(&work)?;
        let stage = assemble(&work, &packages, report)?;
        build_std(&work, &stage, report)?;
        try_out(&work, &stage, report)?;
        remove(dir)?;
        rename(&stage, dir)?;
        remove(&work)?;
    }
    link(dir, report)
}

/// Returns the path of a file next to `dir`: `guest-toolchain` → `guest-toolchain.lock`.
fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    dir.with_file_name(name)
}

/// Installs the linker and the LLVM library if they are missing and `system` allows it. Returns the packages of the
/// toolchain.
fn install_packages(system: SystemPackages, report: ProgressReporter<'_>) -> Result<Packages, ToolchainError> {
    let packages = match apt::packages() {
        Ok(packages) if all_installed(&packages.install) => return Ok(packages),
        known => known,
    };
    let prefix = match system {
        SystemPackages::Install => root_prefix(),
        SystemPackages::Require => None,
    };
    let Some(prefix) = prefix else {
        // If apt does not know the packages, its list of packages is missing or old.
        let (problem, hint) = match &packages {
            Ok(packages) => {
                let names = packages.install.join(" ");
                (format!("must install {names} first"), format!("sudo apt-get install --no-install-recommends {names}"))
            }
            Err(_) => ("has no list of the packages that are needed".to_owned(), "sudo apt-get update".to_owned()),
        };
        return Err(ToolchainError::Apt { problem, hint });
    };
    let apt_get = |arguments: &[&str]| {
        let mut words = prefix.iter().map(String::as_str).chain(["apt-get"]);
        let mut command = Command::new(words.next().unwrap_or("apt-get"));
        command.args(words).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(&mut apt_get(&["update", "-q"]), report)?;
    let packages = apt::packages()?;
    if !all_installed(&packages.install) {
        let names: Vec<&str> = packages.install.iter().map(String::as_str).collect();
        run(&mut apt_get(&[&["install", "-y", "-q", "--no-install-recommends"], names.as_slice()].concat()), report)?;
    }
    Ok(packages)
}

fn all_installed(names: &[String]) -> bool {
    names.iter().all(|name| {
        let output = Command::new("dpkg-query").args(["-W", "-f", "${Status}", name]).stderr(Stdio::null()).output();
        output.is_ok_and(|output| output.stdout.starts_with(b"install ok installed"))
    })
}

/// Returns the words before a command that needs root: none if this process is root, or `sudo`. Returns `None` if
/// `sudo` would ask for a password.
fn root_prefix() -> Option<Vec<String>> {
    let works = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()
    };
    let id = works("id", &["-u"])?;
    if id.stdout.trim_ascii() == b"0" {
        return Some(Vec::new());
    }
    let sudo = works("sudo", &["-n", "true"])?;
    sudo.status.success().then(|| vec!["sudo".to_owned(), "-n".to_owned(), "DEBIAN_FRONTEND=noninteractive".to_owned()])
}

/// Downloads and unpacks the packages, and moves the compiler, its libraries, the linkers and the C library to the
/// places where a toolchain has them. Returns the toolchain's folder.
fn assemble(work: &Path, packages: &Packages, report: ProgressReporter<'_>) -> Result<PathBuf, ToolchainError> {
    let downloads = work.join("packages");
    make_dir(&downloads)?;
    run(Command::new("apt-get").args(["download", "-q"]).args(&packages.unpack).current_dir(&downloads), report)?;
    let root = work.join("root");
    report(BuildProgress::Step("unpacking the compiler and the standard library's source"));
    for package in entries(&downloads)? {
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root), &mut |_| {})?;
    }

    let host = host_triple()?;
    let usr = root.join("usr");
    let stage = work.join("toolchain");
    let rustlib = stage.join("lib/rustlib");
    make_dir(&stage.join("bin"))?;
    make_dir(&rustlib.join("src/rust"))?;
    rename(&usr.join("bin/rustc"), &stage.join("bin/rustc"))?;
    let driver = find(&usr.join("lib"), 2, &|name| name.starts_with("librustc_driver-"), "in Debian's packages")?;
    rename(&driver, &stage.join("lib").join(driver.file_name().unwrap_or_default()))?;
    rename(&usr.join("lib/rustlib").join(&host), &rustlib.join(&host))?;
    let source = find(&usr.join("src"), 2, &|name| name == "library", "in Debian's packages")?;
    rename(&source, &rustlib.join("src/rust/library"))?;

    let tools = rustlib.join(&host).join("bin");
    remove(&tools)?;
    make_dir(&tools.join("gcc-ld"))?;
    let sysroot = PathBuf::from(rustc_print(None, &["--print", "sysroot"])?);
    let componentizer = sysroot.join("lib/rustlib").join(&host).join("bin/wasm-component-ld");
    if !componentizer.exists() {
        return Err(ToolchainError::Missing { path: componentizer, of: "in the default Rust toolchain" });
    }
    let copy = tools.join("wasm-component-ld");
    fs::copy(&componentizer, &copy).map_err(at(&copy, "written"))?;
    for (program, place) in [("lld", "rust-lld"), ("wasm-ld", "gcc-ld/wasm-ld"), ("ld.lld", "gcc-ld/ld.lld")] {
        let program = PathBuf::from(format!("/usr/bin/{program}-{}", packages.llvm));
        if !program.exists() {
            return Err(ToolchainError::Missing { path: program, of: "after installing Debian's linker" });
        }
        symlink(&program, &tools.join(place))?;
    }
    symlink(&sysroot.join("bin/cargo"), &stage.join("bin/cargo"))?;

    let self_contained = rustlib.join(TARGET).join("lib/self-contained");
    make_dir(&self_contained)?;
    for file in ["libc.a", "crt1-command.o", "crt1-reactor.o"] {
        rename(&usr.join("lib/wasm32-wasi").join(file), &self_contained.join(file))?;
    }
    Ok(stage)
}

/// Builds the standard library and puts it into the toolchain. The library contains bitcode, so that guests can be
/// built with LTO.
fn build_std(work: &Path, stage: &Path, report: ProgressReporter<'_>) -> Result<(), ToolchainError> {
    report(BuildProgress::Step(&format!("building the standard library for {TARGET} (about two minutes)")));
    let seed = seed(work)?;
    let mut build = cargo(work, stage, &seed);
    build.args(["--lib", "-Zbuild-std=std,panic_abort"]);
    // `-Zbuild-std` is unstable, and `RUSTC_BOOTSTRAP` allows it. This is safe here, because compiler and standard
    // library have the same version.
    build.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Cembed-bitcode=yes");
    run(&mut build, report)?;
    let libdir = stage.join("lib/rustlib").join(TARGET).join("lib");
    for file in entries(&work.join("target").join(TARGET).join("release/deps"))? {
        let name = file.file_name().unwrap_or_default().to_owned();
        let text = name.to_string_lossy();
        if !text.starts_with("libseed") && (text.ends_with(".rlib") || text.ends_with(".rmeta")) {
            rename(&file, &libdir.join(name))?;
        }
    }
    Ok(())
}

/// Tests the toolchain: builds a program with it, as a user does.
fn try_out(work: &Path, stage: &Path, report: ProgressReporter<'_>) -> Result<(), ToolchainError> {
    report(BuildProgress::Step("testing the toolchain"));
    remove(&work.join("target"))?;
    let seed = seed(work)?;
    run(cargo(work, stage, &seed).arg("--bins"), report)?;
    let program = work.join("target").join(TARGET).join("release/seed.wasm");
    if program.exists() { Ok(()) } else { Err(ToolchainError::Missing { path: program, of: "after building it" }) }
}

/// Creates a package with a minimal library and a minimal program.
fn seed(work: &Path) -> Result<PathBuf, PathError> {
    let dir = work.join("seed");
    make_dir(&dir.join("src"))?;
    let manifest = "[package]\nname = \"seed\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n\
                    [profile.release]\npanic = \"abort\"\n\n[workspace]\n";
    for (file, text) in
        [("Cargo.toml", manifest), ("src/lib.rs", ""), ("src/main.rs", "fn main() { println!(\"it works\"); }\n")]
    {
        let path = dir.join(file);
        fs::write(&path, text).map_err(at(&path, "written"))?;
    }
    Ok(dir.join("Cargo.toml"))
}

fn cargo(work: &Path, stage: &Path, manifest: &Path) -> Command {
    let mut command = command("cargo", Some(stage));
    command.args(["build", "--quiet", "--release", "--target", TARGET, "--manifest-path"]).arg(manifest);
    command.env("CARGO_TARGET_DIR", work.join("target"));
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"] {
        command.env_remove(variable);
    }
    command
}

/// Registers the toolchain with rustup, so that users can run `cargo +isomer-guest`. This crate works without the
/// registration.
fn link(dir: &Path, report: ProgressReporter<'_>) -> Result<(), ToolchainError> {
    let linked =
        Command::new("rustup").args(["which", "rustc", "--toolchain", RUSTUP_NAME]).stderr(Stdio::null()).output();
    let linked = linked.map(|output| PathBuf::from(OsString::from(String::from_utf8_lossy(&output.stdout).trim())));
    let same = |path: &Path| path.canonicalize().ok() == dir.join("bin/rustc").canonicalize().ok();
    if linked.is_ok_and(|path| same(&path)) {
        return Ok(());
    }
    run(Command::new("rustup").args(["toolchain", "link", RUSTUP_NAME]).arg(dir), report)
}

fn host_triple() -> Result<String, ToolchainError> {
    let text = rustc_print(None, &["-vV"])?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.expect("`rustc -vV` names the host").to_owned())
}

/// Returns the files and folders in a folder, ordered by name.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, PathError> {
    let entries = fs::read_dir(dir).map_err(at(dir, "read"))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Returns the first file or folder at most `depth` folders below `dir` for whose name `wanted` returns true. If there
/// is none, returns an error whose message ends with `of`, the place that should contain it.
fn find(dir: &Path, depth: usize, wanted: &dyn Fn(&str) -> bool, of: &'static str) -> Result<PathBuf, ToolchainError> {
    let mut level = vec![dir.to_owned()];
    for _ in 0..depth {
        let mut below = Vec::new();
        for dir in level {
            for path in entries(&dir)? {
                if wanted(&path.file_name().unwrap_or_default().to_string_lossy()) {
                    return Ok(path);
                }
                if path.is_dir() && !path.is_symlink() {
                    below.push(path);
                }
            }
        }
        level = below;
    }
    Err(ToolchainError::Missing { path: dir.to_owned(), of })
}

#[cfg(unix)]
fn symlink(to: &Path, link: &Path) -> Result<(), PathError> {
    std::os::unix::fs::symlink(to, link).map_err(at(link, "made"))
}

#[cfg(not(unix))]
fn symlink(_to: &Path, link: &Path) -> Result<(), PathError> {
    Err(at(link, "made")(std::io::ErrorKind::Unsupported.into()))
}
