//! An arrangement in which member processes run the groups of the app: this process is their supervisor, and each
//! process of the plan is a member.
//!
//! All members serve the same revision, even members that are restarted after the sources have changed. For this, the
//! supervisor keeps the manifest's text and the components' bytes from the time of planning in its private folder.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use isomer_console::{CliError, Console, FAILED};
use isomer_diagnostics::Diagnostic;
use isomer_display::count;
use isomer_ids::StoreName;
use isomer_observe::MemberLog;
use isomer_plan::Plan;
use isomer_supervisor::{
    Goal, MemberFailure, MemberSpec, MembersHandle, MembersState, PrivateDir, ProcessEnd, ReadyMember,
    SupervisorOutcome,
};
use tokio::sync::{oneshot, watch};

use crate::context::ServeContext;
use crate::member_task::MemberTask;
use crate::revision_source::RevisionSource;
use crate::served_traces::ServedTraces;
use crate::shutdown::{ArrangementTasks, ShutdownLevel};

/// The time that a member may take to stop, in addition to the grace period of its running requests.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// The name of the file in the private folder that lists the SQL stores whose migrations the members do not apply.
pub(crate) const WITHOUT_MIGRATIONS: &str = "without-migrations";

/// The parts of the serving process that members need.
pub(crate) struct MemberHome<'a> {
    pub(crate) context: &'a ServeContext,
    /// The data directory.
    pub(crate) data: &'a Path,
    /// The folder of compiled code; `None` if the code is in this program.
    pub(crate) code: Option<&'a Path>,
    pub(crate) traces: Option<&'a ServedTraces>,
}

/// The groups of the app in member processes.
pub(crate) struct MemberGroups {
    handle: MembersHandle,
    /// Receives the failure that ended the members.
    failure: oneshot::Receiver<MemberFailure>,
    private_dir: Arc<PrivateDir>,
    console: Console,
    shape: String,
    /// Whether another arrangement is about to take over.
    is_being_replaced: watch::Sender<bool>,
}

impl MemberGroups {
    /// Starts one process for each process of `plan`. They prepare everything that needs no store, and wait.
    ///
    /// # Errors
    /// If the files that the members need cannot be written.
    pub(crate) fn prepare(
        home: &MemberHome<'_>,
        source: &RevisionSource,
        plan: &Plan,
        listener: TcpListener,
        check_health: bool,
        tasks: &ArrangementTasks,
    ) -> Result<Self, CliError> {
        let private_dir = Arc::new(PrivateDir::create()?);
        let specs = members(home, source, plan, &private_dir, check_health)?;
        let console = home.context.console;
        let report = move |text: &str| console.message(text);
        let (handle, running) =
            isomer_supervisor::members(specs, listener, Goal::Prepare, home.context.grace + STOP_MARGIN, report);
        let (failed, failure) = oneshot::channel();
        let folder = private_dir.clone();
        let work = async move {
            if let SupervisorOutcome::Failed(failure) = running.await {
                let _ = failed.send(failure);
            }
            drop(folder);
        };
        let stopping = handle.clone();
        tasks.spawn(work, move |level| match level {
            ShutdownLevel::No => {}
            ShutdownLevel::Drain => stopping.set_goal(Goal::Stop),
            ShutdownLevel::Now => stopping.set_goal(Goal::Kill),
        });
        let (shape, is_being_replaced) = (plan.shape.clone(), watch::Sender::new(false));
        Ok(Self { handle, failure, private_dir, console, shape, is_being_replaced })
    }

    /// Waits until all members are prepared.
    ///
    /// # Errors
    /// The failure of a member.
    pub(crate) async fn prepared(&mut self) -> Result<(), CliError> {
        self.reached(|state| state.is_prepared).await
    }

    /// Starts all members, and waits until they are ready. They apply no migrations to the SQL stores
    /// `without_migrations`.
    ///
    /// # Errors
    /// The failure of a member.
    pub(crate) async fn start(&mut self, without_migrations: &[&StoreName]) -> Result<(), CliError> {
        if !without_migrations.is_empty() {
            let names: Vec<_> = without_migrations.iter().map(|store| store.as_str()).collect();
            self.private_dir.write(WITHOUT_MIGRATIONS, &serde_json::to_vec(&names).expect("names are plain data"))?;
        }
        self.handle.set_goal(Goal::Start);
        self.reached(|state| state.ready.is_some()).await
    }

    /// Lets the front door accept connections.
    ///
    /// # Errors
    /// The failure of a member.
    pub(crate) async fn accept(&mut self) -> Result<(), CliError> {
        self.handle.set_goal(Goal::Serve);
        self.reached(|state| !state.is_drained).await
    }

    pub(crate) fn set_goal(&self, goal: Goal) {
        self.handle.set_goal(goal);
    }

    /// Waits until no member has connections from clients.
    pub(crate) async fn drained(&self) {
        let _ = self.handle.state().wait_for(|state| state.is_drained || state.is_over).await;
    }

