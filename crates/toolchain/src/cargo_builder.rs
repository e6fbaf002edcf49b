//! Builds components that are Cargo packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use isomer_manifest::ComponentSource;

use crate::builder::{BuildContext, BuildFacts, Builder, BuiltComponent, SourceComponent};
use crate::cargo::{self, Artifact, CargoPackage};
use crate::error::{BuildError, ToolchainError};
use crate::files::{at, make_dir, replace};
use crate::guest::GuestToolchain;
use crate::origin::ToolchainOrigin;
use crate::process::ProgressReporter;
use crate::profile::{BuildProfile, settings};
use crate::record::{Record, cargo_dir, stamps};
use crate::variables::are_unchanged;
use crate::watch::WatchSet;

/// The number of an app's components that were built with a profile (`recorded`), and how many of them are up to date
/// (`fresh`). Values are compared by `fresh` first, so less has to be built with the profile that has the greater
/// value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BuiltCount {
    fresh: usize,
    recorded: usize,
}

/// Builds components with Cargo: `cargo = "DIR"`. Packages of one workspace are built by one run of Cargo.
pub(crate) struct CargoBuilder {
    profile: BuildProfile,
    /// The settings of the profile and the environment that affect the code, from `profile::settings`.
    settings: String,
}

impl CargoBuilder {
    /// Creates a builder for `profile` that uses the environment of this process.
    pub(crate) fn new(profile: BuildProfile) -> Self {
        Self { profile, settings: settings(profile) }
    }

    /// Returns whether the component is up to date. `chosen` is the toolchain that the environment selects. If it
    /// selects none, the toolchain that built the component does not matter.
    fn is_fresh(&self, record: &Record, source: &ComponentSource, chosen: Option<ToolchainOrigin>) -> bool {
        record.is_fresh(source, &BTreeSet::new())
            && record.settings == self.settings
            && are_unchanged(&record.variables)
            && (chosen.is_none() || chosen == record.toolchain)
    }

    /// Counts the components that are up to date, and those that were built at least once.
    pub(crate) fn count<'a>(
        &self,
        context: &BuildContext<'_>,
        components: impl Iterator<Item = SourceComponent<'a>>,
    ) -> Result<BuiltCount, ToolchainError> {
        let chosen = ToolchainOrigin::chosen()?;
        let dir = &cargo_dir(context.build_dir, self.profile);
        let mut count = BuiltCount::default();
        for component in components.filter(|component| self.builds(component.source)) {
            let Some(record) = Record::load(dir, component.name) else { continue };
            count.recorded += 1;
            count.fresh += usize::from(self.is_fresh(&record, component.source, chosen));
        }
        Ok(count)
    }

    /// Copies Cargo's artifact into the app's folder, unless the copy there has the same bytes, and records the build.
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
            // Cargo also returns components that were up to date. Their sources or the versions of their dependencies
            // may have changed since they were checked, so the new artifact replaces the earlier result.
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
        // Above the app's folder, a missing Cargo configuration file is not watched if its folder is also missing.
        let is_near = |path: &Path| path.starts_with(context.app_dir) || path.parent().is_some_and(Path::is_dir);
        for (path, stamp) in record.into_iter().flat_map(|record| record.inputs) {
            if stamp.is_some() || is_near(&path) {
                set.add(path);
            }
        }
    }
}

/// Returns the guest toolchain. It is looked up once per process, because the search starts programs, and a development
/// server would otherwise start them after every edit.
fn find_toolchain(chosen: Option<ToolchainOrigin>) -> Result<GuestToolchain, BuildError> {
    static FOUND: Mutex<Option<(Option<ToolchainOrigin>, GuestToolchain)>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    match &*found {
        Some((origin, toolchain)) if *origin == chosen => Ok(toolchain.clone()),
        _ => Ok(found.insert((chosen, GuestToolchain::find()?)).1.clone()),
    }
}
