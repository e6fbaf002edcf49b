//! The stored form of a group in a package. It contains everything that is needed to start the group.

use std::time::Duration;

use isomer_ids::ComponentName;
use isomer_manifest::{App, ComponentLimits, Reuse, Route};
use isomer_plan::{Http, InterfaceId, Plan, PlannedGroup, SeamMode, StubFunction};
use isomer_runtime::code::Key;
use isomer_wire::FunctionKey;
use serde::{Deserialize, Serialize};

use super::{PackageMismatch, PackageOptions};
use crate::composition::GroupMetadata;

/// Components that run in one wasmtime store, with the limits that apply to all of these components together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PackedGroup {
    pub(crate) name: String,
    pub(crate) components: Vec<ComponentName>,
    pub(crate) key: Key,
    pub(crate) note: GroupMetadata,
    pub(crate) memory_bytes: u64,
    pub(crate) concurrency: u32,
    /// The number of requests and calls that one instance serves, one after another; `None` for the platform's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reuse: Option<u32>,
    pub(crate) handlers: Vec<PackedHandler>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stubs: Vec<PackedStub>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) skeletons: Vec<PackedSkeleton>,
}

/// An HTTP handler with its routes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PackedHandler {
    pub(crate) component: ComponentName,
    pub(crate) routes: Vec<Route>,
    pub(crate) deadline: Duration,
    /// The maximum duration of a stream of server-sent events. Packages of earlier versions do not have this field.
    #[serde(default = "stream_max")]
    pub(crate) stream_max: Duration,
    #[serde(default = "stream_idle")]
    pub(crate) stream_idle: Duration,
    pub(crate) body_bytes_max: u64,
    #[serde(default)]
    pub(crate) compress: bool,
}

fn stream_max() -> Duration {
    ComponentLimits::STREAM_MAX_DEFAULT
}

fn stream_idle() -> Duration {
    ComponentLimits::STREAM_IDLE_DEFAULT
}

/// The stub of one component: the functions that the component calls and that are outside its composition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PackedStub {
    pub(crate) component: ComponentName,
    pub(crate) functions: Vec<PackedFunction>,
}

/// A function that is called across a seam.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PackedFunction {
    pub(crate) callee: ComponentName,
    /// The interface, without its version.
    pub(crate) interface: String,
    pub(crate) function: String,
    /// The name of the group whose process runs the callee.
    pub(crate) process: String,
    pub(crate) key: FunctionKey,
    /// Whether the callee is in another group of the shape.
    pub(crate) remote: bool,
    pub(crate) catches: bool,
    pub(crate) idempotent: bool,
    pub(crate) allowed: Duration,
}

/// The functions of one component that are called from outside its composition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PackedSkeleton {
    pub(crate) component: ComponentName,
    pub(crate) functions: Vec<PackedExport>,
}

/// A function that is called from outside its composition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PackedExport {
    pub(crate) key: FunctionKey,
    /// The interface, without its version.
    pub(crate) interface: String,
    pub(crate) function: String,
    pub(crate) is_async: bool,
}

impl PackedGroup {
    pub(super) fn new(
        app: &App,
        plan: &Plan,
        group: &PlannedGroup,
        key: Key,
        note: GroupMetadata,
        options: &PackageOptions,
    ) -> Self {
        let handler = |handler: &isomer_plan::PlannedHandler| {
            let limits = app.components.get(&handler.component).map(|it| it.limits.clone()).unwrap_or_default();
            PackedHandler {
                component: handler.component.clone(),
                routes: handler.routes.clone(),
                deadline: limits.request_deadline(),
                stream_max: limits.stream_max(),
                stream_idle: limits.stream_idle(),
                body_bytes_max: limits.body_bytes(),
                compress: app.components.get(&handler.component).is_some_and(|it| it.compress),
            }
        };
        let stub = |stub: &isomer_plan::PlannedStub| PackedStub {
            component: stub.component.clone(),
            functions: stub.functions.iter().map(|it| function(app, plan, it)).collect(),
        };
        let exported = |function: &isomer_plan::SkeletonFunction| PackedExport {
            key: function.key,
            interface: without_version(&function.interface),
            function: function.function.clone(),
            is_async: function.is_async,
        };
        let skeleton = |skeleton: &isomer_plan::PlannedSkeleton| PackedSkeleton {
            component: skeleton.component.clone(),
            functions: skeleton.functions.iter().map(exported).collect(),
        };
        Self {
            name: group.name.clone(),
            components: group.components.clone(),
            key,
            note,
            memory_bytes: memory_bytes(app, group),
            concurrency: concurrency(app, group, options),
            reuse: plan.reuse.get(&group.name).copied(),
            handlers: group.handlers.iter().map(handler).collect(),
            stubs: group.stubs.iter().map(stub).collect(),
            skeletons: group.skeletons.iter().map(skeleton).collect(),
        }
    }
}

