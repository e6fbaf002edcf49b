//! The context of every process that serves an app: its options, its log, the console, and reports about its state.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use isomer_admin::{AdminAddress, DashboardLinks};
use isomer_apps::Progress;
use isomer_capabilities::outbound::OutboundNetwork;
use isomer_console::{CliError, Console, print};
use isomer_diagnostics::SourceFile;
use isomer_display::{count, elapsed};
use isomer_manifest::App;
use isomer_observe::{Format, Log, MembersMetrics};
use isomer_plan::Plan;
use isomer_project::AppDir;
use isomer_supervisor::ReadyMember;
use isomer_telemetry::metrics::Metrics;
use isomer_telemetry::{Level, Levels, SamplingPolicy};
use serde_json::{Value, json};

use crate::telemetry::AppExport;
use crate::{network, service_manager};

/// Options for serving an app.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The name of the app's shape.
    pub shape: String,
    /// The address that the front door listens on.
    pub listen: SocketAddr,
    /// The address of the admin API, or `None` for no admin API.
    pub admin: Option<AdminAddress>,
    /// The data directory, or `None` for the one of the app ([`AppDir::data_dir`]).
    pub data: Option<PathBuf>,
    /// Whether the process writes its log as JSON, and reports readiness as a line of JSON on standard output.
    pub json: bool,
    /// Whether every request is logged.
    pub access_log: bool,
    /// The levels of the platform's own log.
    pub log_levels: Levels,
    /// Which requests are traced; `None` if neither traces nor metrics of requests are recorded.
    pub sampling: Option<SamplingPolicy>,
    /// The maximum time for running requests to finish after SIGTERM or SIGINT.
    pub grace: Duration,
    /// The test options, if the process runs for `isomer test`.
    pub test_mode: Option<TestMode>,
}

/// Options for serving an app in `isomer test`.
#[derive(Debug, Clone, Default)]
pub struct TestMode {
    /// The folder of compiled code.
    pub code: PathBuf,
    /// Whether guests get a clock and random numbers that are derived from the request and the component.
    pub deterministic: bool,
    /// A folder with files that are named like secrets. A secret with such a file takes its value from it, and not from
    /// the source that the manifest names.
    pub secrets: Option<PathBuf>,
    /// The addresses of the stubs, keyed by the name of the external host that each stub replaces. A request to such a
    /// host is sent to the address of its stub.
    pub stubs: BTreeMap<String, SocketAddr>,
}

impl ServeOptions {
    /// Returns the data directory for `app`.
    pub fn data_dir(&self, app: &AppDir) -> PathBuf {
        self.data.clone().unwrap_or_else(|| app.data_dir())
    }
}

/// The part of a process's readiness report that describes the admin API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadyAdmin<'a> {
    /// The URL of the admin API.
    pub(crate) url: &'a str,
    /// Links to the dashboard; `None` if browsers cannot connect to the admin API.
    pub(crate) dashboard: Option<&'a DashboardLinks>,
}

/// The state that all parts of a serving process share: its options, its log, the console, and the settings for
/// outgoing requests.
pub struct ServeContext {
    /// The console, which writes to standard error.
    pub console: Console,
    /// The log of the platform and of the app.
    pub log: Log,
    /// The maximum time for running requests to finish after SIGTERM or SIGINT.
    pub grace: Duration,
    /// The test options, if the process runs for `isomer test`.
    pub test_mode: Option<TestMode>,
    /// The settings for outgoing requests.
    pub network: OutboundNetwork,
    /// Whether the call stacks of guests contain source lines.
    pub source_lines: bool,
    /// Which requests are traced; `None` if neither traces nor metrics of requests are recorded.
    pub(crate) sampling: Option<SamplingPolicy>,
    /// Whether the app's stores may be changed through the admin API.
    pub writable_data: bool,
    /// The metrics of this process and of its members.
    pub(crate) metrics: Metrics,
    /// The metrics that members send.
    pub(crate) members_metrics: MembersMetrics,
    /// The export of telemetry, if the environment names a collector.
    pub(crate) export: Option<AppExport>,
    json: bool,
}

