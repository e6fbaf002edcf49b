//! Building an app: every component's source becomes a file of bytes, and only what has changed is done again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use isomer_manifest::{App, Component, ComponentName, Source};

use crate::cargo_source::{self, Artifact, Wanted};
use crate::command_source;
use crate::files::{at, replace};
use crate::record::{Inputs, Record, Stamp, build_dir, digest, source_text, stamps};
use crate::{BuildError, GuestToolchain, Origin, Reporter};

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
    let app_dir = &app_dir.canonicalize().map_err(at(app_dir, "found"))?;
    let build_dir = build_dir(app_dir)?;
    let mut builder = Builder { app_dir, build_dir: &build_dir, chosen: Origin::chosen()?, built: Vec::new() };
    let mut cargo = Vec::new();
    for (name, component) in &app.components {
        let last = Record::load(&build_dir, name);
        if let Some(record) = last.as_ref().filter(|record| builder.is_fresh(record, component)) {
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
            Source::Command { command, wasm } => {
                let began = Instant::now();
                let wasm = app_dir.join(wasm);
                let outcome = command_source::build(name, command, &wasm, app_dir, last.as_ref(), report)?;
                let known =
                    Known { toolchain: None, inputs: outcome.inputs, made: outcome.made, in_doubt: outcome.in_doubt };
                builder.finish(name, source, wasm, known, last, Some(began.elapsed()))?;
            }
        }
    }
    if cargo.iter().any(|wanted| wanted.stale) {
        let toolchain = GuestToolchain::find_or_install(report)?;
        let (began, clock) = (SystemTime::now(), Instant::now());
        let artifacts = cargo_source::build(cargo, &toolchain, report)?;
        let took = clock.elapsed();
        for artifact in artifacts {
            // One that was up to date may have been changed since it was looked at, or be made of other dependencies now.
            builder.built.retain(|built| built.component != artifact.component);
            let took = artifact.stale.then_some(took);
            builder.cargo(app, artifact, toolchain.origin(), began, took)?;
        }
    }
    builder.built.sort_by(|a, b| a.component.cmp(&b.component));
    Ok(builder.built)
}

struct Builder<'a> {
    app_dir: &'a Path,
    build_dir: &'a Path,
    /// The toolchain that the user asks for; `None`: what another one built is as good.
    chosen: Option<Origin>,
    built: Vec<Built>,
}

/// What is known of a build, for its record.
#[derive(Default)]
struct Known {
    toolchain: Option<Origin>,
    inputs: Inputs,
    made: BTreeSet<PathBuf>,
    in_doubt: BTreeSet<PathBuf>,
}

impl Builder<'_> {
    fn is_fresh(&self, record: &Record, component: &Component) -> bool {
        let source = &component.source.value;
        record.is_fresh(source)
            && match source {
                Source::Cargo(_) => self.chosen.is_none() || self.chosen == record.toolchain,
                Source::Command { .. } => !command_source::has_new_inputs(record, self.app_dir),
                Source::Wasm(_) => true,
            }
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
        app: &App,
        artifact: Artifact,
        toolchain: Origin,
        began: SystemTime,
        took: Option<Duration>,
    ) -> Result<(), BuildError> {
        let Artifact { component: name, wasm, inputs, .. } = artifact;
        let last = Record::load(self.build_dir, &name);
        let path = self.build_dir.join(format!("{name}.wasm"));
        let bytes = fs::read(&wasm).map_err(at(&wasm, "read"))?;
        if fs::read(&path).ok().as_deref() != Some(&bytes) {
            replace(&path, &bytes)?;
        }
        let known = Known { toolchain: Some(toolchain), inputs: stamps(inputs, began), ..Known::default() };
        let source = &app.components[&name].source.value;
        self.finish(&name, source, path, known, last, took)
    }

    /// Write down what was built.
    fn finish(
        &mut self,
        name: &ComponentName,
        source: &Source,
        output: PathBuf,
        Known { toolchain, inputs, made, in_doubt }: Known,
        last: Option<Record>,
        took: Option<Duration>,
    ) -> Result<(), BuildError> {
        let output_stamp = Stamp::of(&output);
        let digest = digest(&output)?;
        let changed = last.is_none_or(|last| last.digest != digest);
        let record = Record {
            source: source_text(source),
            toolchain,
            inputs,
            made,
            in_doubt,
            output: output.clone(),
            output_stamp,
            digest,
        };
        record.store(self.build_dir, name)?;
        self.built.push(Built { component: name.clone(), wasm_path: output, changed, took });
        Ok(())
    }
}
