//! `isomer run`: an app, in as many processes as its shape has groups, or a single component, until it is told to stop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use isomer_manifest::{App, MONOLITH};

use crate::app_dir::{self, AppDir};
use crate::console::Console;
use crate::fail::Fail;
use crate::grant_flags::GrantFlags;
use crate::processes::{alone, member, supervisor};
use crate::rehearsal::secrets;
use crate::serving::{Premises, ServeFlags, Server, Subject};
use crate::user_dirs;
use crate::values::ValueFlags;
use crate::wasm_file::WasmFile;

/// Build an app and run it: in one process, or in one for each group of its shape. Or run a single HTTP component.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or one inside it), its isomer.toml, or a component that answers HTTP (WASI 0.3 or 0.2).
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    serve: ServeFlags,
    /// Run only this group of the shape. The others run elsewhere; `--config FILE` names the node file with their addresses and with this
    /// group's own settings.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    #[command(flatten)]
    values: ValueFlags,
    /// Run as a process of a shape of several, which another one has started.
    #[arg(long, hide = true, conflicts_with = "config")]
    member: bool,
    #[command(flatten, next_help_heading = "Grants (for a component's file; those of an app are in its isomer.toml)")]
    grants: GrantFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), Fail> {
    if arguments.member {
        return member::run();
    }
    if arguments.serve.rehearse.is_some() {
        end_with_standard_input();
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the executor")?;
    let done = runtime.block_on(serve(arguments, *console, Instant::now()));
    // A compiler that still runs is not waited for.
    runtime.shutdown_background();
    done
}

/// Stops as on SIGTERM when standard input ends: the parent process has ended, or wants this one to stop.
fn end_with_standard_input() {
    std::thread::spawn(|| {
        // What is said there means nothing.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    });
}

async fn serve(arguments: &Arguments, console: Console, began: Instant) -> Result<(), Fail> {
    if app_dir::is_component(&arguments.path) {
        single(arguments, console, began).await
    } else {
        app(arguments, console, began).await
    }
}

async fn app(arguments: &Arguments, console: Console, began: Instant) -> Result<(), Fail> {
    if let Some(flag) = arguments.grants.first() {
        return Err(Fail::usage(
            format!("`{flag}` is for a component that is run from its file"),
            "an app's grants are written in its isomer.toml: [components.NAME.grants]",
        ));
    }
    let mut values = arguments.values.clone();
    let node_file = arguments.group.as_ref().map(|group| node_file(group, &mut values)).transpose()?;
    let mut app = AppDir::open_with(&arguments.path, &values)?;
    app.say_warnings(&console);
    let flags = &arguments.serve;
    secrets::take(&mut app.app, flags.given_secrets.as_deref())?;
    if let (Some(group), Some(config)) = (&arguments.group, &node_file) {
        return alone::run(&app, group, config, flags, console, began).await;
    }
    let data = flags.data.clone().unwrap_or_else(|| app.dir.join(".isomer"));
    let premises = Premises::new(flags, console)?;
    let opened = premises.open(flags, &data).await?;
    let components = app_dir::read(&app.build(&console)?)?;
    // Alone, it is one process anyway, and looking would cost a start some of its time.
    if flags.shape != MONOLITH {
        let plan = isomer_node::revision::plan(&app.app, &components, &flags.shape);
        let plan = plan.map_err(|error| Fail::revision(error, Some(&app.source)))?;
        if plan.processes().len() > 1 {
            premises.say_warnings(&plan, Some(&app.source));
            let manifest = app.manifest()?;
            let subject = supervisor::Subject {
                app_dir: app.dir.clone(),
                manifest: &manifest,
                environment: &app.values.environment,
                components: &components,
                plan: &plan,
            };
            return supervisor::run(premises, opened, subject, began).await;
        }
    }
    let server = Server::new(premises, opened, flags, None)?;
    serve_here(server, &Subject::new(&app, components), began).await
}

/// The node file of a group, among what `--config` gives.
fn node_file(group: &str, values: &mut ValueFlags) -> Result<PathBuf, Fail> {
    values.take_node_file().ok_or_else(|| {
        Fail::usage(
            format!("group `{group}` has no node file, which says where the other groups are"),
            format!("isomer run --group {group} --config FILE"),
        )
    })
}

/// Serves a revision of `subject` in this process.
async fn serve_here(mut server: Server, subject: &Subject, began: Instant) -> Result<(), Fail> {
    let plan = server.workshop.take_over(subject).await?;
    let (serving, workshop) = server.split()?;
    workshop.say_ready(&plan, began)?;
    serving.await?;
    drop(workshop);
    Ok(())
}

/// Without a manifest nothing can be stored, so the data directory is one that goes away, unless one is named.
async fn single(arguments: &Arguments, console: Console, began: Instant) -> Result<(), Fail> {
    if let Some(group) = &arguments.group {
        return Err(Fail::usage(
            format!("`--group {group}` is for an app, and `{}` is a component", arguments.path.display()),
            "name the app's folder",
        ));
    }
    let file = WasmFile::open(&arguments.path)?;
    file.check_http()?;
    let mut grants = arguments.grants.grants();
    grants.config.extend(arguments.values.for_file()?);
    let app = App::single(&file.path, grants);
    let name = app.components.keys().next().expect("it has the one component").clone();
    let (data, kept) = match &arguments.serve.data {
        Some(data) => (data.clone(), None),
        None => {
            let kept = tempfile::Builder::new().prefix("isomer-").tempdir().context("cannot make a folder for data")?;
            (kept.path().to_owned(), Some(kept))
        }
    };
    let cache = user_dirs::cache().filter(|_| kept.is_some()).map(|cache| cache.join("run"));
    let premises = Premises::new(&arguments.serve, console)?;
    let opened = premises.open(&arguments.serve, &data).await?;
    let server = Server::new(premises, opened, &arguments.serve, cache.as_deref())?;
    let dir = std::env::current_dir().context("cannot tell the working directory")?;
    let components = [(name, file.bytes.into())].into();
    let subject = Subject { app, dir, source: None, components, environment: BTreeMap::new() };
    serve_here(server, &subject, began).await?;
    drop(kept);
    Ok(())
}
