//! The builders of components, one for each kind of source, and the code that they share.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isomer_ids::ComponentName;
use isomer_manifest::{App, ComponentSource};

use crate::error::{BuildError, PathError};
use crate::origin::ToolchainOrigin;
use crate::process::ProgressReporter;
use crate::record::{Inputs, Record, Stamp, digest, source_text};
use crate::variables::Variables;
use crate::watch::WatchSet;

/// A component that is up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltComponent {
    /// The component's name.
    pub component: ComponentName,
    /// The file with its bytes. Cargo's components are copied into `.isomer/build`, where they stay whole while Cargo runs again.
    pub wasm_path: PathBuf,
    /// Whether the component's bytes differ from those of the last build.
    pub changed: bool,
    /// The duration of the build; `None` if the component was up to date. Packages that were built by one run of Cargo
    /// share its duration.
    pub took: Option<Duration>,
}

/// A component that a builder is responsible for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceComponent<'a> {
    pub(crate) name: &'a ComponentName,
    pub(crate) source: &'a ComponentSource,
}

/// Builds the components of one kind of source.
pub(crate) trait Builder {
    /// Returns whether it builds components of this source.
    fn builds(&self, source: &ComponentSource) -> bool;

    /// Returns the error if the source does not exist, so that nothing needs to be started to find out.
    fn missing_source(&self, context: &BuildContext<'_>, component: SourceComponent<'_>) -> Option<BuildError>;

    /// Brings all of the app's components of this kind up to date. Those that are up to date are returned as well.
    fn build(
        &self,
        context: &BuildContext<'_>,
        components: &[SourceComponent<'_>],
        report: ProgressReporter<'_>,
    ) -> Result<Vec<BuiltComponent>, BuildError>;

    /// Adds to `set` the files whose changes make the component stale.
    fn watch(&self, context: &BuildContext<'_>, component: SourceComponent<'_>, set: &mut WatchSet);
}

/// The app that is built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BuildContext<'a> {
    pub(crate) app: &'a App,
    pub(crate) app_dir: &'a Path,
    /// The folder of records and of copied components.
    pub(crate) build_dir: &'a Path,
}

/// The facts about a build for its record.
#[derive(Default)]
pub(crate) struct BuildFacts {
    pub(crate) toolchain: Option<ToolchainOrigin>,
    pub(crate) settings: String,
    pub(crate) variables: Variables,
    pub(crate) inputs: Inputs,
    pub(crate) made: BTreeSet<PathBuf>,
    pub(crate) in_doubt: BTreeSet<PathBuf>,
}

impl BuildFacts {
    fn record(self, source: &ComponentSource, output: PathBuf, output_stamp: Option<Stamp>, digest: String) -> Record {
        let Self { toolchain, settings, variables, inputs, made, in_doubt } = self;
        let source = source_text(source);
        Record { source, toolchain, settings, variables, inputs, made, in_doubt, output, output_stamp, digest }
    }
}

impl SourceComponent<'_> {
    /// The component of its last build, which is up to date.
    pub(crate) fn up_to_date(self, record: Record) -> BuiltComponent {
        BuiltComponent { component: self.name.clone(), wasm_path: record.output, changed: false, took: None }
    }

    /// Records a build in `dir` and returns its result. `last` is the record of the build before.
    pub(crate) fn built(
        self,
        dir: &Path,
        output: PathBuf,
        facts: BuildFacts,
        last: Option<Record>,
        took: Option<Duration>,
    ) -> Result<BuiltComponent, PathError> {
        let output_stamp = Stamp::of(&output);
        let digest = digest(&output)?;
        let changed = last.is_none_or(|last| last.digest != digest);
        facts.record(self.source, output.clone(), output_stamp, digest).store(dir, self.name)?;
        Ok(BuiltComponent { component: self.name.clone(), wasm_path: output, changed, took })
    }

    /// Records a failed build in `dir`. Such a record is never up to date.
    pub(crate) fn failed(
        self,
        dir: &Path,
        output: PathBuf,
        facts: BuildFacts,
        last: Option<Record>,
    ) -> Result<(), PathError> {
        let digest = last.map(|last| last.digest).unwrap_or_default();
        facts.record(self.source, output, None, digest).store(dir, self.name)
    }
}
