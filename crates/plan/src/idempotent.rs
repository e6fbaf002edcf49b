//! Finds the functions that the manifest declares idempotent: calling one twice has the same effect as calling it once.

use std::collections::BTreeSet;

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::{App, Spanned};

use crate::interface::{ComponentType, InterfaceId};
use crate::links::{SIMILARITY_MIN, Types};

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
            let matching: Vec<_> = functions(ty).filter(|(id, function)| means(&written.value, id, function)).collect();
            if matching.is_empty() {
                errors.push(unknown(name, ty, written));
            }
            declared.extend(matching.into_iter().map(|(id, function)| (name.clone(), id.clone(), function.to_owned())));
        }
    }
    Idempotent(declared)
}

/// Returns all exported functions of a component, each with its interface.
fn functions(ty: &ComponentType) -> impl Iterator<Item = (&InterfaceId, &str)> {
    ty.exports.values().flat_map(|export| export.functions.keys().map(|function| (&export.id, function.as_str())))
}

/// Returns whether `written` names the interface `id`, or `function` of this interface. Versions contain dots and
/// letters, so it is not known where the version in `written` ends (for example in `…@1.0.0-rc.1.get`). The beginning
/// of `written` is therefore compared with the name of the interface.
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
                    [] => "remove the entry: the component exports nothing".to_owned(),
                    _ => format!("name an exported interface ({}), or `INTERFACE.FUNCTION`", exports.join(", ")),
                }
            }
        })
}
