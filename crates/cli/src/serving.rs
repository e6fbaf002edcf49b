//! Serving an app from this process: what `run` and `dev` have in common.
//!
//! What can be in use by others is opened before anything is built, so that it is told at once; who connects meanwhile waits. A
//! [`Server`] makes revisions one after another; what a revision has opened (stores, secrets) is handed to the next one, because a store
//! can be open only once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use isomer_capabilities::outbound::OutboundNetwork;
use isomer_capabilities::{DataDir, DataDirError, Engines, GrantedBy, Place};
use isomer_front::{FrontError, Limits};
use isomer_manifest::{App, Hinted, MONOLITH, SourceFile};
use isomer_node::revision::{Components, Step};
use isomer_node::{Made, MakeOptions, Node, NodeOptions, Peers, SoleApp, TenancyOptions};
use isomer_observe::{Format, Log};
use isomer_plan::Plan;
use isomer_runtime::code::CodeCache;

use crate::address_flags;
use crate::app_dir::AppDir;
use crate::console::{Console, print};
use crate::fail::Fail;
use crate::log_flag::LogFlag;
use crate::not_started::{Attempt, missing_variable};
use crate::outbound;
use crate::rehearsal::stubs;
use crate::service_manager;
use crate::stop_signals::StopSignals;

/// How an app is served.
#[derive(clap::Args)]
pub(crate) struct ServeFlags {
    /// The app's shape.
    #[arg(long, default_value = MONOLITH)]
    pub(crate) shape: String,
    /// Where to listen: `localhost:3000`, a port alone (on 127.0.0.1), `[::1]:3000`, or `0.0.0.0:3000` for all networks. Port 0 lets the
    /// system choose.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address_flags::listen)]
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
    #[command(flatten)]
    pub(crate) log: LogFlag,
    /// How long running requests may take after the signal to stop, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) grace: u64,
    /// Serve a test: compiled code lies in this folder, the line for programs is printed while the log is for people, and the end
    /// of standard input is the end.
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "json")]
    pub(crate) rehearse: Option<PathBuf>,
    /// Give the time of day and randomness by request and component. For tests: what is random can be predicted.
    #[arg(long, hide = true, requires = "rehearse")]
    pub(crate) given_clock_and_random: bool,
    /// Take secrets from the files of this folder that are named like them.
    #[arg(long, value_name = "DIR", hide = true, requires = "rehearse")]
    pub(crate) given_secrets: Option<PathBuf>,
    /// Send requests to this host to that address instead.
    #[arg(long = "stub", value_name = "HOST=ADDRESS", hide = true, requires = "rehearse", value_parser = stubs::parse_flag)]
    pub(crate) stubs: Vec<(String, SocketAddr)>,
}

/// What is served: an app with its components' bytes.
pub(crate) struct Subject {
    pub(crate) app: App,
    /// Where relative paths start.
    pub(crate) dir: PathBuf,
    /// The manifest, if there is one.
    pub(crate) source: Option<SourceFile>,
    pub(crate) components: Components,
    /// Variables for secrets, where the process's environment lacks them.
    pub(crate) environment: BTreeMap<String, String>,
}

impl Subject {
    pub(crate) fn new(app: &AppDir, components: Components) -> Self {
        let environment = app.values.environment.clone();
        Self { app: app.app.clone(), dir: app.dir.clone(), source: Some(app.source.clone()), components, environment }
    }
}

/// What every kind of serving has: the console, a log, how to stop.
pub(crate) struct Premises {
    pub(crate) console: Console,
    pub(crate) log: Log,
    pub(crate) grace: Duration,
    pub(crate) given_clock_and_random: bool,
    /// What outgoing requests are sent through.
    pub(crate) network: OutboundNetwork,
    /// For tests: see [`ServeFlags::given_secrets`].
    pub(crate) given_secrets: Option<PathBuf>,
    /// For tests: see [`ServeFlags::stubs`].
    pub(crate) stubs: BTreeMap<String, SocketAddr>,
    /// Do call stacks name the lines of sources?
    pub(crate) source_lines: bool,
    json: bool,
    /// Is the line for programs wanted, though the log is not for them?
    announces: bool,
}

