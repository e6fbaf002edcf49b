//! Finding an app on disk, reading its manifest, and building its components.
//!
//! The path of an app is its folder (or a folder inside it), its isomer.toml, or the file of a component that handles
//! HTTP requests. A manifest is generated for such a component ([`manifest_of`]), so that commands treat all apps
//! alike.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use isomer_console::{CliError, Console};
use isomer_diagnostics::{Diagnostic, SourceFile, Span};
use isomer_ids::ComponentName;
use isomer_manifest::{App, Grants, MANIFEST_FILE};
use isomer_plan::Plan;
use isomer_seam::{Components, PlanError};
use isomer_toolchain::{
    BuildError, BuildProfile, BuildProgress, BuiltComponent, build_app_as, cheapest_profile, missing_sources,
};

use crate::own_dir::{self, UnpackedComponents};
use crate::paths::shown;
use crate::registry_components;
use crate::values::{AppValues, ValueSources};
use crate::wasm_file::WasmFile;

/// An app on disk.
pub struct AppDir {
    /// The path from which the app can be opened again: its folder, or the file of its component.
    pub path: PathBuf,
    /// The folder against which relative paths in the manifest are resolved.
    pub dir: PathBuf,
    /// The manifest's text.
    pub source: SourceFile,
    /// The app that the manifest describes, with config values from flags and files.
    pub app: App,
    /// Warnings about the manifest.
    pub warnings: Vec<Diagnostic>,
    /// Config values and variables from flags, files and `.env`.
    pub values: AppValues,
    /// The components of an app that was built elsewhere; `None` if its components are built from its sources.
    pub(crate) unpacked: Option<UnpackedComponents>,
}

impl AppDir {
    /// The name of the folder, inside the app's folder, for data, built components and compiled code.
    pub const OWN_DIR: &str = own_dir::OWN_DIR;

    /// Opens the app like [`AppDir::open`], and applies the values from flags and from the app's `.env`. Used by
    /// commands that run or deploy the app.
    ///
    /// # Errors
    /// The errors of [`AppDir::open`]. Also fails if a value is not valid.
    pub fn open_with(path: &Path, flags: &ValueSources) -> Result<Self, CliError> {
        let mut opened = Self::open(path)?;
        opened.values = match is_component(path) {
            true => flags.read_for_component(&opened.app)?,
            false => flags.read(&opened.dir, &opened.app)?,
        };
        opened.values.apply(&mut opened.app);
        opened.warnings.append(&mut opened.values.warnings);
        Ok(opened)
    }

