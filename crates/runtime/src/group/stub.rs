//! The host side of `isomer:link/wire`: the functions through which the stub of a component makes calls out of its
//! composition.
//!
//! The functions of a stub are numbered, and each number has a [`SeamTarget`]. A synchronous call (`call`) blocks its
//! wasmtime store. Many calls of an `async func` may be in flight: the stub starts each of them with `begin` and gets
//! its result with `take`. These calls run outside of the wasmtime store (see `in_flight_calls`).
//!
//! The host does not interpret the values: it copies the image (the encoded arguments) from the caller's memory into
//! the callee's memory, and the image of the result back. The generated stub and skeleton check what they receive.
//!
//! Usually no timer is needed here, because a call ends when its caller reaches its deadline. This module sets a timer
//! in two cases: the call must end before the caller's deadline, or the caller's instance serves several requests at a
//! time, so that the call may outlive its request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_telemetry::SpanTemplate;
use isomer_telemetry::metrics::SeamMetrics;
use isomer_wire::call::CallResult;
use isomer_wire::{Call, CallError, CallFailure, Callee, FunctionKey};
use tokio::sync::oneshot;
use tokio::time::timeout_at;
use wasmtime::component::{Accessor, ComponentType, LinkerInstance, Lower, WasmList};
use wasmtime::{AsContext as _, StoreContextMut};

use crate::failure::CallTrap;
use crate::guest::{CallOrigin, CallableGroups, GroupFunction, Guest, PendingResult, RequestScope, TimeLimit};
use crate::pool::OutOfMemory;
use crate::seam::SeamFunction;
use crate::spans::CallSpan;

/// The interface that stubs import.
pub(crate) const INTERFACE: &str = "isomer:link/wire@1.0.0";

/// The targets of all calls that one component makes out of its composition.
#[derive(Clone)]
pub struct SeamStub {
    /// The name of the calling component.
    pub component: Arc<str>,
    /// The targets of the component's calls, indexed by the number of the function.
    pub targets: Vec<SeamTarget>,
}

/// The callee and the settings for the calls of one function.
#[derive(Clone)]
pub struct SeamTarget {
    /// The caller, the callee and the function, for logs and spans.
    pub seam: Arc<SeamFunction>,
    /// Whether a failed call returns a value of the function's error type. If false, the caller traps.
    pub catches: bool,
    /// Whether a call may be repeated if its result was lost.
    pub idempotent: bool,
    /// The maximum time that the callee may take for a call.
    pub allowed: Duration,
    /// The metrics of the seam.
    pub metrics: Arc<SeamMetrics>,
    /// The group that runs the calls.
    pub callee: SeamCallee,
}

/// The group that runs the calls of a function.
#[derive(Clone)]
pub enum SeamCallee {
    /// Another group in this process.
    Local(GroupFunction),
    /// A group of another process.
    Remote {
        /// Sends calls to the process of the group.
        callee: Arc<dyn Callee>,
        /// The key that identifies the function in the other process.
        key: FunctionKey,
    },
}

impl SeamCallee {
    /// Returns the mode of the seam, as spans and metrics name it.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::Local(_) => "isolated",
            Self::Remote { .. } => "remote",
        }
    }
}

/// The `call-error` of `isomer:link/wire` as a component model value.
#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
enum CallErrorValue {
    #[component(name = "unreachable")]
    Unreachable,
    #[component(name = "deadline")]
    Deadline,
    #[component(name = "overloaded")]
    Overloaded,
    #[component(name = "refused")]
    Refused,
}

/// A [`SeamTarget`], with the template for the spans that record the calls to it.
struct LinkedTarget {
    target: SeamTarget,
    span: Arc<SpanTemplate>,
}

type ResultValue = (Result<Vec<u8>, CallErrorValue>,);

impl LinkedTarget {
    fn new(target: SeamTarget) -> Self {
        Self { span: Arc::new(target.seam.caller_span(target.callee.mode())), target }
    }
}

