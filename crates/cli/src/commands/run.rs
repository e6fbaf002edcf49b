//! `isomer run`: the app in one process, until it is told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use isomer_capabilities::DataDir;
use isomer_front::{FrontError, Limits};
use isomer_manifest::MONOLITH;
use isomer_node::revision::{Components, RevisionOptions, Step};
use isomer_node::{Node, NodeError, NodeOptions, Parts, Revision, RevisionError};
use isomer_observe::{Format, Log};
use isomer_runtime::code::CodeCache;

use crate::app_dir::{self, AppDir};
use crate::console::Console;
use crate::fail::Fail;

/// Build an app and run it in one process.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app's folder (or one inside it).
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The shape that the app takes.
    #[arg(long, default_value = MONOLITH)]
    shape: String,
    /// Where to listen. Port 0 lets the system choose.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where data is kept [default: `.isomer` in the app's folder].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print one line of JSON on standard output when the app answers, and log in JSON.
    #[arg(long)]
    json: bool,
    /// Log every request.
    #[arg(long)]
    access_log: bool,
    /// How long requests that run may go on after the signal to stop, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
}

pub(crate) fn run(arguments: Arguments, console: &Console) -> Result<(), Fail> {
    let began = Instant::now();
    let app = AppDir::open(&arguments.path)?;
    app.say_warnings(console);
    let built = app.build(console)?;
    let components = app_dir::read(&built)?;
    let data = arguments.data.clone().unwrap_or_else(|| app.dir.join(".isomer"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the executor")?;
    runtime.block_on(serve(&arguments, &app, &components, &data, console, began))
}

async fn serve(
    arguments: &Arguments,
    app: &AppDir,
    components: &Components,
    data: &Path,
    console: &Console,
    began: Instant,
) -> Result<(), Fail> {
    let format = if arguments.json { Format::Json } else { Format::Text { colour: console.colour() } };
    let log = Log::start(std::io::stderr(), format, arguments.access_log).context("cannot start the log")?;
    let options = NodeOptions {
        listen: arguments.listen,
        limits: Limits::default(),
        grace: Duration::from_secs(arguments.grace),
    };
    let node = Node::open(options, log.clone()).await.map_err(cannot_listen)?;
    let data = DataDir::open(data)?;
    let parts = Parts::open(&app.app, &app.dir, &data, log.clone()).await?;
    let cache = CodeCache::open(&data.cache())?;
    let options = RevisionOptions { shape: arguments.shape.clone(), ..RevisionOptions::default() };
    let revision = {
        let progress = console.progress();
        let told = |step: Step<'_>| progress.step(describe(step));
        Revision::build(&app.app, components, &options, &parts, &cache, &told).await
    };
    let revision = revision.map_err(|error| cannot_build(error, app))?;
    if !revision.plan.warnings.is_empty() {
        let warnings = revision.plan.warnings.iter().map(|warning| warning.clone().in_source(&app.source));
        console.say(&console.renderer().diagnostics(&warnings.collect::<Vec<_>>()));
    }
    let plan = node.takeover().take_over(revision);
    let url = format!("http://{}", node.address());
    if arguments.json {
        let ready = serde_json::json!({
            "event": "ready",
            "url": url,
            "app": plan.app,
            "version": plan.version,
            "shape": plan.shape,
            "pid": std::process::id(),
            "took_ms": began.elapsed().as_secs_f64() * 1e3,
        });
        anstream::println!("{ready}");
    } else {
        let took = began.elapsed().as_secs_f64() * 1e3;
        console.say(&format!("{} {} serves at {url}  ({took:.0} ms; Ctrl-C stops it)", plan.app, plan.version));
    }
    let cut_off = node.serve(stop_signal()).await;
    if cut_off > 0 {
        log.warn(format!("{cut_off} connections were cut off when their time to finish was over"));
    }
    log.flush();
    Ok(())
}

fn describe(step: Step<'_>) -> String {
    match step {
        Step::Plan => "planning".to_owned(),
        Step::Compose(group) => format!("composing group {group}"),
        Step::Compile(group) => format!("compiling group {group}"),
        Step::Start(group) => format!("starting group {group}"),
    }
}

fn cannot_listen(error: NodeError) -> Fail {
    let NodeError::Front(front) = &error;
    match front {
        FrontError::InUse { address } => {
            let hint = format!(
                "stop that process, or listen elsewhere: --listen {}:0 lets the system choose a port",
                address.ip()
            );
            isomer_manifest::Hinted::new(error, hint).into()
        }
        _ => error.into(),
    }
}

/// Findings of the plan have places in the manifest; the rest is an error.
fn cannot_build(error: RevisionError, app: &AppDir) -> Fail {
    match error {
        RevisionError::Plan(findings) => Fail::manifest(findings, &app.source),
        error => error.into(),
    }
}

/// SIGTERM or Ctrl-C.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {},
            _ = terminate.recv() => {},
        },
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
