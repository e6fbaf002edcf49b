//! Builds an app: makes a file from every component's source, and builds only components whose inputs have changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use isomer_manifest::{App, ComponentSource, MANIFEST_FILE};

use crate::builder::{BuildContext, Builder, BuiltComponent, SourceComponent};
use crate::cargo_builder::CargoBuilder;
use crate::command_builder::CommandBuilder;
use crate::error::{BuildError, PathError};
use crate::file_builder::FileBuilder;
use crate::files::{at, make_dir, remove};
use crate::process::ProgressReporter;
use crate::profile::BuildProfile;
use crate::record::{BUILD_DIR, DEV_DIR, build_dir, remove_leftovers};
use crate::watch::WatchSet;

/// Returns the builders in the order in which they run. Commands run before files are read, because a command may make
/// the file of another component.
fn builders(profile: BuildProfile) -> [Box<dyn Builder>; 3] {
    [Box::new(CommandBuilder), Box::new(FileBuilder), Box::new(CargoBuilder::new(profile))]
}

/// Builds the components of the app in `app_dir` that are not up to date, and returns all components, ordered by name.
///
/// If all components are up to date, no program is started. Nothing is installed: if there is no guest toolchain, the
/// error's hints say how to install one.
///
/// # Errors
/// If a component cannot be built. Other components may already have been built.
pub fn build_app(app: &App, app_dir: &Path, report: ProgressReporter<'_>) -> Result<Vec<BuiltComponent>, BuildError> {
    build_app_as(app, app_dir, BuildProfile::Release, report)
}

/// Builds the app as [`build_app`] does, with the given Cargo profile. A component that was built with another profile
/// is not up to date.
///
/// # Errors
/// The errors of [`build_app`].
pub fn build_app_as(
    app: &App,
    app_dir: &Path,
    profile: BuildProfile,
    report: ProgressReporter<'_>,
) -> Result<Vec<BuiltComponent>, BuildError> {
    let app_dir = &app_dir.canonicalize().map_err(at(app_dir, "found"))?;
    let build_dir = build_dir(app_dir)?;
    make_dir(&build_dir)?;
    let context = BuildContext { app, app_dir, build_dir: &build_dir };
    let mut built = Vec::with_capacity(app.components.len());
    for builder in builders(profile) {
        let components: Vec<_> = components(app).filter(|component| builder.builds(component.source)).collect();
        if !components.is_empty() {
            built.extend(builder.build(&context, &components, report)?);
        }
    }
    remove_leftovers_of(&context);
    built.sort_by(|a, b| a.component.cmp(&b.component));
    Ok(built)
}

/// Returns the profile with which the least has to be built to make all components up to date. Used if both profiles will
/// do, because only the types of the components matter. It is [`BuildProfile::Release`] unless more components were
/// built with [`BuildProfile::Dev`].
///
/// # Errors
/// If the environment selects an unknown toolchain.
pub fn cheapest_profile(app: &App, app_dir: &Path) -> Result<BuildProfile, BuildError> {
    let build_dir = &app_dir.join(BUILD_DIR);
    let context = BuildContext { app, app_dir, build_dir };
    let count = |profile| CargoBuilder::new(profile).count(&context, components(app));
    let (release, dev) = (count(BuildProfile::Release)?, count(BuildProfile::Dev)?);
    Ok(if dev > release { BuildProfile::Dev } else { BuildProfile::Release })
}

/// Returns an error for each source that does not exist, in the order of the components. A source is the folder of a
/// Cargo package, or a file. No error is returned for a file that the command of another component may make.
pub fn missing_sources(app: &App, app_dir: &Path) -> Vec<BuildError> {
    let build_dir = &app_dir.join(BUILD_DIR);
    let context = BuildContext { app, app_dir, build_dir };
    let builders = builders(BuildProfile::Release);
    let missing = components(app).flat_map(|component| {
        let builder = builders.iter().filter(move |builder| builder.builds(component.source));
        let context = &context;
        builder.filter_map(move |builder| builder.missing_source(context, component))
    });
    missing.collect()
}

/// Returns the paths to watch for an app: its manifest, its packages and migrations, the files that the last build read
/// outside of the packages, and the files that commands read (all files in the app's folder if the manifest does not
/// list them). A granted folder is also watched, but only for its creation and removal.
pub fn watch_paths(app: &App, app_dir: &Path, profile: BuildProfile) -> WatchSet {
    let mut set = WatchSet::default();
    set.add(app_dir.join(MANIFEST_FILE));
    let build_dir = &app_dir.join(BUILD_DIR);
    let context = BuildContext { app, app_dir, build_dir };
    let builders = builders(profile);
    for component in components(app) {
        for builder in builders.iter().filter(|builder| builder.builds(component.source)) {
            builder.watch(&context, component, &mut set);
        }
    }
    for folder in app.sql.values().filter_map(|store| store.migrations.as_ref()) {
        set.add_tree(app_dir.join(folder));
    }
    // A granted folder is watched like a file: what it contains does not matter, but an app cannot start without it.
    for grant in app.components.values().flat_map(|component| &component.grants.dirs) {
        set.add(app_dir.join(&grant.value.host));
    }
    set
}

/// Removes the results of builds from the app's folder: components, records, and copies of Cargo's artifacts. Cargo's
/// target folder and files that commands made elsewhere are kept.
///
/// # Errors
/// If a file or folder cannot be removed.
pub fn clean(app_dir: &Path) -> Result<(), PathError> {
    remove(&app_dir.join(BUILD_DIR))
}

fn components(app: &App) -> impl Iterator<Item = SourceComponent<'_>> {
    app.components.iter().map(|(name, component)| SourceComponent { name, source: &component.source.value })
}

/// Removes the files that were built for components that the app no longer has, or whose source is now of another kind.
fn remove_leftovers_of(context: &BuildContext<'_>) {
    let BuildContext { app, app_dir, build_dir } = *context;
    let named: BTreeSet<PathBuf> = components(app)
        .filter_map(|component| match component.source {
            ComponentSource::Wasm(wasm) | ComponentSource::Command { wasm, .. } => Some(app_dir.join(wasm)),
            ComponentSource::Cargo(_) | ComponentSource::Registry(_) => None,
        })
        .collect();
    let is_cargo = |name: &str| {
        let component = app.components.get(name);
        component.map(|component| matches!(component.source.value, ComponentSource::Cargo(_)))
    };
    // A file is kept if the manifest names it as a component.
    remove_leftovers(build_dir, |name, kind| {
        is_cargo(name).is_some_and(|cargo| cargo || kind == "json")
            || named.contains(&build_dir.join(format!("{name}.{kind}")))
    });
    remove_leftovers(&build_dir.join(DEV_DIR), |name, _| is_cargo(name) == Some(true));
}
