//! Finds the functions that the manifest exposes to components in tabs, and the parameter of each that identifies the
//! visitor.

use std::collections::BTreeMap;

use isomer_diagnostics::{Diagnostic, Span};
use isomer_ids::ComponentName;
use isomer_manifest::{App, Spanned};

use crate::interface::{ComponentType, FunctionType, InterfaceId};
use crate::links::{SIMILARITY_MIN, Types};
use crate::named_functions::{functions, names_function, unknown};
use crate::planned_browser::IdentityParameter;

/// The maximum number of functions that a hint lists.
const SHOWN_MAX: usize = 20;

/// The functions that the manifest exposes, by exporting component, interface and function.
pub(crate) struct Exposed(BTreeMap<(ComponentName, InterfaceId, String), ExposedFunction>);

/// A function that the manifest exposes.
pub(crate) struct ExposedFunction {
    /// The parameter that identifies the visitor, if the manifest names one.
    pub(crate) identity: Option<IdentityParameter>,
    /// The location of the entry in the manifest.
    pub(crate) span: Span,
}

impl Exposed {
    pub(crate) fn get(
        &self,
        component: &ComponentName,
        interface: &InterfaceId,
        function: &str,
    ) -> Option<&ExposedFunction> {
        self.0.get(&(component.clone(), interface.clone(), function.to_owned()))
    }
}

/// Resolves the `exposed` lists of all components. Adds an error to `errors` for each function that its component does
/// not export, that two entries expose, or that does not have the parameter for the visitor's identity.
pub(crate) fn find(app: &App, types: &Types, errors: &mut Vec<Diagnostic>) -> Exposed {
    let mut exposed = BTreeMap::<_, ExposedFunction>::new();
    for (name, component) in &app.components {
        let Some(ty) = types.get(name) else { continue };
        for entry in &component.exposed {
            let span = entry.functions.span;
            let matching: Vec<_> =
                functions(ty).filter(|(id, it)| names_function(&entry.functions.value, id, it)).collect();
            if matching.is_empty() {
                errors.push(unknown(name, ty, &entry.functions));
            }
            // An interface may have thousands of functions, so at most one error is reported for each entry.
            let mut problem = None;
            for (id, function) in matching {
                let key = (name.clone(), id.clone(), function.to_owned());
                if let Some(first) = exposed.get(&key) {
                    problem = problem.or_else(|| Some(exposed_twice(id, function, span, first.span)));
                    continue;
                }
                let ty = &ty.exports[id].functions[function];
                let identity = entry.session.as_ref().and_then(|session| {
                    let parameter = ty.parameters.iter().find(|parameter| parameter.name == session.value);
                    let offset = parameter.and_then(|parameter| parameter.text_offset);
                    if offset.is_none() && problem.is_none() {
                        let written = &entry.functions.value;
                        problem = Some(no_identity(id, function, ty, session, types.get(name), written));
                    }
                    offset.map(|offset| IdentityParameter { name: session.value.clone(), offset })
                });
                exposed.insert(key, ExposedFunction { identity, span });
            }
            errors.extend(problem);
        }
    }
    Exposed(exposed)
}

fn exposed_twice(id: &InterfaceId, function: &str, at: Span, first: Span) -> Diagnostic {
    Diagnostic::error(format!("two entries of `exposed` contain the function `{}.{function}`", id.path()))
        .code("exposed-twice")
        .at(at, "again")
        .related(first, "first here")
        .hint("keep one entry for each function: list single functions as `INTERFACE.FUNCTION`")
}

/// Returns the error for a function that does not have the parameter that the manifest names. `written` is the entry's
/// text, and `ty` the type of the component.
fn no_identity(
    id: &InterfaceId,
    function: &str,
    function_type: &FunctionType,
    session: &Spanned<String>,
    ty: Option<&ComponentType>,
    written: &str,
) -> Diagnostic {
    let error = Diagnostic::error(format!(
        "the function `{}.{function}` has no parameter `{session}` of type `string`, which would identify the visitor",
        id.path()
    ))
    .code("no-identity-parameter")
    .at(session.span, format!("exposes `{function}`"))
    .note(format!("{function}: {}", function_type.signature));
    let texts = function_type.parameters.iter().filter(|parameter| parameter.text_offset.is_some());
    let near = texts
        .map(|parameter| (strsim::jaro_winkler(&session.value, &parameter.name), &parameter.name))
        .filter(|(similarity, _)| *similarity > SIMILARITY_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    if let Some((_, near)) = near {
        return error.hint(format!("did you mean `{near}`?"));
    }
    let has = |it: &FunctionType| it.parameters.iter().any(|it| it.name == session.value && it.text_offset.is_some());
    let others: Vec<_> = ty
        .into_iter()
        .flat_map(|ty| functions(ty).map(|(id, other)| (id, other, &ty.exports[id].functions[other])))
        .filter(|(id, other, ty)| names_function(written, id, other) && has(ty))
        .take(SHOWN_MAX)
        .map(|(id, other, _)| format!("{{ functions = \"{}.{other}\", session = \"{session}\" }}", id.path()))
        .collect();
    if others.is_empty() {
        error.hint("name a parameter of type `string`, or remove the function from `exposed`")
    } else {
        error.hint(format!("expose only the functions that have the parameter:\n{}", others.join(",\n")))
    }
}
