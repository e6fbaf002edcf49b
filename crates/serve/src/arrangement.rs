//! An arrangement: the groups of an app that run in one shape, in the serving process or in member processes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isomer_apps::tenancy::ProcessMetrics;
use isomer_apps::{FrontGate, NewPackage, PackageOptions, Peers, Progress, SingleApp, TenancyOptions};
use isomer_capabilities::{DataDir, GrantedBy};
use isomer_console::CliError;
use isomer_front::{Connections, Limits};
use isomer_ids::PlanDigest;
use isomer_plan::Plan;
use isomer_runtime::code::CodeSource;
use isomer_supervisor::{Goal, ReadyMember};
use isomer_telemetry::metrics::MetricSource;

use crate::context::{ServeContext, describe};
use crate::health::check_health;
use crate::local_groups::{LocalGroups, LocalHome};
use crate::member_groups::{MemberGroups, MemberHome};
use crate::revision_source::RevisionSource;
use crate::served_app::ServedApp;
use crate::served_traces::ServedTraces;
use crate::shutdown::{ArrangementTasks, FrontSocket};
use crate::start_error::{StartAttempt, revision_error};

/// The maximum time from the end of the last request until the stores of an arrangement in this process are closed.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// The parts of the serving process that every arrangement uses. They are kept when the shape changes.
pub(crate) struct ArrangementHome {
    pub(crate) context: ServeContext,
    pub(crate) socket: FrontSocket,
    pub(crate) tasks: ArrangementTasks,
    pub(crate) data: DataDir,
    /// The folder of compiled code; `None` if the code is in this program.
    pub(crate) code_folder: Option<PathBuf>,
    pub(crate) code: CodeSource,
    pub(crate) traces: Option<ServedTraces>,
    /// The app as the admin API shows it.
    pub(crate) app: Option<Arc<ServedApp>>,
    /// The parts that only arrangements in this process use. Created for the first of them.
    pub(crate) local: Option<LocalHome>,
    /// Reports the metrics of this process until this process runs groups itself.
    pub(crate) process_metrics: Option<Arc<ProcessMetrics>>,
}

/// The running groups of an app.
pub(crate) enum Arrangement {
    /// This process runs all groups.
    Local(LocalGroups),
    /// Member processes run the groups.
    Members(MemberGroups),
}

/// An arrangement that has opened no store.
pub(crate) enum PreparedArrangement {
    Local(Box<NewPackage>),
    Members(MemberGroups, Box<Plan>, PlanDigest),
}

/// An arrangement that has started, with its plan.
pub(crate) struct StartedArrangement {
    pub(crate) arrangement: Arrangement,
    pub(crate) plan: Plan,
    pub(crate) digest: PlanDigest,
}

impl Arrangement {
    /// Accepts connections from clients.
    ///
    /// # Errors
    /// The failure of a member.
    pub(crate) async fn accept(&mut self, tasks: &ArrangementTasks) -> Result<(), CliError> {
        match self {
            Self::Local(groups) => groups.accept(),
            Self::Members(groups) => {
                groups.accept().await?;
                groups.shut_down_on_failure(tasks);
            }
        }
        Ok(())
    }

    /// Accepts connections again after a pause.
    pub(crate) fn resume(&self) {
        match self {
            Self::Local(groups) => groups.accept(),
            Self::Members(groups) => groups.set_goal(Goal::Serve),
        }
    }

    /// Accepts no more connections. The connections of clients end after their requests.
    pub(crate) fn pause(&self) {
        match self {
            Self::Local(groups) => groups.pause(),
            Self::Members(groups) => groups.set_goal(Goal::Pause),
        }
    }

    /// Waits until all connections have ended after [`Arrangement::pause`].
    pub(crate) async fn drained(&self) {
        match self {
            Self::Local(groups) => groups.drained().await,
            Self::Members(groups) => groups.drained().await,
        }
    }

    /// Finishes the running requests, and waits until the arrangement has ended. Connections that it has not accepted are
    /// left to the next arrangement.
    pub(crate) async fn retire(&self) {
        match self {
            Self::Local(groups) => {
                groups.retire();
                groups.ended().await;
            }
            Self::Members(groups) => {
                groups.set_goal(Goal::Retire);
                groups.ended().await;
            }
        }
    }

    /// Ends an arrangement that never accepted a connection, and waits until it has ended.
    pub(crate) async fn discard(&self) {
        match self {
            Self::Local(_) => self.retire().await,
            Self::Members(groups) => {
                groups.set_goal(Goal::Kill);
                groups.ended().await;
            }
        }
    }

