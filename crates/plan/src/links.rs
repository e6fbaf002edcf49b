//! Decides which export provides which import: the export of the same interface, or the one that a link in the manifest
//! names. Checks that importer and exporter agree on the types.

use std::collections::BTreeMap;

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::{App, Component};

use crate::interface::{ComponentType, InterfaceId, InterfaceType};
use crate::planned_group::ResolvedImport;
use crate::platform::{self, Verdict};

/// The minimum Jaro-Winkler similarity between a wrong name and the name that a hint suggests.
pub(crate) const SIMILARITY_MIN: f64 = 0.75;
/// The maximum number of differences between two interfaces that an error lists.
const DIFFERENCES_MAX: usize = 8;

pub(crate) type Types = BTreeMap<ComponentName, ComponentType>;

/// Returns all resolved imports, ordered by importer and interface. Adds an error to `found` for each import that
/// cannot be resolved.
pub(crate) fn find(app: &App, types: &Types, found: &mut Vec<Diagnostic>) -> Vec<ResolvedImport> {
    let mut links = Vec::new();
    // The imports that both the platform and a component of the app could provide.
    let mut open = Vec::new();
    for (name, component) in &app.components {
        let Some(ty) = types.get(name) else { continue };
        let finder = Finder { name, component, types };
        found.extend(finder.check_named_links(ty));
        found.extend(ty.world_imports.iter().map(|import| finder.loose_import(import)));
        for export in ty.exports.keys().filter(|id| is_reserved(id)) {
            found.push(finder.reserved("exports", export));
        }
        for import in ty.imports.values() {
            if is_reserved(&import.id) {
                found.push(finder.reserved("imports", &import.id));
                continue;
            }
            match finder.resolve(import) {
                Ok(Provider::Component(exporter)) => links.push(finder.link(import, exporter)),
                Ok(Provider::OneOf(exporters)) => open.push((component.routes.is_empty(), finder, import, exporters)),
                Ok(Provider::Host) => {}
                Err(diagnostic) => found.push(*diagnostic),
            }
        }
    }
    // The imports of components with routes are resolved first. This matters if an HTTP handler and another component
    // each export an interface that the other one imports. The handler's import is resolved first, to the other
    // component's export. If the handler then provided the other component's import, the two imports would be a cycle,
    // so the host provides it.
    open.sort_by_key(|(is_inside, ..)| *is_inside);
    for (_, finder, import, mut exporters) in open {
        exporters.retain(|(exporter, _)| !leads_to(&links, exporter, finder.name));
        match exporters.as_slice() {
            [] => {}
            [one] => match finder.agree(import, *one) {
                Ok(exporter) => links.push(finder.link(import, exporter)),
                Err(diagnostic) => found.push(*diagnostic),
            },
            several => found.push(finder.ambiguous(&import.id, several)),
        }
    }
    links.sort();
    links
}

/// Returns whether `from` is `to`, or imports from it directly or through other components.
fn leads_to(links: &[ResolvedImport], from: &ComponentName, to: &ComponentName) -> bool {
    let mut reached = vec![from];
    let mut next = 0;
    while let Some(importer) = reached.get(next).copied() {
        if importer == to {
            return true;
        }
        for link in links.iter().filter(|link| link.importer == *importer) {
            if !reached.contains(&&link.exporter) {
                reached.push(&link.exporter);
            }
        }
        next += 1;
    }
    false
}

/// Returns whether the interface is reserved for generated code: stubs, skeletons and probes. This is true for all
/// interfaces of `isomer:probe`, and for those of `isomer:link` except `types`, which apps' own interfaces use.
fn is_reserved(id: &InterfaceId) -> bool {
    match id.package_name().as_str() {
        "isomer:link" => id.interface != "types",
        "isomer:probe" => true,
        _ => false,
    }
}

#[derive(Clone, Copy)]
struct Finder<'a> {
    name: &'a ComponentName,
    component: &'a Component,
    types: &'a Types,
}

type Exporter<'a> = (&'a ComponentName, &'a InterfaceType);

