//! Finding an app on disk: its manifest, read and checked, and its components, built and read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use isomer_manifest::{App, ComponentName, Diagnostic, MANIFEST_FILE, SourceFile};
use isomer_node::revision::Components;
use isomer_toolchain::{Built, Progress as BuildProgress, build_app};

use crate::console::Console;
use crate::fail::Fail;

/// An app with a manifest.
pub(crate) struct AppDir {
    pub(crate) dir: PathBuf,
    pub(crate) source: SourceFile,
    pub(crate) app: App,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl AppDir {
    /// Reads the manifest in `dir`, or in the nearest folder above it if it has none.
    pub(crate) fn open(dir: &Path) -> Result<Self, Fail> {
        let dir = find(dir)?;
        let path = dir.join(MANIFEST_FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let source = SourceFile::new(shown(&path), text);
        let parsed = isomer_manifest::parse(&source).map_err(Fail::Manifest)?;
        Ok(Self { dir, source, app: parsed.app, warnings: parsed.warnings })
    }

    /// Prints what the manifest's checks have to say.
    pub(crate) fn say_warnings(&self, console: &Console) {
        if !self.warnings.is_empty() {
            console.say(&console.renderer().diagnostics(&self.warnings));
        }
    }

    /// Brings all components up to date.
    pub(crate) fn build(&self, console: &Console) -> Result<Vec<Built>, Fail> {
        let progress = console.progress();
        progress.step("looking at the components");
        let mut report = |step: BuildProgress<'_>| match step {
            BuildProgress::Step(text) => progress.step(text),
            BuildProgress::Output(text) => progress.line(text),
        };
        build_app(&self.app, &self.dir, &mut report).map_err(|error| {
            let hints = error.hints();
            Fail::hinted(error, hints)
        })
    }
}

/// Reads the bytes of built components.
pub(crate) fn read(built: &[Built]) -> Result<Components, Fail> {
    let read = |built: &Built| -> Result<(ComponentName, Arc<[u8]>), Fail> {
        let bytes = std::fs::read(&built.wasm_path).with_context(|| {
            format!("cannot read component `{}` from `{}`", built.component, built.wasm_path.display())
        })?;
        Ok((built.component.clone(), bytes.into()))
    };
    built.iter().map(read).collect::<Result<BTreeMap<_, _>, _>>()
}

/// The app's folder: `start`, or the nearest one above it with a manifest.
pub(crate) fn find(start: &Path) -> Result<PathBuf, Fail> {
    let cannot_open = |error| {
        let error = anyhow::Error::new(error).context(format!("cannot open the folder `{}`", start.display()));
        Fail::Usage(error)
    };
    let absolute = start.canonicalize().map_err(cannot_open)?;
    let found = absolute.ancestors().find(|dir| dir.join(MANIFEST_FILE).is_file());
    found.map(Path::to_owned).ok_or_else(|| {
        Fail::usage(
            format!("there is no `{MANIFEST_FILE}` in `{}` or above it", start.display()),
            "name the app's folder, or make a new app with `isomer new NAME`",
        )
    })
}

/// A path as a person would write it: relative to where they are, if it is below.
pub(crate) fn shown(path: &Path) -> String {
    let below = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    below.unwrap_or_else(|| path.to_owned()).display().to_string()
}
