//! The plan: a pure function of an app, the types of its components and a shape.
//!
//! [`plan`] decides which components are placed together, how every import is met and why, and what each component may
//! reach; what cannot work it refuses with a diagnostic that points at the manifest and names the way out. The parts, in
//! the order in which they decide:
//!
//! 1. `links`: who meets which import, and whether both sides agree about the functions;
//! 2. `place`: groups, components set apart, the mode of every seam, the order of instantiation;
//! 3. `access` and `routes`: grants, homes of stores, paths;
//! 4. `bind`: what a group's composition imports from the host, shared or labelled;
//! 5. `cross`: which functions are called across seams, and by which numbers.
//!
//! **Fusing never widens authority**: an interface that gives authority is bound for each component by itself, or shared
//! among components with the same grants. What the platform implements, and what authority that gives, stands in one table
//! in `platform`.
//!
//! Nothing here reads files, knows how components are encoded, or runs them.
#![forbid(unsafe_code)]

mod access;
mod bind;
mod cross;
mod explain;
mod interface;
mod links;
mod model;
mod place;
mod platform;
mod routes;

use std::collections::{BTreeMap, BTreeSet};

use isomer_manifest::{App, ComponentName, Diagnostic};

pub use interface::{Class, ComponentType, FunctionType, InterfaceId, InterfaceType, NotAnInterface, TypeHash};
pub use model::{
    Access, Binding, Group, Handler, HostBinding, Http, Link, MissingGrant, Mode, Plan, Seam, Skeleton,
    SkeletonFunction, Stub, StubFunction,
};

use place::{Apart, Place};

/// Plans an app in one of its shapes. `types` has the type of every component of the app.
///
/// # Errors
/// Everything that cannot work, in the order of components' names. Warnings are in the plan.
pub fn plan(app: &App, types: &BTreeMap<ComponentName, ComponentType>, shape: &str) -> Result<Plan, Vec<Diagnostic>> {
    let shape_of_app = place::shape(app, shape).map_err(|unknown| vec![*unknown])?;
    let mut errors: Vec<_> = app
        .components
        .iter()
        .filter(|(name, _)| !types.contains_key(*name))
        .map(|(name, component)| {
            Diagnostic::error(format!("the type of component `{name}` is not known"))
                .code("unknown-type")
                .at(component.at.span, "not built")
                .hint("build it first: `isomer build`")
        })
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut warnings = Vec::new();
    let links = links::find(app, types, &mut errors);
    let places = place::place(app, shape, shape_of_app);
    let seams: Vec<Seam> =
        links.iter().map(|link| place::seam(link, &types[&link.importer].imports[&link.import], &places)).collect();
    errors.extend(seams.iter().filter_map(|seam| place::cannot_cross(app, seam, &places)));
    let access = access::check(app, types, &links, &mut errors, &mut warnings);
    let handlers = routes::handlers(app, types, &links, &mut errors, &mut warnings);
    let groups = groups(app, types, &seams, &places, &handlers, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Plan {
        app: app.name.clone(),
        version: app.version.to_string(),
        shape: shape.to_owned(),
        notes: notes(app, &groups, &places),
        groups,
        seams,
        access,
        warnings,
    })
}

/// The groups as they are composed: those of the shape, and components that are set apart.
fn groups(
    app: &App,
    types: &BTreeMap<ComponentName, ComponentType>,
    seams: &[Seam],
    places: &BTreeMap<ComponentName, Place>,
    handlers: &BTreeMap<ComponentName, Handler>,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Group> {
    let mut units: BTreeMap<(String, Option<ComponentName>), BTreeSet<ComponentName>> = BTreeMap::new();
    for (component, place) in places {
        units.entry(place.unit(component)).or_default().insert(component.clone());
    }
    let mut groups = Vec::with_capacity(units.len());
    for ((shape_group, apart), members) in units {
        let links: Vec<Link> = seams
            .iter()
            .filter(|seam| seam.mode == Mode::Fused && members.contains(&seam.link.importer))
            .map(|seam| seam.link.clone())
            .collect();
        let components = match place::order(&members, &links) {
            Ok(components) => components,
            Err(cycle) => {
                errors.push(cycle_error(app, &shape_group, &cycle, &links));
                continue;
            }
        };
        // Of seams to other groups the host has no part in the composition either.
        let met: Vec<Link> =
            seams.iter().filter(|seam| members.contains(&seam.link.importer)).map(|seam| seam.link.clone()).collect();
        groups.push(Group {
            imports: bind::host_imports(app, types, &components, &met, errors),
            handlers: components.iter().filter_map(|component| handlers.get(component).cloned()).collect(),
            stubs: cross::stubs(types, seams, &components),
            skeletons: cross::skeletons(types, seams, &components),
            components,
            links,
            name: apart.as_ref().map_or_else(|| shape_group.clone(), ToString::to_string),
            set_apart_from: apart.map(|_| shape_group),
        });
    }
    groups
}

fn cycle_error(app: &App, group: &str, cycle: &[ComponentName], links: &[Link]) -> Diagnostic {
    let path: Vec<_> = cycle.iter().map(ToString::to_string).collect();
    let error =
        Diagnostic::error(format!("components of group `{group}` import from each other: {}", path.join(" → ")))
            .code("cycle")
            .at(app.components[&cycle[0]].at.span, "part of the cycle");
    let steps = cycle.windows(2).filter_map(|pair| {
        let link = links.iter().find(|link| link.importer == pair[0] && link.exporter == pair[1])?;
        Some(format!("`{}` imports `{}` from `{}`", pair[0], link.import, pair[1]))
    });
    steps
        .fold(error, Diagnostic::note)
        .hint("a component is made after those it imports from: move what both need into a third component")
}

fn notes(app: &App, groups: &[Group], places: &BTreeMap<ComponentName, Place>) -> Vec<String> {
    let mut notes = Vec::new();
    for group in groups.iter().filter(|group| group.components.len() > 1) {
        for component in &group.components {
            let limits = &app.components[component].limits;
            if limits.memory_bytes.is_some() || limits.request_deadline.is_some() || limits.body_bytes.is_some() {
                notes.push(format!(
                    "the limits of `{component}` hold for all of group `{}` while it answers a request of `{component}`",
                    group.name
                ));
            }
        }
    }
    for (component, place) in places {
        let why = match &place.apart {
            None => continue,
            Some(Apart::Asked) => "it is to be isolated",
            Some(Apart::Limits) => "it has limits of its own and no routes",
        };
        notes.push(format!("`{component}` is set apart from group `{}`: {why}", place.group));
    }
    notes
}
