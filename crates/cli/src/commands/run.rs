//! `isomer run`: serves an app or a single component until a signal stops it. An app runs with one process for each
//! group of its shape.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use isomer_console::{CliError, Console};
use isomer_manifest::App;
use isomer_project::{AppDir, ValueSources, WasmFile, is_component};
use isomer_serve::{
    AppServer, RevisionSource, ServeContext, ServeResources, ServedCode, apply_test_secrets, run_group, run_member,
    serve_app,
};

use crate::app_source::{AppSource, KeyFlag, ShippedApp};
use crate::grant_flags::GrantFlags;
use crate::remote::registry::RegistryFlags;
use crate::serve_flags::ServeFlags;
use crate::signing::SIGNATURES;
use crate::user_dirs;
use isomer_flags::ValueFlags;

/// Build an app and run it, with one process for each group of its shape. Can also run a single HTTP component.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, the file of an HTTP component (WASI 0.3 or 0.2), or
    /// an app that was built elsewhere: `oci://registry.example/team/shop:1.4.0`, or an archive (`shop.tar`).
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    serve: ServeFlags,
    /// Run only this group of the shape. The other groups run in other processes, possibly on other machines: `--config
    /// FILE` names the node file with their addresses and this group's own settings.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    #[command(flatten)]
    values: ValueFlags,
    #[command(flatten)]
    registry: RegistryFlags,
    #[command(flatten)]
    key: KeyFlag,
    /// Accept the hosts and secrets that an app from a registry or an archive wants to reach, without asking.
    #[arg(long)]
    yes: bool,
    /// Run one group of a shape, as a process that a supervisor has started.
    #[arg(long, hide = true, conflicts_with = "config")]
    member: bool,
    #[command(flatten, next_help_heading = "Grants (for a component's file; those of an app are in its isomer.toml)")]
    grants: GrantFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    if arguments.member {
        return run_member(None);
    }
    if arguments.serve.is_test_mode() {
        end_with_standard_input();
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the executor")?;
    let done = runtime.block_on(serve(arguments, *console, Instant::now()));
    // The process does not wait for a compiler that is still running.
    runtime.shutdown_background();
    done
}

/// Sends SIGTERM to this process when standard input is closed. This happens when the parent process exits, or when it
/// wants this process to stop.
fn end_with_standard_input() {
    std::thread::spawn(|| {
        // The contents of standard input are ignored.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    });
}

async fn serve(arguments: &Arguments, console: Console, began: Instant) -> Result<(), CliError> {
    let is_path = matches!(AppSource::parse(&arguments.path)?, AppSource::Path(_));
    if is_path && is_component(&arguments.path) {
        single(arguments, console, began).await
    } else {
        app(arguments, console, began).await
    }
}

async fn app(arguments: &Arguments, console: Console, began: Instant) -> Result<(), CliError> {
    if let Some(flag) = arguments.grants.first_used() {
        return Err(CliError::usage(
            format!("`{flag}` works only for a component that is run from its file"),
            "grants of an app are in its isomer.toml: [components.NAME.grants]",
        ));
    }
    let mut values = arguments.values.sources();
    let node_file = arguments.group.as_ref().map(|group| node_file(group, &mut values)).transpose()?;
    let mut app = match AppSource::parse(&arguments.path)? {
        AppSource::Path(path) => {
            arguments.key.refuse_for_sources()?;
            AppDir::open_with(&path, &values)?
        }
        AppSource::Registry(reference) => {
            let keys = arguments.key.keys()?;
            let filter = (!keys.is_empty()).then_some(SIGNATURES);
            let pulled = ShippedApp::pull(&reference, &arguments.registry, filter, &console).await?;
            pulled.check(&keys)?;
            pulled.unpack(&values, arguments.yes, &console)?
        }
        AppSource::Archive(path) => {
            let read = ShippedApp::read(&path)?;
            read.check(&arguments.key.keys()?)?;
            read.unpack(&values, arguments.yes, &console)?
        }
    };
    app.print_warnings(&console);
    let options = arguments.serve.options()?;
    let test_secrets = options.test_mode.as_ref().and_then(|test| test.secrets.as_deref());
    apply_test_secrets(&mut app.app, test_secrets)?;
    if let (Some(group), Some(config)) = (&arguments.group, &node_file) {
        return run_group(&app, group, config, &options, console, began).await;
    }
    // Secrets are checked before the build, which can take minutes.
    app.check_secrets()?;
    let mut context = ServeContext::new(&options, console)?;
    context.export_telemetry(&app.app)?;
    let resources = ServeResources::open(&options, &context, &options.data_dir(&app), &app.app.name).await?;
    let components = app.components(&console)?;
    let server = AppServer::new(context, resources, &options, ServedCode::Own)?;
    serve_app(server, RevisionSource::new(&app, components)?, began).await
}

/// Removes the path of the group's node file from the values of `--config`, and returns it.
fn node_file(group: &str, values: &mut ValueSources) -> Result<PathBuf, CliError> {
    values.take_node_file().ok_or_else(|| {
        CliError::usage(
            format!("group `{group}` needs a node file with the addresses of the other groups"),
            format!("isomer run --group {group} --config FILE"),
        )
    })
}

/// Runs a component without a manifest. The component cannot have stores, so the data directory is temporary unless
/// `--data` is used.
async fn single(arguments: &Arguments, console: Console, began: Instant) -> Result<(), CliError> {
    arguments.key.refuse_for_sources()?;
    if let Some(group) = &arguments.group {
        return Err(CliError::usage(
            format!("`--group {group}` needs an app, and `{}` is a component", arguments.path.display()),
            "name the app's folder",
        ));
    }
    let file = WasmFile::open(&arguments.path)?;
    file.check_http()?;
    let mut grants = arguments.grants.grants();
    grants.config.extend(arguments.values.sources().for_file()?);
    let app = App::single(&file.path, grants);
    let name = app.components.keys().next().expect("it has the one component").clone();
    let options = arguments.serve.options()?;
    let (data, kept) = match &options.data {
        Some(data) => (data.clone(), None),
        None => {
            let kept =
                tempfile::Builder::new().prefix("isomer-").tempdir().context("cannot create a folder for data")?;
            (kept.path().to_owned(), Some(kept))
        }
    };
    let cache = user_dirs::cache().filter(|_| kept.is_some()).map(|cache| ServedCode::Folder(cache.join("run")));
    let mut context = ServeContext::new(&options, console)?;
    context.export_telemetry(&app)?;
    let resources = ServeResources::open(&options, &context, &data, &app.name).await?;
    let server = AppServer::new(context, resources, &options, cache.unwrap_or(ServedCode::Own))?;
    let dir = std::env::current_dir().context("cannot determine the working directory")?;
    let components = [(name, file.bytes.into())].into();
    serve_app(server, RevisionSource::without_manifest(app, dir, components), began).await?;
    drop(kept);
    Ok(())
}
