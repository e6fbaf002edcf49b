//! Composes an app's components into one file that any WASI host can run: `compose APP_DIR OUT.wasm`.
//!
//! The benchmarks compare a fused group with the same composition under another host. In Isomer, an import that gives
//! access to something has a label, so that each component has its own import. Other hosts do not support these labels.
//! So the imports have no labels here, and components with the same import share it: **the result does not separate
//! grants** and is only for measuring. The manifest must name the components as files (`wasm = "…"`).

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use isomer_diagnostics::{Diagnostic, SourceFile};
use isomer_manifest::{ComponentSource, MANIFEST_FILE, MONOLITH};
use isomer_plan::ImportBinding;
use isomer_seam::{Composition, HandlerExport};
use wasm_encoder::{ComponentExportKind, ComponentExportSection, ComponentSection as _};
use wasmparser::{Parser, Payload};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, out] = arguments.as_slice() else { return Err("usage: compose APP_DIR OUT.wasm".into()) };
    let dir = Path::new(dir);
    let manifest = SourceFile::new(MANIFEST_FILE, std::fs::read_to_string(dir.join(MANIFEST_FILE))?);
    let app = isomer_manifest::parse(&manifest).map_err(all)?.app;
    let mut components = BTreeMap::new();
    let mut types = BTreeMap::new();
    for (name, component) in &app.components {
        let ComponentSource::Wasm(file) = &component.source.value else {
            return Err(format!("the manifest does not name component `{name}` as a file (`wasm = …`)").into());
        };
        let bytes: Arc<[u8]> = std::fs::read(dir.join(file))?.into();
        types.insert(name.clone(), isomer_seam::component_type(&bytes)?);
        components.insert(name.clone(), bytes);
    }
    let mut plan = isomer_plan::plan(&app, &types, MONOLITH).map_err(all)?;
    let [group] = plan.groups.as_mut_slice() else { return Err("the app has more than one group".into()) };
    for import in &mut group.imports {
        import.binding = ImportBinding::Shared;
    }
    let Composition { mut bytes, exports, .. } = isomer_seam::compose(group, &components)?;
    for export in exports {
        export_again(&mut bytes, &export)?;
    }
    std::fs::write(out, bytes)?;
    Ok(())
}

/// Adds an export of the handler under the name of the handler's interface, which is the only name that other hosts
/// look for.
fn export_again(bytes: &mut Vec<u8>, handler: &HandlerExport) -> Result<(), Box<dyn Error>> {
    let mut instance = None;
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::ComponentExportSection(section) = payload? {
            for export in section {
                let export = export?;
                // The exports of nested components come before those of the composition, so the last export with the
                // name is the composition's own.
                instance = (export.name.name == handler.name).then_some(export.index).or(instance);
            }
        }
    }
    let instance = instance.ok_or_else(|| format!("the composition has no export `{}`", handler.name))?;
    let mut section = ComponentExportSection::new();
    section.export(&*handler.interface, ComponentExportKind::Instance, instance, None);
    section.append_to_component(bytes);
    Ok(())
}

fn all(diagnostics: Vec<Diagnostic>) -> String {
    diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect::<Vec<_>>().join("\n")
}
