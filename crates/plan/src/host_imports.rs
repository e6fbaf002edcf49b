//! Decides how the composition of a group imports the host's interfaces: once for all components, or under a label for
//! each component.

use std::collections::BTreeSet;

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::App;

use crate::handle_sharing::{self, HandleSharing};
use crate::interface::InterfaceId;
use crate::links::Types;
use crate::options::PlanOptions;
use crate::planned_group::{HostBinding, ImportBinding, ResolvedImport};
use crate::platform::{self, Authority, Grant};

/// Returns how a composition imports the interfaces of the host: one entry for each import, ordered by component as in
/// `components`. Adds an error to `errors` if components with different grants pass handles to each other.
pub(crate) fn host_imports(
    app: &App,
    types: &Types,
    options: PlanOptions,
    components: &[ComponentName],
    links: &[ResolvedImport],
    errors: &mut Vec<Diagnostic>,
) -> Vec<HostBinding> {
    let sets = handle_sharing::find(types, &components.iter().cloned().collect(), links);
    let passes = |component: &ComponentName, interface: &InterfaceId| {
        sets.iter().any(|set| set.members.contains(component) && set.package == interface.package_name())
    };
    let mut labels = BTreeSet::new();
    let mut imports = Vec::new();
    for component in components {
        for interface in types[component].imports.keys() {
            if links.iter().any(|link| link.importer == *component && link.import == *interface) {
                continue;
            }
            let binding = match platform::authority(interface) {
                None => continue,
                Some(Authority::None) if !(options.deterministic && platform::is_nondeterministic(interface)) => {
                    ImportBinding::Shared
                }
                Some(Authority::Own(_)) if passes(component, interface) => ImportBinding::Family,
                Some(_) => ImportBinding::Labelled { label: label(component, interface, &mut labels) },
            };
            imports.push(HostBinding { component: component.clone(), interface: interface.clone(), binding });
        }
    }
    errors.extend(sets.iter().filter_map(|set| unequal(app, types, set)));
    imports
}

/// Returns an error if components that pass handles to each other have different grants for the handles' package.
fn unequal(app: &App, types: &Types, set: &HandleSharing<'_>) -> Option<Diagnostic> {
    let HandleSharing { package, link, .. } = set;
    let grants: BTreeSet<Grant> = set
        .members
        .iter()
        .flat_map(|member| types[member].imports.keys())
        .filter(|id| id.package_name() == *package)
        .filter_map(platform::grant)
        .collect();
    let granted = |component: &ComponentName| -> Vec<_> {
        grants.iter().map(|grant| grant.granted(&app.components[component].grants)).collect()
    };
    let mut members = set.members.iter();
    let first = members.next()?;
    let other = members.find(|other| granted(other) != granted(first))?;
    Some(
        Diagnostic::error(format!(
            "the seam from `{}` to `{}` passes handles of `{package}`, so both must share one import of it, but `{first}` and `{other}` \
             have different grants",
            link.importer, link.exporter
        ))
        .code("unequal-grants")
        .at(app.components[&link.importer].at.span, format!("imports `{}`", link.import))
        .note("inside a composition the platform cannot tell which component calls: each would reach what the other is granted")
        .note("isolating the components would not help, because handles cannot cross an isolated seam")
        .hint(format!(
            "pass values across `{}` instead of handles, for example a key and a value instead of a bucket",
            link.import
        )),
    )
}

/// Returns a label that is not in `taken`, and adds it to `taken`.
fn label(component: &ComponentName, interface: &InterfaceId, taken: &mut BTreeSet<String>) -> String {
    let path = format!("{component}-{}-{}-{}", interface.namespace, interface.package, interface.interface);
    let kebab: String =
        path.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let label = std::iter::once(kebab.clone())
        .chain((2_u32..).map(|number| format!("{kebab}-{number}")))
        .find(|label| !taken.contains(label))
        .expect("numbers do not end");
    taken.insert(label.clone());
    label
}
