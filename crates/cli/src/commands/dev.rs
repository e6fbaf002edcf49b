//! `isomer dev`: serves an app, and replaces the running app after every change of its sources (see the crate
//! `isomer_dev`).

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use isomer_console::{CliError, Console};
use isomer_dev::{DevSession, DevSettings};
use isomer_project::AppDir;
use isomer_serve::{AppServer, ServeContext, ServeResources, ServedCode};
use isomer_toolchain::BuildProfile;

use crate::serve_flags::ServeFlags;
use isomer_flags::ValueFlags;

/// Run an app. Whenever its sources change, rebuild it and replace the running app.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, or the file of an HTTP component.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    serve: ServeFlags,
    /// Build Cargo packages with the release profile, as `isomer build` does. Builds take longer, components run
    /// faster, and backtraces have no line numbers.
    #[arg(long)]
    release: bool,
    /// If an SQL migration was edited after it was applied, recreate the store without asking. The store starts from
    /// the latest copy to which the migrations can be applied, or empty if there is no such copy. Data that was written
    /// after the copy is lost.
    #[arg(long)]
    recreate_stores: bool,
    #[command(flatten)]
    values: ValueFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // At least two threads are needed, because one can be busy compiling while the other serves requests.
        .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2)))
        .enable_all()
        .build()
        .context("cannot start the executor")?;
    let done = runtime.block_on(develop(arguments, *console));
    // The process does not wait for a compiler that is still running.
    runtime.shutdown_background();
    done
}

async fn develop(arguments: &Arguments, console: Console) -> Result<(), CliError> {
    let began = Instant::now();
    let values = arguments.values.sources();
    let app = AppDir::open_with(&arguments.path, &values)?;
    let options = arguments.serve.options()?;
    let mut context = ServeContext::new(&options, console)?;
    context.source_lines = true;
    context.writable_data = true;
    context.export_telemetry(&app.app)?;
    let resources = ServeResources::open(&options, &context, &options.data_dir(&app), &app.app.name).await?;
    let (serving, mut revisions, orders) = AppServer::new(context, resources, &options, ServedCode::Own)?.split();
    revisions.serve_unbuilt()?;
    // Serving is a separate task, so that requests and signals are handled while a revision is prepared.
    let serving = tokio::spawn(serving);
    let settings = DevSettings {
        values,
        profile: if arguments.release { BuildProfile::Release } else { BuildProfile::Dev },
        recreate_stores: arguments.recreate_stores,
    };
    let session = DevSession::new(&app, settings, (revisions, orders), console)?;
    let developing = tokio::spawn(session.run(began));
    tokio::select! {
        ended = serving => ended.context("the server ended unexpectedly")??,
        gave_up = developing => return Err(gave_up.context("the build ended unexpectedly")?),
    }
    Ok(())
}
