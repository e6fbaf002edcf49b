//! The exports through which requests and calls enter a group's component: HTTP handlers, and skeletons. A skeleton
//! decodes an image (encoded arguments) and calls a function.

use std::sync::Arc;

use isomer_telemetry::SpanTemplate;
use wasmtime::Store;
use wasmtime::component::{Component, ComponentExportIndex, ComponentType, Instance as Linked, Lift, TypedFunc};

use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::p3;
use wasmtime_wasi_http::p3::bindings::http::types as types3;

use crate::guest::Guest;
use crate::seam::callee_span;

/// The skeleton of one component: the functions of the component that are called from outside of its group.
#[derive(Debug, Clone)]
pub struct Skeleton {
    /// The name of the component whose functions are called.
    pub component: Arc<str>,
    /// The name of the export that implements `isomer:link/dispatch`.
    pub export: String,
    /// The functions, indexed by their numbers.
    pub functions: Vec<ExportedFunction>,
}

/// A function of a skeleton.
#[derive(Debug, Clone)]
pub struct ExportedFunction {
    /// The interface of the function, without its version.
    pub interface: Arc<str>,
    /// The name of the function.
    pub function: Arc<str>,
    /// Whether the function is an `async func`.
    pub is_async: bool,
}

/// The `refusal` of `isomer:link/dispatch` as a component model value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "skeletons make them, not the host")]
pub(crate) enum Refusal {
    #[component(name = "unknown-function")]
    UnknownFunction,
    #[component(name = "bad-image")]
    BadImage,
}

pub(crate) type HandleFunctionP2 = TypedFunc<(Resource<HostIncomingRequest>, Resource<HostResponseOutparam>), ()>;
pub(crate) type HandleFunctionP3 =
    TypedFunc<(Resource<p3::Request>,), (Result<Resource<p3::Response>, types3::ErrorCode>,)>;

/// The export index of a component's HTTP handler.
#[derive(Debug, Clone)]
pub(crate) enum HandlerIndex {
    /// A handler of `wasi:http/incoming-handler@0.2`.
    P2(ComponentExportIndex),
    /// A handler of `wasi:http/handler@0.3`.
    P3(ComponentExportIndex),
}

/// The HTTP handler of a live instance.
#[derive(Clone)]
pub(crate) enum HandlerFunction {
    P2(HandleFunctionP2),
    P3(HandleFunctionP3),
}

type Dispatch = TypedFunc<(u32, &'static [u8]), (Result<Vec<u8>, Refusal>,)>;

/// The export indices of a skeleton's two functions.
#[derive(Debug, Clone)]
pub(crate) struct DispatchExport {
    call: ComponentExportIndex,
    call_async: ComponentExportIndex,
}

/// The two functions of a skeleton in a live instance.
#[derive(Clone, Copy)]
pub(crate) struct DispatchFunctions {
    pub(super) call: Dispatch,
    pub(super) call_async: Dispatch,
}

/// One function that a group's skeletons can call.
#[derive(Debug, Clone)]
pub(crate) struct SkeletonFunction {
    pub(crate) component: Arc<str>,
    pub(super) skeleton: usize,
    pub(super) number: u32,
    pub(super) is_async: bool,
    /// The template for the spans of calls of the function.
    pub(crate) span: Arc<SpanTemplate>,
}

impl DispatchExport {
    /// Finds the skeleton that `component` exports as `export`. Returns `None` if the component has no such export.
    pub(crate) fn find(component: &Component, export: &str) -> Option<Self> {
        let instance = component.get_export_index(None, export)?;
        let function = |name| component.get_export_index(Some(&instance), name);
        Some(Self { call: function("call")?, call_async: function("call-async")? })
    }

    pub(crate) fn look_up(&self, store: &mut Store<Guest>, instance: &Linked) -> wasmtime::Result<DispatchFunctions> {
        Ok(DispatchFunctions {
            call: instance.get_typed_func(&mut *store, self.call)?,
            call_async: instance.get_typed_func(&mut *store, self.call_async)?,
        })
    }
}

/// Returns the functions of all skeletons, in the order of the skeletons.
pub(crate) fn skeleton_functions(skeletons: &[Skeleton]) -> Vec<SkeletonFunction> {
    let mut skeleton_functions = Vec::new();
    for (position, skeleton) in skeletons.iter().enumerate() {
        skeleton_functions.extend(skeleton.functions.iter().zip(0..).map(|(function, number)| SkeletonFunction {
            component: skeleton.component.clone(),
            skeleton: position,
            number,
            is_async: function.is_async,
            span: Arc::new(callee_span(&skeleton.component, &function.interface, &function.function)),
        }));
    }
    skeleton_functions
}
