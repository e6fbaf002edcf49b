//! Serving an app from this process. Revisions are created one after the other, and each replaces the previous one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use isomer_apps::{AppData, AppFront, NewPackage, PackageOptions, Peers, Progress, SingleApp, TenancyOptions};
use isomer_capabilities::{AppGrants, AppResources, DataDir, Engines, GrantedBy};
use isomer_console::{CliError, WarningPrinter};
use isomer_diagnostics::SourceFile;
use isomer_front::{FrontError, Limits};
use isomer_manifest::App;
use isomer_plan::Plan;
use isomer_project::AppDir;
use isomer_runtime::code::CodeCache;
use isomer_seam::Components;

use crate::admin_endpoint::AdminEndpoint;
use crate::context::{ServeContext, ServeOptions, describe, report_cut_off};
use crate::resources::ServeResources;
use crate::served_traces::ServedTraces;
use crate::start_error::{StartAttempt, revision_error};
use crate::stop_signals::StopSignals;

/// What a revision is started from: an app with its components' bytes.
pub struct RevisionSource {
    /// The app as its manifest describes it.
    pub app: App,
    /// The folder against which relative paths in the manifest are resolved.
    pub dir: PathBuf,
    /// The manifest, or `None` for a component without a manifest.
    pub source: Option<SourceFile>,
    /// The components' bytes.
    pub components: Components,
    /// Variables from which secrets may take their values if the process's environment lacks them.
    pub environment: BTreeMap<String, String>,
}

impl RevisionSource {
    /// Returns what a revision of `app` is started from. `components` contains the bytes of the app's components.
    pub fn new(app: &AppDir, components: Components) -> Self {
        let environment = app.values.environment.clone();
        Self { app: app.app.clone(), dir: app.dir.clone(), source: Some(app.source.clone()), components, environment }
    }
}

/// A listening front door, and the [`RevisionStarter`] that starts the revisions for it.
pub struct AppServer {
    front: AppFront,
    traces: Option<ServedTraces>,
    /// Creates revisions and replaces the previous ones.
    pub revisions: RevisionStarter,
}

/// Creates revisions of an app and replaces the previous ones.
pub struct RevisionStarter {
    context: ServeContext,
    shape: String,
    url: String,
    single_app: SingleApp,
    data: DataDir,
    admin: Option<AdminEndpoint>,
    warnings: WarningPrinter,
}

impl AppServer {
    /// Starts the front door, which serves no revision yet. `cache` is the folder of compiled code, or `None` for the
    /// folder in `resources`.
    ///
    /// # Errors
    /// If the engine or the code cache cannot be opened.
    pub fn new(
        context: ServeContext,
        resources: ServeResources,
        options: &ServeOptions,
        cache: Option<&Path>,
    ) -> Result<Self, CliError> {
        let ServeResources { listener, url, data, code, traces, admin } = resources;
        let tracer = traces.as_ref().map(ServedTraces::tracer).unwrap_or_default();
        let cache = CodeCache::open(cache.unwrap_or(&code))?;
        let running = TenancyOptions {
            metrics: context.metrics.clone(),
            network: context.network.clone(),
            source_lines: context.source_lines,
            ..TenancyOptions::default()
        };
        let single_app = SingleApp::new(cache, context.log.clone(), running);
        let single_app = single_app.map_err(|error| revision_error(error, None))?.traced_by(tracer);
        let front = AppFront::from_listener(listener, Limits::default(), single_app.resolver(), context.log.clone())
            .map_err(|source| FrontError::Listen { address: options.listen, source })?;
        if let Some(admin) = &admin {
            admin.app().set_counters(single_app.resolver(), front.connections());
        }
        let shape = options.shape.clone();
        let warnings = WarningPrinter::default();
        Ok(Self {
            front,
            traces,
            revisions: RevisionStarter { context, shape, url, single_app, data, admin, warnings },
        })
    }

