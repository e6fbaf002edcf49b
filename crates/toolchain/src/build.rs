//! Building an app: every component's source becomes a file of bytes, and only what has changed is done again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use isomer_manifest::{App, Component, ComponentName, Source};

use crate::cargo_source::{self, Artifact, Wanted};
use crate::command_source;
use crate::files::{at, make_dir, remove, replace};
use crate::inputs::Scope;
use crate::profile::settings;
use crate::record::{
    BUILD_DIR, DEV_DIR, Inputs, Record, Stamp, build_dir, cargo_dir, digest, remove_leftovers, source_text, stamps,
};
use crate::variables::{Variables, are_unchanged};
use crate::{BuildError, GuestToolchain, Origin, PathError, Profile, Reporter};

/// A component that is up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Which.
    pub component: ComponentName,
    /// Its bytes. Cargo's components are copied into `.isomer/build`, where they stay whole while Cargo builds the next.
    pub wasm_path: PathBuf,
    /// Has it other bytes than after the last build?
    pub changed: bool,
    /// How long building it took; `None` where it was up to date. Packages that one invocation of Cargo built share its time.
    pub took: Option<Duration>,
}

/// Bring all components of the app in `app_dir` up to date, and give them in the order of their names.
///
/// Packages of one Cargo workspace are built by one invocation of Cargo. Where no toolchain for guests is installed and one is
/// needed, it is installed. When nothing has changed, no program is started.
pub fn build_app(app: &App, app_dir: &Path, report: Reporter<'_>) -> Result<Vec<Built>, BuildError> {
    build_app_as(app, app_dir, Profile::Release, report)
}

/// As [`build_app`], with a profile of Cargo's. What one profile built is never taken for what another one would.
pub fn build_app_as(
    app: &App,
    app_dir: &Path,
    profile: Profile,
    report: Reporter<'_>,
) -> Result<Vec<Built>, BuildError> {
    let app_dir = &app_dir.canonicalize().map_err(at(app_dir, "found"))?;
    let build_dir = build_dir(app_dir)?;
    let cargo_dir = cargo_dir(&build_dir, profile);
    make_dir(&cargo_dir)?;
    let mut builder = Builder {
        app,
        app_dir,
        build_dir: &build_dir,
        cargo_dir: &cargo_dir,
        chosen: Origin::chosen()?,
        settings: settings(profile),
        built: Vec::new(),
    };
    let mut cargo = Vec::new();
    for (name, component) in &app.components {
        let last = builder.record(name);
        if let Some(record) = last.as_ref().filter(|record| builder.is_fresh(record, name, component)) {
            let wasm_path = record.output.clone();
            builder.built.push(Built { component: name.clone(), wasm_path, changed: false, took: None });
            if let Source::Cargo(dir) = &component.source.value {
                cargo.push(Wanted { component: name.clone(), dir: app_dir.join(dir), stale: false });
            }
            continue;
        }
        let source = &component.source.value;
        match source {
            Source::Cargo(dir) => {
                cargo.push(Wanted { component: name.clone(), dir: app_dir.join(dir), stale: true });
            }
            Source::Wasm(wasm) => builder.wasm(name, source, app_dir.join(wasm), last)?,
            Source::Command { command, wasm, inputs } => {
                let began = Instant::now();
                let wasm = app_dir.join(wasm);
                let scope = builder.scope(name, inputs.as_deref(), &wasm);
                let (outcome, done) = command_source::build(name, command, &scope, last.as_ref(), report)?;
                let (inputs, made, in_doubt) = (outcome.inputs, outcome.made, outcome.in_doubt);
                let known = Known { inputs, made, in_doubt, ..Known::default() };
                if let Err(error) = done {
                    builder.fail(name, source, wasm, known, last)?;
                    return Err(error);
                }
                builder.finish(name, source, wasm, known, last, Some(began.elapsed()))?;
            }
        }
    }
    if cargo.iter().any(|wanted| wanted.stale) {
        let toolchain = toolchain(builder.chosen, report)?;
        let (began, clock) = (SystemTime::now(), Instant::now());
        let artifacts = cargo_source::build(cargo, &toolchain, profile, report)?;
        let took = clock.elapsed();
        for artifact in artifacts {
            // One that was up to date may have been changed since it was looked at, or be made of other dependencies now.
            builder.built.retain(|built| built.component != artifact.component);
            let took = artifact.stale.then_some(took);
            builder.cargo(artifact, toolchain.origin(), began, took)?;
        }
    }
    builder.remove_leftovers();
    builder.built.sort_by(|a, b| a.component.cmp(&b.component));
    Ok(builder.built)
}

