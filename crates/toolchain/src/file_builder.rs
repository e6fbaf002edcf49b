//! Finds components that the manifest names as files. Nothing is built.

use std::collections::BTreeSet;

use isomer_manifest::ComponentSource;

use crate::builder::{BuildContext, BuildFacts, Builder, BuiltComponent, SourceComponent};
use crate::error::BuildError;
use crate::process::ProgressReporter;
use crate::record::Record;
use crate::watch::WatchSet;

/// The builder for components that are files: `wasm = "FILE"`.
pub(crate) struct FileBuilder;

impl Builder for FileBuilder {
    fn builds(&self, source: &ComponentSource) -> bool {
        matches!(source, ComponentSource::Wasm(_))
    }

    fn missing_source(&self, context: &BuildContext<'_>, component: SourceComponent<'_>) -> Option<BuildError> {
        let ComponentSource::Wasm(wasm) = component.source else { return None };
        let sources = context.app.components.values().map(|component| &component.source.value);
        // A missing file is not an error here if the app has a command, because the command may make the file.
        if sources.into_iter().any(|source| matches!(source, ComponentSource::Command { .. })) {
            return None;
        }
        let path = context.app_dir.join(wasm);
        let component = component.name.clone();
        (!path.is_file()).then_some(BuildError::NoFile { component, path, made_by: None })
    }

    fn build(
        &self,
        context: &BuildContext<'_>,
        components: &[SourceComponent<'_>],
        _report: ProgressReporter<'_>,
    ) -> Result<Vec<BuiltComponent>, BuildError> {
        let dir = context.build_dir;
        let mut built = Vec::with_capacity(components.len());
        for component in components {
            let ComponentSource::Wasm(wasm) = component.source else { continue };
            let last = match Record::load(dir, component.name) {
                Some(record) if record.is_fresh(component.source, &BTreeSet::new()) => {
                    built.push(component.up_to_date(record));
                    continue;
                }
                last => last,
            };
            let path = context.app_dir.join(wasm);
            if !path.is_file() {
                return Err(BuildError::NoFile { component: component.name.clone(), path, made_by: None });
            }
            built.push(component.built(dir, path, BuildFacts::default(), last, None)?);
        }
        Ok(built)
    }

    fn watch(&self, context: &BuildContext<'_>, component: SourceComponent<'_>, set: &mut WatchSet) {
        if let ComponentSource::Wasm(wasm) = component.source {
            set.add(context.app_dir.join(wasm));
        }
    }
}
