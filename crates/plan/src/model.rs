//! The plan: which components are placed together, how each import is provided, and why.
//!
//! A plan is data that includes the reasons of its decisions. The same app, component types and shape give the same
//! plan, whatever the order of the manifest. The runtime follows the plan and makes no decision of its own.

use std::collections::BTreeMap;

use isomer_diagnostics::{Diagnostic, SourceFile};
use isomer_ids::ComponentName;
use isomer_manifest::Route;
use isomer_wire::FunctionKey;
use serde::Serialize;

use crate::interface::{InterfaceId, ValueClass};

/// All decisions about one app in one shape.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The app's name.
    pub app: String,
    /// The app's version.
    pub version: String,
    /// The shape that was planned.
    pub shape: String,
    /// The compositions, ordered by name.
    pub groups: Vec<PlannedGroup>,
    /// The number of requests and calls that one instance serves, one after another, by group. A group that is not
    /// listed has the platform's default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reuse: BTreeMap<String, u32>,
    /// Every import that another component provides, ordered by importer and interface.
    pub seams: Vec<Seam>,
    /// The grants of each component, and the capabilities that it imports without a grant; ordered by component.
    pub access: Vec<ComponentAccess>,
    /// Information that is neither an error nor a warning.
    pub notes: Vec<String>,
    /// Settings that are allowed but look like a mistake.
    pub warnings: Vec<Diagnostic>,
}

/// Components that are composed into one and run in one wasmtime store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedGroup {
    /// The group's name in the shape; the component's name if the component is in no group or isolated.
    pub name: String,
    /// For isolated components, the shape's group that they belong to.
    #[serde(rename = "set_apart_from", skip_serializing_if = "Option::is_none")]
    pub isolated_from: Option<String>,
    /// The components in the order of instantiation: an exporter comes before its importers.
    pub components: Vec<ComponentName>,
    /// The fused seams: imports that another component of the composition provides.
    pub links: Vec<ResolvedImport>,
    /// The imports that the host provides.
    pub imports: Vec<HostBinding>,
    /// The HTTP handlers of components with routes.
    pub handlers: Vec<PlannedHandler>,
    /// The stubs, one for each component that calls functions outside the composition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stubs: Vec<PlannedStub>,
    /// The skeletons, one for each component that is called from outside the composition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skeletons: Vec<PlannedSkeleton>,
}

/// The calls of one component that leave its composition. The generated stub, fused to the component, turns them into
/// images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStub {
    /// The component that calls.
    pub component: ComponentName,
    /// The functions in the order of their numbers; the first is 0.
    pub functions: Vec<StubFunction>,
}

/// A function that a component calls across a seam.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StubFunction {
    /// The interface as the caller imports it.
    pub interface: InterfaceId,
    /// The function's name.
    pub function: String,
    /// Whether the function is declared `async func`, so that several calls may be in flight.
    pub is_async: bool,
    /// Whether the function's error type can represent a lost call (`isomer:link/types.call-error`). If not, a lost
    /// call is a trap.
    pub catches: bool,
    /// The component that is called.
    pub callee: ComponentName,
    /// The key that identifies the function on the callee's side.
    pub key: FunctionKey,
    /// The mode of the seam that the call crosses: `isolated` or `remote`.
    pub mode: SeamMode,
    /// Whether the manifest declares the function idempotent. Only such a call is repeated after it was lost.
    pub idempotent: bool,
}

/// The functions of one component that are called from outside its composition. The generated skeleton, fused to the
/// component, turns images into calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedSkeleton {
    /// The component that is called.
    pub component: ComponentName,
    /// The functions in the order of their numbers; the first is 0.
    pub functions: Vec<SkeletonFunction>,
}

/// A function of a component that is called across a seam.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SkeletonFunction {
    /// The interface as the component exports it.
    pub interface: InterfaceId,
    /// The function's name.
    pub function: String,
    /// Whether the function is declared `async func`.
    pub is_async: bool,
    /// The key by which callers identify the function.
    pub key: FunctionKey,
}

