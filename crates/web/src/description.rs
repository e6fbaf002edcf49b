//! What the service worker knows about its group. It is written into the module `description.js`.

use std::collections::BTreeMap;
use std::time::Duration;

use isomer_ids::{ComponentName, PlanDigest};
use isomer_manifest::{App, Component, ComponentLimits, Route};
use isomer_plan::{PlannedGroup, PlannedStub};
use isomer_seam::{Composition, HandlerExport, HostImport, ImportOwner};
use serde::Serialize;

use crate::error::WebError;
use crate::provided::{is_provided, without_version};

/// The name of the package whose handlers the worker calls, with the part of its version that decides compatibility.
const HANDLER: &str = "wasi:http/handler@0.3.";

#[derive(Debug, Serialize)]
pub(crate) struct Description {
    /// The digest of the plan, which every call contains.
    plan: String,
    /// The start and the end of each core module in the file with all modules.
    modules: BTreeMap<String, (usize, usize)>,
    imports: Vec<Import>,
    /// The functions of each component's stub, in the order of their numbers.
    stubs: BTreeMap<String, Vec<Function>>,
    /// The routes of all components, the more specific ones first.
    routes: Vec<DescribedRoute>,
    /// The hosts to which each component may send requests.
    outbound: BTreeMap<String, Vec<Host>>,
    /// The limits of each component with a handler.
    limits: BTreeMap<String, Limits>,
}

/// An import of the composition.
#[derive(Debug, Serialize)]
pub(crate) struct Import {
    /// The name by which the generated code finds the import's functions.
    pub(crate) key: String,
    /// The name of the import in the composition.
    #[serde(skip)]
    pub(crate) name: String,
    /// The interface without its version.
    interface: String,
    /// The component that the import belongs to. `None` if the import is shared.
    component: Option<String>,
}

#[derive(Debug, Serialize)]
struct Function {
    key: String,
    seam: String,
    catches: bool,
    idempotent: bool,
}

#[derive(Debug, Serialize)]
struct DescribedRoute {
    path: String,
    is_prefix: bool,
    /// The handler in the group that serves the route. `None` if only the server serves the route.
    handler: Option<Handler>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Handler {
    /// The name by which the generated code exports the handler.
    export: String,
    component: String,
}

#[derive(Debug, Serialize)]
struct Host {
    host: String,
    port: Option<u16>,
}

/// What the description takes from the manifest.
#[derive(Debug, Serialize)]
struct Settings {
    routes: Vec<(String, String, bool)>,
    outbound: BTreeMap<String, Vec<Host>>,
    limits: BTreeMap<String, Limits>,
}

#[derive(Debug, Serialize)]
struct Limits {
    request_ms: u64,
    stream_ms: u64,
    body_bytes: u64,
}

impl Description {
    /// Describes a group. `modules` are the positions of the core modules in their file, and `handlers` is the result of
    /// the function [`handlers`].
    pub(crate) fn new(
        (app, group): (&App, &PlannedGroup),
        plan: PlanDigest,
        (imports, modules): (Vec<Import>, BTreeMap<String, (usize, usize)>),
        handlers: &BTreeMap<&ComponentName, Handler>,
    ) -> Self {
        let Settings { routes, outbound, mut limits } = Settings::new(app, group);
        let handlers: BTreeMap<_, _> = handlers.iter().map(|(name, handler)| (name.to_string(), handler)).collect();
        let mut routes: Vec<_> = routes
            .into_iter()
            .map(|(name, path, is_prefix)| DescribedRoute {
                path,
                is_prefix,
                handler: handlers.get(&name).map(|handler| (*handler).clone()),
            })
            .collect();
        routes.sort_by(|a, b| (a.is_prefix, b.path.len(), &a.path).cmp(&(b.is_prefix, a.path.len(), &b.path)));
        limits.retain(|name, _| handlers.contains_key(name));
        Self {
            plan: plan.to_string(),
            modules,
            imports,
            stubs: group.stubs.iter().map(|stub| (stub.component.to_string(), functions(stub))).collect(),
            routes,
            outbound,
            limits,
        }
    }

