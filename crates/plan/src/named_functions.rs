//! Functions that the manifest names by text: `INTERFACE.FUNCTION`, or `INTERFACE` for all functions of an interface.

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::Spanned;

use crate::interface::{ComponentType, InterfaceId};
use crate::links::SIMILARITY_MIN;

/// Returns all exported functions of a component, each with its interface.
pub(crate) fn functions(ty: &ComponentType) -> impl Iterator<Item = (&InterfaceId, &str)> {
    ty.exports.values().flat_map(|export| export.functions.keys().map(|function| (&export.id, function.as_str())))
}

/// Returns whether `written` names the interface `id`, or `function` of this interface. Versions contain dots and
/// letters, so it is not known where the version in `written` ends (for example in `…@1.0.0-rc.1.get`). The beginning
/// of `written` is therefore compared with the name of the interface.
#[must_use]
pub fn names_function(written: &str, id: &InterfaceId, function: &str) -> bool {
    [id.path(), id.to_string()].iter().any(|interface| match written.strip_prefix(interface.as_str()) {
        Some(rest) => rest.is_empty() || rest.strip_prefix('.') == Some(function),
        None => false,
    })
}

/// Returns the error for an entry that names no function of the component.
pub(crate) fn unknown(name: &ComponentName, ty: &ComponentType, written: &Spanned<String>) -> Diagnostic {
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