impl ServeContext {
    /// Starts the log, and reads the certificate authorities that outgoing requests trust.
    ///
    /// # Errors
    /// If the log cannot be started.
    pub fn new(options: &ServeOptions, console: Console) -> Result<Self, CliError> {
        let format = if options.json { Format::Json } else { Format::Text { colour: console.colour() } };
        let log = Log::start(std::io::stderr(), format, options.access_log).context("cannot start the log")?;
        let log = log.with_levels(options.log_levels.clone());
        isomer_observe::listen_to_events(log.clone());
        let stubs = options.test_mode.as_ref().map(|test| test.stubs.clone()).unwrap_or_default();
        let network = network::from_environment(|warning| console.message(&console.renderer().diagnostic(&warning)));
        let metrics = if options.sampling.is_some() { Metrics::default() } else { Metrics::disabled() };
        let members_metrics = MembersMetrics::default();
        members_metrics.report_to(&metrics);
        Ok(Self {
            console,
            log,
            grace: options.grace,
            test_mode: options.test_mode.clone(),
            network: network.with_stubs(stubs),
            source_lines: false,
            sampling: options.sampling,
            writable_data: false,
            metrics,
            members_metrics,
            export: None,
            json: options.json,
        })
    }

    /// Starts the export of the app's telemetry, if the environment names a collector and the process does not run for
    /// `isomer test`. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// If a setting is not valid.
    pub fn export_telemetry(&mut self, app: &App) -> Result<(), CliError> {
        if self.test_mode.is_none() {
            self.export = AppExport::start(app, &self.log, &self.console)?;
        }
        if let Some(export) = self.export.as_ref().filter(|_| self.sampling.is_some()) {
            export.export_metrics(&self.metrics);
        }
        Ok(())
    }

    /// Returns a future that sends the remaining telemetry, and gives up after a bounded time.
    pub(crate) fn end_export(&self) -> impl Future<Output = ()> + Send + use<> {
        let export = self.export.clone();
        async move {
            if let Some(export) = export {
                export.end().await;
            }
        }
    }

    /// Returns whether guests get a clock and random numbers that are derived from the request and the component.
    pub fn is_deterministic(&self) -> bool {
        self.test_mode.as_ref().is_some_and(|test| test.deterministic)
    }