    /// Returns the source of the module `description.js`.
    pub(crate) fn module(&self) -> String {
        // JSON is an expression of JavaScript.
        let json = serde_json::to_string(self).expect("a description is plain data");
        format!("export const description = {json};\n")
    }
}

/// Returns all settings of the manifest on which the files of a group depend, as text. The digest of a plan contains only
/// some of them, so a cache of files must include the text in its keys.
///
/// # Panics
/// If `group` is not a group of `app`.
#[must_use]
pub fn settings(app: &App, group: &PlannedGroup) -> String {
    serde_json::to_string(&Settings::new(app, group)).expect("settings are plain data")
}

impl Settings {
    fn new(app: &App, group: &PlannedGroup) -> Self {
        let routes = app.components.iter().flat_map(|(name, component)| {
            component.routes.iter().map(|route| match &route.value {
                Route::Exact(path) => (name.to_string(), path.clone(), false),
                Route::Prefix(path) => (name.to_string(), path.clone(), true),
            })
        });
        let members = || group.components.iter().map(|name| (name.to_string(), &app.components[name]));
        Self {
            routes: routes.collect(),
            outbound: members().map(|(name, component)| (name, outbound(component))).collect(),
            limits: members().map(|(name, component)| (name, limits(&component.limits))).collect(),
        }
    }
}

/// Returns the handlers of a composition by component. `export_key` returns the name by which the generated code exports an
/// export of the composition.
///
/// # Errors
/// If a handler has another version of `wasi:http` than the worker calls.
pub(crate) fn handlers(
    composition: &Composition,
    export_key: impl Fn(&str) -> String,
) -> Result<BTreeMap<&ComponentName, Handler>, WebError> {
    let mut handlers = BTreeMap::new();
    for HandlerExport { name, interface, component } in &composition.exports {
        if !interface.starts_with(HANDLER) {
            return Err(WebError::Handler { component: component.clone(), interface: interface.clone() });
        }
        handlers.insert(component, Handler { export: export_key(name), component: component.to_string() });
    }
    Ok(handlers)
}

/// Returns the imports of a composition.
///
/// # Errors
/// If the worker does not provide an import.
pub(crate) fn imports(composition: &Composition) -> Result<Vec<Import>, WebError> {
    let import = |(index, import): (usize, &HostImport)| {
        let components = match &import.owner {
            ImportOwner::Component(component) => std::slice::from_ref(component),
            ImportOwner::Shared(components) => components,
        };
        if !is_provided(&import.interface) {
            let (components, interface) = (components.to_vec(), import.interface.clone());
            return Err(WebError::Import { components, interface });
        }
        Ok(Import {
            key: format!("i{index}"),
            name: import.name.clone(),
            interface: without_version(&import.interface).to_owned(),
            component: if let [only] = components { Some(only.to_string()) } else { None },
        })
    };
    composition.imports.iter().enumerate().map(import).collect()
}

fn functions(stub: &PlannedStub) -> Vec<Function> {
    let functions = stub.functions.iter().map(|function| Function {
        key: function.key.to_string(),
        seam: format!("{} → {} {}.{}", stub.component, function.callee, function.interface, function.function),
        catches: function.catches,
        idempotent: function.idempotent,
    });
    functions.collect()
}

fn outbound(component: &Component) -> Vec<Host> {
    let hosts = component.grants.http.iter().map(|host| Host { host: host.value.host.clone(), port: host.value.port });
    hosts.collect()
}

fn limits(limits: &ComponentLimits) -> Limits {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Limits {
        request_ms: milliseconds(limits.request_deadline()),
        stream_ms: milliseconds(limits.stream_max()),
        body_bytes: limits.body_bytes(),
    }
}
