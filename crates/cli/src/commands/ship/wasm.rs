//! `isomer ship wasm`: writes an app as one Wasm file for any WASI host.

use std::path::PathBuf;

use anyhow::Context as _;
use isomer_capabilities::sql::migration_files;
use isomer_console::{CliError, Console, print};
use isomer_diagnostics::Hints;
use isomer_display::size;
use isomer_manifest::MONOLITH;
use isomer_plan::{StandalonePlan, standalone};
use isomer_project::{AppDir, read_components, shown};
use isomer_seam::{Components, Standalone};
use isomer_standalone::{DATA_FOLDER, Migrations, ProviderFiles, ship};
use isomer_toolchain::BuildProgress;
use serde_json::json;

use isomer_flags::ValueFlags;

/// Write an app as one Wasm file that runs on any WASI host, for example `wasmtime serve` or Node. All components are
/// fused. Key-value and SQL stores are inside of the file, and keep their data in a folder of the host at `/data`.
/// Config values are written into the file; secrets are not, and are read from the host's environment.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, or the file of an HTTP component.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// The file to write. [default: NAME.wasm in the current folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    values: ValueFlags,
    /// Print what is met inside of the file, what the host must provide, and what differs from a node. Writes no file.
    #[arg(long)]
    explain: bool,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let app = AppDir::open_with(&arguments.path, &arguments.values.sources())?;
    app.print_warnings(console);
    let built = if arguments.explain { app.build_for_types(console)? } else { app.build(console)? };
    let components = read_components(&built)?;
    let plan = plan(&app, &components)?;
    if arguments.explain {
        return match arguments.json {
            true => print(&format!("{:#}\n", json!(plan))),
            false => print(&plan.explain()),
        };
    }
    let file = fuse(&app, &plan, &components, console)?;
    let path = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.wasm", app.app.name)));
    write(&path, &file.bytes)?;
    if arguments.json {
        return print(&format!(
            "{:#}\n",
            json!({
                "file": path,
                "bytes": file.bytes.len(),
                "imports": file.imports,
                "exports": [file.handler],
                "notes": plan.notes,
            })
        ));
    }
    print(&format!("{}  {}\n", shown(&path), size(file.bytes.len())))?;
    for note in &plan.notes {
        console.message(&format!("note: {note}"));
    }
    console.message(&format!("to run it: {}", command(&plan, &file.handler, &shown(&path))));
    Ok(())
}

/// Plans the app as one file.
pub(super) fn plan(app: &AppDir, components: &Components) -> Result<StandalonePlan, CliError> {
    let plan = app.plan(components, MONOLITH)?;
    standalone(&app.app, &plan).map_err(|errors| CliError::findings(errors, &app.source))
}

/// Composes the app and its providers.
pub(super) fn fuse(
    app: &AppDir,
    plan: &StandalonePlan,
    components: &Components,
    console: &Console,
) -> Result<Standalone, CliError> {
    let files = {
        let progress = console.progress();
        let mut report = |step: BuildProgress<'_>| match step {
            BuildProgress::Step(text) => progress.step(text),
            BuildProgress::Output(text) => progress.line(text),
        };
        ProviderFiles::find(plan, &mut report).map_err(hinted)?
    };
    ship(&app.app, plan, components, &migrations(app)?, files).map_err(hinted)
}

/// Converts an error with hints.
pub(super) fn hinted<E: Hints + Send + Sync + 'static>(error: E) -> CliError {
    let hints = error.hints();
    CliError::hinted(error, hints)
}

/// Returns the command that serves the file with wasmtime.
fn command(plan: &StandalonePlan, handler: &str, path: &str) -> String {
    let mut command = "wasmtime serve -S cli".to_owned();
    let is_p3 = |id: &str| id.split_once('@').is_some_and(|(_, version)| version.starts_with("0.3"));
    if is_p3(handler) || plan.needs_stores() {
        command.push_str(" -S p3 -W component-model-async");
    }
    if plan.needs_stores() {
        command.push_str(&format!(" --dir shop-data::{DATA_FOLDER}"));
    }
    format!("{command} {path}")
}

/// Reads the migrations of all SQL stores.
fn migrations(app: &AppDir) -> Result<Migrations, CliError> {
    let mut migrations = Migrations::new();
    for (name, store) in &app.app.sql {
        if let Some(folder) = &store.migrations {
            migrations.insert(name.clone(), migration_files(&app.dir.join(folder)).map_err(anyhow::Error::new)?);
        }
    }
    Ok(migrations)
}

/// Writes the file under its final name only when it is complete.
fn write(path: &std::path::Path, bytes: &[u8]) -> Result<(), CliError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, path));
    Ok(written.with_context(|| format!("cannot write `{}`", path.display()))?)
}
