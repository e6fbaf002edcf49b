//! Handles that components pass to each other and that give access to something: for example, `shop:cart/open` returns
//! a `bucket` of `wasi:keyvalue`.
//!
//! Caller and callee need the same resource type, so components that pass handles share one import of the package that
//! defines the resource. These components must have equal grants, because the platform cannot tell which of them calls
//! the shared import. Every other component has its own import, under a label.

use std::collections::{BTreeMap, BTreeSet};

use isomer_ids::ComponentName;
use isomer_manifest::App;

use crate::links::Types;
use crate::placement::{Placement, Separation};
use crate::planned_group::ResolvedImport;
use crate::platform::{self, Authority, Grant};

/// A set of components that pass handles to each other, directly or through other components. All handles belong to
/// resources of one WIT package.
#[derive(Debug)]
pub(crate) struct HandleSharing<'a> {
    /// The package that defines the resources, without its version: `wasi:keyvalue`.
    pub(crate) package: String,
    pub(crate) members: BTreeSet<ComponentName>,
    /// An import over which one of the `members` passes handles to another one. Error messages name this import.
    pub(crate) link: &'a ResolvedImport,
}

/// Returns sets of those `components` that pass handles to each other, ordered by package and component names. All
/// handles that the components of one set pass are of the same package.
pub(crate) fn find<'a>(
    types: &Types,
    components: &BTreeSet<ComponentName>,
    links: &'a [ResolvedImport],
) -> Vec<HandleSharing<'a>> {
    let mut sets: Vec<HandleSharing<'a>> = Vec::new();
    for link in links.iter().filter(|link| components.contains(&link.importer) && components.contains(&link.exporter)) {
        let import = &types[&link.importer].imports[&link.import];
        let export = &types[&link.exporter].exports[&link.export];
        let carried = import.carries.iter().chain(&export.carries).map(|(owner, _)| owner);
        let packages = carried.filter(|owner| matches!(platform::authority(owner), Some(Authority::Own(_))));
        for package in packages.map(|owner| owner.package_name()).collect::<BTreeSet<_>>() {
            let mut joined = HandleSharing {
                package,
                members: BTreeSet::from([link.importer.clone(), link.exporter.clone()]),
                link,
            };
            // If two sets of components that pass handles of the same package have a component in common, they are
            // merged.
            sets.retain_mut(|set| {
                let overlap = set.package == joined.package && !set.members.is_disjoint(&joined.members);
                if overlap {
                    joined.members.append(&mut set.members);
                    joined.link = set.link;
                }
                !overlap
            });
            sets.push(joined);
        }
    }
    sets.sort_by(|a, b| (&a.package, &a.members).cmp(&(&b.package, &b.members)));
    sets
}

/// Returns what is granted to `component` through interfaces of `package`, as one list for each kind of grant.
pub(crate) fn granted(app: &App, types: &Types, package: &str, component: &ComponentName) -> Vec<Vec<String>> {
    let imports = types[component].imports.keys().filter(|id| id.package_name() == package);
    let grants: BTreeSet<Grant> = imports.filter_map(platform::grant).collect();
    grants.into_iter().map(|grant| grant.granted(&app.components[component].grants)).collect()
}

/// If two sets of components in one composition pass handles of the same package but have different grants for this
/// package, isolates the second set.
///
/// A composition has one import of a package for all components that pass handles of its resources, so these components
/// must have equal grants. The planner checks later, as for every seam, whether values can cross the seams that result.
pub(crate) fn isolate_conflicts(
    app: &App,
    types: &Types,
    links: &[ResolvedImport],
    places: &mut BTreeMap<ComponentName, Placement>,
) {
    // Each iteration isolates at least one component, so the loop ends.
    while let Some((members, package)) = conflict(app, types, links, places) {
        let leader = members.first().expect("a set has members").clone();
        for member in members {
            let place = places.get_mut(&member).expect("every component is placed");
            place.separation = Some(Separation::Handles { package: package.clone(), with: leader.clone() });
        }
    }
}

/// Finds a set of components that pass each other handles of a package, and whose grants for this package differ from
/// the grants of another such set in the same composition. Returns the components and the package.
fn conflict(
    app: &App,
    types: &Types,
    links: &[ResolvedImport],
    places: &BTreeMap<ComponentName, Placement>,
) -> Option<(BTreeSet<ComponentName>, String)> {
    let mut units = BTreeMap::<_, BTreeSet<ComponentName>>::new();
    for (component, place) in places {
        units.entry(place.unit(component)).or_default().insert(component.clone());
    }
    for members in units.into_values() {
        let mut sets = find(types, &members, links).into_iter().peekable();
        while let Some(set) = sets.next() {
            let grants_of = |set: &HandleSharing<'_>| {
                granted(app, types, &set.package, set.members.first().expect("a set has members"))
            };
            if let Some(next) = sets.peek()
                && next.package == set.package
                && grants_of(next) != grants_of(&set)
            {
                return sets.next().map(|next| (next.members, next.package));
            }
        }
    }
    None
}
