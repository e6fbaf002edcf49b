//! A shape of several processes on one machine: this process is the supervisor, and each group of the shape runs in a
//! member.
//!
//! All members serve the same revision, even members that are restarted after the sources have changed. For this, the
//! supervisor keeps the manifest's text and the components' bytes from the time of planning in its private folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_apps::Package;
use isomer_apps::tenancy::ProcessMetrics;
use isomer_console::{CliError, Console, FAILED, INTERRUPTED};
use isomer_diagnostics::{Diagnostic, SourceFile};
use isomer_manifest::App;
use isomer_observe::MemberLog;
use isomer_plan::Plan;
use isomer_seam::Components;
use isomer_supervisor::{
    MemberFailure, MemberReporter, MemberSpec, PrivateDir, ProcessEnd, ReadyMember, SupervisorOutcome,
};
use isomer_telemetry::metrics::MetricSource;

use crate::admin_endpoint::AdminEndpoint;
use crate::context::{ReadyAdmin, ServeContext};
use crate::member_task::MemberTask;
use crate::resources::ServeResources;
use crate::served_traces::ServedTraces;
use crate::stop_signals::StopSignals;

/// The time that a member may take to stop, in addition to the grace period of its running requests.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// An app whose shape has several processes.
pub struct ShapeApp<'a> {
    /// The app's folder.
    pub app_dir: PathBuf,
    /// The app as its manifest describes it.
    pub app: &'a App,
    /// The manifest, including config values from flags and files.
    pub manifest: &'a SourceFile,
    /// Variables from which secrets may take their values if the process's environment lacks them.
    pub environment: &'a BTreeMap<String, String>,
    /// The components' bytes.
    pub components: &'a Components,
    /// The plan whose groups are run.
    pub plan: &'a Plan,
}

/// Runs each group of the plan in its own process until SIGTERM or SIGINT arrives.
///
/// # Errors
/// If a member cannot be started or exits too often.
pub async fn run_shape(
    context: ServeContext,
    resources: ServeResources,
    app: ShapeApp<'_>,
    began: Instant,
) -> Result<(), CliError> {
    let process: Arc<dyn MetricSource> = Arc::new(ProcessMetrics::default());
    context.metrics.add_source(Arc::downgrade(&process));
    context.log.report_to(&context.metrics);
    let private_dir = PrivateDir::create()?;
    let members = members(&context, &resources, &app, &private_dir)?;
    let mut signals = StopSignals::listen()?;
    if let Some(admin) = &resources.admin {
        admin.app().set_manifest(app.app, None);
        admin.app().set_revision(app.plan, Package::digest_of(app.app, app.plan, app.components));
    }
    let admin = resources.admin.as_ref().map(AdminEndpoint::ready);
    let mut reporter = ShapeReporter { context: &context, plan: app.plan, url: &resources.url, admin, began };
    let stop_timeout = context.grace + STOP_MARGIN;
    let next_signal = async || signals.next().await;
    let outcome = isomer_supervisor::run(members, resources.listener, stop_timeout, next_signal, &mut reporter).await?;
    resources.traces.iter().for_each(ServedTraces::flush);
    context.end_export().await;
    context.log.flush();
    drop(private_dir);
    match outcome {
        SupervisorOutcome::Stopped => Ok(()),
        SupervisorOutcome::Killed => Err(CliError::ExitCode(INTERRUPTED)),
        SupervisorOutcome::Failed(failure) => Err(failed(&context.console, &app.plan.shape, failure)),
    }
}

struct ShapeReporter<'a> {
    context: &'a ServeContext,
    plan: &'a Plan,
    url: &'a str,
    admin: Option<ReadyAdmin<'a>>,
    began: Instant,
}

impl MemberReporter for ShapeReporter<'_> {
    type Error = CliError;

    fn ready(&mut self, members: &[ReadyMember<'_>]) -> Result<(), CliError> {
        self.context.report_ready(self.plan, self.url, members, self.admin, self.began)
    }

    fn member_failed(&mut self, text: &str) {
        self.context.console.message(text);
    }
}