/// Sources that are not there, in the order of the components: folders without a Cargo package, and files. A file that a command of another
/// component may make is none of them.
pub fn missing_sources(app: &App, app_dir: &Path) -> Vec<BuildError> {
    let sources = || app.components.iter().map(|(name, component)| (name, &component.source.value));
    let has_command = sources().any(|(_, source)| matches!(source, Source::Command { .. }));
    let missing = sources().filter_map(|(name, source)| match source {
        Source::Cargo(dir) => {
            let (component, dir) = (name.clone(), app_dir.join(dir));
            let is_missing = !dir.join("Cargo.toml").exists();
            is_missing.then(|| BuildError::NoPackage { component, dir, output: String::new() })
        }
        Source::Wasm(wasm) if !has_command => {
            let (component, path) = (name.clone(), app_dir.join(wasm));
            (!path.is_file()).then_some(BuildError::NoFile { component, path, made_by: None })
        }
        Source::Wasm(_) | Source::Command { .. } => None,
    });
    missing.collect()
}

/// The toolchain of this process: looking for it starts programs, which a development server would do for each edit.
fn toolchain(chosen: Option<Origin>, report: Reporter<'_>) -> Result<GuestToolchain, BuildError> {
    static FOUND: Mutex<Option<(Option<Origin>, GuestToolchain)>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    match &*found {
        Some((origin, toolchain)) if *origin == chosen => Ok(toolchain.clone()),
        _ => Ok(found.insert((chosen, GuestToolchain::find_or_install(report)?)).1.clone()),
    }
}

/// Removes what builds have left in the app's folder: components, records, and the copies of what Cargo made. Cargo's own target folder,
/// and what commands have made, stay.
pub fn clean(app_dir: &Path) -> Result<(), PathError> {
    remove(&app_dir.join(BUILD_DIR))
}

struct Builder<'a> {
    app: &'a App,
    app_dir: &'a Path,
    build_dir: &'a Path,
    /// Where what Cargo builds for this profile lies, with its records.
    cargo_dir: &'a Path,
    /// The toolchain that the user asks for; `None`: what another one built is as good.
    chosen: Option<Origin>,
    /// What else chooses the code that Cargo makes.
    settings: String,
    built: Vec<Built>,
}

/// What is known of a build, for its record.
#[derive(Default)]
struct Known {
    toolchain: Option<Origin>,
    settings: String,
    variables: Variables,
    inputs: Inputs,
    made: BTreeSet<PathBuf>,
    in_doubt: BTreeSet<PathBuf>,
}

impl Known {
    fn record(self, source: &Source, output: PathBuf, output_stamp: Option<Stamp>, digest: String) -> Record {
        let Self { toolchain, settings, variables, inputs, made, in_doubt } = self;
        let source = source_text(source);
        Record { source, toolchain, settings, variables, inputs, made, in_doubt, output, output_stamp, digest }
    }
}

