//! The reasons why a browser group cannot run in a tab.

use std::collections::BTreeSet;

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::{Component, Route, Spanned};

use crate::browser_inputs::BrowserInputs;
use crate::interface::{FunctionType, InterfaceId, ValueClass};
use crate::model::Seam;
use crate::placement;
use crate::planned_browser::TabSeam;
use crate::planned_group::{Http, SeamMode};
use crate::platform::{self, Grant};

/// The prefix of the paths that the front door reserves in shapes with a browser group.
const RESERVED: &str = "/_isomer";

/// The grants that a component in a browser group must not have.
const SERVER_GRANTS: [Grant; 4] = [Grant::Kv, Grant::Sql, Grant::Secrets, Grant::Dirs];

/// Returns the reasons why components of the group cannot run in a tab.
pub(crate) fn components(browser: &BrowserInputs<'_>) -> Vec<Diagnostic> {
    let BrowserInputs { app, group, shape, handlers, .. } = *browser;
    let mut found = vec![];
    for member in &group.components {
        let component = &app.components[&member.value];
        found.extend(server_only(browser, member, component));
        if component.isolate || shape.isolate.iter().any(|isolated| isolated.value == member.value) {
            found.push(isolated(browser, member));
        }
        if let Some(handler) = handlers.get(&member.value)
            && handler.http == Http::P2
        {
            found.push(
                Diagnostic::error(format!(
                    "{}, but its HTTP handler implements WASI 0.2",
                    in_group(browser, &member.value)
                ))
                .code("handler-in-browser")
                .at(member.span, format!("exports `{}`", handler.interface))
                .hint("export `wasi:http/handler@0.3.0`: a tab runs only handlers of WASI 0.3"),
            );
        }
    }
    if !group.components.iter().any(|member| handlers.contains_key(&member.value)) {
        found.push(no_routes(browser));
    }
    for (name, component) in &app.components {
        for route in component.routes.iter().filter(|route| is_reserved(&route.value)) {
            found.push(
                Diagnostic::error(format!(
                    "the route `{}` of component `{name}` is reserved in shape `{}`",
                    route.value, browser.shape_name
                ))
                .code("reserved-route")
                .at(route.span, format!("below `{RESERVED}/`"))
                .note(format!(
                    "in a shape with a browser group, the front door responds to the paths below `{RESERVED}/` itself"
                ))
                .hint("use another path"),
            );
        }
    }
    found
}

fn is_reserved(route: &Route) -> bool {
    let (Route::Exact(path) | Route::Prefix(path)) = route;
    let below = path.strip_prefix(RESERVED);
    below.is_some_and(|rest| rest.starts_with('/') || (rest.is_empty() && matches!(route, Route::Prefix(_))))
}

/// Returns the beginning of an error about a component of the group.
fn in_group(browser: &BrowserInputs<'_>, component: &ComponentName) -> String {
    format!(
        "component `{component}` is in the browser group `{}` of shape `{}`",
        browser.group.name.value, browser.shape_name
    )
}

/// Returns an error if a component needs what a tab does not have: stores, secrets or folders.
fn server_only(
    browser: &BrowserInputs<'_>,
    member: &Spanned<ComponentName>,
    component: &Component,
) -> Option<Diagnostic> {
    let name = &member.value;
    let remove = format!(
        "remove `{name}` from group `{}`: the server runs it, and the tab calls it through `exposed` functions",
        browser.group.name.value
    );
    for grant in SERVER_GRANTS {
        if let Some(first) = grant.granted(&component.grants).first() {
            return Some(
                Diagnostic::error(format!(
                    "{}, but is granted the {} `{first}`",
                    in_group(browser, name),
                    grant.noun()
                ))
                .code("grant-in-browser")
                .at(member.span, "runs in a tab")
                .related(grant.span(component), "granted here")
                .note("the user of a tab controls its components, so a grant would be a grant to anyone")
                .hint(remove),
            );
        }
    }
    let is_linked = |id: &InterfaceId| browser.links.iter().any(|link| link.importer == *name && link.import == *id);
    let needs = |id: &&InterfaceId| {
        !is_linked(id)
            && !Grant::is_ambient(id)
            && platform::grant(id).is_some_and(|grant| SERVER_GRANTS.contains(&grant))
    };
    let import = browser.types[name].imports.keys().find(needs)?;
    Some(
        Diagnostic::error(format!("{}, but imports `{import}`", in_group(browser, name)))
            .code("import-in-browser")
            .at(member.span, "runs in a tab")
            .note("a tab has clocks, randomness, config values, logs and HTTP, but no stores and no secrets")
            .hint(remove),
    )
}

fn isolated(browser: &BrowserInputs<'_>, member: &Spanned<ComponentName>) -> Diagnostic {
    let name = &member.value;
    Diagnostic::error(format!("{}, but is isolated", in_group(browser, name)))
        .code("isolated-in-browser")
        .at(member.span, "runs in a tab")
        .note("a tab runs the components of its group in one composition, so it cannot isolate one of them")
        .hint(format!(
            "remove `{name}` from group `{}`, or remove it from `isolate` if it may share memory with the group",
            browser.group.name.value
        ))
}

