//! Composes an app's components into one file that any WASI host runs: `compose APP_DIR OUT.wasm`.
//!
//! For benchmarks that hold a fused group against the same composition under another host. Such a host knows no labels, so
//! every import keeps its own name and all components share it: **the result has no separation of grants**, and is for
//! measuring only. Components must be given as files (`wasm = "…"`).

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use isomer_manifest::{Diagnostic, MANIFEST_FILE, MONOLITH, Source, SourceFile};
use isomer_plan::Binding;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, out] = arguments.as_slice() else { return Err("usage: compose APP_DIR OUT.wasm".into()) };
    let dir = Path::new(dir);
    let manifest = SourceFile::new(MANIFEST_FILE, std::fs::read_to_string(dir.join(MANIFEST_FILE))?);
    let app = isomer_manifest::parse(&manifest).map_err(all)?.app;
    let mut components = BTreeMap::new();
    let mut types = BTreeMap::new();
    for (name, component) in &app.components {
        let Source::Wasm(file) = &component.source.value else {
            return Err(format!("component `{name}` is no file").into());
        };
        let bytes: Arc<[u8]> = std::fs::read(dir.join(file))?.into();
        types.insert(name.clone(), isomer_seam::component_type(&bytes)?);
        components.insert(name.clone(), bytes);
    }
    let mut plan = isomer_plan::plan(&app, &types, MONOLITH).map_err(all)?;
    let [group] = plan.groups.as_mut_slice() else { return Err("the app is more than one group".into()) };
    for import in &mut group.imports {
        import.binding = Binding::Shared;
    }
    std::fs::write(out, isomer_seam::compose(group, &components)?.bytes)?;
    Ok(())
}

fn all(diagnostics: Vec<Diagnostic>) -> String {
    diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect::<Vec<_>>().join("\n")
}
