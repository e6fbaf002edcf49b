//! Handles with authority that components pass to each other: for example, `shop:cart/open` returns a `bucket` of
//! `wasi:keyvalue`.
//!
//! Both sides of such a call need the same resource type, so components that pass handles share one import of the
//! family. They must have equal grants, because the platform cannot tell which of them makes a call. Every other
//! component has its own import, under a label.

use std::collections::{BTreeMap, BTreeSet};

use isomer_ids::ComponentName;
use isomer_manifest::App;

use crate::links::Types;
use crate::model::ResolvedImport;
use crate::placement::{Placement, Separation};
use crate::platform::{self, Authority, Grant};

/// A set of components that pass handles of one family to each other, directly or through other components.
#[derive(Debug)]
pub(crate) struct Flow<'a> {
    /// The family, for example `wasi:keyvalue`.
    pub(crate) family: String,
    pub(crate) members: BTreeSet<ComponentName>,
    /// An import through which the handles are passed, for messages.
    pub(crate) link: &'a ResolvedImport,
}

/// Returns the flows among `components`, ordered by family and members.
pub(crate) fn flows<'a>(
    types: &Types,
    components: &BTreeSet<ComponentName>,
    links: &'a [ResolvedImport],
) -> Vec<Flow<'a>> {
    let mut flows: Vec<Flow<'a>> = Vec::new();
    for link in links.iter().filter(|link| components.contains(&link.importer) && components.contains(&link.exporter)) {
        let import = &types[&link.importer].imports[&link.import];
        let export = &types[&link.exporter].exports[&link.export];
        let carried = import.carries.iter().chain(&export.carries).map(|(owner, _)| owner);
        let families = carried.filter(|owner| matches!(platform::authority(owner), Some(Authority::Own(_))));
        for family in families.map(|owner| owner.family()).collect::<BTreeSet<_>>() {
            let mut joined =
                Flow { family, members: BTreeSet::from([link.importer.clone(), link.exporter.clone()]), link };
            // Flows with a common member are one flow.
            flows.retain_mut(|flow| {
                let meet = flow.family == joined.family && !flow.members.is_disjoint(&joined.members);
                if meet {
                    joined.members.append(&mut flow.members);
                    joined.link = flow.link;
                }
                !meet
            });
            flows.push(joined);
        }
    }
    flows.sort_by(|a, b| (&a.family, &a.members).cmp(&(&b.family, &b.members)));
    flows
}

/// Returns the grants of a component for a family.
pub(crate) fn granted(app: &App, types: &Types, family: &str, component: &ComponentName) -> Vec<Vec<String>> {
    let imports = types[component].imports.keys().filter(|id| id.family() == family);
    let grants: BTreeSet<Grant> = imports.filter_map(platform::grant).collect();
    grants.into_iter().map(|grant| grant.granted(&app.components[component].grants)).collect()
}

/// Isolates flows whose grants differ from those of another flow of the same family in the group.
///
/// A composition imports a family once for all components that pass handles of it. If two flows of a group have
/// different grants, the second becomes a separate composition. Whether values can cross its other seams is checked
/// later, as for every seam.
pub(crate) fn isolate_conflicts(
    app: &App,
    types: &Types,
    links: &[ResolvedImport],
    places: &mut BTreeMap<ComponentName, Placement>,
) {
    // Each iteration isolates at least one component, so the loop ends.
    while let Some((members, family)) = conflict(app, types, links, places) {
        let leader = members.first().expect("a flow has members").clone();
        for member in members {
            let place = places.get_mut(&member).expect("every component is placed");
            place.separation = Some(Separation::Handles { family: family.clone(), with: leader.clone() });
        }
    }
}

/// Returns a flow whose grants differ from those of another flow of the same family in the same composition.
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
        let mut flows = flows(types, &members, links).into_iter().peekable();
        while let Some(flow) = flows.next() {
            let of = |flow: &Flow<'_>| granted(app, types, &flow.family, flow.members.first().expect("it has members"));
            if let Some(next) = flows.peek()
                && next.family == flow.family
                && of(next) != of(&flow)
            {
                return flows.next().map(|next| (next.members, next.family));
            }
        }
    }
    None
}
