//! Finds the functions that the manifest declares idempotent: calling one twice has the same effect as calling it once.

use std::collections::BTreeSet;

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::App;

use crate::interface::InterfaceId;
use crate::links::Types;
use crate::named_functions::{functions, names_function, unknown};

/// The functions that the manifest declares idempotent. Each entry is the exporting component, the interface and the
/// function's name.
pub(crate) struct Idempotent(BTreeSet<(ComponentName, InterfaceId, String)>);

impl Idempotent {
    pub(crate) fn has(&self, component: &ComponentName, interface: &InterfaceId, function: &str) -> bool {
        self.0.contains(&(component.clone(), interface.clone(), function.to_owned()))
    }
}

/// Resolves the `idempotent` lists of all components. Adds an error to `errors` for each function that its component
/// does not export.
pub(crate) fn find(app: &App, types: &Types, errors: &mut Vec<Diagnostic>) -> Idempotent {
    let mut declared = BTreeSet::new();
    for (name, component) in &app.components {
        let Some(ty) = types.get(name) else { continue };
        for written in &component.idempotent {
            let matching: Vec<_> =
                functions(ty).filter(|(id, function)| names_function(&written.value, id, function)).collect();
            if matching.is_empty() {
                errors.push(unknown(name, ty, written));
            }
            declared.extend(matching.into_iter().map(|(id, function)| (name.clone(), id.clone(), function.to_owned())));
        }
    }
    Idempotent(declared)
}
