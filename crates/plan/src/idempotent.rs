//! Functions that the manifest declares idempotent: calling one twice has the same effect as calling it once.

use std::collections::BTreeSet;

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::{App, Spanned};

use crate::interface::{ComponentType, InterfaceId};
use crate::links::{SIMILARITY_MIN, Types};

/// The functions that are declared idempotent: exporting component, interface, and name.
pub(crate) struct Idempotent(BTreeSet<(ComponentName, InterfaceId, String)>);

impl Idempotent {
    pub(crate) fn has(&self, component: &ComponentName, interface: &InterfaceId, function: &str) -> bool {
        self.0.contains(&(component.clone(), interface.clone(), function.to_owned()))
    }
}

/// Resolves the `idempotent` lists of all components. A function that a component does not export is added to `errors`.
pub(crate) fn find(app: &App, types: &Types, errors: &mut Vec<Diagnostic>) -> Idempotent {
    let mut declared = BTreeSet::new();
    for (name, component) in &app.components {
        let Some(ty) = types.get(name) else { continue };
        for written in &component.idempotent {
            let matching: Vec<_> = functions(ty).filter(|(id, function)| means(&written.value, id, function)).collect();
            if matching.is_empty() {
                errors.push(unknown(name, ty, written));
            }
            declared.extend(matching.into_iter().map(|(id, function)| (name.clone(), id.clone(), function.to_owned())));
        }
    }
    Idempotent(declared)
}

/// Returns all exported functions of a component.
fn functions(ty: &ComponentType) -> impl Iterator<Item = (&InterfaceId, &str)> {
    ty.exports.values().flat_map(|export| export.functions.keys().map(|function| (&export.id, function.as_str())))
}

/// Returns whether `written` names the interface, or this function of it. The comparison is textual: versions contain
/// dots and letters, so `1.0.0-rc.1.get` cannot be split into version and function without knowing the interface.
fn means(written: &str, id: &InterfaceId, function: &str) -> bool {
    [id.path(), id.to_string()].iter().any(|interface| match written.strip_prefix(interface.as_str()) {
        Some(rest) => rest.is_empty() || rest.strip_prefix('.') == Some(function),
        None => false,
    })
}

fn unknown(name: &ComponentName, ty: &ComponentType, written: &Spanned<String>) -> Diagnostic {
    let text = &written.value;
    let candidates = ty.exports.keys().map(InterfaceId::path);
    let candidates = candidates.chain(functions(ty).map(|(id, function)| format!("{}.{function}", id.path())));
    let nearest = candidates
        .map(|candidate| (strsim::jaro_winkler(text, &candidate), candidate))
        .filter(|(similarity, _)| *similarity > SIMILARITY_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
    Diagnostic::error(format!("component `{name}` exports no function `{text}`"))
        .code("unknown-function")
        .at(written.span, "not exported")
        .hint(match nearest {
            Some((_, nearest)) => format!("did you mean `{nearest}`?"),
            None => {
                let exports: Vec<_> = ty.exports.keys().map(|id| format!("`{}`", id.path())).collect();
                match exports.as_slice() {
                    [] => "it exports nothing: remove it".to_owned(),
                    _ => format!("it exports {}; name one of them, or `INTERFACE.FUNCTION`", exports.join(", ")),
                }
            }
        })
}