impl Builder<'_> {
    fn is_fresh(&self, record: &Record, name: &ComponentName, component: &Component) -> bool {
        let source = &component.source.value;
        match source {
            Source::Cargo(_) => {
                record.is_fresh(source, &BTreeSet::new())
                    && record.settings == self.settings
                    && are_unchanged(&record.variables)
                    && (self.chosen.is_none() || self.chosen == record.toolchain)
            }
            Source::Command { inputs, wasm, .. } => {
                let wasm = self.app_dir.join(wasm);
                let scope = self.scope(name, inputs.as_deref(), &wasm);
                record.is_fresh(source, &scope.foreign) && !scope.has_new_files(record)
            }
            Source::Wasm(_) => record.is_fresh(source, &BTreeSet::new()),
        }
    }

    fn scope<'s>(&'s self, name: &ComponentName, inputs: Option<&'s [PathBuf]>, wasm: &'s Path) -> Scope<'s> {
        Scope::of(name, inputs, wasm, self.app, self.app_dir, |other| self.record(other))
    }

    /// Where the record of a component lies.
    fn dir_of(&self, name: &ComponentName) -> &Path {
        match &self.app.components[name].source.value {
            Source::Cargo(_) => self.cargo_dir,
            Source::Wasm(_) | Source::Command { .. } => self.build_dir,
        }
    }

    /// The record of a component's last build.
    fn record(&self, name: &ComponentName) -> Option<Record> {
        Record::load(self.dir_of(name), name)
    }

    /// Removes what was built for components that the app no longer has, or that come from elsewhere now.
    fn remove_leftovers(&self) {
        let named: BTreeSet<PathBuf> = self
            .app
            .components
            .values()
            .filter_map(|component| match &component.source.value {
                Source::Wasm(wasm) | Source::Command { wasm, .. } => Some(self.app_dir.join(wasm)),
                Source::Cargo(_) => None,
            })
            .collect();
        let is_cargo = |name: &str| {
            let component = self.app.components.get(name);
            component.map(|component| matches!(component.source.value, Source::Cargo(_)))
        };
        // A manifest may name a file in this folder as the component.
        let own = self.build_dir;
        remove_leftovers(own, |name, kind| {
            is_cargo(name).is_some_and(|cargo| cargo || kind == "json")
                || named.contains(&own.join(format!("{name}.{kind}")))
        });
        remove_leftovers(&own.join(DEV_DIR), |name, _| is_cargo(name) == Some(true));
    }

    fn wasm(
        &mut self,
        name: &ComponentName,
        source: &Source,
        path: PathBuf,
        last: Option<Record>,
    ) -> Result<(), BuildError> {
        if !path.is_file() {
            return Err(BuildError::NoFile { component: name.clone(), path, made_by: None });
        }
        self.finish(name, source, path, Known::default(), last, None)
    }

    /// Copy Cargo's artifact into the app's own folder, unless the same bytes are there.
    fn cargo(
        &mut self,
        artifact: Artifact,
        toolchain: Origin,
        began: SystemTime,
        took: Option<Duration>,
    ) -> Result<(), BuildError> {
        let Artifact { component: name, wasm, inputs, variables, .. } = artifact;
        let last = self.record(&name);
        let path = self.cargo_dir.join(format!("{name}.wasm"));
        let bytes = fs::read(&wasm).map_err(at(&wasm, "read"))?;
        if fs::read(&path).ok().as_deref() != Some(&bytes) {
            replace(&path, &bytes)?;
        }
        let settings = self.settings.clone();
        let (toolchain, inputs) = (Some(toolchain), stamps(inputs, began));
        let known = Known { toolchain, settings, variables, inputs, ..Known::default() };
        let source = &self.app.components[&name].source.value;
        self.finish(&name, source, path, known, last, took)
    }

    /// Records what a command has made that failed. Such a record is never fresh.
    fn fail(
        &self,
        name: &ComponentName,
        source: &Source,
        output: PathBuf,
        known: Known,
        last: Option<Record>,
    ) -> Result<(), BuildError> {
        let digest = last.map(|last| last.digest).unwrap_or_default();
        Ok(known.record(source, output, None, digest).store(self.dir_of(name), name)?)
    }

    /// Write down what was built.
    fn finish(
        &mut self,
        name: &ComponentName,
        source: &Source,
        output: PathBuf,
        known: Known,
        last: Option<Record>,
        took: Option<Duration>,
    ) -> Result<(), BuildError> {
        let output_stamp = Stamp::of(&output);
        let digest = digest(&output)?;
        let changed = last.is_none_or(|last| last.digest != digest);
        known.record(source, output.clone(), output_stamp, digest).store(self.dir_of(name), name)?;
        self.built.push(Built { component: name.clone(), wasm_path: output, changed, took });
        Ok(())
    }
}
