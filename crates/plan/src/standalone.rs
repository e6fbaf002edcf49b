//! Plans an app as one Wasm file with only standard imports, for hosts that know nothing of this project.
//!
//! Such a host gives an import to the whole file: it cannot tell which component calls, and it has no grants. So what a
//! node provides to each component under its grants is met *inside* of the file by components that are added to it, and
//! the rest is imported plainly. For each plain import that gives access to something, the plan states what changes. An
//! import that can be met in neither way refuses the app.

use std::collections::BTreeMap;

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::{App, SecretSource};
use serde::Serialize;

use crate::interface::InterfaceId;
use crate::model::Plan;
use crate::planned_group::PlannedGroup;
use crate::platform::{self, Authority, Grant};

/// An app as one Wasm file.
#[derive(Debug, Clone, Serialize)]
pub struct StandalonePlan {
    /// All components of the app.
    pub group: PlannedGroup,
    /// Every import that no component of the app provides, ordered as in the group.
    pub imports: Vec<StandaloneImport>,
    /// What differs from the app on a node.
    pub notes: Vec<String>,
}

/// An import of a component, and what provides it in the Wasm file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StandaloneImport {
    /// The importing component.
    pub component: ComponentName,
    /// The imported interface.
    pub interface: InterfaceId,
    /// What provides the import.
    pub supply: Supply,
}

/// What provides an import of a component in one Wasm file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Supply {
    /// The host. All components that import the interface share one import.
    Host,
    /// The stores in the file, which check the component's grants.
    Stores,
    /// The component's own instance of the provider of configuration, secrets, logging and telemetry.
    Platform,
    /// The component's config values as environment variables. They are constants in the file.
    Environment,
    /// An empty list of folders, because the component was granted none.
    NoFolders,
    /// A function that refuses every outgoing request, because the component was granted no host.
    NoHttp,
}

/// Plans an app as one Wasm file, from its plan as a monolith.
///
/// # Errors
/// If an import cannot be met, or if the components cannot be put into one file. The error contains all reasons.
pub fn standalone(app: &App, plan: &Plan) -> Result<StandalonePlan, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let whole = plan.groups.iter().max_by_key(|group| group.components.len());
    let Some(group) = whole else { return Err(vec![Diagnostic::error("the app has no components")]) };
    errors.extend(plan.groups.iter().filter(|other| other.name != group.name).map(|other| separate(app, plan, other)));
    errors.extend(handler_count(app, plan));
    let mut imports = Vec::new();
    for import in plan.groups.iter().flat_map(|group| &group.imports) {
        match supply(app, &import.component, &import.interface) {
            Ok(supply) => imports.push(StandaloneImport {
                component: import.component.clone(),
                interface: import.interface.clone(),
                supply,
            }),
            Err(error) => errors.push(*error),
        }
    }
    errors.extend(secret_files(app, &imports));
    if !errors.is_empty() {
        return Err(errors);
    }
    let notes = notes(group, &imports);
    Ok(StandalonePlan { group: group.clone(), imports, notes })
}

/// Returns what provides an import of `component`.
fn supply(app: &App, component: &ComponentName, interface: &InterfaceId) -> Result<Supply, Box<Diagnostic>> {
    let grants = &app.components[component].grants;
    Ok(match (interface.package_name().as_str(), interface.interface.as_str()) {
        ("wasi:keyvalue" | "isomer:sql", _) => Supply::Stores,
        ("wasi:config" | "wasi:logging" | "wasi:otel" | "isomer:secrets", _) => Supply::Platform,
        ("wasi:cli", "environment") => Supply::Environment,
        ("wasi:filesystem", "preopens") if grants.dirs.is_empty() => Supply::NoFolders,
        ("wasi:http", "client" | "outgoing-handler") if grants.http.is_empty() => Supply::NoHttp,
        ("wasi:http", "handler") => {
            let error = Diagnostic::error(format!(
                "`{component}` imports `{interface}`, which hosts of one Wasm file do not provide"
            ));
            return Err(Box::new(
                error
                    .code("unmet-import")
                    .at(app.components[component].at.span, "imports the interface to send requests")
                    .note("a node sends these requests to the network; a plain WASI host only calls this interface")
                    .hint("send requests through `wasi:http/client`"),
            ));
        }
        (package, _) if package.starts_with("wasi:") => Supply::Host,
        _ => {
            let error = Diagnostic::error(format!(
                "`{component}` imports `{interface}`, which is neither a standard interface nor met inside of the Wasm file"
            ));
            return Err(Box::new(
                error
                    .code("unmet-import")
                    .at(app.components[component].at.span, "imports the interface")
                    .hint("add a component that exports it, or ship the app in another form"),
            ));
        }
    })
}

/// Returns the error for components that the plan places apart from the others.
fn separate(app: &App, plan: &Plan, group: &PlannedGroup) -> Diagnostic {
    let names: Vec<_> = group.components.iter().map(|name| format!("`{name}`")).collect();
    let span = group.components.first().map(|name| app.components[name].at.span).unwrap_or_default();
    let mut error = Diagnostic::error(format!(
        "{} cannot be put into the same Wasm file as the other components",
        names.join(", ")
    ))
    .code("not-one-file")
    .at(span, "isolated by the plan")
    .hint("`isomer plan` states why; components that pass handles to each other need equal grants");
    if let Some(seam) = plan
        .seams
        .iter()
        .find(|seam| group.components.contains(&seam.link.importer) != group.components.contains(&seam.link.exporter))
    {
        error = error.note(format!("{} -> {}: {}", seam.link.importer, seam.link.exporter, seam.reason));
    }
    error
}

