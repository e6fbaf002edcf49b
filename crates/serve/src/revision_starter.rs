//! Serving an app: each new revision replaces the previous one. A revision runs in this process or in member processes,
//! depending on its shape.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use isomer_api::{ApiProblem, DeployReport, ProblemKind};
use isomer_apps::AppData;
use isomer_capabilities::{AppGrants, DataDir};
use isomer_console::{CliError, WarningPrinter};
use isomer_diagnostics::Renderer;
use isomer_ids::{HostPattern, PlanDigest, ReleaseDigest};
use isomer_runtime::code::{CodeArchive, CodeCache, CodeSource};
use isomer_supervisor::ReadyMember;
use isomer_telemetry::Level;

use crate::admin_endpoint::AdminEndpoint;
use crate::arrangement::{Arrangement, ArrangementHome};
use crate::context::{ServeContext, ServeOptions};
use crate::reshape_orders::{ReshapeOrder, ReshapeOrders};
use crate::resources::ServeResources;
use crate::revision_source::RevisionSource;
use crate::served_traces::ServedTraces;
use crate::serving::{RunningRevision, Serving};
use crate::shutdown::{FrontSocket, Shutdown};
use crate::store_preparation::{StorePreparation, UnchangedStores};
use crate::takeover_steps::TakeoverSteps;

/// The process that serves an app.
pub struct AppServer {
    shutdown: Shutdown,
    traces: Option<ServedTraces>,
    orders: ReshapeOrders,
    /// Creates revisions and replaces the previous ones.
    pub revisions: RevisionStarter,
}

/// The place where a process that serves an app finds compiled code.
#[derive(Debug)]
pub enum ServedCode {
    /// In the folder that [`ServeResources`] names.
    Own,
    /// In another folder.
    Folder(PathBuf),
    /// In this program, which was shipped with the app.
    Shipped(CodeArchive),
}

/// Creates revisions of an app and replaces the previous ones.
pub struct RevisionStarter {
    pub(crate) home: ArrangementHome,
    /// The name of the shape of the next revision.
    shape: String,
    url: String,
    admin: Option<AdminEndpoint>,
    warnings: WarningPrinter,
    serving: Option<Serving>,
}

impl AppServer {
    /// Creates a process that serves no revision yet. Installs the handlers of SIGTERM and SIGINT; without them, a
    /// signal ends the process immediately.
    ///
    /// # Errors
    /// If the code cache cannot be opened, or the signal handlers cannot be installed.
    pub fn new(
        context: ServeContext,
        resources: ServeResources,
        options: &ServeOptions,
        code: ServedCode,
    ) -> Result<Self, CliError> {
        let ServeResources { listener, url, data, code: own_folder, traces, admin } = resources;
        let socket = FrontSocket::new(listener);
        let (shutdown, tasks) = Shutdown::listen(socket.clone())?;
        let app = admin.as_ref().map(|admin| admin.app().clone());
        let (sender, orders) = ReshapeOrders::channel();
        if let Some(app) = &app {
            app.set_orders(sender);
        }
        let (code_folder, code) = match code {
            ServedCode::Own => (Some(own_folder.clone()), CodeCache::open(&own_folder)?.into()),
            ServedCode::Folder(folder) => (Some(folder.clone()), CodeCache::open(&folder)?.into()),
            ServedCode::Shipped(archive) => (None, CodeSource::from(archive)),
        };
        let home = ArrangementHome {
            context,
            socket,
            tasks,
            data,
            code_folder,
            code,
            traces: traces.clone(),
            app,
            local: None,
            process_metrics: None,
        };
        let revisions = RevisionStarter {
            home,
            shape: options.shape.clone(),
            url,
            admin,
            warnings: WarningPrinter::default(),
            serving: None,
        };
        Ok(Self { shutdown, traces, orders, revisions })
    }