    /// Opens the app at `path`: a manifest, the app's folder or a folder in it, or a component's file.
    ///
    /// # Errors
    /// If there is no app at `path`, or if its manifest is not valid.
    pub fn open(path: &Path) -> Result<Self, CliError> {
        if is_component(path) {
            return Self::of_component(path);
        }
        let dir = find_app_dir(path)?;
        let path = dir.join(MANIFEST_FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let source = SourceFile::new(shown(&path), text);
        let parsed = isomer_manifest::parse(&source).map_err(CliError::Findings)?;
        Ok(Self {
            path: dir.clone(),
            dir,
            source,
            app: parsed.app,
            warnings: parsed.warnings,
            values: AppValues::default(),
            unpacked: None,
        })
    }

    /// Opens an app whose manifest is known, with the values from flags and from `.env` in `dir`.
    ///
    /// # Errors
    /// If the manifest or a value is not valid.
    pub fn of_manifest(dir: PathBuf, source: SourceFile, flags: &ValueSources) -> Result<Self, CliError> {
        let parsed = isomer_manifest::parse(&source).map_err(CliError::Findings)?;
        let values = flags.read(&dir, &parsed.app)?;
        let (app, warnings) = (parsed.app, parsed.warnings);
        let mut opened = Self { path: dir.clone(), dir, source, app, warnings, values, unpacked: None };
        opened.values.apply(&mut opened.app);
        opened.warnings.append(&mut opened.values.warnings);
        Ok(opened)
    }

    /// Opens the app that consists of one component, which receives the requests for all paths.
    fn of_component(path: &Path) -> Result<Self, CliError> {
        WasmFile::open(path)?.check_http()?;
        // A symbolic link to the component is not followed, because the app's files are next to the link.
        let absolute = std::path::absolute(path).map_err(|error| cannot_open(path, error))?;
        let folder = absolute.parent().unwrap_or(Path::new("/"));
        let dir = folder.canonicalize().map_err(|error| cannot_open(path, error))?;
        let path = dir.join(absolute.file_name().unwrap_or_default());
        let source = SourceFile::new(shown(&path), manifest_of(&path));
        let parsed = isomer_manifest::parse(&source).map_err(CliError::Findings)?;
        let (app, warnings) = (parsed.app, parsed.warnings);
        Ok(Self { path, dir, source, app, warnings, values: AppValues::default(), unpacked: None })
    }

    /// Returns whether the app is from a registry or an archive.
    pub fn is_unpacked(&self) -> bool {
        self.unpacked.is_some()
    }

    /// Returns the app's data directory: `.isomer` in its folder. The data of an app from a registry or an archive is not
    /// below the files of its release, to which its manifest may refer.
    pub fn data_dir(&self) -> PathBuf {
        let of_unpacked = self.unpacked.as_ref().and_then(|unpacked| unpacked.data.clone());
        of_unpacked.unwrap_or_else(|| self.dir.join(Self::OWN_DIR))
    }

    /// Returns the manifest's text with the config values from flags and files, for a node or another process.
    ///
    /// # Errors
    /// If the manifest's text is not TOML.
    pub fn manifest(&self) -> anyhow::Result<SourceFile> {
        Ok(SourceFile::new(self.source.name(), self.values.manifest(&self.source)?))
    }

    /// Prints the warnings about the manifest.
    pub fn print_warnings(&self, console: &Console) {
        if !self.warnings.is_empty() {
            console.message(&console.renderer().diagnostics(&self.warnings));
        }
    }

    /// Returns the bytes of the components. Builds those that are out of date, with Cargo's release profile, unless the
    /// app was built elsewhere.
    ///
    /// # Errors
    /// The errors of [`AppDir::build_as`].
    pub fn components(&self, console: &Console) -> Result<Components, CliError> {
        match &self.unpacked {
            Some(unpacked) => Ok(unpacked.components.clone()),
            None => read_components(&self.build(console)?),
        }
    }

    /// Builds all components that are out of date, with Cargo's release profile.
    ///
    /// # Errors
    /// The errors of [`AppDir::build_as`].
    pub fn build(&self, console: &Console) -> Result<Vec<BuiltComponent>, CliError> {
        self.build_as(BuildProfile::Release, console)
    }

    /// Builds all components that are out of date.
    ///
    /// # Errors
    /// If a component's source is missing (in this case nothing is built), if a component cannot be built, or if the
    /// manifest names a folder of migrations that does not exist. That folder is checked after the build, because a
    /// build command may create it.
    pub fn build_as(&self, profile: BuildProfile, console: &Console) -> Result<Vec<BuiltComponent>, CliError> {
        let missing = missing_sources(&self.app, &self.dir);
        if !missing.is_empty() {
            let missing = missing.iter().filter_map(|error| self.missing_source(error)).collect();
            return Err(CliError::findings(missing, &self.source));
        }
        let resolved = registry_components::resolve(&self.dir, &self.app, console)?;
        let app = resolved.as_ref().unwrap_or(&self.app);
        let progress = console.progress();
        progress.step("checking the components");
        let mut report = |step: BuildProgress<'_>| match step {
            BuildProgress::Step(text) => progress.step(text),
            BuildProgress::Output(text) => progress.line(text),
        };
        let built = build_app_as(app, &self.dir, profile, &mut report).map_err(|error| self.build_error(error))?;
        self.check_migrations()?;
        Ok(built)
    }

    /// Builds the components that are out of date, for a command that reads only the types of the components. Uses the
    /// profile with which more components have already been built, and prints a note if it is not the release profile.
    ///
    /// # Errors
    /// The errors of [`AppDir::build_as`].
    pub fn build_for_types(&self, console: &Console) -> Result<Vec<BuiltComponent>, CliError> {
        let profile = cheapest_profile(&self.app, &self.dir).map_err(|error| self.build_error(error))?;
        let built = self.build_as(profile, console)?;
        if profile == BuildProfile::Dev {
            let name = profile.name();
            console.message(&format!(
                "using the components that `isomer dev` builds (profile {name}), not those of `isomer build`"
            ));
        }
        Ok(built)
    }

    /// Plans the app in the shape with the name `shape`. `components` are the bytes of its built components.
    ///
    /// # Errors
    /// If the app has no such shape, or if the plan refuses the app.
    pub fn plan(&self, components: &Components, shape: &str) -> Result<Plan, CliError> {
        isomer_seam::plan(&self.app, components, shape).map_err(|error| match error {
            PlanError::Refused(mut findings) if !self.app.shapes.contains_key(shape) && findings.len() == 1 => {
                CliError::UsageFinding(Box::new(findings.remove(0)))
            }
            PlanError::Refused(findings) => CliError::findings(findings, &self.source),
            PlanError::Component { ref source, .. } => {
                let hint = source.hint();
                CliError::hinted(error, hint)
            }
        })
    }

    /// Checks that the folders of migrations exist. Without this check, the app would fail only when it starts, and the
    /// error would not show the place in the manifest.
    pub(crate) fn check_migrations(&self) -> Result<(), CliError> {
        let mut found = Vec::new();
        for (name, store) in &self.app.sql {
            let Some(folder) = &store.migrations else { continue };
            let folder = self.dir.join(folder);
            if !folder.is_dir() {
                let problem = if folder.exists() { "is not a folder" } else { "does not exist" };
                found.push(
                    Diagnostic::error(format!("the migrations of the SQL store `{name}`: `{}` {problem}", folder.display()))
                        .code("missing-folder")
                        .at(store.migrations_at, "")
                        .hint("create the folder with its `.sql` files, or correct `migrations`, which is relative to isomer.toml"),
                );
            }
        }
        if found.is_empty() { Ok(()) } else { Err(CliError::findings(found, &self.source)) }
    }

