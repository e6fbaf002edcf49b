//! Serving an app from this process: what `run` and `dev` have in common.
//!
//! A [`Server`] listens before anything is built, so that a port in use is told at once; who connects meanwhile waits. It
//! makes revisions one after another; what a revision has opened (stores, secrets) is handed to the next one, because a store
//! can be open only once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use isomer_capabilities::{DataDir, DataDirError};
use isomer_front::{FrontError, Limits};
use isomer_manifest::{App, Hinted, MONOLITH, SourceFile};
use isomer_node::node::Takeover;
use isomer_node::revision::{Components, RevisionOptions, Step};
use isomer_node::{Node, NodeError, NodeOptions, Parts, Revision};
use isomer_observe::{Format, Log};
use isomer_plan::Plan;
use isomer_runtime::code::CodeCache;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app_dir::AppDir;
use crate::console::{Console, print};
use crate::fail::Fail;

/// How an app is served.
#[derive(clap::Args)]
pub(crate) struct ServeFlags {
    /// The shape that the app takes.
    #[arg(long, default_value = MONOLITH)]
    pub(crate) shape: String,
    /// Where to listen. Port 0 lets the system choose.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Where data is kept [default: `.isomer` in the app's folder].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print one line of JSON on standard output when the app answers, and log in JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Log every request.
    #[arg(long)]
    pub(crate) access_log: bool,
    /// How long requests that run may go on after the signal to stop, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) grace: u64,
}

/// What is served: an app with its components' bytes.
pub(crate) struct Subject {
    pub(crate) app: App,
    /// Where relative paths start.
    pub(crate) dir: PathBuf,
    /// The manifest, if there is one.
    pub(crate) source: Option<SourceFile>,
    pub(crate) components: Components,
}

impl Subject {
    pub(crate) fn new(app: &AppDir, components: Components) -> Self {
        Self { app: app.app.clone(), dir: app.dir.clone(), source: Some(app.source.clone()), components }
    }
}

/// A node that listens, and what revisions for it are made with.
pub(crate) struct Server {
    node: Node,
    pub(crate) workshop: Workshop,
}

/// Makes revisions.
pub(crate) struct Workshop {
    shape: String,
    json: bool,
    url: String,
    takeover: Takeover,
    console: Console,
    log: Log,
    data: DataDir,
    cache: CodeCache,
    parts: Option<Parts>,
}

impl Server {
    /// Begins to listen, and locks the data directory. `cache` is the folder for compiled code, where it is not in `data`.
    pub(crate) async fn open(
        flags: &ServeFlags,
        data: &Path,
        cache: Option<&Path>,
        console: Console,
    ) -> Result<Self, Fail> {
        let format = if flags.json { Format::Json } else { Format::Text { colour: console.colour() } };
        let log = Log::start(std::io::stderr(), format, flags.access_log).context("cannot start the log")?;
        isomer_observe::listen_to_warnings(log.clone());
        let grace = Duration::from_secs(flags.grace);
        let options = NodeOptions { listen: flags.listen, limits: Limits::default(), grace };
        let node = Node::open(options, log.clone()).await.map_err(cannot_listen)?;
        let data = DataDir::open(data).map_err(cannot_use_data)?;
        let cache = CodeCache::open(cache.unwrap_or(&data.cache()))?;
        let workshop = Workshop {
            shape: flags.shape.clone(),
            json: flags.json,
            url: format!("http://{}", node.address()),
            takeover: node.takeover(),
            console,
            log,
            data,
            cache,
            parts: None,
        };
        Ok(Self { node, workshop })
    }

    /// The node and the workshop, each for a task of its own. From here on, the signals to stop wait for the former: until
    /// then they end the process at once.
    pub(crate) fn split(self) -> anyhow::Result<(impl Future<Output = ()> + Send + 'static, Workshop)> {
        let (node, stop, log) = (self.node, StopSignals::listen()?, self.workshop.log.clone());
        let serving = async move {
            let cut_off = node.serve(stop.come()).await;
            if cut_off > 0 {
                log.warn(format!("{cut_off} connections were cut off when their time to finish was over"));
            }
            log.flush();
        };
        Ok((serving, self.workshop))
    }
}

impl Workshop {
    /// Makes a revision and lets it take over. Where it cannot be made, the one that serves goes on.
    pub(crate) async fn take_over(&mut self, subject: &Subject) -> Result<Plan, Fail> {
        let parts = match &self.parts {
            None => Parts::open(&subject.app, &subject.dir, &self.data, self.log.clone()).await?,
            Some(parts) => parts.next(&subject.app, &subject.dir).await?,
        };
        let options = RevisionOptions { shape: self.shape.clone(), ..RevisionOptions::default() };
        let revision = {
            let progress = self.console.progress();
            let told = |step: Step<'_>| progress.step(describe(step));
            Revision::build(&subject.app, &subject.components, &options, &parts, &self.cache, &told).await
        };
        let revision = revision.map_err(|error| Fail::revision(error, subject.source.as_ref()))?;
        let plan = self.takeover.take_over(revision);
        self.parts = Some(parts);
        if let Some(source) = subject.source.as_ref().filter(|_| !plan.warnings.is_empty()) {
            let warnings = plan.warnings.iter().map(|warning| warning.clone().in_source(source));
            self.console.say(&self.console.renderer().diagnostics(&warnings.collect::<Vec<_>>()));
        }
        Ok(plan)
    }

    /// Says that the app answers.
    pub(crate) fn say_ready(&self, plan: &Plan, began: Instant) -> Result<(), Fail> {
        let took_ms = began.elapsed().as_secs_f64() * 1e3;
        if self.json {
            return self.say_event("ready", plan, took_ms);
        }
        let Plan { app, version, .. } = plan;
        self.console.say(&format!("{app} {version} serves at {}  ({took_ms:.0} ms; Ctrl-C stops it)", self.url));
        Ok(())
    }

    /// Says that a new revision answers.
    pub(crate) fn say_replaced(&self, plan: &Plan, began: Instant) -> Result<(), Fail> {
        let took_ms = began.elapsed().as_secs_f64() * 1e3;
        if self.json {
            return self.say_event("replaced", plan, took_ms);
        }
        self.console.say(&format!("the new revision serves at {}  ({took_ms:.0} ms)", self.url));
        Ok(())
    }

    fn say_event(&self, event: &str, plan: &Plan, took_ms: f64) -> Result<(), Fail> {
        let line = serde_json::json!({
            "event": event,
            "url": self.url,
            "app": plan.app,
            "version": plan.version,
            "shape": plan.shape,
            "pid": std::process::id(),
            "took_ms": took_ms,
        });
        print(&format!("{line}\n"))
    }
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
            Hinted::new(error, hint).into()
        }
        _ => error.into(),
    }
}

fn cannot_use_data(error: DataDirError) -> Fail {
    match &error {
        DataDirError::Io { .. } => Fail::hinted(error, ["name a folder that this user can write to: --data DIR"]),
        _ => error.into(),
    }
}

/// SIGTERM and Ctrl-C. Listened for before the app is said to be ready, so that whoever was told can stop it properly.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for the signals that stop it");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Resolves when one of them has come.
    async fn come(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {},
            _ = self.interrupt.recv() => {},
        }
    }
}