    /// Splits the server into a future that serves until SIGTERM or SIGINT arrives, the [`RevisionStarter`], and the
    /// orders to reshape the app, so that each can be used in its own task.
    pub fn split(
        self,
    ) -> (impl Future<Output = Result<(), CliError>> + Send + 'static, RevisionStarter, ReshapeOrders) {
        let (shutdown, traces) = (self.shutdown, self.traces);
        let (log, end_export) = (self.revisions.home.context.log.clone(), self.revisions.home.context.end_export());
        let serving = async move {
            let served = shutdown.run().await;
            traces.iter().for_each(ServedTraces::flush);
            end_export.await;
            log.flush();
            served
        };
        (serving, self.revisions, self.orders)
    }
}

impl RevisionStarter {
    /// Accepts connections before there is a revision, and responds that the app is not built yet.
    ///
    /// # Errors
    /// If the engine cannot be created, or if the process shuts down.
    pub fn serve_unbuilt(&mut self) -> Result<(), CliError> {
        let groups = self.home.local_groups()?;
        groups.accept();
        self.serving = Some(Serving { arrangement: Arrangement::Local(groups), revision: None });
        Ok(())
    }

    /// Creates a revision of `source`, which replaces the previous revision. If this fails, the previous revision
    /// continues to serve.
    ///
    /// # Errors
    /// If the revision cannot be planned, created or started.
    pub async fn take_over(
        &mut self,
        source: RevisionSource,
        stores: &mut impl StorePreparation,
    ) -> Result<(), CliError> {
        let shape = self.shape.clone();
        let steps = TakeoverSteps { home: &mut self.home, warnings: &mut self.warnings, is_reshape: false };
        let (serving, result) = steps.run(self.serving.take(), source, &shape, stores).await;
        self.serving = serving;
        self.show_stores();
        result?;
        self.show_revision();
        Ok(())
    }

    /// Executes an order to reshape the app: starts the serving revision again in another shape, and reports the result
    /// to the user and to the client that gave the order. If no revision serves afterwards, the process shuts down.
    pub async fn reshape(&mut self, order: ReshapeOrder) {
        let ReshapeOrder { shape, started, reply } = order;
        if started.send(()).is_err() {
            // The client has disconnected, or has received the response that its order waited too long.
            return;
        }
        let (began, previous) = (Instant::now(), self.revision().map(|revision| revision.digest));
        let result = match self.try_reshape(&shape).await {
            Ok(is_changed) => {
                if is_changed {
                    // Without standard output, the client still gets the report.
                    let _ = self.report_reshaped(began);
                }
                Ok(DeployReport { unchanged: !is_changed, ..self.report(previous, began.elapsed()) })
            }
            Err(error) => {
                let problem = self.problem(&shape, &error);
                if !self.home.tasks.is_shutting_down() {
                    let reason = problem.detail.as_deref().and_then(|detail| detail.lines().next()).unwrap_or_default();
                    let reason = reason.strip_prefix("error: ").unwrap_or(reason);
                    self.home.context.log.copy_message(Level::Error, format!("{}: {reason}", problem.title));
                    self.home.context.console.message(&problem.title);
                    match &self.serving {
                        Some(_) => drop(self.home.context.console.report(&error)),
                        None => self.home.tasks.fail(error),
                    }
                }
                Err(problem)
            }
        };
        // The client may have disconnected.
        let _ = reply.send(result);
    }

    /// Runs the app in `shape`. Returns `false` if it runs in this shape already.
    async fn try_reshape(&mut self, shape: &str) -> Result<bool, CliError> {
        let Some(revision) = self.revision() else {
            return Err(CliError::failed("the app has not started yet", "wait until it is ready"));
        };
        if revision.shape == shape {
            return Ok(false);
        }
        // The revision that serves has applied its migrations.
        let (original, source) = (revision.source.clone(), revision.source.without_migrations());
        let steps = TakeoverSteps { home: &mut self.home, warnings: &mut self.warnings, is_reshape: true };
        let (serving, result) = steps.run(self.serving.take(), source, shape, &mut UnchangedStores).await;
        self.serving = serving;
        if let Some(Serving { revision: Some(revision), .. }) = &mut self.serving {
            revision.source = original;
        }
        self.show_stores();
        result?;
        shape.clone_into(&mut self.shape);
        self.show_revision();
        Ok(true)
    }