/// What a process has opened before it builds anything, so that a port in use or a data directory in use is told at once.
pub(crate) struct Opened {
    pub(crate) listener: std::net::TcpListener,
    pub(crate) url: String,
    pub(crate) data: DataDir,
    /// The folder of compiled code.
    pub(crate) code: PathBuf,
}

/// A node that listens, and what revisions for it are made with.
pub(crate) struct Server {
    node: Node,
    pub(crate) workshop: Workshop,
}

/// Makes revisions.
pub(crate) struct Workshop {
    premises: Premises,
    shape: String,
    url: String,
    sole: SoleApp,
    data: DataDir,
    /// The environment variable that was missing when the last revision was to be started.
    missing_variable: Option<String>,
}

impl Premises {
    pub(crate) fn new(flags: &ServeFlags, console: Console) -> Result<Self, Fail> {
        let format = if flags.json { Format::Json } else { Format::Text { colour: console.colour() } };
        let log = Log::start(std::io::stderr(), format, flags.access_log).context("cannot start the log")?;
        let log = log.with_levels(flags.log.levels()?);
        isomer_observe::listen_to_events(log.clone());
        let stubs: BTreeMap<_, _> = flags.stubs.iter().cloned().collect();
        Ok(Self {
            console,
            log,
            grace: Duration::from_secs(flags.grace),
            given_clock_and_random: flags.given_clock_and_random,
            network: outbound::network(|warning| console.say(&console.renderer().diagnostic(&warning)))
                .with_stubs(stubs.clone()),
            given_secrets: flags.given_secrets.clone(),
            stubs,
            source_lines: false,
            json: flags.json,
            announces: flags.json || flags.rehearse.is_some(),
        })
    }

    /// Begins to listen, and locks the data directory.
    pub(crate) async fn open(&self, flags: &ServeFlags, data: &Path) -> Result<Opened, Fail> {
        let (listener, url) = listen(flags.listen).await?;
        let data = open_data(data)?;
        let code = flags.rehearse.clone().unwrap_or_else(|| data.cache());
        Ok(Opened { listener, url, data, code })
    }

    /// Says that the app answers: at `url` where it has a front door, from these processes where they are several.
    pub(crate) fn say_ready(
        &self,
        plan: &Plan,
        url: &str,
        members: Vec<(&str, Option<u32>)>,
        began: Instant,
    ) -> Result<(), Fail> {
        let took_ms = began.elapsed().as_secs_f64() * 1e3;
        tell_ready(url);
        if self.announces {
            return self.say_event("ready", plan, url, &members, took_ms);
        }
        let Plan { app, version, .. } = plan;
        let processes = match members.as_slice() {
            [] => String::new(),
            members => {
                let shown = |(group, pid): &(&str, Option<u32>)| match pid {
                    Some(pid) => format!("{group} (process {pid})"),
                    None => (*group).to_owned(),
                };
                format!(
                    ", in {} processes: {}",
                    members.len(),
                    members.iter().map(shown).collect::<Vec<_>>().join(", ")
                )
            }
        };
        self.console.say(&format!("{app} {version} serves at {url}{processes}  ({took_ms:.0} ms; Ctrl-C stops it)"));
        Ok(())
    }

    /// Says that one group of a shape answers: at its front door, if it has one, and for the other groups.
    pub(crate) fn say_group_ready(
        &self,
        plan: &Plan,
        group: &str,
        url: Option<&str>,
        link: Option<&str>,
        began: Instant,
    ) -> Result<(), Fail> {
        let took_ms = began.elapsed().as_secs_f64() * 1e3;
        let Plan { app, version, shape, .. } = plan;
        tell_ready(url.or(link).unwrap_or_default());
        if self.json {
            let line = serde_json::json!({
                "event": "ready",
                "url": url,
                "link": link,
                "app": app,
                "version": version,
                "shape": shape,
                "group": group,
                "pid": std::process::id(),
                "took_ms": took_ms,
            });
            return print(&format!("{line}\n"));
        }
        let places = [url.map(|url| format!("serves at {url}")), link.map(|link| format!("takes calls at {link}"))];
        let places = places.into_iter().flatten().collect::<Vec<_>>().join(" and ");
        self.console.say(&format!("group {group} of {app} {version} {places}  ({took_ms:.0} ms; Ctrl-C stops it)"));
        Ok(())
    }

