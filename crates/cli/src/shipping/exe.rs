//! Making a program from an app.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use isomer_apps::RevisionError;
use isomer_apps::shipping::{GroupCode, compile_for_shipping};
use isomer_console::{CliError, Console};
use isomer_diagnostics::SourceFile;
use isomer_ids::ReleaseDigest;
use isomer_parcel::exe::{Base, ExeContents, Machine, ShippedCodePart, write_exe};
use isomer_parcel::release_digest;
use isomer_project::ValueSources;
use isomer_runtime::code::CodeCache;
use isomer_runtime::engine::Engine;

use super::base::{Cpu, FoundBase, find_base, target};
use super::output::{PROGRAM, output_path, write_file};
use super::packed_app::{PackedApp, pack_app};
use crate::app_source::AppSource;
use crate::remote::registry::RegistryFlags;

/// The options of [`ship_exe`].
pub(crate) struct ExeOptions<'a> {
    /// The app.
    pub(crate) source: AppSource,
    /// How registries are reached, if the app is in one.
    pub(crate) registry: &'a RegistryFlags,
    pub(crate) shape: &'a str,
    /// The file to write; `None` for the app's name.
    pub(crate) output: Option<&'a Path>,
    /// The runtime; `None` for the default one.
    pub(crate) base: Option<&'a Path>,
    pub(crate) cpu: Cpu,
    pub(crate) values: ValueSources,
}

/// A program that was written.
pub(crate) struct ShippedExe {
    pub(crate) file: PathBuf,
    pub(crate) bytes: u64,
    /// The file of the runtime.
    pub(crate) base: PathBuf,
    pub(crate) base_bytes: u64,
    pub(crate) release: ReleaseDigest,
    pub(crate) target: String,
}

/// Builds the app, compiles its code, and writes the program.
///
/// # Errors
/// If the app cannot be built or planned, or if the program cannot be written or does not find its code.
pub(crate) fn ship_exe(options: &ExeOptions<'_>, console: &Console) -> Result<ShippedExe, CliError> {
    let packed = pack_app(&options.source, options.shape, &options.values, options.registry, console)?;
    let PackedApp { app, components, contents, sbom, code_folder } = packed;
    let file = output_path(options.output, &app.app.name)?;
    let FoundBase { base, file: base_file } = find_base(options.base)?;
    let target = target(&base, options.cpu);
    let release = release_digest(&contents.release);
    let code = {
        let progress = console.progress();
        let engine = Engine::for_target(target).map_err(|error| {
            CliError::failed(
                format!("this program cannot compile code for {target}: {error}"),
                "name a runtime for this machine (--base FILE), or build `isomer` with `--features cross`",
            )
        })?;
        let cache = CodeCache::open(&code_folder)?.into();
        // The program plans the app from the manifest in the release, which contains the values of flags and files.
        let manifest = SourceFile::new(app.source.name(), contents.release.manifest.as_str());
        let packed = isomer_manifest::parse(&manifest).map_err(CliError::Findings)?.app;
        let report = |step: isomer_apps::Progress<'_>| progress.step(isomer_serve::describe(step));
        let compiled = compile_for_shipping(&packed, &components, options.shape, &engine, &cache, &report);
        compiled.map_err(|error| compile_error(error, &manifest))?.1
    };
    let exe = ExeContents {
        contents,
        isomer: env!("CARGO_PKG_VERSION").to_owned(),
        target: target.to_string(),
        code: code.into_iter().map(shipped).collect(),
        sbom: Some(sbom),
    };
    let base_bytes = base.len();
    let bytes = write_file(&file, PROGRAM, |out| write_exe(&base, exe, out), |new| check(new, &base, &base_file))?;
    Ok(ShippedExe { file, bytes, base: base_file, base_bytes, release, target: target.to_string() })
}

/// Lets the new program verify itself, if it is for this machine. A runtime of the same version may have been built from other
/// sources: it would not find the code that this program compiled, and the app's user would be the first to notice.
fn check(program: &Path, base: &Base, base_file: &Path) -> Result<(), CliError> {
    if Machine::of_this_program() != Some(base.machine()) {
        return Ok(());
    }
    let output = loop {
        match Command::new(program).arg("--verify").stdin(Stdio::null()).output() {
            // A process that another thread started a moment ago still has the file open for writing.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            output => break output,
        }
    };
    let cause = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("cannot start the program: {error}"),
    };
    Err(CliError::failed(
        format!("`{}` does not run this app: {cause}", base_file.display()),
        "build the runtime and `isomer` from the same sources, or name another runtime: --base FILE",
    ))
}

fn shipped(GroupCode { key, note, code }: GroupCode) -> (String, ShippedCodePart) {
    (key.into(), ShippedCodePart { code: code.into(), note: note.into() })
}

fn compile_error(error: RevisionError, source: &SourceFile) -> CliError {
    match error {
        RevisionError::Plan(findings) => CliError::findings(findings, source),
        error => error.into(),
    }
}