/// Defines the interface `isomer:link/wire` for one component. `stub` is the number of the component's stub in its
/// group.
pub(crate) fn link<G: CallableGroups>(
    instance: &mut LinkerInstance<'_, Guest>,
    stub: usize,
    targets: Vec<SeamTarget>,
) -> wasmtime::Result<()> {
    let targets: Arc<[LinkedTarget]> = targets.into_iter().map(LinkedTarget::new).collect();
    let calls = targets.clone();
    instance.func_wrap_async("call", move |store, (function, image): (u32, WasmList<u8>)| {
        let targets = calls.clone();
        Box::new(async move {
            let target = target(&targets, function)?;
            into_caller_value(&target.target, call::<G>(store, target, image).await)
        })
    })?;
    let begins = targets.clone();
    instance.func_wrap_concurrent("begin", move |accessor, (ticket, function, image): (u32, u32, Vec<u8>)| {
        let targets = begins.clone();
        Box::pin(async move { begin::<G>(accessor, stub, ticket, &targets, function, image).await })
    })?;
    let takes = targets.clone();
    instance.func_wrap("take", move |mut store: StoreContextMut<'_, Guest>, (ticket,): (u32,)| {
        let call_results = &mut store.data_mut().call_results.0;
        let position = call_results.iter().position(|it| (it.stub, it.ticket) == (stub, ticket));
        let position = position.ok_or_else(|| wasmtime::format_err!("no result is pending under ticket {ticket}"))?;
        let pending = call_results.swap_remove(position);
        into_caller_value(&takes[pending.function].target, pending.result)
    })?;
    instance.func_wrap("refuse", move |_, (function,): (u32,)| -> wasmtime::Result<()> {
        let seam = target(&targets, function)?.target.seam.clone();
        let reason = "the reply is not an image of the function's result".to_owned();
        let failure = CallFailure::Lost { error: CallError::Refused, reason, not_run: false };
        Err(CallTrap { seam, failure }.into())
    })
}

/// Returns the target of the function with the number `function`. Stubs are generated from the same list as `targets`,
/// so every number has a target.
fn target(targets: &[LinkedTarget], function: u32) -> wasmtime::Result<&LinkedTarget> {
    let found = usize::try_from(function).ok().and_then(|function| targets.get(function));
    found.ok_or_else(|| wasmtime::format_err!("the stub has no function {function}"))
}

/// Turns the result of a call into the value that the caller receives, or into an error that makes the caller trap.
fn into_caller_value(target: &SeamTarget, result: CallResult) -> wasmtime::Result<ResultValue> {
    match result {
        Ok(image) => Ok((Ok(image),)),
        Err(CallFailure::Lost { error, reason, .. }) if target.catches => {
            isomer_telemetry::debug!(seam = %target.seam, %reason, "a failed call is passed to its caller as a value");
            Ok((Err(match error {
                CallError::Unreachable => CallErrorValue::Unreachable,
                CallError::Deadline => CallErrorValue::Deadline,
                CallError::Overloaded => CallErrorValue::Overloaded,
                CallError::Refused => CallErrorValue::Refused,
            }),))
        }
        Err(failure) => Err(CallTrap { seam: target.seam.clone(), failure }.into()),
    }
}

/// Returns the time limit of a call that `request` makes, and whether the call needs a timer of its own. It needs one
/// if its deadline is earlier than the request's, or if it may outlive the request. Otherwise, the request's timer also
/// ends the call.
fn until(request: &CallOrigin, target: &SeamTarget) -> (TimeLimit, bool) {
    let outlives = !request.is_exclusive;
    match request.until {
        // The request has already started, and its whole time is not longer than the call's. So the request's deadline
        // is the earlier one, and the clock is not read.
        Some(until) if until.allowed <= target.allowed => (until, outlives),
        until => {
            let own = TimeLimit { deadline: Instant::now() + target.allowed, allowed: target.allowed };
            match until {
                Some(until) if until.deadline <= own.deadline => (until, outlives),
                _ => (own, true),
            }
        }
    }
}

async fn call<G: CallableGroups>(
    mut store: StoreContextMut<'_, Guest>,
    target: &LinkedTarget,
    image: WasmList<u8>,
) -> CallResult {
    let Some(request) = CallOrigin::of(&mut store) else { return Err(no_request()) };
    let mut span = CallSpan::begin(request.scope.span(), &target.span).measured_in(&target.target.metrics);
    let target = &target.target;
    let (until, timed) = until(&request, target);
    store.data_mut().waits_for = Some(target.seam.clone());
    let scope = request.scope.within(span.context());
    span.set_argument_bytes(image.len());
    let result = make_call::<G>(&mut store, target, scope, (until, timed), image).await;
    store.data_mut().waits_for = None;
    span.end(&result);
    result
}

