//! The base of a shipped program: which runtime it gets, and for which machines its code is compiled.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_console::CliError;
use isomer_parcel::exe::{Base, Machine};
use isomer_runtime::engine::CodeTarget;

/// The name of the runtime without compiler and commands.
const RUNTIME: &str = "isomer-runtime";

/// The executable file of this process, even if the file at its path was replaced.
const OWN_FILE: &str = "/proc/self/exe";

/// A level of 64-bit x86 processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Cpu {
    /// Processors from about 2009 on, with SSE 4.2.
    #[value(name = "x86-64-v2")]
    X86_64V2,
    /// Processors from about 2013 on, with AVX2.
    #[value(name = "x86-64-v3")]
    X86_64V3,
}

/// A base with the file that it was read from.
pub(crate) struct FoundBase {
    pub(crate) base: Base,
    pub(crate) file: PathBuf,
}

/// Reads the runtime `named`, or the default one: `isomer-runtime` next to this program if it exists, and otherwise
/// this program, which is larger.
///
/// # Errors
/// If the file cannot be read, or is not a runtime of this version.
pub(crate) fn find_base(named: Option<&Path>) -> Result<FoundBase, CliError> {
    let own = std::env::current_exe().unwrap_or_else(|_| OWN_FILE.into());
    let neighbour = own.with_file_name(RUNTIME);
    let (file, opened) = match named {
        Some(named) => (named.to_owned(), named.to_owned()),
        None if neighbour.is_file() => (neighbour.clone(), neighbour),
        None => (own, PathBuf::from(OWN_FILE)),
    };
    let bytes = std::fs::read(&opened).with_context(|| format!("cannot read the runtime `{}`", file.display()))?;
    let base = Base::parse(bytes).map_err(|error| {
        CliError::failed(
            format!("`{}` cannot be the base of a program: {error}", file.display()),
            format!(
                "use the `{RUNTIME}` of the release tarball, or build it: cargo build --profile dist -p isomer-exe"
            ),
        )
    })?;
    let own = env!("CARGO_PKG_VERSION");
    if base.isomer() != own {
        return Err(CliError::failed(
            format!("`{}` is a runtime of Isomer {}, and this is Isomer {own}", file.display(), base.isomer()),
            "use the runtime of the same version, because code of another version does not run",
        ));
    }
    Ok(FoundBase { base, file })
}

/// Returns the machines that a program with this base runs on.
pub(crate) fn target(base: &Base, cpu: Cpu) -> CodeTarget {
    match (base.machine(), cpu) {
        (Machine::X86_64, Cpu::X86_64V2) => CodeTarget::X86_64V2,
        (Machine::X86_64, Cpu::X86_64V3) => CodeTarget::X86_64V3,
        (Machine::Aarch64, _) => CodeTarget::Aarch64,
    }
}