    /// Converts a [`BuildError`] into a [`CliError`]. For a missing source or a failed command, the error shows the
    /// place in the manifest.
    fn build_error(&self, error: BuildError) -> CliError {
        if let Some(finding) = self.missing_source(&error) {
            return CliError::findings(vec![finding], &self.source);
        }
        let hints = error.hints();
        match &error {
            BuildError::Command { component, .. } => {
                let finding =
                    Diagnostic::error(error.to_string()).code("command-failed").at(self.source_at(component), "");
                let finding = hints.into_iter().fold(finding, Diagnostic::hint);
                CliError::Findings(vec![finding.in_source(&self.source)])
            }
            _ => CliError::hinted(error, hints),
        }
    }

    /// Returns a diagnostic if `error` means that a component's source is missing.
    fn missing_source(&self, error: &BuildError) -> Option<Diagnostic> {
        let (component, found) = match error {
            BuildError::NoFile { component, .. } => (component, None),
            // If the folder has no Cargo.toml, Cargo's output adds nothing to the error and is left out.
            BuildError::NoPackage { component, dir, output } => {
                (component, dir.join("Cargo.toml").is_file().then_some(output.trim()))
            }
            _ => return None,
        };
        let finding = Diagnostic::error(error.to_string()).code("missing-source").at(self.source_at(component), "");
        let finding = found.filter(|text| !text.is_empty()).into_iter().fold(finding, Diagnostic::note);
        Some(error.hints().into_iter().fold(finding, Diagnostic::hint))
    }

    /// Returns the place of a component's source in the manifest.
    fn source_at(&self, component: &ComponentName) -> Span {
        self.app.components.get(component).map(|component| component.source.span).unwrap_or_default()
    }
}

/// Returns whether `path` is a component's file and not an app's folder or manifest. A path that ends with `.wasm` is a
/// component's file even if it does not exist.
pub fn is_component(path: &Path) -> bool {
    let has = |wanted: &str| path.extension().is_some_and(|extension| extension == wanted);
    (path.is_file() && !has("toml")) || (has("wasm") && !path.is_dir())
}

/// Returns the generated manifest of an app that consists of the component `wasm`.
fn manifest_of(wasm: &Path) -> String {
    let name = App::single(wasm, Grants::default()).name;
    let file = wasm.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = toml::Value::String(file);
    format!(
        "[app]\nname = \"{name}\"\nversion = \"0.0.0\"\n\n[components.{name}]\nwasm = {file}\nroutes = [\"/...\"]\n"
    )
}

/// Reads the bytes of built components.
///
/// # Errors
/// If a file cannot be read.
pub fn read_components(built: &[BuiltComponent]) -> Result<Components, CliError> {
    let read = |built: &BuiltComponent| -> Result<(ComponentName, Arc<[u8]>), CliError> {
        let bytes = std::fs::read(&built.wasm_path).with_context(|| {
            format!("cannot read component `{}` from `{}`", built.component, built.wasm_path.display())
        })?;
        Ok((built.component.clone(), bytes.into()))
    };
    built.iter().map(read).collect::<Result<BTreeMap<_, _>, _>>()
}

/// Returns the app's folder. If `start` is a manifest, returns the manifest's folder. If `start` is a folder, returns
/// it or its nearest parent folder that contains a manifest.
///
/// # Errors
/// If there is no such folder.
pub fn find_app_dir(start: &Path) -> Result<PathBuf, CliError> {
    // The name is checked before symbolic links are followed, because a link called isomer.toml may point to any file.
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
        return Err(CliError::usage(
            format!("`{}` is not an app: neither a folder nor an {MANIFEST_FILE}", start.display()),
            format!("name the folder that contains the app's {MANIFEST_FILE}"),
        ));
    }
    let found = absolute.ancestors().find(|dir| dir.join(MANIFEST_FILE).is_file());
    found.map(Path::to_owned).ok_or_else(|| {
        CliError::usage(
            format!("there is no `{MANIFEST_FILE}` in `{}` or above it", start.display()),
            "name the app's folder, or create a new app with `isomer new NAME`",
        )
    })
}

fn cannot_open(path: &Path, error: std::io::Error) -> CliError {
    CliError::Usage(anyhow::Error::new(error).context(format!("cannot open `{}`", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_gets_a_generated_manifest() {
        for (file, name) in [("hello.wasm", "hello"), ("My \"odd\" file.wasm", "my-odd-file"), ("1.wasm", "app")] {
            let source = SourceFile::new("x", manifest_of(Path::new(file)));
            let app = isomer_manifest::parse(&source).unwrap_or_else(|found| panic!("{file}: {found:?}")).app;
            let component = &app.components[&ComponentName::new(&app.name).unwrap()];
            assert_eq!(component.source.value, isomer_manifest::ComponentSource::Wasm(file.into()));
            assert_eq!((app.name.as_str(), component.routes.len()), (name, 1), "{file}");
        }
    }

    #[test]
    fn an_app_is_found_by_its_folder_or_its_manifest() {
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
