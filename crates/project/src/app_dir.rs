//! Finding an app on disk: its manifest, read and checked, and its components, built and read.
//!
//! An app is named by its folder (or one inside it), by its isomer.toml, or by a component that answers HTTP. The last one has no manifest;
//! it gets the one that would say so ([`manifest_of`]), so that every command treats all apps alike.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use isomer_console::{CommandError, Console};
use isomer_diagnostics::{Diagnostic, SourceFile, Span};
use isomer_ids::ComponentName;
use isomer_manifest::{App, Grants, MANIFEST_FILE};
use isomer_plan::Plan;
use isomer_seam::{Components, PlanError};
use isomer_toolchain::{BuildError, Built, Profile, Progress as BuildProgress, build_app_as, missing_sources};

use crate::paths::shown;
use crate::values::{ValueSources, Values};
use crate::wasm_file::WasmFile;

/// An app with a manifest.
pub struct AppDir {
    /// What opens it again: its folder, or its component's file.
    pub path: PathBuf,
    /// Where relative paths of the manifest begin.
    pub dir: PathBuf,
    /// The manifest's text.
    pub source: SourceFile,
    /// What the manifest says, with the values from outside of it.
    pub app: App,
    /// Warnings about the manifest.
    pub warnings: Vec<Diagnostic>,
    /// Variables for its secrets, and what else came from outside of the manifest.
    pub values: Values,
}

impl AppDir {
    /// Where data, built components and compiled code lie, in its folder.
    pub const OWN_DIR: &str = ".isomer";

    /// As [`AppDir::open`], for commands that run or deploy the app: with the values that the flags and the app's `.env` give.
    pub fn open_with(path: &Path, flags: &ValueSources) -> Result<Self, CommandError> {
        let mut opened = Self::open(path)?;
        opened.values = match is_component(path) {
            true => flags.read_for_component(&opened.app)?,
            false => flags.read(&opened.dir, &opened.app)?,
        };
        opened.values.apply(&mut opened.app);
        Ok(opened)
    }

    /// Reads the app that `path` names: a manifest, a folder that has one or lies below one that has, or a component's file.
    pub fn open(path: &Path) -> Result<Self, CommandError> {
        if is_component(path) {
            return Self::of_component(path);
        }
        let dir = find_app_dir(path)?;
        let path = dir.join(MANIFEST_FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let source = SourceFile::new(shown(&path), text);
        let parsed = isomer_manifest::parse(&source).map_err(CommandError::Findings)?;
        Ok(Self {
            path: dir.clone(),
            dir,
            source,
            app: parsed.app,
            warnings: parsed.warnings,
            values: Values::default(),
        })
    }

    /// The app that has nothing but this component, which answers every path.
    fn of_component(path: &Path) -> Result<Self, CommandError> {
        WasmFile::open(path)?.check_http()?;
        // Where it was named, even if that is a link: what belongs to the app lies beside it.
        let absolute = std::path::absolute(path).map_err(|error| cannot_open(path, error))?;
        let folder = absolute.parent().unwrap_or(Path::new("/"));
        let dir = folder.canonicalize().map_err(|error| cannot_open(path, error))?;
        let path = dir.join(absolute.file_name().unwrap_or_default());
        let source = SourceFile::new(shown(&path), manifest_of(&path));
        let parsed = isomer_manifest::parse(&source).map_err(CommandError::Findings)?;
        Ok(Self { path, dir, source, app: parsed.app, warnings: parsed.warnings, values: Values::default() })
    }

    /// The manifest's text with the values that came from outside, for a node or another process.
    pub fn manifest(&self) -> anyhow::Result<SourceFile> {
        Ok(SourceFile::new(self.source.name(), self.values.manifest(&self.source)?))
    }

    /// Prints what the manifest's checks have to say.
    pub fn print_warnings(&self, console: &Console) {
        if !self.warnings.is_empty() {
            console.message(&console.renderer().diagnostics(&self.warnings));
        }
    }

    /// Brings all components up to date, as they are shipped.
    pub fn build(&self, console: &Console) -> Result<Vec<Built>, CommandError> {
        self.build_as(Profile::Release, console)
    }

    /// Brings all components up to date.
    ///
    /// # Errors
    /// When a source is missing (then nothing is built), when one cannot be built, or when the manifest names a folder of migrations that is
    /// not there (afterwards: a command may make it).
    pub fn build_as(&self, profile: Profile, console: &Console) -> Result<Vec<Built>, CommandError> {
        let missing = missing_sources(&self.app, &self.dir);
        if !missing.is_empty() {
            let missing = missing.iter().filter_map(|error| self.missing_source(error)).collect();
            return Err(CommandError::findings(missing, &self.source));
        }
        let progress = console.progress();
        progress.step("looking at the components");
        let mut report = |step: BuildProgress<'_>| match step {
            BuildProgress::Step(text) => progress.step(text),
            BuildProgress::Output(text) => progress.line(text),
        };
        let built = build_app_as(&self.app, &self.dir, profile, &mut report).map_err(|error| self.not_built(error))?;
        self.check_migrations()?;
        Ok(built)
    }