    /// Reports that the app is ready at `url`. The report is a line of JSON on standard output if the log is JSON or if
    /// the process runs for `isomer test`; otherwise it is a message on the console. Also notifies the service manager.
    /// `members` are the app's processes if there are several, and `admin` is the admin API.
    /// A terminal also gets a link to the dashboard; a log does not, because the link contains a secret.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub(crate) fn report_ready(
        &self,
        plan: &Plan,
        url: &str,
        members: &[ReadyMember],
        admin: Option<ReadyAdmin<'_>>,
        began: Instant,
    ) -> Result<(), CliError> {
        let took = began.elapsed();
        notify_ready(url);
        if self.json || self.test_mode.is_some() {
            let mut line = event("ready", plan, url, took);
            if let Some(admin) = &admin {
                line["admin"] = admin.url.into();
            }
            if !members.is_empty() {
                line["processes"] = processes_json(members);
            }
            return print(&format!("{line}\n"));
        }
        let processes = processes_text(members);
        let (Plan { app, version, .. }, took) = (plan, elapsed(took));
        self.console.message(&format!("{app} {version} is listening at {url}{processes}  ({took}; Ctrl-C stops it)"));
        let dashboard = admin.and_then(|admin| admin.dashboard).filter(|_| self.console.is_terminal());
        if let Some(link) = dashboard.and_then(DashboardLinks::create) {
            self.console.message(&format!("dashboard: {link}"));
        }
        Ok(())
    }

    /// Reports that a new revision serves at `url` in place of the previous one.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub(crate) fn report_replaced(
        &self,
        plan: &Plan,
        url: &str,
        members: &[ReadyMember],
        began: Instant,
    ) -> Result<(), CliError> {
        let text = format!("the new revision is listening at {url}{}", processes_text(members));
        self.report_change("replaced", &text, plan, url, members, began)
    }

    /// Reports that the revision at `url` serves in another shape.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub(crate) fn report_reshaped(
        &self,
        plan: &Plan,
        url: &str,
        members: &[ReadyMember],
        began: Instant,
    ) -> Result<(), CliError> {
        let text = format!("the app now serves in shape {}{}", plan.shape, processes_text(members));
        self.report_change("reshaped", &text, plan, url, members, began)
    }

    fn report_change(
        &self,
        name: &str,
        text: &str,
        plan: &Plan,
        url: &str,
        members: &[ReadyMember],
        began: Instant,
    ) -> Result<(), CliError> {
        let took = began.elapsed();
        let text = format!("{text}  ({})", elapsed(took));
        self.log.copy_message(Level::Info, text.as_str());
        if self.json {
            let mut line = event(name, plan, url, took);
            if !members.is_empty() {
                line["processes"] = processes_json(members);
            }
            return print(&format!("{line}\n"));
        }
        self.console.message(&text);
        Ok(())
    }

    /// Reports that one group of a shape is ready. `url` is the URL of the group's front door, if the group has routes.
    /// `link` is the address for calls from other groups.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn report_group_ready(
        &self,
        plan: &Plan,
        group: &str,
        url: Option<&str>,
        link: Option<&str>,
        began: Instant,
    ) -> Result<(), CliError> {
        let took = began.elapsed();
        let Plan { app, version, shape, .. } = plan;
        notify_ready(url.or(link).unwrap_or_default());
        if self.json {
            let line = json!({
                "event": "ready",
                "url": url,
                "link": link,
                "app": app,
                "version": version,
                "shape": shape,
                "group": group,
                "pid": std::process::id(),
                "took_ms": milliseconds(took),
            });
            return print(&format!("{line}\n"));
        }
        let addresses =
            [url.map(|url| format!("is listening at {url}")), link.map(|link| format!("accepts calls at {link}"))];
        let took = elapsed(took);
        let addresses = addresses.into_iter().flatten().collect::<Vec<_>>().join(" and ");
        self.console.message(&format!("group {group} of {app} {version} {addresses}  ({took}; Ctrl-C stops it)"));
        Ok(())
    }

    /// Prints the warnings of a plan that was made from the manifest `source`.
    pub fn print_warnings(&self, plan: &Plan, source: &SourceFile) {
        if !plan.warnings.is_empty() {
            let warnings = plan.warnings.iter().map(|warning| warning.clone().in_source(source));
            self.console.message(&self.console.renderer().diagnostics(&warnings.collect::<Vec<_>>()));
        }
    }
}

/// Logs the number of connections that were still open when the grace period ended, and waits until the log is written.
pub fn report_cut_off(log: &Log, connections: usize) {
    if connections > 0 {
        let closed = count(connections as u64, "connection");
        log.warn(format!("closed {closed} that did not finish within the grace period"));
    }
    log.flush();
}

/// Returns the text of the progress line for a step of creating a revision.
pub fn describe(step: Progress<'_>) -> String {
    match step {
        Progress::Plan => "planning".to_owned(),
        Progress::Compose(group) => format!("composing group {group}"),
        Progress::Compile(group) => format!("compiling group {group}"),
        Progress::Start(group) => format!("starting group {group}"),
    }
}

fn event(name: &str, plan: &Plan, url: &str, took: Duration) -> Value {
    json!({
        "event": name,
        "url": url,
        "app": plan.app,
        "version": plan.version,
        "shape": plan.shape,
        "pid": std::process::id(),
        "took_ms": milliseconds(took),
    })
}

fn processes_json(members: &[ReadyMember]) -> Value {
    members.iter().map(|member| json!({ "group": member.name, "pid": member.pid })).collect()
}

/// Returns the end of a sentence about an app that runs in `members`.
fn processes_text(members: &[ReadyMember]) -> String {
    let shown = |member: &ReadyMember| match member.pid {
        Some(pid) => format!("{} (process {pid})", member.name),
        None => member.name.clone(),
    };
    match members {
        [] => String::new(),
        all => format!(", in {} processes: {}", all.len(), all.iter().map(shown).collect::<Vec<_>>().join(", ")),
    }
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// Notifies the service manager, if there is one, that the process is ready at `address`.
fn notify_ready(address: &str) {
    service_manager::ready(&format!("serving at {address}"));
    service_manager::keep_alive();
}
