//! The trait `Builder`, which has one implementation for each kind of source, and the code that the builders share.

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

/// A component after a build: it was built, or it was up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltComponent {
    /// The component's name.
    pub component: ComponentName,
    /// The component's file. Cargo's artifact is copied into `.isomer/build`, because Cargo overwrites it when it runs
    /// again.
    pub wasm_path: PathBuf,
    /// Whether the component's bytes differ from those that the previous build made.
    pub changed: bool,
    /// The duration of the build, or `None` if the component was up to date. For packages that one run of Cargo built,
    /// it is the duration of this run.
    pub took: Option<Duration>,
}

/// A component of the manifest, as a builder receives it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceComponent<'a> {
    pub(crate) name: &'a ComponentName,
    pub(crate) source: &'a ComponentSource,
}

/// Builds components whose sources are of one kind.
pub(crate) trait Builder {
    /// Returns whether this builder builds components from `source`.
    fn builds(&self, source: &ComponentSource) -> bool;

    /// Returns an error if the component's source does not exist. Starts no program.
    fn missing_source(&self, context: &BuildContext<'_>, component: SourceComponent<'_>) -> Option<BuildError>;

    /// Builds the components that are not up to date. Returns all of `components`.
    fn build(
        &self,
        context: &BuildContext<'_>,
        components: &[SourceComponent<'_>],
        report: ProgressReporter<'_>,
    ) -> Result<Vec<BuiltComponent>, BuildError>;

    /// Adds to `set` the paths whose changes make the component out of date.
    fn watch(&self, context: &BuildContext<'_>, component: SourceComponent<'_>, set: &mut WatchSet);
}

/// The app whose components are built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BuildContext<'a> {
    pub(crate) app: &'a App,
    pub(crate) app_dir: &'a Path,
    /// The folder of the records and of the copies of Cargo's artifacts.
    pub(crate) build_dir: &'a Path,
}

/// The facts about a build that its record stores.
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
    /// Returns the component that the recorded build made, marked as unchanged.
    pub(crate) fn up_to_date(self, record: Record) -> BuiltComponent {
        BuiltComponent { component: self.name.clone(), wasm_path: record.output, changed: false, took: None }
    }

    /// Writes the record of a build into `dir` and returns the built component. `last` is the record of the previous
    /// build.
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

    /// Writes the record of a failed build into `dir`. A component with such a record is never up to date.
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