    /// Ends requests that have not finished during a pause, by killing the members. Requests in this process are ended
    /// later, when the arrangement retires.
    pub(crate) fn cut_off(&self) {
        if let Self::Members(groups) = self {
            groups.set_goal(Goal::Kill);
        }
    }

    /// Sets whether another arrangement is about to take over. If so, a failure of the members does not end the
    /// process.
    pub(crate) fn set_being_replaced(&self, is_being_replaced: bool) {
        if let Self::Members(groups) = self {
            groups.set_being_replaced(is_being_replaced);
        }
    }

    /// Returns the member processes; empty if this process runs all groups.
    pub(crate) fn processes(&self) -> Vec<ReadyMember> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::Members(groups) => groups.processes(),
        }
    }
}

impl ArrangementHome {
    /// Prepares everything that an arrangement of `source` in `shape` needs before it opens stores. `plan` is set if the
    /// shape has several processes.
    ///
    /// # Errors
    /// If the app cannot be planned or compiled, or if a process cannot be started, or is not prepared within `max`.
    pub(crate) async fn prepare(
        &mut self,
        source: &RevisionSource,
        shape: &str,
        plan: Option<Plan>,
        check_health: bool,
        max: Duration,
    ) -> Result<PreparedArrangement, CliError> {
        let Some(plan) = plan else {
            return self.prepare_local(source, shape).map(Box::new).map(PreparedArrangement::Local);
        };
        self.report_process();
        let progress = self.context.console.progress();
        progress.step(format!("preparing {} processes", plan.processes().len()));
        let listener = self.socket.duplicate().map_err(anyhow::Error::new)?;
        let home = MemberHome {
            context: &self.context,
            data: self.data.path(),
            code: self.code_folder.as_deref(),
            traces: self.traces.as_ref(),
        };
        let mut groups = MemberGroups::prepare(&home, source, &plan, listener, check_health, &self.tasks)?;
        if let Err(error) = within(max, groups.prepared()).await {
            groups.set_goal(Goal::Kill);
            groups.ended().await;
            return Err(error);
        }
        let digest = isomer_apps::Package::digest_of(&source.app, &plan, &source.components);
        Ok(PreparedArrangement::Members(groups, Box::new(plan), digest))
    }

    /// Opens the stores and starts the instances. If this fails, everything that was started has ended when the
    /// function returns.
    ///
    /// # Errors
    /// If a store cannot be opened, an instance does not start, the health check fails, or the start takes longer than
    /// `max`.
    pub(crate) async fn start(
        &mut self,
        prepared: PreparedArrangement,
        source: &RevisionSource,
        with_health: bool,
        max: Duration,
    ) -> Result<StartedArrangement, CliError> {
        match prepared {
            PreparedArrangement::Local(package) => {
                let arrangement = Arrangement::Local(self.local_groups()?);
                match within(max, self.start_local(*package, source, with_health)).await {
                    Ok((plan, digest)) => Ok(StartedArrangement { arrangement, plan, digest }),
                    Err(error) => {
                        arrangement.retire().await;
                        // The next arrangement opens the same stores.
                        if let Err(error) = self.close_stores(&arrangement).await {
                            self.context.console.report(&error);
                        }
                        Err(error)
                    }
                }
            }
            PreparedArrangement::Members(mut groups, plan, digest) => {
                match within(max, groups.start(&source.stores_without_migrations())).await {
                    Ok(()) => Ok(StartedArrangement { arrangement: Arrangement::Members(groups), plan: *plan, digest }),
                    Err(error) => {
                        groups.set_goal(Goal::Kill);
                        groups.ended().await;
                        Err(error)
                    }
                }
            }
        }
    }

    /// Waits until the stores of an arrangement that has ended are closed.
    ///
    /// # Errors
    /// If they are not closed within [`CLOSE_MAX`].
    pub(crate) async fn close_stores(&self, arrangement: &Arrangement) -> Result<(), CliError> {
        let (Arrangement::Local(_), Some(local)) = (arrangement, &self.local) else { return Ok(()) };
        if let Some(app) = &self.app {
            app.set_counters(None);
        }
        if !local.single_app.retire(&self.data, CLOSE_MAX).await {
            let error =
                format!("the stores were not closed within {} s, because a guest still runs", CLOSE_MAX.as_secs());
            return Err(CliError::failed(error, "try again"));
        }
        Ok(())
    }

    /// Waits until all stores that this process has opened are closed, but no longer than [`CLOSE_MAX`].
    pub(crate) async fn local_stores_closed(&self) {
        if let Some(local) = &self.local {
            let closed = local.single_app.stores().closed(self.data.path());
            let _ = tokio::time::timeout(CLOSE_MAX, closed).await;
        }
    }

