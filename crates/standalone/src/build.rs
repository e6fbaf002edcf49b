//! Compiles a provider with the guest toolchain.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use isomer_diagnostics::Hints;
use isomer_toolchain::{BuildProgress, GuestToolchain, ProgressReporter, TARGET, ToolchainError, run};

use crate::provider::Provider;
use crate::sources::{SOURCES, version};

/// The environment variable that names the C compiler for WebAssembly. Cargo's build scripts read the same variable.
const COMPILER_VARIABLE: &str = "CC_wasm32_wasip2";
/// The versions in the names of clang's programs, newest first.
const CLANG_VERSIONS: std::ops::RangeInclusive<u32> = 11..=30;
/// How SQLite is compiled: with the provider's own file system, and with temporary data in memory.
const SQLITE_FLAGS: &str = "-DSQLITE_OS_OTHER=1 -DSQLITE_TEMP_STORE=3";

/// The reason why a provider is not available.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The user has no cache folder, in which providers would be compiled.
    #[error("no cache folder: HOME is not set")]
    NoCacheDir,
    /// A file of a provider cannot be read or written.
    #[error("the file `{}` of a provider cannot be used", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// There is no C compiler for WebAssembly.
    #[error(
        "the stores need SQLite, which is compiled with clang, but no clang that can compile to WebAssembly was found"
    )]
    NoClang,
    /// The guest toolchain is missing, or the provider does not compile.
    #[error("the provider `{provider}` cannot be compiled")]
    Toolchain {
        /// The name of the provider's package.
        provider: &'static str,
        /// The error of the toolchain.
        source: ToolchainError,
    },
}

impl Hints for ProviderError {
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoClang => vec![
                format!(
                    "install clang, for example with `sudo apt-get install clang`, or set {COMPILER_VARIABLE} to one"
                ),
                "the release tarball of Isomer contains the compiled providers, so it needs no compiler".to_owned(),
            ],
            Self::Toolchain { source, .. } => source.hints(),
            Self::NoCacheDir | Self::File { .. } => Vec::new(),
        }
    }
}

/// Compiles a provider, and puts its file into `folder`. Returns the provider's bytes.
pub(crate) fn build(provider: Provider, folder: &Path, report: ProgressReporter<'_>) -> Result<Vec<u8>, ProviderError> {
    let failed = |source| ProviderError::Toolchain { provider: provider.package(), source };
    let toolchain = GuestToolchain::find().map_err(failed)?;
    let clang = (provider == Provider::Stores).then(|| clang().ok_or(ProviderError::NoClang)).transpose()?;
    create_dir(folder)?;
    // One process compiles at a time. A process that waited finds the file.
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(at(&lock_path))?;
    lock.lock().map_err(at(&lock_path))?;
    let done = folder.join(provider.file());
    if let Ok(bytes) = fs::read(&done) {
        return Ok(bytes);
    }
    report(BuildProgress::Step(&format!("compiling `{}` (once)", provider.package())));
    let work = folder.join(format!("build-{}", version()));
    for source in SOURCES {
        let path = work.join(source.path);
        create_dir(path.parent().unwrap_or(&work))?;
        fs::write(&path, source.text).map_err(at(&path))?;
    }
    let target = work.join("target");
    let mut cargo = toolchain.cargo_command();
    cargo
        .args(["build", "--quiet", "--release", "--locked", "--target", TARGET, "--package", provider.package()])
        .arg("--manifest-path")
        .arg(work.join("providers/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target);
    if let Some(clang) = clang {
        let headers = work.join("providers/stores/libc");
        cargo
            .env(COMPILER_VARIABLE, &clang.compiler)
            .env("AR_wasm32_wasip2", &clang.archiver)
            // The standard library for guests contains the C library, but not its headers.
            .env("CFLAGS_wasm32_wasip2", include_flags(&headers))
            .env("CC_SHELL_ESCAPED_FLAGS", "1")
            .env("LIBSQLITE3_FLAGS", SQLITE_FLAGS);
    }
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(variable);
    }
    run(&mut cargo, report).map_err(failed)?;
    let built = target.join(TARGET).join("release").join(format!("{}.wasm", provider.package().replace('-', "_")));
    let bytes = fs::read(&built).map_err(at(&built))?;
    let new = folder.join(format!("{}.new", provider.file()));
    fs::write(&new, &bytes).map_err(at(&new))?;
    fs::rename(&new, &done).map_err(at(&done))?;
    // Hundreds of megabytes that are not needed again.
    fs::remove_dir_all(&work).map_err(at(&work))?;
    Ok(bytes)
}

/// Returns the C compiler's flags for the folder with the headers. They are split as a shell does, so the path is quoted.
fn include_flags(headers: &Path) -> String {
    let headers = headers.display().to_string().replace('\'', r"'\''");
    format!("-isystem '{headers}' --sysroot='{headers}'")
}

/// Removes the lock file of a folder in which no other process compiles, so that only the providers are left.
pub(crate) fn unlock(folder: &Path) -> Result<(), ProviderError> {
    let path = folder.join("lock");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(&path)(error)),
        _ => Ok(()),
    }
}

struct Clang {
    compiler: String,
    archiver: String,
}

/// Finds a C compiler that can compile to WebAssembly.
fn clang() -> Option<Clang> {
    let chosen = std::env::var(COMPILER_VARIABLE).ok().filter(|name| !name.is_empty());
    let named =
        std::iter::once("clang".to_owned()).chain(CLANG_VERSIONS.rev().map(|version| format!("clang-{version}")));
    let candidates: Vec<_> = match chosen {
        Some(chosen) => vec![chosen],
        None => named.collect(),
    };
    let compiler = candidates.into_iter().find(|name| {
        printed(name, "--print-targets")
            .is_some_and(|targets| targets.lines().any(|line| line.trim().starts_with("wasm32")))
    })?;
    // The archiver of the same version, if it is installed. Otherwise any archiver will do, because the Rust compiler reads
    // the objects and writes its own archive.
    let archiver = printed(&compiler, "--print-prog-name=llvm-ar").map(|path| path.trim().to_owned());
    let archiver = archiver.filter(|path| Path::new(path).is_absolute()).unwrap_or_else(|| "ar".to_owned());
    Some(Clang { compiler, archiver })
}

fn printed(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn create_dir(path: &Path) -> Result<(), ProviderError> {
    fs::create_dir_all(path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> ProviderError {
    let path = path.to_owned();
    move |source| ProviderError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_may_have_any_name() {
        let folder = "/home/ann's files/headers";
        let flags = include_flags(Path::new(folder));
        // A shell splits the flags as the build script does.
        let output = Command::new("sh").args(["-c", &format!("printf '%s\\n' {flags}")]).output().unwrap();
        let flags: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
        assert_eq!(flags, ["-isystem", folder, &format!("--sysroot={folder}")]);
    }
}
