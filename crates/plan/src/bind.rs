//! How the composition of a group imports what the host provides: shared, or labelled for one component.

use std::collections::{BTreeMap, BTreeSet};

use isomer_manifest::{App, ComponentName, Diagnostic};

use crate::interface::InterfaceId;
use crate::links::Types;
use crate::model::{Binding, HostBinding, Link};
use crate::platform::{self, Authority, Grant};

/// The bindings of a group's host imports, in the order of its components; a family whose handles pass between components
/// with different grants goes to `errors`.
pub(crate) fn host_imports(
    app: &App,
    types: &Types,
    components: &[ComponentName],
    links: &[Link],
    errors: &mut Vec<Diagnostic>,
) -> Vec<HostBinding> {
    let flowing = flowing_families(types, components, links);
    let mut labels = BTreeSet::new();
    let mut imports = Vec::new();
    for component in components {
        for interface in types[component].imports.keys() {
            if links.iter().any(|link| link.importer == *component && link.import == *interface) {
                continue;
            }
            let binding = match platform::authority(interface) {
                None => continue,
                Some(Authority::None) => Binding::Shared,
                Some(Authority::Own(_)) if flowing.contains_key(&interface.family()) => Binding::Family,
                Some(Authority::Own(_)) => Binding::Labelled { label: label(component, interface, &mut labels) },
            };
            imports.push(HostBinding { component: component.clone(), interface: interface.clone(), binding });
        }
    }
    for (family, link) in &flowing {
        errors.extend(unequal(app, &imports, family, link));
    }
    imports
}

/// Families with authority whose handles a fused seam passes, each with such a seam.
fn flowing_families<'a>(types: &Types, components: &[ComponentName], links: &'a [Link]) -> BTreeMap<String, &'a Link> {
    let mut flowing = BTreeMap::new();
    for link in links.iter().filter(|link| components.contains(&link.importer) && components.contains(&link.exporter)) {
        let import = &types[&link.importer].imports[&link.import];
        let export = &types[&link.exporter].exports[&link.export];
        for (owner, _) in import.carries.iter().chain(&export.carries) {
            if let Some(Authority::Own(_)) = platform::authority(owner) {
                flowing.entry(owner.family()).or_insert(link);
            }
        }
    }
    flowing
}

/// Refuses a shared family if those that import it are not granted the same.
fn unequal(app: &App, imports: &[HostBinding], family: &str, link: &Link) -> Option<Diagnostic> {
    let shared =
        || imports.iter().filter(|import| import.binding == Binding::Family && import.interface.family() == family);
    let grants: BTreeSet<Grant> = shared().filter_map(|import| platform::grant(&import.interface)).collect();
    let granted = |component: &ComponentName| -> Vec<_> {
        grants.iter().map(|grant| grant.granted(&app.components[component].grants)).collect()
    };
    let importers: BTreeSet<_> = shared().map(|import| &import.component).collect();
    let mut importers = importers.into_iter();
    let first = importers.next()?;
    let other = importers.find(|other| granted(other) != granted(first))?;
    Some(
        Diagnostic::error(format!(
            "the seam from `{}` to `{}` passes handles of `{family}`, so the group shares it, but `{first}` and `{other}` \
             have different grants",
            link.importer, link.exporter
        ))
        .code("unequal-grants")
        .at(app.components[&link.importer].at.span, format!("imports `{}`", link.import))
        .note("in one composition the platform cannot tell who calls: each would reach what the other is granted")
        .note("set apart from each other they could not pass the handles either")
        .hint(format!("pass values across `{}` instead of handles: a key and a value, not a bucket", link.import)),
    )
}

/// A name for an import that no other import of the composition has.
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
