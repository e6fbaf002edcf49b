//! Building an app: every component's source becomes a file of bytes, and only what has changed is built again.

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

/// The builders, in the order in which they run: a command may make the file of another component.
fn builders(profile: BuildProfile) -> [Box<dyn Builder>; 3] {
    [Box::new(CommandBuilder), Box::new(FileBuilder), Box::new(CargoBuilder::new(profile))]
}

/// Brings all components of the app in `app_dir` up to date, and returns them in the order of their names.
///
/// When nothing has changed, no program is started. Nothing is installed: if there is no toolchain for guests, the error's hints say
/// how to install one.
///
/// # Errors
/// If a component cannot be built. Those before it may have been.
pub fn build_app(app: &App, app_dir: &Path, report: ProgressReporter<'_>) -> Result<Vec<BuiltComponent>, BuildError> {
    build_app_as(app, app_dir, BuildProfile::Release, report)
}

/// As [`build_app`], with a profile of Cargo's. A component that was built with one profile is not up to date for another one.
///
/// # Errors
/// As [`build_app`].
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

/// Returns an error for each source that does not exist, in the order of the components: folders without a Cargo package, and files. A
/// file is not missing if the command of another component may make it.
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

/// Returns the files to watch for an app: its manifest, its packages, the files outside of the packages that went into
/// the last build, the files that a command reads (or the whole folder if they are not known), its migrations, and
/// whether the folders that it is granted exist.
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
    // As files: their content is the component's business, but without them it does not start.
    for grant in app.components.values().flat_map(|component| &component.grants.dirs) {
        set.add(app_dir.join(&grant.value.host));
    }
    set
}

/// Removes the results of builds in the app's folder: components, records, and the copies of Cargo's artifacts. Cargo's
/// own target folder and the files that commands have created stay.
///
/// # Errors
/// If something cannot be removed.
pub fn clean(app_dir: &Path) -> Result<(), PathError> {
    remove(&app_dir.join(BUILD_DIR))
}

fn components(app: &App) -> impl Iterator<Item = SourceComponent<'_>> {
    app.components.iter().map(|(name, component)| SourceComponent { name, source: &component.source.value })
}

/// Removes what was built for components that the app no longer has, or whose source is of another kind now.
fn remove_leftovers_of(context: &BuildContext<'_>) {
    let BuildContext { app, app_dir, build_dir } = *context;
    let named: BTreeSet<PathBuf> = components(app)
        .filter_map(|component| match component.source {
            ComponentSource::Wasm(wasm) | ComponentSource::Command { wasm, .. } => Some(app_dir.join(wasm)),
            ComponentSource::Cargo(_) => None,
        })
        .collect();
    let is_cargo = |name: &str| {
        let component = app.components.get(name);
        component.map(|component| matches!(component.source.value, ComponentSource::Cargo(_)))
    };
    // A manifest may name a file in this folder as the component.
    remove_leftovers(build_dir, |name, kind| {
        is_cargo(name).is_some_and(|cargo| cargo || kind == "json")
            || named.contains(&build_dir.join(format!("{name}.{kind}")))
    });
    remove_leftovers(&build_dir.join(DEV_DIR), |name, _| is_cargo(name) == Some(true));
}
