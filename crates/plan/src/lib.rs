//! The planner: a pure function of an app, the types of its components and a shape.
//!
//! [`plan`] decides which components are placed together, what provides each import and why, and what each component
//! may reach. An app that cannot work is refused with a diagnostic that points at the manifest and states what to
//! change. The modules, in the order in which they decide:
//!
//! 1. `links`: which component provides which import, and whether importer and exporter agree on the functions;
//! 2. `placement` and `handle_sharing`: groups, isolated components, the mode of each seam, the order of instantiation;
//! 3. `access`, `stores` and `routes`: the grants, the process that opens each store, and the process that serves the routes;
//! 4. `host_imports`: what a group's composition imports from the host, shared by its components or under labels;
//! 5. `crossings` and `idempotent`: the functions that are called across seams, their numbers, and whether a lost call may be repeated;
//! 6. `exposed` and `browser`: the components that run in tabs, and the functions that tabs may call;
//! 7. `reuse`: how many requests an instance of a group serves.
//!
//! `arrangement` and `difference` compare shapes. `standalone` plans an app as one Wasm file for other hosts.
//!
//! **Fusing never widens authority**: an interface that gives access to something is imported for each component
//! separately, or shared by components with the same grants. The table in `platform` lists the interfaces that the
//! platform implements and the authority that each gives.
//!
//! The crate reads no files, does not know how components are encoded, and runs no guest code.
#![forbid(unsafe_code)]

mod access;
mod arrangement;
mod browser;
mod browser_inputs;
mod call_cycles;
mod crossings;
mod difference;
mod explanation;
mod exposed;
mod handle_sharing;
mod host_imports;
mod idempotent;
mod interface;
mod links;
mod model;
mod named_functions;
mod options;
mod placement;
mod planned_browser;
mod planned_group;
mod platform;
mod reuse;
mod routes;
mod standalone;
mod stores;
mod tab_refusals;
mod tab_warnings;

use std::collections::{BTreeMap, BTreeSet};

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::App;

pub use arrangement::{ArrangedComposition, ArrangedSeam, Arrangement, PlanOutline};
pub use difference::{ArrangementDifference, Isolation, IsolationDifference, ModeChange, processes};
pub use explanation::EXPLANATION;
pub use interface::{
    ComponentType, FunctionType, InterfaceId, InterfaceType, NotAnInterface, Parameter, TypeHash, ValueClass,
};
pub use model::{ComponentAccess, MissingGrant, Plan, Seam};
pub use options::PlanOptions;
pub use planned_browser::{IdentityParameter, PlannedBrowser, TabFunction, TabSeam, Transport};
pub use planned_group::{
    HostBinding, Http, ImportBinding, PlannedGroup, PlannedHandler, PlannedSkeleton, PlannedStub, ResolvedImport,
    SeamMode, SkeletonFunction, StubFunction,
};
pub use platform::{grant_key, is_of_platform};
pub use standalone::{StandaloneImport, StandalonePlan, Supply, standalone};

use browser_inputs::BrowserInputs;
use idempotent::Idempotent;
use placement::Placement;

/// Plans an app in one of its shapes. `types` contains the type of every component of the app.
///
/// # Errors
/// If the app cannot work. The error contains all problems, in the order of the components' names. Warnings are part of
/// the plan.
pub fn plan(app: &App, types: &BTreeMap<ComponentName, ComponentType>, shape: &str) -> Result<Plan, Vec<Diagnostic>> {
    plan_with(app, types, shape, PlanOptions::default())
}

/// Plans an app as [`plan`] does, with options that only tests set.
///
/// # Errors
/// The errors of [`plan`].
pub fn plan_with(
    app: &App,
    types: &BTreeMap<ComponentName, ComponentType>,
    shape: &str,
    options: PlanOptions,
) -> Result<Plan, Vec<Diagnostic>> {
    let shape_of_app = placement::shape(app, shape).map_err(|unknown| vec![*unknown])?;
    let mut errors: Vec<_> = app
        .components
        .iter()
        .filter(|(name, _)| !types.contains_key(*name))
        .map(|(name, component)| {
            Diagnostic::error(format!("the type of component `{name}` is not known"))
                .code("unknown-type")
                .at(component.at.span, "not built")
                .hint("build the component first: `isomer build`")
        })
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut warnings = Vec::new();
    let links = links::find(app, types, &mut errors);
    let idempotent = idempotent::find(app, types, &mut errors);
    let exposed = exposed::find(app, types, &mut errors);
    let mut places = placement::place(app, shape, shape_of_app);
    handle_sharing::isolate_conflicts(app, types, &links, &mut places);
    let seams: Vec<Seam> =
        links.iter().map(|link| placement::seam(link, &types[&link.importer].imports[&link.import], &places)).collect();
    errors.extend(seams.iter().filter_map(|seam| placement::cannot_cross(app, seam, &places)));
    let access = access::check(app, types, &links, &mut warnings);
    let mut shared = Vec::new();
    stores::check(app, shape, &places, &mut errors, &mut shared);
    let handlers = routes::handlers(app, types, &links, &mut errors, &mut warnings);
    errors.extend(routes::front_doors(app, shape, &handlers, &places));
    let browser = shape_of_app.browser.as_ref().and_then(|group| {
        let browser = BrowserInputs {
            app,
            types,
            shape_name: shape,
            shape: shape_of_app,
            group,
            links: &links,
            places: &places,
            handlers: &handlers,
            idempotent: &idempotent,
            exposed: &exposed,
            options,
        };
        browser.plan(&mut errors, &mut warnings)
    });
    let deciding = Deciding {
        app,
        types,
        seams: &seams,
        places: &places,
        handlers: &handlers,
        idempotent: &idempotent,
        browser: browser.as_ref(),
        options,
    };
    let groups = deciding.groups(&mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Plan {
        app: app.name.clone(),
        version: app.version.to_string(),
        shape: shape.to_owned(),
        notes: notes(app, &groups, &places)
            .into_iter()
            .chain(reuse::notes(app, &groups))
            .chain(shared)
            .chain(call_cycles::notes(&groups, &seams))
            .chain(browser.iter().flat_map(tab_warnings::notes))
            .collect(),
        reuse: reuse::bounds(app, &groups),
        groups,
        browser,
        seams,
        access,
        warnings,
    })
}

