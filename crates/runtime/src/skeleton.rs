//! One call in one instance: over the skeleton of a component, which makes a call of an image.

use std::sync::Arc;

use isomer_wire::CallFailure;
use wasmtime::Store;
use wasmtime::component::{Component, ComponentExportIndex, ComponentType, Instance as Linked, Lift, TypedFunc};

use crate::failure::Failure;
use crate::guest::Guest;
use crate::scope::{Scope, Until};
use crate::serve::Instance;

/// The functions of one component that are called from outside of its group.
#[derive(Debug, Clone)]
pub struct Skeleton {
    /// Who is called.
    pub component: Arc<str>,
    /// The name of the exported `isomer:link/dispatch`.
    pub export: String,
    /// By their numbers: is it an `async func`?
    pub functions: Vec<bool>,
}

/// `isomer:link/dispatch.refusal`.
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

type Dispatch = TypedFunc<(u32, &'static [u8]), (Result<Vec<u8>, Refusal>,)>;

/// Where a composition exports what one skeleton answers.
#[derive(Debug, Clone)]
pub(crate) struct DispatchExport {
    call: ComponentExportIndex,
    call_async: ComponentExportIndex,
}

/// The same in a live instance.
#[derive(Clone, Copy)]
pub(crate) struct DispatchFunctions {
    call: Dispatch,
    call_async: Dispatch,
}

/// One function of a group's skeletons.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) component: Arc<str>,
    skeleton: usize,
    number: u32,
    is_async: bool,
}

impl DispatchExport {
    /// `None` where the component has no such export.
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

/// The functions of all skeletons, one after another.
pub(crate) fn entries(skeletons: &[Skeleton]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (position, skeleton) in skeletons.iter().enumerate() {
        entries.extend(skeleton.functions.iter().zip(0..).map(|(&is_async, number)| Entry {
            component: skeleton.component.clone(),
            skeleton: position,
            number,
            is_async,
        }));
    }
    entries
}

impl Instance {
    /// Makes one call. With an answer, or a refusal of the skeleton, the instance can be used again once [`Instance::rest`] is
    /// over; after a failure it cannot.
    pub(crate) async fn call(
        &mut self,
        entry: &Entry,
        scope: Arc<Scope>,
        until: Until,
        image: &[u8],
    ) -> Result<Result<Vec<u8>, CallFailure>, Failure> {
        self.begin(scope, until);
        let functions = self.dispatches[entry.skeleton];
        let function: TypedFunc<(u32, &[u8]), _> = if entry.is_async { functions.call_async } else { functions.call };
        let run = function.call_async(&mut self.store, (entry.number, image));
        let outcome = match &self.begun {
            Some(begun) => begun.beside(run).await,
            None => run.await,
        };
        match outcome {
            Ok((Ok(image),)) => Ok(Ok(image)),
            Ok((Err(Refusal::BadImage),)) => {
                Ok(Err(CallFailure::refused("the image is none of the function's arguments")))
            }
            Ok((Err(Refusal::UnknownFunction),)) => Ok(Err(CallFailure::refused("the skeleton has no such function"))),
            Err(error) => Err(self.failure(&error, until.allowed)),
        }
    }
}
