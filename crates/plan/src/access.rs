//! Compares the grants of each component with its imports. Finds capabilities that are imported without a grant, and
//! grants that no import uses.

use std::collections::BTreeMap;

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::{App, Component};

use crate::interface::ComponentType;
use crate::links::Types;
use crate::model::{ComponentAccess, MissingGrant};
use crate::planned_group::ResolvedImport;
use crate::platform::{self, Authority, Grant};

/// Returns the grants of each component. Adds a warning to `warnings` for each grant that is missing or unused.
pub(crate) fn check(
    app: &App,
    types: &Types,
    links: &[ResolvedImport],
    warnings: &mut Vec<Diagnostic>,
) -> Vec<ComponentAccess> {
    app.components
        .iter()
        .filter_map(|(name, component)| Some((name, component, types.get(name)?)))
        .map(|(name, component, ty)| {
            let uses = uses(name, ty, links);
            warnings.extend(unused(name, component, &uses));
            let without_grant = without_grant(name, component, &uses);
            warnings.extend(
                without_grant
                    .iter()
                    .filter(|(grant, _)| grant.is_expected())
                    .map(|(grant, missing)| missing_grant(name, component, *grant, missing)),
            );
            ComponentAccess {
                component: name.clone(),
                granted: granted(component),
                without_grant: without_grant.into_iter().map(|(_, missing)| missing).collect(),
            }
        })
        .collect()
}

/// Returns the imports of component `name` that the host provides and that need a grant, by kind of grant.
fn uses<'a>(
    name: &ComponentName,
    ty: &'a ComponentType,
    links: &[ResolvedImport],
) -> BTreeMap<Grant, Vec<&'a crate::interface::InterfaceId>> {
    let mut uses: BTreeMap<Grant, Vec<_>> = BTreeMap::new();
    for import in ty.imports.keys() {
        let linked = links.iter().any(|link| link.importer == *name && link.import == *import);
        if let (false, Some(Authority::Own(Some(grant)))) = (linked, platform::authority(import)) {
            uses.entry(grant).or_default().push(import);
        }
    }
    uses
}

fn granted(component: &Component) -> Vec<String> {
    Grant::ALL
        .into_iter()
        .map(|grant| (grant, grant.granted(&component.grants)))
        .filter(|(_, granted)| !granted.is_empty())
        .map(|(grant, granted)| format!("{} {}", grant.key(), granted.join(", ")))
        .collect()
}

fn without_grant(
    name: &ComponentName,
    component: &Component,
    uses: &BTreeMap<Grant, Vec<&crate::interface::InterfaceId>>,
) -> Vec<(Grant, MissingGrant)> {
    uses.iter()
        .filter(|(grant, _)| grant.granted(&component.grants).is_empty())
        .filter_map(|(grant, imports)| {
            let worth_a_warning = |id: &&&crate::interface::InterfaceId| !Grant::is_ambient(id);
            // If a component imports several interfaces of one package, the message names the interface that opens
            // stores.
            let import = imports
                .iter()
                .filter(worth_a_warning)
                .find(|id| id.interface == "store")
                .or_else(|| imports.iter().find(worth_a_warning))?;
            let missing = MissingGrant {
                interface: (*import).clone(),
                consequence: grant.consequence().to_owned(),
                grant: grant.line(name.as_str()),
            };
            Some((*grant, missing))
        })
        .collect()
}

fn missing_grant(name: &ComponentName, component: &Component, grant: Grant, missing: &MissingGrant) -> Diagnostic {
    // TOML allows a table to be defined only once. So if the component has a `grants` table already, the hint shows a
    // line for this table and no header.
    let (at, hint) = if component.grants.at.span == component.at.span {
        (component.at.span, format!("grant it in the manifest:\n[components.{name}.grants]\n{}", missing.grant))
    } else {
        (component.grants.at.span, format!("add it to the grants of `{name}`:\n{}", missing.grant))
    };
    Diagnostic::warning(format!(
        "component `{name}` imports `{}` but is granted no {}",
        missing.interface,
        grant.noun()
    ))
    .code("missing-grant")
    .at(at, missing.consequence.clone())
    .hint(hint)
}

/// Returns a warning for each kind of grant that no import of component `name` uses.
fn unused(
    name: &ComponentName,
    component: &Component,
    uses: &BTreeMap<Grant, Vec<&crate::interface::InterfaceId>>,
) -> Vec<Diagnostic> {
    Grant::ALL
        .into_iter()
        .filter(|grant| !uses.contains_key(grant))
        .filter_map(|grant| {
            let granted = grant.granted(&component.grants);
            let first = granted.first()?;
            let span = grant.span(component);
            Some(
                Diagnostic::warning(format!(
                    "component `{name}` is granted the {} `{first}`, but imports nothing that could use it",
                    grant.noun()
                ))
                .code("unused-grant")
                .at(span, format!("used through {}", grant.interfaces()))
                .hint(format!("remove `{}` from the grants of `{name}`", grant.key())),
            )
        })
        .collect()
}