/// The decisions from which [`Deciding::groups`] creates the groups.
struct Deciding<'a> {
    app: &'a App,
    types: &'a BTreeMap<ComponentName, ComponentType>,
    seams: &'a [Seam],
    places: &'a BTreeMap<ComponentName, Placement>,
    handlers: &'a BTreeMap<ComponentName, PlannedHandler>,
    idempotent: &'a Idempotent,
    browser: Option<&'a PlannedBrowser>,
    options: PlanOptions,
}

impl Deciding<'_> {
    /// Returns the compositions: one for each group of the shape, and one for each isolated component or set of
    /// components that are isolated together. Import cycles and grants that conflict are added to `errors`.
    fn groups(&self, errors: &mut Vec<Diagnostic>) -> Vec<PlannedGroup> {
        let Self { app, types, seams, places, handlers, idempotent, browser, options } = *self;
        let mut units: BTreeMap<(String, Option<ComponentName>), BTreeSet<ComponentName>> = BTreeMap::new();
        for (component, place) in places {
            units.entry(place.unit(component)).or_default().insert(component.clone());
        }
        let mut groups = Vec::with_capacity(units.len());
        for ((shape_group, leader), members) in units {
            let links: Vec<ResolvedImport> = seams
                .iter()
                .filter(|seam| seam.mode == SeamMode::Fused && members.contains(&seam.link.importer))
                .map(|seam| seam.link.clone())
                .collect();
            let components = match placement::order(&members, &links) {
                Ok(components) => components,
                Err(cycle) => {
                    errors.push(placement::cycle_error(app, &shape_group, &cycle, &links));
                    continue;
                }
            };
            // The imports that components of this group or of other groups provide. The host does not provide these
            // imports.
            let met: Vec<ResolvedImport> = seams
                .iter()
                .filter(|seam| members.contains(&seam.link.importer))
                .map(|seam| seam.link.clone())
                .collect();
            groups.push(PlannedGroup {
                imports: host_imports::host_imports(app, types, options, &components, &met, errors),
                handlers: components.iter().filter_map(|component| handlers.get(component).cloned()).collect(),
                stubs: crossings::stubs(types, seams, idempotent, &components),
                skeletons: crossings::skeletons(types, seams, browser, &components),
                components,
                links,
                name: leader
                    .as_ref()
                    .map_or_else(|| shape_group.clone(), |leader| placement::isolated_name(leader, places)),
                isolated_from: leader.map(|_| shape_group),
            });
        }
        groups
    }
}

fn notes(app: &App, groups: &[PlannedGroup], places: &BTreeMap<ComponentName, Placement>) -> Vec<String> {
    let mut notes = Vec::new();
    for group in groups.iter().filter(|group| group.components.len() > 1) {
        for component in &group.components {
            let limits = &app.components[component].limits;
            if limits.memory_bytes.is_some() || limits.request_deadline.is_some() || limits.body_bytes.is_some() {
                notes.push(format!(
                    "the limits of `{component}` apply to the whole group `{}` while it handles a request to `{component}`",
                    group.name
                ));
            }
        }
    }
    let mut isolated = BTreeMap::<(&str, &'static str), Vec<String>>::new();
    for (component, place) in places {
        if let Some(separation) = &place.separation {
            isolated.entry((&place.group, separation.short_reason())).or_default().push(format!("`{component}`"));
        }
    }
    notes.extend(isolated.into_iter().map(|((group, why), components)| {
        let (are, them) = if components.len() == 1 { ("is", "it") } else { ("are", "them") };
        format!(
            "{} {are} isolated from group `{group}` ({why}): calls to {them} are charged to {them}, not to the caller",
            components.join(", ")
        )
    }));
    if places.values().any(|place| Some(&place.group) != places.values().next().map(|first| &first.group)) {
        notes.push(
            "a call to another process is charged in that process, and must finish before the caller's deadline"
                .to_owned(),
        );
    }
    notes
}
