//! `isomer ship wasm`: writes an app as one Wasm file for any WASI host.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use isomer_capabilities::sql::migration_files;
use isomer_console::{CliError, Console, ProgressLine, print};
use isomer_diagnostics::Hints;
use isomer_display::size;
use isomer_flags::ValueFlags;
use isomer_manifest::{App, MONOLITH, SecretSource};
use isomer_parcel::Contents;
use isomer_plan::{StandalonePlan, standalone};
use isomer_project::{AppDir, open_packed, read_components, shown};
use isomer_seam::{Components, Standalone};
use isomer_standalone::{DATA_FOLDER, Migrations, ProviderFiles, ship};
use isomer_toolchain::BuildProgress;
use serde_json::json;

use crate::app_source::{AppSource, ShippedApp};
use crate::remote::node::block_on;
use crate::remote::registry::RegistryFlags;
use crate::shipping::{DATA, output_path, print_notes, write_file};

/// Write an app as one Wasm file that runs on any WASI host, for example `wasmtime serve` or Node. All components are
/// fused. Key-value and SQL stores are inside of the file, and keep their data in a folder of the host at `/data`.
/// Config values are written into the file (but not those in the app's `.env`, which are those of this machine); secrets are
/// not, and are read from the host's environment.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, the file of an HTTP component, or an app that was
    /// built elsewhere: `oci://registry.example/team/shop:1.4.0`, or an archive (`shop.tar`).
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// The file to write. [default: NAME.wasm in the current folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    values: ValueFlags,
    #[command(flatten)]
    registry: RegistryFlags,
    /// Print what is met inside of the file, what the host must provide, and what differs from a node. Writes no file.
    #[arg(long)]
    explain: bool,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let (app, components, migrations) = open(arguments, console)?;
    let plan = plan(&app, &components)?;
    if arguments.explain {
        return match arguments.json {
            true => print(&format!("{:#}\n", json!(plan))),
            false => print(&plan.explain()),
        };
    }
    let path = output_path(arguments.output.as_deref(), &format!("{}.wasm", app.app.name))?;
    let file = fuse(&app, &plan, &components, &migrations, console)?;
    write_file(&path, DATA, |out| out.write_all(&file.bytes), |_| Ok(()))?;
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
    console.message(&format!("{}  {}", shown(&path), size(file.bytes.len())));
    for note in &plan.notes {
        console.message(&format!("note: {note}"));
    }
    console.message(&format!("to run it: {}", command(&app.app, &plan, &file.handler, &shown(&path))));
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
    migrations: &Migrations,
    console: &Console,
) -> Result<Standalone, CliError> {
    let files = {
        let progress = console.progress();
        let mut report = build_report(&progress);
        ProviderFiles::find(plan, &mut report).map_err(hinted)?
    };
    ship(&app.app, plan, components, migrations, files).map_err(hinted)
}

/// Returns a function that shows the steps of a build.
pub(super) fn build_report(progress: &ProgressLine) -> impl FnMut(BuildProgress<'_>) + '_ {
    |step| match step {
        BuildProgress::Step(text) => progress.step(text),
        BuildProgress::Output(text) => progress.line(text),
    }
}

/// Converts an error with hints.
pub(super) fn hinted<E: Hints + Send + Sync + 'static>(error: E) -> CliError {
    let hints = error.hints();
    CliError::hinted(error, hints)
}

/// Opens the app, and returns it with its components and the migrations of its SQL stores.
fn open(arguments: &Arguments, console: &Console) -> Result<(AppDir, Components, Migrations), CliError> {
    let values = arguments.values.shipped();
    let shipped = match AppSource::parse(&arguments.path)? {
        AppSource::Path(path) => {
            let app = AppDir::open_with(&path, &values)?;
            print_notes(&app, console);
            let built = if arguments.explain { app.build_for_types(console)? } else { app.build(console)? };
            let migrations = migrations(&app, &app.dir)?;
            return Ok((app, read_components(&built)?, migrations));
        }
        AppSource::Registry(reference) => block_on(ShippedApp::pull(&reference, &arguments.registry, None, console))?,
        AppSource::Archive(path) => ShippedApp::read(&path)?,
    };
    let app = open_packed(&shipped.contents, &shipped.name, &values)?;
    print_notes(&app, console);
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    write_migrations(&app.app, &shipped.contents, folder.path())?;
    let migrations = migrations(&app, folder.path())?;
    let components = app.components(console)?;
    Ok((app, components, migrations))
}

/// Writes the folders of migrations of an app that was built elsewhere into `folder`.
fn write_migrations(app: &App, contents: &Contents, folder: &Path) -> Result<(), CliError> {
    let folders = app.sql.values().filter_map(|store| store.migrations.as_ref());
    for migrations in folders {
        std::fs::create_dir_all(folder.join(migrations)).context("cannot write the migrations")?;
        for (path, part) in &contents.release.files {
            // A release has only paths inside of its folder.
            let is_migration = Path::new(path.as_str()).parent().is_some_and(|parent| parent == plain(migrations));
            if let Some(bytes) = contents.parts.get(&part.digest).filter(|_| is_migration) {
                std::fs::write(folder.join(path.as_str()), bytes).context("cannot write the migrations")?;
            }
        }
    }
    Ok(())
}

/// Returns a path without `.` segments.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// Returns the commands that serve the file with wasmtime.
fn command(app: &App, plan: &StandalonePlan, handler: &str, path: &str) -> String {
    let mut command = "wasmtime serve -S cli".to_owned();
    let is_p3 = |id: &str| id.split_once('@').is_some_and(|(_, version)| version.starts_with("0.3"));
    if is_p3(handler) || plan.needs_stores() {
        command.push_str(" -S p3 -W component-model-async");
    }
    for variable in variables(app, plan) {
        command.push_str(&format!(" --env {variable}"));
    }
    if plan.needs_stores() {
        let data = format!("{}-data", app.name);
        command = format!("mkdir -p {data} && {command} --dir {data}::{DATA_FOLDER}");
    }
    format!("{command} {path}")
}

/// Returns the variables that contain the secrets of the file's components.
fn variables<'a>(app: &'a App, plan: &StandalonePlan) -> BTreeSet<&'a str> {
    let readers = plan.imports.iter().filter(|import| import.interface.package_name() == "isomer:secrets");
    let components = readers.filter_map(|import| app.components.get(&import.component));
    let granted: BTreeSet<&str> =
        components.flat_map(|component| &component.grants.secrets).map(|secret| secret.value.as_str()).collect();
    let variables = app.secrets.iter().filter(|(name, _)| granted.contains(name.as_str())).map(|(_, source)| source);
    variables
        .filter_map(|source| match source {
            SecretSource::Env(variable) => Some(variable.as_str()),
            SecretSource::File(_) => None,
        })
        .collect()
}

/// Reads the migrations of all SQL stores. `dir` is the folder against which the paths in the manifest are resolved.
pub(super) fn migrations(app: &AppDir, dir: &Path) -> Result<Migrations, CliError> {
    let mut migrations = Migrations::new();
    for (name, store) in &app.app.sql {
        if let Some(folder) = &store.migrations {
            migrations.insert(name.clone(), migration_files(&dir.join(folder)).map_err(anyhow::Error::new)?);
        }
    }
    Ok(migrations)
}