    /// Starts the task of a front door that serves from this process. Initially, the front door is closed.
    ///
    /// # Errors
    /// If the process shuts down, or if the engine cannot be created.
    pub(crate) fn local_groups(&mut self) -> Result<LocalGroups, CliError> {
        let listener = self.socket.duplicate().map_err(anyhow::Error::new)?;
        let (log, grace) = (self.context.log.clone(), self.context.grace);
        let local = self.local()?;
        let (connections, resolver) = (local.connections.clone(), local.single_app.resolver());
        if let Some(app) = &self.app {
            app.set_counters(Some((resolver.clone(), connections.clone())));
        }
        let gate = FrontGate::new(listener, Limits::default(), resolver, connections, log.clone());
        Ok(LocalGroups::start(gate, &self.tasks, log, grace))
    }

    /// Makes the package of all groups for this process.
    pub(crate) fn prepare_local(&mut self, source: &RevisionSource, shape: &str) -> Result<NewPackage, CliError> {
        let options =
            PackageOptions { shape: shape.to_owned(), process: None, deterministic: self.context.is_deterministic() };
        let progress = self.context.console.progress();
        let report = |step: Progress<'_>| progress.step(describe(step));
        let failed = |error| revision_error(error, source.source.as_ref());
        let single_app = &mut self.local()?.single_app;
        single_app.set_secrets(source.secret_values());
        single_app.set_origin(source.origin);
        single_app.make(&source.app, &source.components, &options, &report).map_err(failed)
    }

    /// Starts a revision in this process, and puts it into service in place of the previous one in this process.
    pub(crate) async fn start_local(
        &mut self,
        new_package: NewPackage,
        source: &RevisionSource,
        with_health: bool,
    ) -> Result<(Plan, PlanDigest), CliError> {
        let granted_by = if source.source.is_some() { GrantedBy::Manifest } else { GrantedBy::Flags };
        let single_app = self.local()?.single_app.clone().granted_by(granted_by);
        let progress = self.context.console.progress();
        let report = |step: Progress<'_>| progress.step(describe(step));
        let NewPackage { package, plan, code, .. } = new_package;
        let digest = package.plan_digest();
        let started = single_app.start(package, &source.dir, &self.data, Peers::new(), &report).await;
        let started = started.map_err(|error| {
            let RevisionSource { app, dir, source, .. } = source;
            StartAttempt { app, dir, source: source.as_ref(), data: &self.data }.failed(error)
        })?;
        drop((code, progress));
        if let Some(path) = source.app.health.as_ref().filter(|_| with_health) {
            check_health(started.site(), &path.value).await?;
        }
        single_app.take_over(started);
        Ok((plan, digest))
    }

    /// Reports the metrics of this process and of its log, until [`Self::local()`] creates a tenancy, which reports
    /// them itself.
    fn report_process(&mut self) {
        if self.local.is_none() && self.process_metrics.is_none() {
            let process = Arc::new(ProcessMetrics::default());
            let source: Arc<dyn MetricSource> = process.clone();
            self.context.metrics.add_source(Arc::downgrade(&source));
            self.context.log.report_to(&self.context.metrics);
            self.process_metrics = Some(process);
        }
    }

    /// Returns the parts that only arrangements in this process use.
    ///
    /// # Errors
    /// If the address space of the engine cannot be reserved.
    pub(crate) fn local(&mut self) -> Result<&mut LocalHome, CliError> {
        let local = match self.local.take() {
            Some(local) => local,
            None => {
                // The tenancy of the app in this process reports these metrics itself.
                self.process_metrics = None;
                self.new_local()?
            }
        };
        Ok(self.local.insert(local))
    }

    fn new_local(&self) -> Result<LocalHome, CliError> {
        let tracer = self.traces.as_ref().map(ServedTraces::tracer).unwrap_or_default();
        let running = TenancyOptions {
            metrics: self.context.metrics.clone(),
            network: self.context.network.clone(),
            source_lines: self.context.source_lines,
            ..TenancyOptions::default()
        };
        let single_app = SingleApp::new(self.code.clone(), self.context.log.clone(), running);
        let single_app = single_app.map_err(|error| revision_error(error, None))?.traced_by(tracer);
        let tenancy = single_app.resolver();
        let connections = Connections::new(&Limits::default(), Some(tenancy.metrics()));
        Ok(LocalHome { single_app, connections })
    }
}

/// Waits for a step of the preparation or the start of an arrangement.
///
/// # Errors
/// The error of the step, or an error if the step takes longer than `max`.
async fn within<T>(max: Duration, step: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let late = |_| {
        let error = format!("the groups of the app were not ready within {} s", max.as_secs());
        Err(CliError::failed(error, "see the log of the app for the reason, and try again"))
    };
    tokio::time::timeout(max, step).await.unwrap_or_else(late)
}