/// Makes a synchronous call with the scope `scope`, and charges the caller for the result. `timed` is whether the call
/// needs a timer, see [`until`].
async fn make_call<G: CallableGroups>(
    store: &mut StoreContextMut<'_, Guest>,
    target: &SeamTarget,
    scope: RequestScope,
    (until, timed): (TimeLimit, bool),
    image: WasmList<u8>,
) -> CallResult {
    let result = match &target.callee {
        SeamCallee::Local(function) => {
            let image = image.as_le_slice(store.as_context());
            let called = call_local::<G>(scope, *function, until, image);
            if timed { within(until, called).await } else { called.await }
        }
        SeamCallee::Remote { callee, key } => {
            let bytes = image.as_le_slice(store.as_context()).len();
            let charged = store.data_mut().charge_call(bytes).map_err(no_memory);
            match charged {
                Ok(memory) => {
                    let image = image.as_le_slice(store.as_context()).to_vec();
                    let result = call_remote(&scope, &**callee, *key, until, target.idempotent, image).await;
                    drop(memory);
                    result
                }
                Err(failure) => Err(failure),
            }
        }
    };
    let result = result?;
    let guest = store.data_mut();
    let memory = guest.charge_call(result.len()).map_err(no_memory_for_result)?;
    guest.end_call(memory);
    Ok(result)
}

async fn begin<G: CallableGroups>(
    accessor: &Accessor<Guest>,
    stub: usize,
    ticket: u32,
    targets: &[LinkedTarget],
    function: u32,
    image: Vec<u8>,
) -> wasmtime::Result<()> {
    let LinkedTarget { target, span: template } = target(targets, function)?;
    let entered = accessor.with(|mut store| {
        let request = CallOrigin::of(&mut store).ok_or_else(no_request)?;
        let (until, timed) = until(&request, target);
        let guest = store.data_mut();
        let mut span = CallSpan::begin(request.scope.span(), template).measured_in(&target.metrics);
        let scope = request.scope.within(span.context());
        span.set_argument_bytes(image.len());
        let permit = match guest.in_flight_calls.enter(&target.seam, image.len(), guest.account()) {
            Ok(permit) => permit,
            Err(failure) => {
                span.fail(&failure);
                return Err(failure);
            }
        };
        let (mut sender, receiver) = oneshot::channel();
        let (destination, idempotent) = (target.callee.clone(), target.idempotent);
        guest.in_flight_calls.push(Box::pin(async move {
            let called = async {
                match destination {
                    SeamCallee::Local(function) if timed => {
                        within(until, call_local::<G>(scope, function, until, &image)).await
                    }
                    SeamCallee::Local(function) => call_local::<G>(scope, function, until, &image).await,
                    SeamCallee::Remote { callee, key } => {
                        call_remote(&scope, &*callee, key, until, idempotent, image).await
                    }
                }
            };
            let result = tokio::select! {
                biased;
                result = called => result,
                // The caller has cancelled the call.
                () = sender.closed() => return,
            };
            span.end(&result);
            let _ = sender.send(result);
        }));
        Ok((permit, receiver))
    });
    let (permit, result) = match entered {
        Ok((mut permit, receiver)) => {
            let result = receiver.await.unwrap_or_else(|_| Err(no_request()));
            let room = permit.set_result(result.as_ref().map_or(0, Vec::len));
            (Some(permit), room.and(result))
        }
        Err(failure) => (None, Err(failure)),
    };
    let function = usize::try_from(function)?;
    accessor.with(|mut store| {
        store.data_mut().call_results.0.push(PendingResult {
            seam: target.seam.clone(),
            stub,
            ticket,
            function,
            result,
            _permit: permit,
        });
    });
    Ok(())
}

/// Returns the failure of a call that was not run, because the caller's account has no memory for the arguments.
fn no_memory(full: OutOfMemory) -> CallFailure {
    CallFailure::overloaded(full.to_string())
}

/// Returns the failure of a call that was run, but whose result the caller's account has no memory for.
fn no_memory_for_result(full: OutOfMemory) -> CallFailure {
    CallFailure::Lost { error: CallError::Overloaded, reason: full.to_string(), not_run: false }
}

/// Returns the failure of a call that a component makes outside of any request: while it starts, or after its request
/// has ended.
fn no_request() -> CallFailure {
    CallFailure::refused("the calling component is serving no request")
}

async fn call_local<G: CallableGroups>(
    scope: RequestScope,
    function: GroupFunction,
    until: TimeLimit,
    image: &[u8],
) -> CallResult {
    let called = scope.clone();
    let Some(groups) = called.groups::<G>() else { return Err(no_request()) };
    groups.call(function, scope, until, image).await
}

async fn call_remote(
    scope: &RequestScope,
    callee: &dyn Callee,
    key: FunctionKey,
    until: TimeLimit,
    is_idempotent: bool,
    image: Vec<u8>,
) -> CallResult {
    let context = scope.context(until.deadline);
    callee.call(Call { function: key, context, is_idempotent, image }).await
}

async fn within(until: TimeLimit, call: impl Future<Output = CallResult>) -> CallResult {
    match timeout_at(until.deadline.into(), call).await {
        Ok(result) => result,
        Err(_) => Err(CallFailure::deadline(format!("no result within {} ms", until.allowed.as_millis()))),
    }
}
