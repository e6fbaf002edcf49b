//! The calls over fused seams that the probes of an instance report, as spans and metrics.
//!
//! A probe states only which function is called. The engine's call stack of tasks shows the rest: its last task is the
//! task of the request, and its first task with an open call is the caller.

use std::sync::Arc;

use isomer_telemetry::metrics::SeamMetrics;
use isomer_telemetry::{SpanContext, SpanTemplate};
use wasmtime::component::GuestTaskId;
use wasmtime::{AsContextMut, StoreContextMut};

use super::data::Guest;
use super::probed_calls::{FusedCall, TASKS_MAX};
use super::scope::RequestScope;
use crate::failure::Failure;
use crate::spans::CallSpan;

/// The tasks of the guest code that calls a host function.
#[derive(Default)]
pub(crate) struct CurrentTasks {
    /// The current task and the tasks that it was called from, youngest first; at most [`TASKS_MAX`].
    pub(super) tasks: Vec<GuestTaskId>,
    /// The oldest of these tasks: the task of the request.
    pub(super) root: Option<GuestTaskId>,
}

impl CurrentTasks {
    pub(super) fn of(store: &mut StoreContextMut<'_, Guest>) -> wasmtime::Result<Self> {
        let (mut tasks, mut root) = (Vec::new(), None);
        for task in store.async_call_stack()? {
            if tasks.len() < TASKS_MAX {
                tasks.push(task);
            }
            root = Some(task);
        }
        Ok(Self { tasks, root })
    }
}

/// A call over a fused seam that starts now, of a sampled request.
pub(crate) struct StartingCall {
    tasks: Vec<GuestTaskId>,
    root: GuestTaskId,
    /// The span that causes the call.
    span: SpanContext,
    caller: Option<Arc<str>>,
}

impl StartingCall {
    /// Returns the call whose probe calls the host now. Returns `None` if the call belongs to no request, or if the
    /// request is not sampled.
    pub(crate) fn of(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<Option<Self>> {
        let is_sampled = |scope: &RequestScope| scope.span().is_some_and(SpanContext::is_sampled);
        let guest = store.data();
        if guest.concurrent.is_empty() && !guest.scope.as_ref().is_some_and(is_sampled) {
            return Ok(None);
        }
        let CurrentTasks { tasks, root } = CurrentTasks::of(&mut store)?;
        let Some(root) = root else { return Ok(None) };
        let guest = store.data();
        let (scope, entry) = match guest.concurrent.get(root) {
            Some(request) => (Some(&request.scope), Some(&request.component)),
            None => (guest.scope.as_ref(), guest.entry.as_ref()),
        };
        let Some(span) = scope.filter(|scope| is_sampled(scope)).and_then(RequestScope::span) else { return Ok(None) };
        let caller = guest.probed_calls.current(tasks.get(1..).unwrap_or_default());
        let span = caller.and_then(FusedCall::context).unwrap_or(span).clone();
        let caller = caller.map(|call| &call.callee).or(entry).cloned();
        Ok(Some(Self { tasks, root, span, caller }))
    }

    /// Returns the component that makes the call, unless it is not known. If the component is not probed, returns the
    /// component that called it.
    pub(crate) fn caller(&self) -> Option<&Arc<str>> {
        self.caller.as_ref()
    }

    /// Begins the span of the call, and measures the call in `metrics` when it ends.
    pub(crate) fn begin(
        self,
        mut store: impl AsContextMut<Data = Guest>,
        callee: &Arc<str>,
        template: &Arc<SpanTemplate>,
        metrics: &Arc<SeamMetrics>,
    ) {
        let span = CallSpan::begin(Some(&self.span), template).measured_in(metrics);
        let call = FusedCall { span, callee: callee.clone() };
        store.as_context_mut().data_mut().probed_calls.enter(&self.tasks, self.root, call);
    }
}

/// Ends the call over a fused seam whose probe calls the host now.
pub(crate) fn end_fused_call(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<()> {
    if store.data().probed_calls.is_empty() {
        return Ok(());
    }
    let task = store.async_call_stack()?.next();
    if let Some(call) = task.and_then(|task| store.data_mut().probed_calls.exit(task)) {
        call.span.succeed();
    }
    Ok(())
}

impl Guest {
    /// Ends the calls over fused seams that are still open, because the execution of the instance ended with `failure`.
    pub(crate) fn fail_probed_calls(&mut self, failure: &Failure) {
        let mut open = self.probed_calls.end_all().peekable();
        if open.peek().is_some() {
            let failure = failure.to_call_failure();
            open.for_each(|call| call.span.fail(&failure));
        }
    }
}
