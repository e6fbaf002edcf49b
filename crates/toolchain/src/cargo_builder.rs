//! Components that are Cargo packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use isomer_manifest::ComponentSource;

use crate::builder::{BuildContext, BuildFacts, Builder, BuiltComponent, SourceComponent};
use crate::cargo::{self, Artifact, CargoPackage};
use crate::error::BuildError;
use crate::files::{at, make_dir, replace};
use crate::guest::GuestToolchain;
use crate::origin::ToolchainOrigin;
use crate::process::ProgressReporter;
use crate::profile::{BuildProfile, settings};
use crate::record::{Record, cargo_dir, stamps};
use crate::variables::are_unchanged;
use crate::watch::WatchSet;

/// Builds components with Cargo: `cargo = "DIR"`. Packages of one workspace are built by one run of Cargo.
pub(crate) struct CargoBuilder {
    profile: BuildProfile,
    /// The settings of the environment that affect the code.
    settings: String,
}

impl CargoBuilder {
    /// Builds with `profile`, in this process's environment.
    pub(crate) fn new(profile: BuildProfile) -> Self {
        Self { profile, settings: settings(profile) }
    }

    /// Returns whether the component is up to date. `chosen` is the toolchain that the environment chooses; if it
    /// chooses none, a component that any toolchain has built is up to date.
    fn is_fresh(&self, record: &Record, source: &ComponentSource, chosen: Option<ToolchainOrigin>) -> bool {
        record.is_fresh(source, &BTreeSet::new())
            && record.settings == self.settings
            && are_unchanged(&record.variables)
            && (chosen.is_none() || chosen == record.toolchain)
    }

    /// Copies Cargo's artifact into the app's own folder, unless the same bytes are there, and records the build.
    fn copy(
        &self,
        dir: &Path,
        component: SourceComponent<'_>,
        artifact: Artifact,
        toolchain: ToolchainOrigin,
        began: SystemTime,
        took: Option<Duration>,
    ) -> Result<BuiltComponent, BuildError> {
        let last = Record::load(dir, component.name);
        let path = dir.join(format!("{}.wasm", component.name));
        let bytes = fs::read(&artifact.wasm).map_err(at(&artifact.wasm, "read"))?;
        if fs::read(&path).ok().as_deref() != Some(&bytes) {
            replace(&path, &bytes)?;
        }
        let facts = BuildFacts {
            toolchain: Some(toolchain),
            settings: self.settings.clone(),
            variables: artifact.variables,
            inputs: stamps(artifact.inputs, began),
            ..BuildFacts::default()
        };
        Ok(component.built(dir, path, facts, last, took)?)
    }
}

impl Builder for CargoBuilder {
    fn builds(&self, source: &ComponentSource) -> bool {
        matches!(source, ComponentSource::Cargo(_))
    }

    fn missing_source(&self, context: &BuildContext<'_>, component: SourceComponent<'_>) -> Option<BuildError> {
        let ComponentSource::Cargo(dir) = component.source else { return None };
        let (component, dir) = (component.name.clone(), context.app_dir.join(dir));
        let is_missing = !dir.join("Cargo.toml").exists();
        is_missing.then(|| BuildError::NoPackage { component, dir, output: String::new() })
    }

    fn build(
        &self,
        context: &BuildContext<'_>,
        components: &[SourceComponent<'_>],
        report: ProgressReporter<'_>,
    ) -> Result<Vec<BuiltComponent>, BuildError> {
        let chosen = ToolchainOrigin::chosen()?;
        let dir = &cargo_dir(context.build_dir, self.profile);
        make_dir(dir)?;
        let mut built = Vec::with_capacity(components.len());
        let mut packages = Vec::with_capacity(components.len());
        for component in components {
            let ComponentSource::Cargo(package) = component.source else { continue };
            let last = Record::load(dir, component.name);
            let fresh = last.filter(|record| self.is_fresh(record, component.source, chosen));
            let package_dir: PathBuf = context.app_dir.join(package);
            packages.push(CargoPackage { component: component.name.clone(), dir: package_dir, stale: fresh.is_none() });
            built.extend(fresh.map(|record| component.up_to_date(record)));
        }
        if !packages.iter().any(|package| package.stale) {
            return Ok(built);
        }
        let toolchain = find_toolchain(chosen)?;
        let (began, clock) = (SystemTime::now(), Instant::now());
        let artifacts = cargo::build(packages, &toolchain, self.profile, report)?;
        let took = clock.elapsed();
        for artifact in artifacts {
            // A component that was up to date may have been changed since it was looked at, or depend on other versions now.
            built.retain(|built| built.component != artifact.component);
            let component = components.iter().find(|component| *component.name == artifact.component);
            let component = component.expect("an artifact belongs to a component that was to be built");
            let took = artifact.stale.then_some(took);
            built.push(self.copy(dir, *component, artifact, toolchain.origin(), began, took)?);
        }
        Ok(built)
    }

    fn watch(&self, context: &BuildContext<'_>, component: SourceComponent<'_>, set: &mut WatchSet) {
        let ComponentSource::Cargo(dir) = component.source else { return };
        set.add_tree(context.app_dir.join(dir));
        let record = Record::load(&cargo_dir(context.build_dir, self.profile), component.name);
        // Configuration files that could appear in any folder above the app are not watched.
        let is_near = |path: &Path| path.starts_with(context.app_dir) || path.parent().is_some_and(Path::is_dir);
        for (path, stamp) in record.into_iter().flat_map(|record| record.inputs) {
            if stamp.is_some() || is_near(&path) {
                set.add(path);
            }
        }
    }
}

/// Returns the toolchain of this process. It is looked up once, because the search starts programs, which a development
/// server would otherwise do for every edit.
fn find_toolchain(chosen: Option<ToolchainOrigin>) -> Result<GuestToolchain, BuildError> {
    static FOUND: Mutex<Option<(Option<ToolchainOrigin>, GuestToolchain)>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    match &*found {
        Some((origin, toolchain)) if *origin == chosen => Ok(toolchain.clone()),
        _ => Ok(found.insert((chosen, GuestToolchain::find()?)).1.clone()),
    }
}
