//! The source of a revision: an app with its components' bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use isomer_capabilities::secrets::{Secret, SecretValues};
use isomer_capabilities::{AppGrants, AppOrigin, AppResources, DataDir, read_secrets};
use isomer_console::{CliError, Console, WarningPrinter};
use isomer_diagnostics::SourceFile;
use isomer_ids::{ComponentName, StoreName};
use isomer_manifest::{App, MONOLITH};
use isomer_plan::Plan;
use isomer_project::AppDir;
use isomer_seam::{Components, PlanError};

use crate::start_error::StartAttempt;

/// The source of a revision: an app with its components' bytes.
#[derive(Clone)]
pub struct RevisionSource {
    /// The app as its manifest describes it.
    pub app: App,
    /// The folder against which relative paths in the manifest are resolved.
    pub dir: PathBuf,
    /// The manifest, or `None` for a component without a manifest.
    pub source: Option<SourceFile>,
    /// The manifest, including config values from flags and files; `None` for a component without a manifest.
    pub manifest: Option<SourceFile>,
    /// The components' bytes.
    pub components: Components,
    /// Variables from which secrets may take their values if the process's environment lacks them.
    pub environment: BTreeMap<String, String>,
    /// The values of the secrets that components were granted, by name; `None` until they are read.
    secrets: Option<BTreeMap<String, Secret>>,
    /// Where the app comes from. Unless these are its sources, `dir` contains the files of its release.
    pub(crate) origin: AppOrigin,
}

impl RevisionSource {
    /// Returns the source of a revision of `app`.
    ///
    /// # Errors
    /// If the config values of flags and files cannot be written into the manifest.
    pub fn new(app: &AppDir, components: Components) -> Result<Self, CliError> {
        Ok(Self {
            app: app.app.clone(),
            dir: app.dir.clone(),
            source: Some(app.source.clone()),
            manifest: Some(app.manifest()?),
            components,
            environment: app.values.environment.clone(),
            secrets: None,
            origin: origin_of(app),
        })
    }

    /// Returns the source of a revision of `app`, which has no manifest. Relative paths in its grants are resolved
    /// against `dir`.
    #[must_use]
    pub fn without_manifest(app: App, dir: PathBuf, components: Components) -> Self {
        Self {
            app,
            dir,
            source: None,
            manifest: None,
            components,
            environment: BTreeMap::new(),
            secrets: None,
            origin: AppOrigin::Sources,
        }
    }

    /// Returns the source of an app that was shipped as one program. `files` is the folder with the files of its release.
    #[must_use]
    pub fn shipped(self, files: PathBuf) -> Self {
        Self { dir: files, origin: AppOrigin::Program, ..self }
    }

    /// Plans the app in `shape`. Returns `None` if one process runs all groups: its plan is made together with its
    /// package.
    ///
    /// # Errors
    /// If the app has no such shape, or if the plan refuses the app.
    pub(crate) fn plan_of_processes(&self, shape: &str) -> Result<Option<Plan>, CliError> {
        // The monolith is not planned here, because it always has one process, and planning twice would make the start
        // slower.
        if shape == MONOLITH {
            return Ok(None);
        }
        let plan =
            isomer_seam::plan(&self.app, &self.components, shape).map_err(|error| match (error, &self.source) {
                (PlanError::Refused(mut findings), _)
                    if !self.app.shapes.contains_key(shape) && findings.len() == 1 =>
                {
                    CliError::UsageFinding(Box::new(findings.remove(0)))
                }
                (PlanError::Refused(findings), Some(source)) => CliError::findings(findings, source),
                (PlanError::Refused(findings), None) => CliError::Findings(findings),
                (error, _) => {
                    let hint = match &error {
                        PlanError::Component { source, .. } => source.hint(),
                        PlanError::Refused(_) => None,
                    };
                    let hint = hint.map(str::to_owned);
                    CliError::hinted(error, hint)
                }
            })?;
        Ok((plan.processes().len() > 1).then_some(plan))
    }

    /// Prints the warnings of `plan`, unless they were printed before.
    pub(crate) fn print_warnings(&self, plan: &Plan, printer: &mut WarningPrinter, console: &Console) {
        if let Some(manifest) = &self.source {
            let warnings: Vec<_> = plan.warnings.iter().map(|warning| warning.clone().in_source(manifest)).collect();
            printer.print(console, &warnings);
        }
    }

    /// Returns whether this source and `other` have a store with the same name and type.
    pub(crate) fn shares_stores_with(&self, other: &Self) -> bool {
        let stores = |source: &Self| -> (BTreeSet<StoreName>, BTreeSet<StoreName>) {
            let grants = source.app.components.values().map(|component| &component.grants);
            let kv = grants.clone().flat_map(|grants| &grants.kv).map(|store| store.value.clone());
            let sql = grants.flat_map(|grants| &grants.sql).map(|store| store.value.clone());
            (kv.collect(), sql.collect())
        };
        let (own, others) = (stores(self), stores(other));
        !own.0.is_disjoint(&others.0) || !own.1.is_disjoint(&others.1)
    }

    /// Returns this source without migrations, so that they are not applied to the stores. Used to restart a revision
    /// that has already applied its migrations. Their files may have been edited since then, and an edited migration
    /// would prevent the start.
    pub(crate) fn without_migrations(&self) -> Self {
        let mut source = self.clone();
        source.app.sql.values_mut().for_each(|settings| settings.migrations = None);
        source
    }

    /// Reads the secrets that components were granted, unless they were already read. All processes of the revision get
    /// these values, in each shape and after each restart. So all of them have the same values, and a restart succeeds
    /// even if the file of a secret was changed or removed.
    ///
    /// # Errors
    /// If a secret has no value, or if its value cannot be read.
    pub(crate) fn read_secrets(&mut self, data: &DataDir) -> Result<(), CliError> {
        if self.secrets.is_none() {
            let environment = Arc::new(self.environment.clone());
            let resources = AppResources { environment, ..AppResources::of_origin(self.origin, &self.dir, data) };
            let attempt = StartAttempt { app: &self.app, dir: &self.dir, source: self.source.as_ref(), data };
            let secrets = read_secrets(&AppGrants::from(&self.app), &resources);
            self.secrets = Some(secrets.map_err(|error| attempt.secret_failed(error))?.into_values());
        }
        Ok(())
    }

    /// Returns the source of the secrets for a revision in this process.
    pub(crate) fn secret_values(&self) -> SecretValues {
        self.secrets.clone().map_or(SecretValues::FromManifest, SecretValues::Given)
    }

    /// Returns the values of the secrets that `components` were granted, by name.
    pub(crate) fn secrets_of<'a>(
        &self,
        components: impl IntoIterator<Item = &'a ComponentName>,
    ) -> BTreeMap<String, String> {
        let components = components.into_iter().filter_map(|name| self.app.components.get(name));
        let granted = components.flat_map(|component| &component.grants.secrets);
        let value = |name: &str| Some(self.secrets.as_ref()?.get(name)?.reveal().to_owned());
        granted.filter_map(|name| Some((name.value.to_string(), value(name.value.as_str())?))).collect()
    }

    /// Returns the SQL stores to which no migrations are applied.
    pub(crate) fn stores_without_migrations(&self) -> Vec<&StoreName> {
        self.app.sql.iter().filter(|(_, settings)| settings.migrations.is_none()).map(|(name, _)| name).collect()
    }
}

/// Returns where the app on disk comes from.
pub(crate) fn origin_of(app: &AppDir) -> AppOrigin {
    if app.is_unpacked() { AppOrigin::Unpacked } else { AppOrigin::Sources }
}