    /// Splits the server into a future that serves until SIGTERM or SIGINT arrives, and the [`RevisionStarter`], so
    /// that each can run in its own task. Installs handlers for these signals; without them, a signal ends the process
    /// immediately.
    ///
    /// # Errors
    /// If signal handlers cannot be installed.
    pub fn split(
        self,
    ) -> anyhow::Result<(impl Future<Output = Result<(), CliError>> + Send + 'static, RevisionStarter)> {
        let (front, traces, signals) = (self.front, self.traces, StopSignals::listen()?);
        let (log, grace) = (self.revisions.context.log.clone(), self.revisions.context.grace);
        let end_export = self.revisions.context.end_export();
        let serving = async move {
            let cut_off = signals.stop(|stop| front.serve(stop, grace)).await?;
            traces.iter().for_each(ServedTraces::flush);
            end_export.await;
            report_cut_off(&log, cut_off);
            Ok(())
        };
        Ok((serving, self.revisions))
    }
}

impl RevisionStarter {
    /// Creates a revision of `source`, which replaces the previous revision. If this fails, the previous revision
    /// continues to serve.
    ///
    /// # Errors
    /// If the revision cannot be planned, created or started.
    pub async fn take_over(&mut self, source: &RevisionSource) -> Result<Plan, CliError> {
        let options =
            PackageOptions { shape: self.shape.clone(), process: None, deterministic: self.context.is_deterministic() };
        let progress = self.context.console.progress();
        let report = |step: Progress<'_>| progress.step(describe(step));
        self.single_app.set_environment(source.environment.clone());
        let failed = |error| revision_error(error, source.source.as_ref());
        let granted_by = if source.source.is_some() { GrantedBy::Manifest } else { GrantedBy::Flags };
        let single_app = self.single_app.clone().granted_by(granted_by);
        let new_package = single_app.make(&source.app, &source.components, &options, &report).map_err(failed)?;
        let NewPackage { package, plan, code, .. } = new_package;
        let digest = package.plan_digest();
        let started = single_app.start(package, &source.dir, &self.data, Peers::new(), &report).await;
        let started = started.map_err(|error| {
            let RevisionSource { app, dir, source, .. } = source;
            StartAttempt { app, dir, source: source.as_ref(), data: &self.data }.failed(error)
        })?;
        drop((code, progress));
        self.single_app.take_over(started);
        if let Some(admin) = &self.admin {
            admin.app().set_revision(&plan, digest);
            admin.app().set_manifest(&source.app, Some(self.data_of(source)));
        }
        if let Some(source) = &source.source {
            let warnings: Vec<_> = plan.warnings.iter().map(|warning| warning.clone().in_source(source)).collect();
            self.warnings.print(&self.context.console, &warnings);
        }
        Ok(plan)
    }

    /// Returns the stores of the app for the admin API.
    fn data_of(&self, source: &RevisionSource) -> AppData {
        let resources = self.single_app.resources(&source.dir, &self.data);
        AppData::new(self.stores().clone(), resources, AppGrants::from(&source.app))
            .writable(self.context.writable_data)
    }

    /// Returns the storage engines that all revisions share.
    pub fn stores(&self) -> &Engines {
        self.single_app.stores()
    }

    /// Returns the locations of the files and stores of an app whose folder is `dir`.
    pub fn place(&self, dir: &Path) -> AppResources {
        self.single_app.place(dir, &self.data)
    }

    /// Returns the data directory.
    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// Reports that the app is ready.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn report_ready(&self, plan: &Plan, began: Instant) -> Result<(), CliError> {
        let admin = self.admin.as_ref().map(AdminEndpoint::ready);
        self.context.report_ready(plan, &self.url, &[], admin, began)
    }

    /// Reports that a new revision serves in place of the previous one.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn report_replaced(&self, plan: &Plan, began: Instant) -> Result<(), CliError> {
        self.context.report_replaced(plan, &self.url, began)
    }
}