    fn say_event(
        &self,
        event: &str,
        plan: &Plan,
        url: &str,
        members: &[(&str, Option<u32>)],
        took_ms: f64,
    ) -> Result<(), Fail> {
        let mut line = serde_json::json!({
            "event": event,
            "url": url,
            "app": plan.app,
            "version": plan.version,
            "shape": plan.shape,
            "pid": std::process::id(),
            "took_ms": took_ms,
        });
        if !members.is_empty() {
            let member = |(group, pid): &(&str, Option<u32>)| serde_json::json!({ "group": group, "pid": pid });
            line["processes"] = members.iter().map(member).collect();
        }
        print(&format!("{line}\n"))
    }

    /// Shows what a plan warns of.
    pub(crate) fn say_warnings(&self, plan: &Plan, source: Option<&SourceFile>) {
        if let Some(source) = source.filter(|_| !plan.warnings.is_empty()) {
            let warnings = plan.warnings.iter().map(|warning| warning.clone().in_source(source));
            self.console.say(&self.console.renderer().diagnostics(&warnings.collect::<Vec<_>>()));
        }
    }

    /// Says how many connections had to be closed at the end, and waits until everything is said.
    pub(crate) fn say_ended(&self, cut_off: usize) {
        say_ended(&self.log, cut_off);
    }
}

/// Tells the service manager, if there is one.
fn tell_ready(address: &str) {
    service_manager::ready(&format!("serving at {address}"));
    service_manager::keep_alive();
}

pub(crate) fn say_ended(log: &Log, cut_off: usize) {
    if cut_off > 0 {
        log.warn(format!("{cut_off} connections were cut off when their time to finish was over"));
    }
    log.flush();
}

impl Server {
    /// Takes a node into service that has no revision yet. `cache` is the folder for compiled code, where it is not in the
    /// data directory.
    pub(crate) fn new(
        premises: Premises,
        opened: Opened,
        flags: &ServeFlags,
        cache: Option<&Path>,
    ) -> Result<Self, Fail> {
        let Opened { listener, url, data, code } = opened;
        let options = NodeOptions { listen: flags.listen, limits: Limits::default(), grace: premises.grace };
        let cache = CodeCache::open(cache.unwrap_or(&code))?;
        let running = TenancyOptions {
            network: premises.network.clone(),
            source_lines: premises.source_lines,
            ..TenancyOptions::default()
        };
        let sole = SoleApp::new(cache, premises.log.clone(), running);
        let sole = sole.map_err(|error| Fail::revision(error, None))?;
        let node = Node::open_on(listener, options, sole.door(), premises.log.clone())?;
        let workshop = Workshop { premises, shape: flags.shape.clone(), url, sole, data, missing_variable: None };
        Ok(Self { node, workshop })
    }

    /// The node and the workshop, each for a task of its own. From here on, the signals to stop wait for the former: until
    /// then they end the process at once.
    pub(crate) fn split(self) -> anyhow::Result<(impl Future<Output = Result<(), Fail>> + Send + 'static, Workshop)> {
        let (node, signals, log) = (self.node, StopSignals::listen()?, self.workshop.premises.log.clone());
        let serving = async move {
            let cut_off = signals.stop(|stop| node.serve(stop)).await?;
            say_ended(&log, cut_off);
            Ok(())
        };
        Ok((serving, self.workshop))
    }
}