fn no_routes(browser: &BrowserInputs<'_>) -> Diagnostic {
    let group = &browser.group.name;
    let routed: Vec<_> = browser.handlers.keys().map(|name| format!("`{name}`")).collect();
    Diagnostic::error(format!(
        "no component of the browser group `{}` of shape `{}` has routes",
        group.value, browser.shape_name
    ))
    .code("no-route-in-browser")
    .at(group.span, "a tab would have no request to answer")
    .hint(match routed.as_slice() {
        [] => "add a component with `routes` to the group".to_owned(),
        _ => format!("add the component that serves the pages to the group: {}", routed.join(" or ")),
    })
}

/// Returns the reason why a tab cannot make the calls of a seam, if there is one.
pub(crate) fn seam(browser: &BrowserInputs<'_>, seam: &Seam) -> Option<Diagnostic> {
    if seam.mode == SeamMode::Fused {
        return None;
    }
    if seam.class != ValueClass::Plain {
        return placement::cannot_cross(browser.app, seam, browser.places);
    }
    let link = &seam.link;
    let import = &browser.types[&link.importer].imports[&link.import];
    let missing: Vec<_> = import
        .functions
        .iter()
        .filter(|(name, _)| browser.exposed.get(&link.exporter, &link.export, name).is_none())
        .collect();
    if missing.is_empty() {
        return None;
    }
    let exporter = &browser.app.components[&link.exporter];
    let names: Vec<_> = missing.iter().map(|(name, _)| format!("`{name}`")).collect();
    let error = Diagnostic::error(format!(
        "in shape `{}`, `{}` runs in a tab and calls `{}`, which does not expose {} of `{}`",
        browser.shape_name,
        link.importer,
        link.exporter,
        names.join(", "),
        link.import
    ))
    .code("not-exposed")
    .at(exporter.at.span, "does not expose the functions")
    .related(browser.group.name.span, format!("`{}` runs in a tab", link.importer));
    let entries = missing.iter().map(|(name, ty)| entry(&link.export, name, ty)).collect::<Vec<_>>();
    let published = missing.iter().map(|(name, ty)| format!("{name}: {}", ty.signature)).collect::<Vec<_>>().join("\n");
    let lines = format!("[\n    {},\n]", entries.join(",\n    "));
    let who = if missing.iter().all(|(_, ty)| session_parameter(ty).is_some()) {
        "anyone who can open the app's pages could call them, each visitor for the own session"
    } else {
        "anyone who can open the app's pages could call them, with any arguments"
    };
    let error = error.note(format!("exposing the functions would publish them: {who}\n{published}"));
    let error = if exporter.exposed.is_empty() {
        error.hint(format!("to publish them, add to the manifest:\n[components.{}]\nexposed = {lines}", link.exporter))
    } else {
        error.hint(format!("to publish them, add to `exposed` of `{}`:\n{},", link.exporter, entries.join(",\n")))
    };
    let grants = &exporter.grants;
    let stays = exporter.isolate || SERVER_GRANTS.iter().any(|grant| !grant.granted(grants).is_empty());
    Some(if stays {
        error
    } else {
        error.hint(format!(
            "or add `{}` to group `{}`, so that the tab runs it",
            link.exporter, browser.group.name.value
        ))
    })
}

/// Returns the entry of `exposed` for a function.
fn entry(interface: &InterfaceId, function: &str, ty: &FunctionType) -> String {
    let functions = format!("{}.{function}", interface.path());
    match session_parameter(ty) {
        Some(parameter) => format!("{{ functions = \"{functions}\", session = \"{parameter}\" }}"),
        None => format!("\"{functions}\""),
    }
}

/// Returns the parameter that a hint suggests as the identity of a visitor: a text whose name contains `session`.
fn session_parameter(ty: &FunctionType) -> Option<&str> {
    let mut texts = ty.parameters.iter().filter(|parameter| parameter.text_offset.is_some());
    texts.find(|parameter| parameter.name.contains("session")).map(|parameter| parameter.name.as_str())
}

/// Returns an error if a function checks the identity of the visitor, but the components do not know this identity.
pub(crate) fn session(browser: &BrowserInputs<'_>, seams: &[TabSeam]) -> Option<Diagnostic> {
    if browser.app.session.is_some() {
        return None;
    }
    let checked = seams.iter().flat_map(|seam| seam.functions.iter().map(move |function| (seam, function)));
    let (seam, function) = checked.into_iter().find(|(_, function)| function.identity.is_some())?;
    let exposed = browser.exposed.get(&seam.link.exporter, &function.interface, &function.function)?;
    let callers: BTreeSet<_> = seams.iter().map(|seam| format!("`{}`", seam.link.importer)).collect();
    let callers = callers.into_iter().collect::<Vec<_>>().join(", ");
    Some(
        Diagnostic::error(format!(
            "`{}` checks the identity of the visitor, but the manifest does not name the cookie that contains it",
            function.function
        ))
        .code("no-session-cookie")
        .at(exposed.span, "`session` needs a cookie")
        .note(format!("the front door creates the identity, and passes it to {callers} in this cookie"))
        .hint("name the app's cookie that identifies a visitor:\n[session]\ncookie = \"NAME\""),
    )
}