    /// Plans the app in one of its shapes. `components` are the bytes of its built components.
    ///
    /// # Errors
    /// If the app has no such shape, or if the plan refuses the app.
    pub fn plan(&self, components: &Components, shape: &str) -> Result<Plan, CommandError> {
        isomer_seam::plan(&self.app, components, shape).map_err(|error| match error {
            PlanError::Refused(mut findings) if !self.app.shapes.contains_key(shape) && findings.len() == 1 => {
                CommandError::UsageFinding(findings.remove(0))
            }
            PlanError::Refused(findings) => CommandError::findings(findings, &self.source),
            PlanError::Component { ref source, .. } => {
                let hint = source.hint();
                CommandError::hinted(error, hint)
            }
        })
    }

    /// Otherwise only the start of the app would find it, without the place.
    fn check_migrations(&self) -> Result<(), CommandError> {
        let mut found = Vec::new();
        for (name, store) in &self.app.sql {
            let Some(folder) = &store.migrations else { continue };
            let folder = self.dir.join(folder);
            if !folder.is_dir() {
                let problem = if folder.exists() { "is no folder" } else { "is not there" };
                found.push(
                    Diagnostic::error(format!("the migrations of the SQL store `{name}`: `{}` {problem}", folder.display()))
                        .code("missing-folder")
                        .at(store.migrations_at, "")
                        .hint("make the folder, with its `.sql` files, or correct `migrations`, which is relative to isomer.toml"),
                );
            }
        }
        if found.is_empty() { Ok(()) } else { Err(CommandError::findings(found, &self.source)) }
    }

    /// Why the components are not up to date. A source that is not there is the manifest's mistake, and is told with its place; so is a command
    /// that fails, which need not be one.
    fn not_built(&self, error: BuildError) -> CommandError {
        if let Some(finding) = self.missing_source(&error) {
            return CommandError::findings(vec![finding], &self.source);
        }
        let hints = error.hints();
        match &error {
            BuildError::Command { component, .. } => {
                let finding =
                    Diagnostic::error(error.to_string()).code("command-failed").at(self.source_at(component), "");
                let finding = hints.into_iter().fold(finding, Diagnostic::hint);
                CommandError::Findings(vec![finding.in_source(&self.source)])
            }
            _ => CommandError::hinted(error, hints),
        }
    }

    /// The finding about a source that is not there, if the error is one.
    fn missing_source(&self, error: &BuildError) -> Option<Diagnostic> {
        let (component, found) = match error {
            BuildError::NoFile { component, .. } => (component, None),
            // Where there is no package at all, Cargo has nothing to add.
            BuildError::NoPackage { component, dir, output } => {
                (component, dir.join("Cargo.toml").is_file().then_some(output.trim()))
            }
            _ => return None,
        };
        let finding = Diagnostic::error(error.to_string()).code("missing-source").at(self.source_at(component), "");
        let finding = found.filter(|text| !text.is_empty()).into_iter().fold(finding, Diagnostic::note);
        Some(error.hints().into_iter().fold(finding, Diagnostic::hint))
    }

    /// Where the source of a component stands in the manifest.
    fn source_at(&self, component: &ComponentName) -> Span {
        self.app.components.get(component).map(|component| component.source.span).unwrap_or_default()
    }
}