fn failed(console: &Console, shape: &str, failure: MemberFailure) -> CliError {
    match failure {
        MemberFailure::NotStarted { member, source } => {
            anyhow::Error::new(source).context(format!("cannot start a process for group `{member}`")).into()
        }
        MemberFailure::NeverReady { member, end: ProcessEnd { error: Some((text, code)), .. } } => {
            let text = format!("{text}note: reported by group `{member}` of shape `{shape}`\n");
            CliError::Rendered { text, code }
        }
        MemberFailure::NeverReady { member, end } => {
            let error = Diagnostic::error(format!("group `{member}` {} before it was ready", end.describe()));
            rendered(console, end.last_lines.into_iter().fold(error, Diagnostic::note))
        }
        MemberFailure::TooOften { member, times, window, end } => {
            let (how, window) = (end.describe(), window.as_secs());
            let error = Diagnostic::error(format!(
                "group `{member}` ended {times} times within {window} s; the last time it {how}"
            ));
            let reported = end.error.iter().flat_map(|(text, _)| text.lines().map(str::to_owned));
            let notes = end.last_lines.iter().cloned().chain(reported);
            rendered(console, notes.fold(error, Diagnostic::note))
        }
    }
}

fn rendered(console: &Console, error: Diagnostic) -> CliError {
    CliError::Rendered { text: console.renderer().diagnostic(&error), code: FAILED }
}

/// Returns the specifications of the members, one for each process of the plan.
fn members(
    context: &ServeContext,
    resources: &ServeResources,
    app: &ShapeApp<'_>,
    private_dir: &PrivateDir,
) -> Result<Vec<MemberSpec>, CliError> {
    let mut components = BTreeMap::new();
    for (name, bytes) in app.components {
        components.insert(name.to_string(), private_dir.write(&format!("{name}.wasm"), bytes)?);
    }
    let processes = app.plan.processes();
    let front = front_group(app.plan);
    let sockets = processes.keys().enumerate();
    let sockets = sockets.map(|(number, group)| ((*group).to_owned(), private_dir.socket(number)));
    let sockets: BTreeMap<_, _> = sockets.collect();
    let width = processes.keys().map(|group| group.chars().count()).max().unwrap_or(0);
    let test_mode = context.test_mode.clone().unwrap_or_default();
    let member = |group: &&str| {
        let task = MemberTask {
            shape: app.plan.shape.clone(),
            group: (*group).to_owned(),
            app_dir: app.app_dir.clone(),
            manifest: (app.manifest.name().to_owned(), app.manifest.text().to_owned()),
            environment: app.environment.clone(),
            components: components.clone(),
            data: resources.data.path().to_owned(),
            cache: resources.code.clone(),
            sockets: sockets.clone(),
            private_dir: private_dir.path().to_owned(),
            log: context.log.levels().to_string(),
            access_log: context.log.wants_access(),
            sampling: context.sampling.filter(|_| resources.traces.is_some()),
            grace_s: context.grace.as_secs(),
            colour: context.console.colour(),
            deterministic: test_mode.deterministic,
            test_secrets: test_mode.secrets.clone(),
            stubs: test_mode.stubs.clone(),
        };
        let arguments = ["run", "--member", "--shape", &task.shape, "--group", &task.group].map(Into::into);
        MemberSpec {
            name: (*group).to_owned(),
            // The arguments are only shown in the list of processes. The member reads its configuration from the task.
            arguments: arguments.into_iter().chain([app.app_dir.clone().into_os_string()]).collect(),
            task: serde_json::to_vec(&task).expect("an task is plain data"),
            has_front_door: *group == front,
            log: member_log(context, resources, group, width),
            orders: resources.traces.as_ref().map(ServedTraces::orders).unwrap_or_default(),
        }
    };
    Ok(processes.keys().map(member).collect())
}

/// Returns the receiver of a member's log lines, traces and metrics.
fn member_log(context: &ServeContext, resources: &ServeResources, group: &str, width: usize) -> MemberLog {
    let log = context.log.member(group, width).with_metrics(context.members_metrics.receiver(group));
    match &resources.traces {
        Some(traces) => log.with_traces(traces.of_member(group)),
        None => log,
    }
}

/// Returns the group that gets the front door. This is the group with routes, of which a plan has at most one. If no
/// group has routes, the first group serves the platform's own responses.
fn front_group(plan: &Plan) -> &str {
    let processes = plan.processes();
    let with_routes = processes.iter().find(|(_, groups)| groups.iter().any(|group| !group.handlers.is_empty()));
    let front = with_routes.map(|(front, _)| *front).or_else(|| processes.keys().next().copied());
    front.unwrap_or_default()
}