/// An import and the export of another component that provides it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ResolvedImport {
    /// The importing component.
    pub importer: ComponentName,
    /// The imported interface.
    pub import: InterfaceId,
    /// The exporting component.
    pub exporter: ComponentName,
    /// The exported interface: the same one, in a compatible version.
    pub export: InterfaceId,
}

/// An import that the host provides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostBinding {
    /// The importing component.
    pub component: ComponentName,
    /// The imported interface.
    pub interface: InterfaceId,
    /// How the composition imports the interface.
    pub binding: ImportBinding,
}

/// How a composition imports an interface of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ImportBinding {
    /// Once for the composition, under its own name, because it gives no authority.
    Shared,
    /// For this component only, under a label.
    Labelled {
        /// The label, which is the name of the composition's import.
        label: String,
    },
    /// Once for the composition, under its own name, because handles of its family pass between components. All
    /// importers have the same grants.
    Family,
}

/// An HTTP handler and the routes that it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedHandler {
    /// The component that exports the handler.
    pub component: ComponentName,
    /// The exported interface.
    pub interface: InterfaceId,
    /// The version of `wasi:http` that the handler implements.
    pub http: Http,
    /// The routes that the handler serves.
    #[serde(serialize_with = "routes_as_written")]
    pub routes: Vec<Route>,
}

/// The version of `wasi:http` that a handler implements.
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
    /// The import and the export that provides it.
    #[serde(flatten)]
    pub link: ResolvedImport,
    /// How calls cross the seam.
    pub mode: SeamMode,
    /// The reason for the mode, for people.
    pub reason: String,
    /// The kind of values that cross.
    pub class: ValueClass,
    /// The functions that the importer uses.
    pub functions: Vec<String>,
}

/// How calls cross a seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeamMode {
    /// Compiled together, in one wasmtime store.
    Fused,
    /// Separate wasmtime stores in the same process.
    Isolated,
    /// Different groups: another process or machine.
    Remote,
}

/// The grants of one component, and the capabilities that it imports without a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentAccess {
    /// The component.
    pub component: ComponentName,
    /// The grants as text: `kv carts`, `http api.example.com`.
    pub granted: Vec<String>,
    /// The capabilities that the component imports without a grant.
    pub without_grant: Vec<MissingGrant>,
}

/// A capability that is imported but not granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingGrant {
    /// The imported interface.
    pub interface: InterfaceId,
    /// The result of calls to the interface: `opening a store fails`.
    pub consequence: String,
    /// The manifest line that grants the capability.
    pub grant: String,
}

impl PlannedGroup {
    /// Returns the shape's group. Compositions of the same group run in one process.
    #[must_use]
    pub fn process(&self) -> &str {
        self.isolated_from.as_deref().unwrap_or(&self.name)
    }
}

impl Plan {
    /// Sets the manifest's file in all diagnostics of the plan.
    #[must_use]
    pub fn in_source(mut self, source: &SourceFile) -> Self {
        for diagnostic in &mut self.warnings {
            *diagnostic = diagnostic.clone().in_source(source);
        }
        self
    }

    /// Returns the shape's groups by name, each with its compositions. A group runs in one process.
    #[must_use]
    pub fn processes(&self) -> BTreeMap<&str, Vec<&PlannedGroup>> {
        let mut processes = BTreeMap::<_, Vec<_>>::new();
        for group in &self.groups {
            processes.entry(group.process()).or_default().push(group);
        }
        processes
    }

    /// Returns the composition that a component is in.
    #[must_use]
    pub fn group_of(&self, component: &ComponentName) -> Option<&PlannedGroup> {
        self.groups.iter().find(|group| group.components.contains(component))
    }
}

fn routes_as_written<S: serde::Serializer>(routes: &[Route], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(routes.iter().map(ToString::to_string))
}