    fn revision(&self) -> Option<&RunningRevision> {
        self.serving.as_ref()?.revision.as_ref()
    }

    /// Shows the manifest in the admin API, and the stores if this process has them open.
    fn show_stores(&self) {
        let (Some(Serving { arrangement, revision: Some(revision) }), Some(app)) = (&self.serving, &self.home.app)
        else {
            return;
        };
        let source = &revision.source;
        let local = self.home.local.as_ref().filter(|_| matches!(arrangement, Arrangement::Local(_)));
        let data = local.map(|local| {
            let resources = local.single_app.resources(&source.dir, &self.home.data);
            AppData::new(local.single_app.stores().clone(), resources, AppGrants::from(&source.app))
                .writable(self.home.context.writable_data)
        });
        app.set_manifest(&source.app, data);
    }

    /// Shows the new revision in the admin API, and prints the warnings of its plan.
    fn show_revision(&mut self) {
        let Some(RunningRevision { source, plan, digest, .. }) =
            self.serving.as_ref().and_then(|serving| serving.revision.as_ref())
        else {
            return;
        };
        if let Some(app) = &self.home.app {
            app.set_revision(plan, *digest);
        }
        if let (Some(traces), Some(serving)) = (&self.home.traces, &self.serving) {
            traces.move_orders(matches!(serving.arrangement, Arrangement::Local(_)));
        }
        source.print_warnings(plan, &mut self.warnings, &self.home.context.console);
    }

    fn report(&self, previous: Option<PlanDigest>, took: Duration) -> DeployReport {
        let every: HostPattern = "*".parse().expect("`*` is a valid pattern");
        let digest = self.revision().map_or(PlanDigest([0; 16]), |revision| revision.digest);
        DeployReport {
            revision: ReleaseDigest::from(digest.0),
            previous: previous.map(|previous| ReleaseDigest::from(previous.0)),
            shape: self.revision().map(|revision| revision.shape.clone()),
            unchanged: false,
            hosts: vec![every],
            compiled: false,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            warnings: Vec::new(),
            stores: Vec::new(),
        }
    }

    fn problem(&self, shape: &str, error: &CliError) -> ApiProblem {
        let kept = match self.revision() {
            Some(revision) => format!("the app still serves in shape `{}`", revision.shape),
            None => "the app does not serve".to_owned(),
        };
        let kind = match error {
            CliError::UsageFinding(_) => ProblemKind::NotFound,
            _ => ProblemKind::Refused,
        };
        let (text, _) = error.render(&Renderer::new(false));
        ApiProblem::new(kind, format!("the app could not take shape `{shape}`, and {kept}")).detail(text)
    }

    /// Returns whether an arrangement accepts connections.
    pub fn serves(&self) -> bool {
        self.serving.is_some()
    }

    /// Returns the data directory.
    pub fn data(&self) -> &DataDir {
        &self.home.data
    }

    /// Reports that the app is ready.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn report_ready(&self, began: Instant) -> Result<(), CliError> {
        let Some(revision) = self.revision() else { return Ok(()) };
        let admin = self.admin.as_ref().map(AdminEndpoint::ready);
        self.home.context.report_ready(&revision.plan, &self.url, &self.processes(), admin, began)
    }

    /// Reports that a new revision serves in place of the previous one.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn report_replaced(&self, began: Instant) -> Result<(), CliError> {
        let Some(revision) = self.revision() else { return Ok(()) };
        self.home.context.report_replaced(&revision.plan, &self.url, &self.processes(), began)
    }

    fn report_reshaped(&self, began: Instant) -> Result<(), CliError> {
        let Some(revision) = self.revision() else { return Ok(()) };
        self.home.context.report_reshaped(&revision.plan, &self.url, &self.processes(), began)
    }

    fn processes(&self) -> Vec<ReadyMember> {
        self.serving.as_ref().map(|serving| serving.arrangement.processes()).unwrap_or_default()
    }
}