    /// Waits until all members have ended.
    pub(crate) async fn ended(&self) {
        // The channel closes when the members have ended.
        let _ = self.handle.state().wait_for(|state| state.is_over).await;
    }

    /// Returns the members with the ids of their processes.
    pub(crate) fn processes(&self) -> Vec<ReadyMember> {
        self.handle.state().borrow().ready.clone().unwrap_or_default()
    }

    /// Sets whether another arrangement is about to take over.
    pub(crate) fn set_being_replaced(&self, is_being_replaced: bool) {
        self.is_being_replaced.send_replace(is_being_replaced);
    }

    /// Shuts the process down if these members fail from now on, unless another arrangement takes over from them.
    pub(crate) fn shut_down_on_failure(&mut self, tasks: &ArrangementTasks) {
        // The receiver that replaces `failure` is never used.
        let (_, unused) = oneshot::channel();
        let failure = std::mem::replace(&mut self.failure, unused);
        let (tasks, console, shape) = (tasks.clone(), self.console, self.shape.clone());
        let mut replaced = self.is_being_replaced.subscribe();
        tokio::spawn(async move {
            let Ok(failure) = failure.await else { return };
            // The sender is dropped when the other arrangement has taken over.
            if replaced.wait_for(|is_being_replaced| !is_being_replaced).await.is_ok() {
                tasks.fail(failed(&console, &shape, failure));
            }
        });
    }

    async fn reached(&mut self, is_reached: impl Fn(&MembersState) -> bool) -> Result<(), CliError> {
        let mut state = self.handle.state();
        let reached = state.wait_for(|state| is_reached(state) || state.is_over).await;
        if reached.is_ok_and(|state| !state.is_over) {
            return Ok(());
        }
        Err(match (&mut self.failure).await {
            Ok(failure) => failed(&self.console, &self.shape, failure),
            Err(_) => CliError::failed("the processes of the app were stopped", "start the app again"),
        })
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
                "group `{member}` ended {} within {window} s; the last time it {how}",
                count(times as u64, "time"),
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
    home: &MemberHome<'_>,
    source: &RevisionSource,
    plan: &Plan,
    private_dir: &PrivateDir,
    check_health: bool,
) -> Result<Vec<MemberSpec>, CliError> {
    let context = home.context;
    let manifest = source.manifest.as_ref().or(source.source.as_ref());
    let manifest = manifest.map(|it| (it.name().to_owned(), it.text().to_owned())).unwrap_or_default();
    let mut components = BTreeMap::new();
    for (name, bytes) in &source.components {
        components.insert(name.to_string(), private_dir.write(&format!("{name}.wasm"), bytes)?);
    }
    let processes = plan.processes();
    let front = front_group(plan);
    let sockets = processes.keys().enumerate();
    let sockets = sockets.map(|(number, group)| ((*group).to_owned(), private_dir.socket(number)));
    let sockets: BTreeMap<_, _> = sockets.collect();
    let width = processes.keys().map(|group| group.chars().count()).max().unwrap_or(0);
    let test_mode = context.test_mode.clone().unwrap_or_default();
    let member = |group: &&str| {
        let task = MemberTask {
            shape: plan.shape.clone(),
            group: (*group).to_owned(),
            app_dir: source.dir.clone(),
            origin: source.origin,
            manifest: manifest.clone(),
            secrets: source.secrets_of(processes[group].iter().flat_map(|group| &group.components)),
            components: components.clone(),
            data: home.data.to_owned(),
            cache: home.code.map(Path::to_owned),
            sockets: sockets.clone(),
            private_dir: private_dir.path().to_owned(),
            log: context.log.levels().to_string(),
            access_log: context.log.wants_access(),
            sampling: context.sampling.filter(|_| home.traces.is_some()),
            check_health,
            grace_s: context.grace.as_secs(),
            colour: context.console.colour(),
            deterministic: test_mode.deterministic,
            stubs: test_mode.stubs.clone(),
        };
        let arguments = ["run", "--member", "--shape", &task.shape, "--group", &task.group].map(Into::into);
        MemberSpec {
            name: (*group).to_owned(),
            // The arguments are only shown in the list of processes. The member reads its configuration from the task.
            arguments: arguments.into_iter().chain([source.dir.clone().into_os_string()]).collect(),
            task: serde_json::to_vec(&task).expect("a task is plain data"),
            has_front_door: *group == front,
            log: member_log(home, group, width),
            orders: home.traces.map(ServedTraces::orders).unwrap_or_default(),
        }
    };
    Ok(processes.keys().map(member).collect())
}

/// Returns the receiver of a member's log lines, traces and metrics.
fn member_log(home: &MemberHome<'_>, group: &str, width: usize) -> MemberLog {
    let log = home.context.log.member(group, width).with_metrics(home.context.members_metrics.receiver(group));
    match home.traces {
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