/// Returns an error unless exactly one component has routes.
fn handler_count(app: &App, plan: &Plan) -> Option<Diagnostic> {
    let handlers: Vec<_> = plan.groups.iter().flat_map(|group| &group.handlers).collect();
    match handlers.as_slice() {
        [_] => None,
        [] => Some(
            Diagnostic::error("no component has routes, so the Wasm file would serve no requests")
                .code("no-handler")
                .hint("write `routes = [\"/...\"]` under the component that serves requests"),
        ),
        [first, rest @ ..] => {
            let names: Vec<_> = handlers.iter().map(|handler| format!("`{}`", handler.component)).collect();
            let error = Diagnostic::error(format!(
                "{} have routes, but a Wasm file exports one HTTP handler",
                names.join(", ")
            ));
            let span = rest
                .first()
                .map_or(app.components[&first.component].at.span, |handler| app.components[&handler.component].at.span);
            Some(
                error
                    .code("several-handlers")
                    .at(span, "also has routes")
                    .hint("give routes to one component, and let it call the others through an interface of the app"),
            )
        }
    }
}

/// Returns an error for each secret that comes from a file.
fn secret_files(app: &App, imports: &[StandaloneImport]) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for (name, source) in &app.secrets {
        let granted =
            imports.iter().filter(|import| import.interface.package_name() == "isomer:secrets").find_map(|import| {
                let secrets = &app.components[&import.component].grants.secrets;
                secrets.iter().find(|granted| granted.value == *name)
            });
        if let (SecretSource::File(path), Some(granted)) = (source, granted) {
            errors.push(
                Diagnostic::error(format!(
                    "the secret `{name}` comes from the file `{}`, which the host of the Wasm file does not have",
                    path.display()
                ))
                .code("secret-file")
                .at(granted.span, "granted here")
                .note("secrets are never put into the Wasm file; it reads them from the host's environment when they are used")
                .hint(format!("write `{name} = {{ env = \"NAME\" }}` under `[secrets]`")),
            );
        }
    }
    errors
}

/// Returns what differs from the app on a node, as text for people.
fn notes(group: &PlannedGroup, imports: &[StandaloneImport]) -> Vec<String> {
    let mut by_interface = BTreeMap::<&InterfaceId, Vec<&ComponentName>>::new();
    for import in imports.iter().filter(|import| import.supply == Supply::Host) {
        if matches!(platform::authority(&import.interface), Some(Authority::Own(_)))
            || import.interface.package_name() == "wasi:sockets"
        {
            by_interface.entry(&import.interface).or_default().push(&import.component);
        }
    }
    let mut notes = Vec::new();
    for (interface, components) in by_interface {
        let names: Vec<_> = components.iter().map(|name| format!("`{name}`")).collect();
        let change = match (interface.package_name().as_str(), platform::grant(interface)) {
            (_, Some(Grant::Http)) => {
                "the host decides to which addresses requests are sent, for all of them together; their `http` grants are not enforced"
            }
            (_, Some(Grant::Dirs)) => {
                "they see every folder that the host gives to the file, also that of the stores; their `dirs` grants are not enforced"
            }
            ("wasi:sockets", _) => "the host decides which addresses they reach; on a node, none",
            (_, _) => match interface.interface.as_str() {
                "exit" => "it ends the instance with all its requests",
                "stdin" => "they read the host's standard input; on a node, it is empty",
                "stdout" | "stderr" => "the host's log does not state which of them wrote a line",
                _ => continue,
            },
        };
        notes.push(format!("import `{interface}` is shared by {}: {change}", names.join(", ")));
    }
    for handler in &group.handlers {
        if !handler.routes.iter().any(|route| route.to_string() == "/...") {
            let routes: Vec<_> = handler.routes.iter().map(|route| format!("`{route}`")).collect();
            notes.push(format!(
                "`{}` gets requests for every path, not only for {}; on a node, the front door answers the others",
                handler.component,
                routes.join(", ")
            ));
        }
    }
    notes.push(
        "limits of requests, of memory and of time are those of the host; the limits in the manifest apply only to SQL statements"
            .to_owned(),
    );
    notes
}

impl StandalonePlan {
    /// Returns whether the file needs the provider of stores.
    #[must_use]
    pub fn needs_stores(&self) -> bool {
        self.imports.iter().any(|import| import.supply == Supply::Stores)
    }

    /// Returns whether the file needs the provider of configuration, secrets, logging and telemetry.
    #[must_use]
    pub fn needs_platform(&self) -> bool {
        self.imports.iter().any(|import| import.supply == Supply::Platform)
    }

    /// Returns the plan as text: what is met inside of the file, what the host must provide, and what differs from a node.
    #[must_use]
    pub fn explain(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let mut section = |title: &str, supplies: &[Supply]| {
            let mut by_interface = BTreeMap::<String, Vec<String>>::new();
            for import in self.imports.iter().filter(|import| supplies.contains(&import.supply)) {
                by_interface.entry(import.interface.to_string()).or_default().push(import.component.to_string());
            }
            if !by_interface.is_empty() {
                let _ = writeln!(text, "{title}");
                for (interface, components) in by_interface {
                    let _ = writeln!(text, "  {interface}  ({})", components.join(", "));
                }
            }
        };
        let inside = [Supply::Stores, Supply::Platform, Supply::Environment, Supply::NoFolders, Supply::NoHttp];
        section("met inside of the file:", &inside);
        section("imported from the host:", &[Supply::Host]);
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }
}
