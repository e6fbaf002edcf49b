//! The compositions of a plan, with their imports from the host and the functions that are called across seams.

use isomer_ids::ComponentName;
use isomer_manifest::Route;
use isomer_wire::FunctionKey;
use serde::{Deserialize, Serialize};

use crate::interface::InterfaceId;

/// Components that are composed into one component and run in one wasmtime store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedGroup {
    /// The group's name in the shape. A component that is isolated or in no group has its own name here.
    pub name: String,
    /// If these components are isolated: the group of the shape that contains them, and from whose other components
    /// they are isolated. Otherwise `None`.
    #[serde(rename = "set_apart_from", skip_serializing_if = "Option::is_none")]
    pub isolated_from: Option<String>,
    /// The components in the order of instantiation: an exporter comes before its importers.
    pub components: Vec<ComponentName>,
    /// The fused seams: imports that another component of the composition provides.
    pub links: Vec<ResolvedImport>,
    /// The components' imports that the host provides.
    pub imports: Vec<HostBinding>,
    /// The HTTP handlers of the components with routes.
    pub handlers: Vec<PlannedHandler>,
    /// The stubs: one for each component that calls functions outside the composition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stubs: Vec<PlannedStub>,
    /// The skeletons: one for each component whose functions are called from outside the composition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skeletons: Vec<PlannedSkeleton>,
}

/// The stub of one component: the functions that the component calls and that are outside its composition. The stub is
/// fused to the component, and encodes the arguments of each call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStub {
    /// The calling component.
    pub component: ComponentName,
    /// The functions. The index of a function is its number in encoded calls.
    pub functions: Vec<StubFunction>,
}

/// A function that a component calls across a seam.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StubFunction {
    /// The interface as the caller imports it.
    pub interface: InterfaceId,
    /// The function's name.
    pub function: String,
    /// Whether the function is declared `async func`, so that an instance can have several calls of it in flight.
    pub is_async: bool,
    /// Whether the function's error type can represent a call that was lost (`isomer:link/types.call-error`). If not, a
    /// lost call traps.
    pub catches: bool,
    /// The called component.
    pub callee: ComponentName,
    /// The key that identifies the function in the callee's composition.
    pub key: FunctionKey,
    /// The mode of the seam that the call crosses: `isolated` or `remote`.
    pub mode: SeamMode,
    /// Whether the manifest declares the function idempotent. Only a call of such a function is repeated if it is
    /// lost.
    pub idempotent: bool,
}

/// The functions of one component that are called from outside its composition. A skeleton is generated from them and
/// fused to the component; it decodes the arguments and calls the component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedSkeleton {
    /// The called component.
    pub component: ComponentName,
    /// The functions. The index of a function is its number in encoded calls.
    pub functions: Vec<SkeletonFunction>,
}

/// A function of a component that other compositions call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SkeletonFunction {
    /// The interface as the called component exports it.
    pub interface: InterfaceId,
    /// The function's name.
    pub function: String,
    /// Whether the function is declared `async func`.
    pub is_async: bool,
    /// The key by which callers identify the function.
    pub key: FunctionKey,
}

/// An import, and the export that provides it: an export of another component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ResolvedImport {
    /// The importing component.
    pub importer: ComponentName,
    /// The imported interface.
    pub import: InterfaceId,
    /// The exporting component.
    pub exporter: ComponentName,
    /// The exported interface. It has the same name as the imported interface, and a compatible version.
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

/// How a composition imports an interface that the host provides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ImportBinding {
    /// All components of the composition share one import under the interface's own name, because the interface gives
    /// no authority.
    Shared,
    /// The component has its own import under a label.
    Labelled {
        /// The label: the name of the composition's import.
        label: String,
    },
    /// Components that pass handles of the interface's package to each other share one import under the interface's own
    /// name. All of them have the same grants.
    Family,
}

/// An exported HTTP handler and the routes that it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedHandler {
    /// The component that exports the handler.
    pub component: ComponentName,
    /// The exported interface of `wasi:http`.
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
    /// WASI 0.2: `wasi:http/incoming-handler@0.2.*`.
    #[serde(rename = "0.2")]
    P2,
    /// WASI 0.3: `wasi:http/handler@0.3.*`.
    #[serde(rename = "0.3")]
    P3,
}

/// How the calls of a seam run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeamMode {
    /// Importer and exporter are compiled together and run in one wasmtime store.
    Fused,
    /// Importer and exporter run in separate wasmtime stores of the same process.
    Isolated,
    /// Importer and exporter are in different groups, so they run in different processes, possibly on different
    /// machines.
    Remote,
}

impl PlannedGroup {
    /// Returns the name of the shape's group that the composition belongs to. Compositions of the same group run in one
    /// process.
    #[must_use]
    pub fn process(&self) -> &str {
        self.isolated_from.as_deref().unwrap_or(&self.name)
    }
}

fn routes_as_written<S: serde::Serializer>(routes: &[Route], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(routes.iter().map(ToString::to_string))
}