impl PackedGroup {
    /// Checks this group of a package from an untrusted process against the manifest: see
    /// [`Package::checked`](super::Package::checked).
    pub(super) fn checked(mut self, app: &App, key: Key) -> Result<Self, PackageMismatch> {
        let component = |name: &ComponentName| match app.components.get(name) {
            Some(component) if self.components.contains(name) => Ok(component),
            Some(_) => Err(PackageMismatch(format!("component `{name}` is in another group"))),
            None => Err(PackageMismatch(format!("the manifest has no component `{name}`"))),
        };
        self.components.iter().try_for_each(|name| component(name).map(drop))?;
        let mut entered = Vec::new();
        let mut concurrency = 1;
        for (index, handler) in self.handlers.iter_mut().enumerate() {
            let from = component(&handler.component)?;
            if let Some(route) =
                handler.routes.iter().find(|route| from.routes.iter().all(|known| known.value != **route))
            {
                return Err(PackageMismatch(format!("component `{}` has no route {route:?}", handler.component)));
            }
            handler.deadline = from.limits.request_deadline();
            (handler.stream_max, handler.stream_idle) = (from.limits.stream_max(), from.limits.stream_idle());
            handler.body_bytes_max = from.limits.body_bytes();
            handler.compress = from.compress;
            concurrency = if index == 0 { from.concurrency } else { from.concurrency.min(concurrency) };
            entered.push(from.limits.memory_bytes());
        }
        for skeleton in &self.skeletons {
            entered.push(component(&skeleton.component)?.limits.memory_bytes());
        }
        for stub in &mut self.stubs {
            component(&stub.component)?;
            for function in &mut stub.functions {
                let callee = app.components.get(&function.callee);
                let callee = callee
                    .ok_or_else(|| PackageMismatch(format!("the manifest has no component `{}`", function.callee)))?;
                function.allowed = callee.limits.request_deadline();
            }
        }
        self.memory_bytes = entered.into_iter().max().unwrap_or(ComponentLimits::MEMORY_BYTES_DEFAULT);
        self.concurrency = self.concurrency.clamp(1, concurrency.max(1));
        self.reuse = reuse(app, &self.components, self.reuse);
        self.key = key;
        Ok(self)
    }
}

pub(super) fn without_version(interface: &InterfaceId) -> String {
    InterfaceId { version: None, ..interface.clone() }.to_string()
}

fn function(app: &App, plan: &Plan, function: &StubFunction) -> PackedFunction {
    let limits = app.components.get(&function.callee).map(|component| &component.limits);
    PackedFunction {
        callee: function.callee.clone(),
        interface: without_version(&function.interface),
        function: function.function.clone(),
        process: plan.group_of(&function.callee).map_or("", PlannedGroup::process).to_owned(),
        key: function.key,
        remote: function.mode == SeamMode::Remote,
        catches: function.catches,
        idempotent: function.idempotent,
        allowed: limits.map(ComponentLimits::request_deadline).unwrap_or_default(),
    }
}

/// Returns the memory limit of a group: the highest limit of the components that handle its requests and calls.
fn memory_bytes(app: &App, group: &PlannedGroup) -> u64 {
    let handlers = group.handlers.iter().map(|handler| &handler.component);
    let entered = handlers.chain(group.skeletons.iter().map(|skeleton| &skeleton.component));
    let limits = entered.filter_map(|component| app.components.get(component));
    limits.map(|component| component.limits.memory_bytes()).max().unwrap_or(ComponentLimits::MEMORY_BYTES_DEFAULT)
}

/// Returns the number of requests and calls that one instance of these components serves: the lowest number that the
/// manifest sets for one of them. `default` is used for components without a number in the manifest.
fn reuse(app: &App, components: &[ComponentName], default: Option<u32>) -> Option<u32> {
    let default = default.map_or(Reuse::Unbounded, |times| Reuse::Times(times.max(1)));
    let of = |name: &ComponentName| app.components.get(name).and_then(|component| component.reuse).unwrap_or(default);
    components.iter().map(of).min().and_then(Reuse::times)
}

/// Returns how many requests one instance serves at the same time: the lowest number that a handler of the group
/// allows. The number is 1 for a handler of WASI 0.2, and for all handlers of a deterministic package.
fn concurrency(app: &App, group: &PlannedGroup, options: &PackageOptions) -> u32 {
    if options.deterministic {
        return 1;
    }
    let of = |handler: &isomer_plan::PlannedHandler| match handler.http {
        Http::P3 => app.components.get(&handler.component).map_or(1, |component| component.concurrency),
        Http::P2 => 1,
    };
    group.handlers.iter().map(of).min().unwrap_or(1)
}
