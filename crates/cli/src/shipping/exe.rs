//! Making a program from an app.

use std::path::{Path, PathBuf};

use isomer_apps::RevisionError;
use isomer_apps::shipping::{GroupCode, compile_for_shipping};
use isomer_console::{CliError, Console};
use isomer_diagnostics::SourceFile;
use isomer_ids::ReleaseDigest;
use isomer_parcel::exe::{ExeContents, ShippedCodePart, write_exe};
use isomer_parcel::release_digest;
use isomer_plan::Plan;
use isomer_project::{AppDir, ValueSources, is_component, pack_release, read_components};
use isomer_runtime::code::CodeCache;
use isomer_runtime::engine::Engine;

use super::base::{Cpu, FoundBase, find_base, target};
use super::output::{PROGRAM, output_path, write_file};
use crate::user_dirs;

/// The options of [`ship_exe`].
pub(crate) struct ExeOptions<'a> {
    /// The app.
    pub(crate) path: &'a Path,
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
/// If the app cannot be built or planned, or if the program cannot be written.
pub(crate) fn ship_exe(options: &ExeOptions<'_>, console: &Console) -> Result<ShippedExe, CliError> {
    let app = AppDir::open_with(options.path, &options.values)?;
    app.print_warnings(console);
    let file = output_path(options.output, &app.app.name)?;
    let FoundBase { base, file: base_file } = find_base(options.base)?;
    let target = target(&base, options.cpu);
    let components = read_components(&app.build(console)?)?;
    let plan = app.plan(&components, options.shape)?;
    print_warnings(&plan, &app.source, console);
    let contents = pack_release(&app, components.clone(), options.shape, None)?;
    let release = release_digest(&contents.release);
    let code = {
        let progress = console.progress();
        let engine = Engine::for_target(target).map_err(|error| {
            CliError::failed(
                format!("this program cannot compile code for {target}: {error}"),
                "name a runtime for this machine (--base FILE), or build `isomer` with `--features cross`",
            )
        })?;
        let cache = CodeCache::open(&code_folder(&app, options.path))?.into();
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
        sbom: None,
    };
    let base_bytes = base.len();
    let bytes = write_file(&file, PROGRAM, |out| write_exe(&base, exe, out))?;
    Ok(ShippedExe { file, bytes, base: base_file, base_bytes, release, target: target.to_string() })
}

fn shipped(GroupCode { key, note, code }: GroupCode) -> (String, ShippedCodePart) {
    (key.into(), ShippedCodePart { code: code.into(), note: note.into() })
}

/// Returns the folder that caches compiled code. `isomer run` uses the same folder.
fn code_folder(app: &AppDir, path: &Path) -> PathBuf {
    let of_user = user_dirs::cache().filter(|_| is_component(path)).map(|cache| cache.join("run"));
    of_user.unwrap_or_else(|| app.dir.join(AppDir::OWN_DIR).join("cache"))
}

fn print_warnings(plan: &Plan, source: &SourceFile, console: &Console) {
    if !plan.warnings.is_empty() {
        let warnings: Vec<_> = plan.warnings.iter().map(|warning| warning.clone().in_source(source)).collect();
        console.message(&console.renderer().diagnostics(&warnings));
    }
}

fn compile_error(error: RevisionError, source: &SourceFile) -> CliError {
    match error {
        RevisionError::Plan(findings) => CliError::findings(findings, source),
        error => error.into(),
    }
}
