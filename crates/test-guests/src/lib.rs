//! Builds the test guests in the workspace `guests/`, and returns them as files.
//!
//! This is a dev-dependency of the crates whose tests run guests. [`path`] returns the file of a guest's component. The
//! first call in a process builds all guests that are not up to date. Only one process builds at a time.
//!
//! Every guest must be used by a test on the host. A test of this crate reads the sources of the other crates' tests
//! and reports guests that are not used.
#![forbid(unsafe_code)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use isomer_toolchain::{GuestToolchain, TARGET};

/// Returns the folder in which the test guests of the chosen toolchain are built.
///
/// # Panics
/// If no guest toolchain is installed.
pub fn target_dir() -> PathBuf {
    let toolchain = GuestToolchain::find().unwrap_or_else(|error| panic!("{error}\nhint: cargo xtask setup"));
    toolchain.target_dir(&shared_target_dir())
}

/// Returns the path of the component of the guest `name`, which is the name of a folder in `guests/`.
///
/// # Panics
/// If the guest does not exist, or if the guests cannot be built. The compiler's output is on stderr.
pub fn path(name: &str) -> PathBuf {
    static TARGET_DIR: OnceLock<PathBuf> = OnceLock::new();
    assert!(
        guests_dir().join(name).join("Cargo.toml").is_file() && name != "support",
        "no guest `{name}` in {}",
        guests_dir().display()
    );
    let target_dir = TARGET_DIR.get_or_init(build);
    // Cargo replaces `-` with `_` in the file name of a library, but not in the file name of a program.
    let is_program = guests_dir().join(name).join("src/main.rs").is_file();
    let stem = if is_program { name.to_owned() } else { name.replace('-', "_") };
    target_dir.join(TARGET).join("release").join(format!("{stem}.wasm"))
}

/// Returns the bytes of the component of the guest `name`.
///
/// # Panics
/// If the guest does not exist, or if the guests cannot be built.
pub fn bytes(name: &str) -> Vec<u8> {
    let path = path(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// Returns the folder of the guest workspace.
pub fn guests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests").canonicalize().expect("the repository has its guests")
}

/// Builds all guests that are not up to date, and returns their target folder.
fn build() -> PathBuf {
    let toolchain = GuestToolchain::find().unwrap_or_else(|error| panic!("{error}\nhint: cargo xtask setup"));
    let target_dir = toolchain.target_dir(&shared_target_dir());
    std::fs::create_dir_all(&target_dir).expect("the target folder can be created");
    let lock = File::create(target_dir.join("test-guests.lock")).expect("the lock file can be created");
    // The lock lets one process build at a time. A process that waited for it finds everything up to date. The lock is
    // released when the file is closed.
    lock.lock().expect("the lock can be taken");
    let status = toolchain
        .cargo_command()
        .args(["build", "--quiet", "--release", "--locked", "--target", TARGET, "--manifest-path"])
        .arg(guests_dir().join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target_dir)
        .status()
        .expect("cargo runs, as rustc did");
    assert!(status.success(), "the guests do not build");
    target_dir
}

/// The folder is inside the workspace's target folder, so that removing the target folder also removes the guests.
fn shared_target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => std::path::absolute(dir).expect("the working directory exists").join("guests"),
        None => guests_dir().join("../target/guests"),
    }
}
