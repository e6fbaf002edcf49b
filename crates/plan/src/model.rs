//! The plan: which components are placed together, how every import is met, and why.
//!
//! A plan is data that explains itself; it is the same for the same app, component types and shape, whatever the order of
//! the manifest. What runs an app follows it to the letter and decides nothing again.

use std::collections::BTreeMap;

use isomer_diagnostics::{Diagnostic, SourceFile};
use isomer_ids::ComponentName;
use isomer_manifest::Route;
use isomer_wire::FunctionKey;
use serde::Serialize;

use crate::interface::{InterfaceId, ValueClass};

/// Everything that is decided about one app in one shape.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The app's name.
    pub app: String,
    /// The app's version.
    pub version: String,
    /// The shape that was planned.
    pub shape: String,
    /// Components placed together, by name.
    pub groups: Vec<PlannedGroup>,
    /// Requests and calls that one instance serves, one after another, by group; groups that are not here have the platform's own bound.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reuse: BTreeMap<String, u32>,
    /// Every import of a component that an export of another meets, by importer, then interface.
    pub seams: Vec<Seam>,
    /// What each component may reach, and what it imports without a grant; by component.
    pub access: Vec<ComponentAccess>,
    /// What is good to know and no mistake.
    pub notes: Vec<String>,
    /// What is allowed but looks like a mistake.
    pub warnings: Vec<Diagnostic>,
}

/// Components that are composed into one and run in one store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedGroup {
    /// The shape's name for it, or the component's name for a component on its own.
    pub name: String,
    /// The shape's group that it belongs to where a component was set apart from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_apart_from: Option<String>,
    /// In the order of instantiation: an exporter comes before those that import from it.
    pub components: Vec<ComponentName>,
    /// Fused seams: imports that another component of the group meets.
    pub links: Vec<ResolvedImport>,
    /// Imports that the host meets.
    pub imports: Vec<HostBinding>,
    /// HTTP handlers of components with routes.
    pub handlers: Vec<PlannedHandler>,
    /// For each component whose calls leave the composition: what its stub exports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stubs: Vec<PlannedStub>,
    /// For each component that is called from outside the composition: what its skeleton answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skeletons: Vec<PlannedSkeleton>,
}

/// The calls of one component that leave its composition. A generated part, fused to the component, makes images of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStub {
    /// Who calls.
    pub component: ComponentName,
    /// In the order of their numbers: the first is 0.
    pub functions: Vec<StubFunction>,
}

/// A function that a component calls across a seam.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StubFunction {
    /// The interface as the caller imports it.
    pub interface: InterfaceId,
    /// The function's name.
    pub function: String,
    /// Declared `async func`: many calls may be in flight.
    pub is_async: bool,
    /// Can its error type say that the call was lost (`isomer:link/types.call-error`)? Else such a loss is a trap.
    pub catches: bool,
    /// Whom it calls.
    pub callee: ComponentName,
    /// The function's name on the other side.
    pub key: FunctionKey,
    /// `isolated` or `remote`.
    pub mode: SeamMode,
    /// Does the manifest say that calling it twice has the effect of calling it once? Only such a call is sent again when it was lost.
    pub idempotent: bool,
}

/// The functions of one component that are called from outside its composition. A generated part, fused to the component,
/// makes calls of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedSkeleton {
    /// Who is called.
    pub component: ComponentName,
    /// In the order of their numbers: the first is 0.
    pub functions: Vec<SkeletonFunction>,
}

/// A function of a component that is called across a seam.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SkeletonFunction {
    /// The interface as the component exports it.
    pub interface: InterfaceId,
    /// The function's name.
    pub function: String,
    /// Declared `async func`.
    pub is_async: bool,
    /// How callers name it.
    pub key: FunctionKey,
}

/// An import that is met by an export of another component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ResolvedImport {
    /// Who imports.
    pub importer: ComponentName,
    /// What it imports.
    pub import: InterfaceId,
    /// Who exports.
    pub exporter: ComponentName,
    /// What it exports: the same interface, in a compatible version.
    pub export: InterfaceId,
}

/// An import of a component that the host meets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostBinding {
    /// Who imports.
    pub component: ComponentName,
    /// What it imports.
    pub interface: InterfaceId,
    /// How the composition of the group imports it.
    pub binding: ImportBinding,
}

/// How a composition imports an interface of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ImportBinding {
    /// Once for the group, under its own name: it gives no authority.
    Shared,
    /// For this component alone, under a label.
    Labelled {
        /// The name of the import in the composition.
        label: String,
    },
    /// Once for the group, under its own name, because handles of its family pass between components. All that import it
    /// have the same grants.
    Family,
}

/// An HTTP handler that answers routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedHandler {
    /// Whose handler.
    pub component: ComponentName,
    /// The exported interface.
    pub interface: InterfaceId,
    /// Its generation.
    pub http: Http,
    /// The paths that it answers.
    #[serde(serialize_with = "routes_as_written")]
    pub routes: Vec<Route>,
}

/// Which generation of `wasi:http` a handler speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Http {
    /// `wasi:http/incoming-handler@0.2.*`.
    #[serde(rename = "0.2")]
    P2,
    /// `wasi:http/handler@0.3.*`.
    #[serde(rename = "0.3")]
    P3,
}

/// A seam and how it is crossed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seam {
    /// Who meets what of whom.
    #[serde(flatten)]
    pub link: ResolvedImport,
    /// How calls cross.
    pub mode: SeamMode,
    /// Why this mode, in a few words.
    pub reason: String,
    /// What kind of values cross.
    pub class: ValueClass,
    /// The functions that the importer uses.
    pub functions: Vec<String>,
}

/// How calls cross a seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeamMode {
    /// Compiled together, one store.
    Fused,
    /// A store of its own in the same process.
    Isolated,
    /// Another group: another process, machine or browser tab.
    Remote,
}

/// What one component may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentAccess {
    /// The component.
    pub component: ComponentName,
    /// What it is granted, as people read it: `kv carts`, `http api.example.com`.
    pub granted: Vec<String>,
    /// Capabilities that it imports and has no grant for, with what is missing.
    pub without_grant: Vec<MissingGrant>,
}

/// A capability that is imported but not granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingGrant {
    /// The imported interface.
    pub interface: InterfaceId,
    /// What a call will find: `every open is denied`.
    pub consequence: String,
    /// The manifest line that grants it.
    pub grant: String,
}

impl PlannedGroup {
    /// The shape's group that it belongs to: all with the same run in one process.
    #[must_use]
    pub fn process(&self) -> &str {
        self.set_apart_from.as_deref().unwrap_or(&self.name)
    }
}

impl Plan {
    /// Names the manifest's file in every diagnostic of the plan.
    #[must_use]
    pub fn in_source(mut self, source: &SourceFile) -> Self {
        for diagnostic in &mut self.warnings {
            *diagnostic = diagnostic.clone().in_source(source);
        }
        self
    }

    /// The shape's groups, each with its compositions: what runs in one process. By name.
    #[must_use]
    pub fn processes(&self) -> BTreeMap<&str, Vec<&PlannedGroup>> {
        let mut processes = BTreeMap::<_, Vec<_>>::new();
        for group in &self.groups {
            processes.entry(group.process()).or_default().push(group);
        }
        processes
    }

    /// The group that a component is in.
    #[must_use]
    pub fn group_of(&self, component: &ComponentName) -> Option<&PlannedGroup> {
        self.groups.iter().find(|group| group.components.contains(component))
    }
}

fn routes_as_written<S: serde::Serializer>(routes: &[Route], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(routes.iter().map(ToString::to_string))
}
