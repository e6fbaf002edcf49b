//! Serving the app of this program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use isomer_console::{CliError, Console, print};
use isomer_diagnostics::SourceFile;
use isomer_ids::ComponentName;
use isomer_manifest::{App, MANIFEST_FILE};
use isomer_parcel::exe::{ExeIndex, Payload};
use isomer_project::AppDir;
use isomer_runtime::code::Key;
use isomer_seam::Components;
use isomer_serve::{
    AppServer, RevisionSource, ServeContext, ServeOptions, ServeResources, ServedCode, check_shipped_code, serve_app,
};
use isomer_telemetry::SamplingPolicy;
use serde_json::json;

use crate::arguments::Arguments;
use crate::data_dir::default_data_dir;
use crate::own_payload::{OwnPayload, payload_error};
use crate::release_files::write_files;

/// Executes the command line of the program.
pub(crate) fn run(own: &OwnPayload, console: Console) -> Result<(), CliError> {
    let began = Instant::now();
    let payload = own.payload();
    let index = payload.index();
    let source = SourceFile::new(MANIFEST_FILE, index.release.manifest.as_str());
    let parsed = isomer_manifest::parse(&source).map_err(CliError::Findings)?;
    let arguments = Arguments::parse(&parsed.app, index);
    if arguments.version {
        return print(&version(&parsed.app, index, arguments.json));
    }
    if arguments.sbom {
        return print_sbom(payload);
    }
    if arguments.verify {
        return verify(payload, &parsed.app);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the executor")?;
    let done = runtime.block_on(serve(own, &arguments, source, console, began));
    runtime.shutdown_background();
    done
}

async fn serve(
    own: &OwnPayload,
    arguments: &Arguments,
    source: SourceFile,
    console: Console,
    began: Instant,
) -> Result<(), CliError> {
    let payload = own.payload();
    // Files that the user names, such as those of secrets, are relative to the working directory.
    let dir = std::env::current_dir().context("cannot determine the working directory")?;
    let app = AppDir::of_manifest(dir, source, &arguments.values.sources())?;
    app.print_warnings(&console);
    app.check_secrets()?;
    let data = arguments.data.clone().map_or_else(|| default_data_dir(&app.app.name), Ok)?;
    let options = ServeOptions {
        shape: payload.index().release.shape.clone(),
        listen: arguments.listen,
        admin: arguments.admin.address(),
        data: Some(data.clone()),
        json: arguments.json,
        access_log: arguments.access_log,
        log_levels: arguments.log.levels()?,
        sampling: arguments.telemetry.sampling(SamplingPolicy::NODE),
        grace: Duration::from_secs(arguments.grace),
        test_mode: None,
    };
    let mut context = ServeContext::new(&options, console)?;
    context.export_telemetry(&app.app)?;
    let resources = ServeResources::open(&options, &context, &data, &app.app.name).await?;
    let files = write_files(payload, resources.data.path())?;
    let components = read_components(payload)?;
    let server = AppServer::new(context, resources, &options, ServedCode::Shipped(own.code()))?;
    let source = RevisionSource::new(&app, components)?.shipped(files);
    serve_app(server, source, began).await
}

fn read_components(payload: &Payload) -> Result<Components, CliError> {
    let release = &payload.index().release;
    let read = |(name, part): (&String, &isomer_api::ReleasePart)| -> Result<_, CliError> {
        let bytes = payload.read(&part.digest).map_err(payload_error)?;
        Ok((ComponentName::new(name)?, Arc::from(bytes)))
    };
    release.components.iter().map(read).collect()
}

/// Verifies all parts, and that the program has the code for the plan that this runtime makes.
fn verify(payload: &Payload, app: &App) -> Result<(), CliError> {
    payload.verify().map_err(payload_error)?;
    let has = |key: &Key| payload.index().code.contains_key(key.as_str());
    check_shipped_code(app, &read_components(payload)?, &payload.index().release.shape, &has)
}

/// Returns the text of `--version`.
fn version(app: &App, index: &ExeIndex, json: bool) -> String {
    let ExeIndex { isomer, target, digest, release, .. } = index;
    let (name, version, shape) = (&app.name, &app.version, &release.shape);
    if json {
        let value = json!({
            "name": name,
            "version": version.to_string(),
            "release": digest.as_str(),
            "shape": shape,
            "isomer": isomer,
            "target": target,
        });
        return format!("{value:#}\n");
    }
    format!("{name} {version}\nrelease {digest}\nshape {shape}\nIsomer {isomer}, for {target}\n")
}

fn print_sbom(payload: &Payload) -> Result<(), CliError> {
    let Some(sbom) = &payload.index().sbom else {
        return Err(CliError::failed(
            "this program contains no software bill of materials",
            "make it again with a newer version: isomer ship exe",
        ));
    };
    let text = String::from_utf8(payload.read(sbom).map_err(payload_error)?);
    print(&text.map_err(|_| CliError::failed("the software bill of materials is not text", "make the program again"))?)
}