/// Is this a component's file, rather than an app's folder or manifest? What is named `.wasm` is meant as a file even if it is not there.
pub fn is_component(path: &Path) -> bool {
    let has = |wanted: &str| path.extension().is_some_and(|extension| extension == wanted);
    (path.is_file() && !has("toml")) || (has("wasm") && !path.is_dir())
}

/// The manifest of an app that is nothing but this component.
fn manifest_of(wasm: &Path) -> String {
    let name = App::single(wasm, Grants::default()).name;
    let file = wasm.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = toml::Value::String(file);
    format!(
        "[app]\nname = \"{name}\"\nversion = \"0.0.0\"\n\n[components.{name}]\nwasm = {file}\nroutes = [\"/...\"]\n"
    )
}

/// Reads the bytes of built components.
pub fn read_components(built: &[Built]) -> Result<Components, CommandError> {
    let read = |built: &Built| -> Result<(ComponentName, Arc<[u8]>), CommandError> {
        let bytes = std::fs::read(&built.wasm_path).with_context(|| {
            format!("cannot read component `{}` from `{}`", built.component, built.wasm_path.display())
        })?;
        Ok((built.component.clone(), bytes.into()))
    };
    built.iter().map(read).collect::<Result<BTreeMap<_, _>, _>>()
}

/// The app's folder: that of the manifest `start`; the folder `start`, or the nearest one above it with a manifest.
pub fn find_app_dir(start: &Path) -> Result<PathBuf, CommandError> {
    // The name is looked at before links are followed: one that is called isomer.toml may lead anywhere.
    let is_manifest = start.file_name().is_some_and(|name| name == MANIFEST_FILE) && !start.is_dir();
    let start = match start.parent() {
        Some(parent) if is_manifest && start.exists() => {
            if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            }
        }
        _ => start,
    };
    let absolute = start.canonicalize().map_err(|error| cannot_open(start, error))?;
    if absolute.is_file() {
        return Err(CommandError::usage(
            format!("`{}` is no app: neither a folder nor an {MANIFEST_FILE}", start.display()),
            format!("name the app's folder; its manifest is called {MANIFEST_FILE}"),
        ));
    }
    let found = absolute.ancestors().find(|dir| dir.join(MANIFEST_FILE).is_file());
    found.map(Path::to_owned).ok_or_else(|| {
        CommandError::usage(
            format!("there is no `{MANIFEST_FILE}` in `{}` or above it", start.display()),
            "name the app's folder, or make a new app with `isomer new NAME`",
        )
    })
}

fn cannot_open(path: &Path, error: std::io::Error) -> CommandError {
    CommandError::Usage(anyhow::Error::new(error).context(format!("cannot open `{}`", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_gets_a_manifest_that_means_it() {
        for (file, name) in [("hello.wasm", "hello"), ("My \"odd\" file.wasm", "my-odd-file"), ("1.wasm", "app")] {
            let source = SourceFile::new("x", manifest_of(Path::new(file)));
            let app = isomer_manifest::parse(&source).unwrap_or_else(|found| panic!("{file}: {found:?}")).app;
            let component = &app.components[&ComponentName::new(&app.name).unwrap()];
            assert_eq!(component.source.value, isomer_manifest::ComponentSource::Wasm(file.into()));
            assert_eq!((app.name.as_str(), component.routes.len()), (name, 1), "{file}");
        }
    }

    #[test]
    fn an_app_is_its_folder_or_its_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let (app, inner) = (dir.path().join("app"), dir.path().join("app/src/inner"));
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(app.join(MANIFEST_FILE), "").unwrap();
        std::fs::write(app.join("other.toml"), "").unwrap();
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(app.join("other.toml"), elsewhere.join(MANIFEST_FILE)).unwrap();
        let found = |path: &Path| find_app_dir(path).ok().map(|dir| dir.file_name().unwrap().to_owned());
        for path in [&app, &inner, &app.join(MANIFEST_FILE)] {
            assert_eq!(found(path).unwrap(), "app", "{}", path.display());
        }
        assert_eq!(found(&elsewhere.join(MANIFEST_FILE)).unwrap(), "elsewhere");
        for path in [&app.join("other.toml"), &inner.join(MANIFEST_FILE)] {
            assert!(found(path).is_none(), "{}", path.display());
        }
    }
}