/// The provider of an import.
enum Provider<'a> {
    Component(Exporter<'a>),
    /// One of these exporters, or the host. Exporters that import from the importer, directly or through other
    /// components, do not count. If one exporter is left, it provides the import; if none is left, the host does. If
    /// several are left, the manifest must name one.
    OneOf(Vec<Exporter<'a>>),
    /// The host. Interfaces that contain only types, and so need no implementation, also have this provider.
    Host,
}

impl<'a> Finder<'a> {
    /// Decides what provides an import. The first of these that exists is used: the component that the manifest names,
    /// a component of the app that exports the interface, the host.
    fn resolve(&self, import: &InterfaceType) -> Result<Provider<'a>, Box<Diagnostic>> {
        let id = &import.id;
        let compatible: Vec<_> = self.exporters(id).filter(|(_, export)| id.is_compatible_with(&export.id)).collect();
        let named = self.component.links.iter().find(|(key, _)| names(key, id)).map(|(_, target)| target);
        if let Some(target) = named {
            let Some(exporter) = compatible.iter().find(|(name, _)| **name == target.value) else {
                return Err(Box::new(self.wrong_target(id, target, &compatible)));
            };
            return self.agree(import, *exporter).map(Provider::Component);
        }
        if matches!(platform::verdict(id), Verdict::Implemented(_)) {
            return Ok(if compatible.is_empty() { Provider::Host } else { Provider::OneOf(compatible) });
        }
        // An interface that contains only types needs no implementation, so no exporter has to be chosen.
        if import.is_types_only() {
            return Ok(Provider::Host);
        }
        match compatible.as_slice() {
            [one] => self.agree(import, *one).map(Provider::Component),
            [] => Err(Box::new(self.unresolved(id))),
            several => Err(Box::new(self.ambiguous(id, several))),
        }
    }

    fn link(&self, import: &InterfaceType, (exporter, export): Exporter<'a>) -> ResolvedImport {
        ResolvedImport {
            importer: self.name.clone(),
            import: import.id.clone(),
            exporter: exporter.clone(),
            export: export.id.clone(),
        }
    }

    /// Returns the exports of the interface, in any version, by components other than the importer.
    fn exporters(&self, id: &InterfaceId) -> impl Iterator<Item = Exporter<'a>> {
        let path = id.path();
        self.types.iter().filter(|(name, _)| *name != self.name).flat_map(move |(name, ty)| {
            let path = path.clone();
            ty.exports.values().filter(move |export| export.id.path() == path).map(move |export| (name, export))
        })
    }

    /// Checks that the exporter has every function of the import with the same type, and every resource of the import.
    fn agree(&self, import: &InterfaceType, exporter: Exporter<'a>) -> Result<Exporter<'a>, Box<Diagnostic>> {
        let (name, export) = exporter;
        let mut differences = Vec::new();
        for (function, wanted) in &import.functions {
            match export.functions.get(function) {
                None => differences.push(format!("function `{function}` is missing in `{name}`")),
                Some(given) if given.hash == wanted.hash => {}
                Some(given) if given.signature == wanted.signature => {
                    differences.push(format!("function `{function}` passes types that differ"));
                }
                Some(given) => differences.push(format!(
                    "function `{function}` differs:\n`{}` expects {}\n`{name}` has {}",
                    self.name, wanted.signature, given.signature
                )),
            }
        }
        for resource in import.resources.difference(&export.resources) {
            differences.push(format!("resource `{resource}` is missing in `{name}`"));
        }
        if differences.is_empty() {
            return Ok(exporter);
        }
        for (type_name, wanted) in &import.types {
            if let Some(given) = export.types.get(type_name).filter(|given| *given != wanted) {
                differences
                    .push(format!("type `{type_name}` differs:\n`{}` has {wanted}\n`{name}` has {given}", self.name));
            }
        }
        differences.extend(self.used_types_that_differ(import, name));
        let more = differences.len().saturating_sub(DIFFERENCES_MAX);
        differences.truncate(DIFFERENCES_MAX);
        let mut diagnostic = Diagnostic::error(format!(
            "component `{}` and component `{name}` disagree about `{}`",
            self.name, import.id
        ))
        .code("interface-mismatch")
        .at(self.component.at.span, format!("imports `{}`", import.id));
        for difference in differences {
            diagnostic = diagnostic.note(difference);
        }
        if more > 0 {
            diagnostic = diagnostic.note(format!("and {more} more"));
        }
        Err(Box::new(diagnostic.hint(format!("build both against the same WIT of `{}`", import.id.package_name()))))
    }

    /// Compares the interfaces whose types `import` uses. Returns the types of these interfaces that the importer and
    /// the exporter define differently.
    fn used_types_that_differ(&self, import: &InterfaceType, exporter: &ComponentName) -> Vec<String> {
        let (Some(ours), Some(theirs)) = (self.types.get(self.name), self.types.get(exporter)) else { return vec![] };
        let mut differences = Vec::new();
        for used in &import.uses {
            let mine = ours.imports.get(used);
            let other =
                theirs.imports.values().chain(theirs.exports.values()).find(|ty| ty.id.is_compatible_with(used));
            let (Some(mine), Some(other)) = (mine, other) else { continue };
            for (type_name, wanted) in &mine.types {
                if let Some(given) = other.types.get(type_name).filter(|given| *given != wanted) {
                    differences.push(format!(
                        "type `{type_name}` of `{used}` differs:\n`{}` has {wanted}\n`{exporter}` has {given}",
                        self.name
                    ));
                }
            }
        }
        differences
    }

    fn unresolved(&self, id: &InterfaceId) -> Diagnostic {
        let error = Diagnostic::error(format!("component `{}` imports `{id}`, which nothing provides", self.name))
            .code("unmet-import")
            .at(self.component.at.span, format!("imports `{id}`"));
        let own = self.types.get(self.name).is_some_and(|ty| ty.exports.contains_key(id));
        let others: Vec<_> =
            self.exporters(id).map(|(name, export)| format!("component `{name}` exports `{}`", export.id)).collect();
        if !others.is_empty() {
            return others.into_iter().fold(error, Diagnostic::note).hint(format!(
                "versions are compatible if their first number that is not 0 is the same: build both against one version of `{}`",
                id.package_name()
            ));
        }
        let error = if own {
            error.note("the component exports the interface itself, but cannot provide its own import")
        } else {
            error
        };
        match platform::verdict(id) {
            Verdict::OtherVersions(tracks) => {
                return error.hint(format!(
                    "the platform implements `{}` in version {}: build the component against that",
                    id.path(),
                    tracks.iter().filter(|track| !track.is_empty()).copied().collect::<Vec<_>>().join(" and ")
                ));
            }
            Verdict::OtherInterfaces(known) => {
                let error = error.note(format!(
                    "the platform implements these interfaces of `{}`: {}",
                    id.package_name(),
                    known.join(", ")
                ));
                return error.hint(format!("import one of these interfaces, or add a component that exports `{id}`"));
            }
            Verdict::Implemented(_) | Verdict::Unknown => {}
        }
        let error = if matches!(id.namespace.as_str(), "wasi" | "isomer") {
            error.note(format!("the platform does not implement `{}`", id.package_name()))
        } else {
            error
        };
        match self.nearest(id) {
            Some((name, near)) => error.note(format!("component `{name}` exports `{near}`")).hint(format!(
                "use the same interface name in both components, or add a component that exports `{id}`"
            )),
            None => error.hint(format!("add a component that exports `{id}` under `[components]`")),
        }
    }

    /// Returns the export of another component whose name is most similar to `id`.
    fn nearest(&self, id: &InterfaceId) -> Option<(&'a ComponentName, &'a InterfaceId)> {
        let wanted = id.path();
        self.types
            .iter()
            .filter(|(name, _)| *name != self.name)
            .flat_map(|(name, ty)| ty.exports.keys().map(move |export| (name, export)))
            .filter(|(_, export)| export.package_name() != "wasi:http")
            .map(|(name, export)| (strsim::jaro_winkler(&wanted, &export.path()), name, export))
            .filter(|(similarity, ..)| *similarity > SIMILARITY_MIN)
            .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (b.1, b.2).cmp(&(a.1, a.2))))
            .map(|(_, name, export)| (name, export))
    }

    fn ambiguous(&self, id: &InterfaceId, exporters: &[Exporter<'a>]) -> Diagnostic {
        let list: Vec<_> = exporters.iter().map(|(name, _)| format!("`{name}`")).collect();
        Diagnostic::error(format!(
            "component `{}` imports `{id}`, which {} components export: {}",
            self.name,
            exporters.len(),
            list.join(", ")
        ))
        .code("ambiguous-import")
        .at(self.component.at.span, "which one is meant?")
        .hint(format!(
            "name the exporter in the manifest:\n[components.{}.links]\n\"{}\" = \"{}\"",
            self.name,
            id.path(),
            exporters[0].0
        ))
    }

    fn wrong_target(
        &self,
        id: &InterfaceId,
        target: &isomer_manifest::Spanned<ComponentName>,
        compatible: &[Exporter<'a>],
    ) -> Diagnostic {
        let error = Diagnostic::error(format!("component `{}` does not export `{id}`", target.value))
            .code("wrong-link")
            .at(target.span, format!("`{}` imports `{id}` from it", self.name));
        let exports: Vec<_> = self.exporters(id).filter(|(name, _)| **name == target.value).collect();
        let error = exports.iter().fold(error, |error, (_, export)| error.note(format!("it exports `{}`", export.id)));
        match compatible {
            [] => {
                error.hint(format!("remove the link: no component of the app exports `{id}` in a compatible version"))
            }
            some => {
                let list: Vec<_> = some.iter().map(|(name, _)| format!("`{name}`")).collect();
                error.hint(format!("name a component that exports `{id}`: {}", list.join(", ")))
            }
        }
    }

    /// Returns an error for each entry of the component's `links` table that names an import that the component does
    /// not have.
    fn check_named_links(&self, ty: &ComponentType) -> Vec<Diagnostic> {
        let unknown = self.component.links.iter().filter(|(key, _)| !ty.imports.keys().any(|id| names(key, id)));
        unknown
            .map(|(key, target)| {
                let nearest = ty
                    .imports
                    .keys()
                    .filter(|id| platform::authority(id).is_none())
                    .map(|id| (strsim::jaro_winkler(key, &id.path()), id))
                    .filter(|(similarity, _)| *similarity > SIMILARITY_MIN)
                    .max_by(|a, b| a.0.total_cmp(&b.0));
                Diagnostic::error(format!("component `{}` does not import `{key}`", self.name))
                    .code("unused-link")
                    .at(target.span, "nothing to link")
                    .hint(match nearest {
                        Some((_, id)) => format!("did you mean `{id}`?"),
                        None => "remove the link".to_owned(),
                    })
            })
            .collect()
    }

    fn loose_import(&self, import: &str) -> Diagnostic {
        Diagnostic::error(format!("component `{}` imports `{import}`, which belongs to no named interface", self.name))
            .code("loose-import")
            .at(self.component.at.span, format!("imports `{import}`"))
            .hint(
                "components connect through named interfaces: put it into an `interface` of a WIT package and import that",
            )
    }

    fn reserved(&self, what: &str, id: &InterfaceId) -> Diagnostic {
        Diagnostic::error(format!("component `{}` {what} `{id}`, which is reserved for the platform", self.name))
            .code("reserved-interface")
            .at(self.component.at.span, format!("{what} `{id}`"))
            .hint(format!(
                "build the component without the interfaces of `{}`, which only generated code may use",
                id.package_name()
            ))
    }
}

/// Returns whether `key`, a key of a `links` table, names the import `id`. The key may leave out the version.
fn names(key: &str, id: &InterfaceId) -> bool {
    key == id.path() || key == id.to_string()
}