impl Workshop {
    /// Makes a revision and lets it take over. Where it cannot be made, the one that serves goes on.
    pub(crate) async fn take_over(&mut self, subject: &Subject) -> Result<Plan, Fail> {
        let options = MakeOptions {
            shape: self.shape.clone(),
            process: None,
            given_clock_and_random: self.premises.given_clock_and_random,
        };
        let progress = self.premises.console.progress();
        let told = |step: Step<'_>| progress.step(describe(step));
        self.sole.set_environment(subject.environment.clone());
        let failed = |error| Fail::revision(error, subject.source.as_ref());
        let granted_by = if subject.source.is_some() { GrantedBy::Manifest } else { GrantedBy::Flags };
        let sole = self.sole.clone().granted_by(granted_by);
        let made = sole.make(&subject.app, &subject.components, &options, &told).map_err(failed)?;
        let Made { package, plan, code, .. } = made;
        let started = sole.start(package, &subject.dir, &self.data, Peers::new(), &told).await;
        let started = started.map_err(|error| {
            self.missing_variable = missing_variable(&error).map(str::to_owned);
            let Subject { app, dir, source, .. } = subject;
            Attempt { app, dir, source: source.as_ref(), data: &self.data }.failed(error)
        })?;
        drop((code, progress));
        self.sole.take_over(started);
        self.premises.say_warnings(&plan, subject.source.as_ref());
        Ok(plan)
    }

    /// What the last revision lacked is forgotten: another one is tried.
    pub(crate) fn begin(&mut self) {
        self.missing_variable = None;
    }

    /// The environment variable that was missing when the last revision was to be started. No change of a source helps.
    pub(crate) fn missing_variable(&self) -> Option<&str> {
        self.missing_variable.as_deref()
    }

    /// The storage engines of what it makes.
    pub(crate) fn stores(&self) -> &Engines {
        self.sole.stores()
    }

    /// Where the things of an app in `dir` are.
    pub(crate) fn place(&self, dir: &Path) -> Place {
        self.sole.place(dir, &self.data)
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &DataDir {
        &self.data
    }

    /// Says that the app answers.
    pub(crate) fn say_ready(&self, plan: &Plan, began: Instant) -> Result<(), Fail> {
        self.premises.say_ready(plan, &self.url, Vec::new(), began)
    }

    /// Says that a new revision answers.
    pub(crate) fn say_replaced(&self, plan: &Plan, began: Instant) -> Result<(), Fail> {
        let took_ms = began.elapsed().as_secs_f64() * 1e3;
        if self.premises.json {
            return self.premises.say_event("replaced", plan, &self.url, &[], took_ms);
        }
        self.premises.console.say(&format!("the new revision serves at {}  ({took_ms:.0} ms)", self.url));
        Ok(())
    }
}

pub(crate) fn describe(step: Step<'_>) -> String {
    match step {
        Step::Plan => "planning".to_owned(),
        Step::Compose(group) => format!("composing group {group}"),
        Step::Compile(group) => format!("compiling group {group}"),
        Step::Start(group) => format!("starting group {group}"),
    }
}

/// Begins to listen at the front door's address; the socket and its URL.
pub(crate) async fn listen(address: SocketAddr) -> Result<(std::net::TcpListener, String), Fail> {
    let listener = isomer_front::bind(address).await.map_err(cannot_listen)?;
    let address = listener.local_addr().context("cannot tell the address that is listened on")?;
    Ok((listener, format!("http://{address}")))
}

pub(crate) fn cannot_listen(error: FrontError) -> Fail {
    match &error {
        FrontError::InUse { address } => {
            let hint = format!(
                "stop that process, or listen elsewhere: --listen {}:0 lets the system choose a port",
                address.ip()
            );
            Hinted::new(error, hint).into()
        }
        FrontError::Listen { .. } => error.into(),
    }
}

/// Makes the data directory if need be, and locks it.
pub(crate) fn open_data(data: &Path) -> Result<DataDir, Fail> {
    DataDir::open(data).map_err(cannot_use_data)
}

pub(crate) fn cannot_use_data(error: DataDirError) -> Fail {
    match &error {
        DataDirError::Io { .. } => Fail::hinted(error, ["name a folder that this user can write to: --data DIR"]),
        _ => error.into(),
    }
}
