//! Decides which component serves which route.

use std::collections::BTreeMap;

use isomer_diagnostics::{Diagnostic, Span};
use isomer_ids::ComponentName;
use isomer_manifest::{App, Route};

use crate::interface::{ComponentType, InterfaceId};
use crate::links::Types;
use crate::placement::Placement;
use crate::planned_group::{Http, PlannedHandler, ResolvedImport};

/// Returns the HTTP handlers of components with routes, by component. Adds problems to `errors` and `warnings`.
pub(crate) fn handlers(
    app: &App,
    types: &Types,
    links: &[ResolvedImport],
    errors: &mut Vec<Diagnostic>,
    warnings: &mut Vec<Diagnostic>,
) -> BTreeMap<ComponentName, PlannedHandler> {
    errors.extend(collisions(app));
    let mut handlers = BTreeMap::new();
    for (name, component) in &app.components {
        let Some(ty) = types.get(name) else { continue };
        match (handler(ty), component.routes.first()) {
            (Some((interface, http)), Some(_)) => {
                let mut routes: Vec<Route> = component.routes.iter().map(|route| route.value.clone()).collect();
                routes.sort();
                handlers.insert(
                    name.clone(),
                    PlannedHandler { component: name.clone(), interface: interface.clone(), http, routes },
                );
            }
            (None, Some(route)) => {
                let others: Vec<_> = ty.exports.keys().filter(|id| id.package_name() == "wasi:http").collect();
                let error = Diagnostic::error(format!("component `{name}` has routes, but exports no HTTP handler"))
                    .code("no-handler")
                    .at(route.span, "no handler serves this route");
                let error = others.iter().fold(error, |error, id| error.note(format!("it exports `{id}`")));
                let command = ty.exports.keys().any(|id| id.path() == "wasi:cli/run");
                errors.push(error.hint(if command {
                    "it is a command: run it with `isomer exec`, or remove its routes"
                } else {
                    "export `wasi:http/handler@0.3.0` (or `wasi:http/incoming-handler@0.2.*`), or remove its routes"
                }));
            }
            (Some((interface, _)), None) => {
                let linked = links.iter().any(|link| link.exporter == *name && link.export == *interface);
                if !linked {
                    warnings.push(
                        Diagnostic::warning(format!("component `{name}` exports an HTTP handler, but has no routes"))
                            .code("unrouted-handler")
                            .at(component.at.span, format!("exports `{interface}`"))
                            .hint(format!(
                                "give the component routes under `[components.{name}]`:\nroutes = [\"/...\"]"
                            )),
                    );
                }
            }
            (None, None) => {}
        }
    }
    handlers
}

/// Checks that all components that serve routes are in the same process, because only one process of an app has a front
/// door. Otherwise, returns an error.
pub(crate) fn front_doors(
    app: &App,
    shape: &str,
    handlers: &BTreeMap<ComponentName, PlannedHandler>,
    places: &BTreeMap<ComponentName, Placement>,
) -> Option<Diagnostic> {
    let mut doors = handlers.keys().map(|component| (component, &places[component].group));
    let (first, first_group) = doors.next()?;
    let (other, other_group) = doors.find(|(_, group)| *group != first_group)?;
    let at = |component: &ComponentName| app.components[component].routes[0].span;
    Some(
        Diagnostic::error(format!(
            "in shape `{shape}`, two processes would serve routes: `{first_group}` (component `{first}`) and `{other_group}` (component `{other}`)"
        ))
        .code("two-front-doors")
        .at(at(other), format!("served by `{other}`, in group `{other_group}`"))
        .related(at(first), format!("served by `{first}`, in group `{first_group}`"))
        .hint(format!(
            "an app has one front door: put `{first}` and `{other}` into one group (`isolate` still separates their memory); or let \
             `{first}` serve all routes and call `{other}`"
        )),
    )
}

/// Returns the HTTP handler that a component exports, and its version. If a component exports both versions, WASI 0.3
/// is used.
fn handler(ty: &ComponentType) -> Option<(&InterfaceId, Http)> {
    let find = |track: &str| ty.exports.keys().find(|id| id.track() == track);
    find("wasi:http/handler@0.3")
        .map(|id| (id, Http::P3))
        .or_else(|| find("wasi:http/incoming-handler@0.2").map(|id| (id, Http::P2)))
}

fn collisions(app: &App) -> Vec<Diagnostic> {
    let mut owners: BTreeMap<&Route, (&ComponentName, Span)> = BTreeMap::new();
    let mut found = Vec::new();
    for (name, component) in &app.components {
        for route in &component.routes {
            match owners.get(&route.value) {
                // A route that appears twice in one component is not reported here, because the manifest's own checks
                // report it.
                Some((owner, _)) if *owner == name => {}
                Some((owner, first)) => found.push(
                    Diagnostic::error(format!("components `{owner}` and `{name}` both serve `{}`", route.value))
                        .code("route-collision")
                        .at(route.span, format!("`{name}`"))
                        .related(*first, format!("`{owner}`"))
                        .hint("remove the route from one of the components, or make one of the routes longer: the longest matching route is used"),
                ),
                None => {
                    owners.insert(&route.value, (name, route.span));
                }
            }
        }
    }
    found
}
