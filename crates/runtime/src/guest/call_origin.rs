//! The request for which a guest calls a host function.
//!
//! If an instance serves several requests at the same time (`concurrency` above 1), each request is a task of the
//! engine, and everything that the guest does for the request happens in tasks that this task has started. When the
//! guest calls a host function, the outermost task of the engine's call stack is therefore the task of the request. The
//! engine knows only the call stack of the task that is running now. So a host function that waits must look up its
//! request before it waits.
//!
//! Work that continues after its request has ended belongs to no request.
//!
//! In a probed composition, the span of a call over a fused seam is found in the same way: the call is a task, too.

use isomer_telemetry::{RequestId, SpanContext};
use wasmtime::{AsContextMut, StoreContextMut};

use super::concurrent_requests::ConcurrentRequest;
use super::data::Guest;
use super::fused_calls::CurrentTasks;
use super::output::OutputOrigin;
use super::probed_calls::FusedCall;
use super::scope::{RequestScope, TimeLimit};

/// The request for which a guest calls a host function.
pub(crate) struct CallOrigin {
    pub(crate) scope: RequestScope,
    /// The time limit of the request.
    pub(crate) until: Option<TimeLimit>,
    /// Whether the instance serves one request at a time. If so, all calls for which the guest waits end with the
    /// request.
    pub(crate) is_exclusive: bool,
}

impl CallOrigin {
    /// Returns the request for which the guest calls the host function that runs now; `None` between requests. If an
    /// instance serves several requests at the same time, and the call belongs to none of them, the returned request has
    /// no id, no span and practically no time limit.
    pub(crate) fn of(mut store: impl AsContextMut<Data = Guest>) -> Option<Self> {
        let mut store = store.as_context_mut();
        let guest = store.data();
        if guest.concurrent.is_empty() && guest.probed_calls.is_empty() {
            return Self::of_instance(guest);
        }
        let tasks = CurrentTasks::of(&mut store).unwrap_or_default();
        let guest = store.data();
        let mut origin = match tasks.root.and_then(|root| guest.concurrent.get(root)) {
            Some(ConcurrentRequest { scope, signals, .. }) => {
                Self { scope: scope.clone(), until: Some(signals.until()), is_exclusive: false }
            }
            None => Self::of_instance(guest)?,
        };
        if let Some(span) = guest.probed_calls.current(&tasks.tasks).and_then(FusedCall::context) {
            origin.scope = origin.scope.within(Some(span));
        }
        Some(origin)
    }

    fn of_instance(guest: &Guest) -> Option<Self> {
        let scope = guest.scope()?;
        Some(Self { is_exclusive: scope.id().is_some(), scope, until: guest.until() })
    }
}

/// Returns the span in which the guest calls the host function that runs now: the parent of the spans that the host
/// function records. Returns `None` if the call belongs to no request.
///
/// A host function that waits must call this function before it waits.
pub fn current_span(store: impl AsContextMut<Data = Guest>) -> Option<SpanContext> {
    CallOrigin::of(store)?.scope.into_span()
}

/// Returns the id of the request for which the guest calls the host function that runs now, and the span that causes the
/// call, as [`current_span`] does. Each is `None` if it is not known.
pub fn current_request(store: impl AsContextMut<Data = Guest>) -> (Option<RequestId>, Option<SpanContext>) {
    let origin = CallOrigin::of(store);
    let id = origin.as_ref().and_then(|origin| origin.scope.id());
    (id, origin.and_then(|origin| origin.scope.into_span()))
}

/// Makes output belong to the request for which the guest calls the host function that runs now, and to the span that
/// causes the call, until [`Guest::attribute_output_to_scope`] is called. Returns `false` if output belongs to them
/// already, because the instance serves one request at a time and no call over a fused seam is open.
pub(crate) fn attribute_output(store: &mut StoreContextMut<'_, Guest>) -> bool {
    let guest = store.data();
    if guest.concurrent.is_empty() && guest.probed_calls.is_empty() {
        return false;
    }
    let scope = CallOrigin::of(&mut *store).map(|origin| origin.scope).unwrap_or_default();
    let origin = OutputOrigin { request: scope.id(), trace: scope.trace() };
    store.data().output_request().set_for_call(origin);
    true
}
