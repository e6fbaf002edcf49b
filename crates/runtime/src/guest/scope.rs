//! The scope of a request: the data that is shared by all calls that the request causes, directly or indirectly.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_ids::PlanDigest;
use isomer_telemetry::{RequestId, SpanContext, TraceContext, Tracer};
use isomer_transport::{InFlight, InFlightGuard};
use isomer_wire::{CallContext, CallFailure};

/// Identifies a function that other groups of the process can call: by the position of its group in the graph of the
/// revision's groups, and by the position of the function among the functions of its group's skeletons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupFunction {
    /// The position of the group in its graph.
    pub group: usize,
    /// The position of the function in its group.
    pub function: usize,
}

/// The groups of one revision in this process, with the functions that calls across seams need.
///
/// A [`RequestScope`] refers to the groups as a trait object, and the host functions of stubs are generic over the
/// implementing type. So this layer does not depend on how groups are created, and a call needs no boxed future.
pub(crate) trait CallableGroups: Any + fmt::Debug + Send + Sync {
    /// Returns the digest of the plan that the groups were started with.
    fn plan(&self) -> PlanDigest;

    /// Returns the count of the requests and calls that use the groups.
    fn in_flight(&self) -> &InFlight;

    /// Calls a function of one of the groups. The caller must measure the processor time of each poll of the returned
    /// future, and must drop the future at the deadline, because this function sets no timer.
    fn call(
        &self,
        function: GroupFunction,
        scope: RequestScope,
        until: TimeLimit,
        image: &[u8],
    ) -> impl Future<Output = Result<Vec<u8>, CallFailure>> + Send
    where
        Self: Sized;
}

/// The scope of a request: data that is shared by all wasmtime stores that work for the request, and the span that
/// causes the work of the current wasmtime store. Cheap to clone. The default is the scope of an instance that starts.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestScope {
    request: Option<Arc<ScopedRequest>>,
    span: Option<SpanContext>,
}

#[derive(Debug)]
struct ScopedRequest {
    /// The id of the request. `None` for work that cannot be assigned to a request, in an instance that serves several
    /// requests at the same time.
    id: Option<RequestId>,
    /// The groups that receive the request's calls across seams. The scope keeps them alive, so a request stays in one
    /// revision until it ends.
    groups: GroupsInUse,
}

/// The time limit for the work of one wasmtime store for a request or a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimit {
    /// The time at which the work must have ended.
    pub(crate) deadline: Instant,
    /// The time from the start of the work to the deadline, which is an upper bound on the remaining time.
    pub(crate) allowed: Duration,
}

/// A reference of one request or call to the groups of a revision. The request or call is counted as in flight until
/// this value and all its clones are dropped.
#[derive(Debug)]
pub(crate) struct GroupsInUse {
    groups: Arc<dyn CallableGroups>,
    _guard: InFlightGuard,
}

impl GroupsInUse {
    /// Counts one more request or call in `groups`, until the returned value is dropped.
    pub(crate) fn new(groups: Arc<dyn CallableGroups>) -> Self {
        let _guard = groups.in_flight().begin();
        Self { groups, _guard }
    }
}

impl Clone for GroupsInUse {
    fn clone(&self) -> Self {
        Self::new(self.groups.clone())
    }
}

impl Deref for GroupsInUse {
    type Target = dyn CallableGroups;

    fn deref(&self) -> &Self::Target {
        &*self.groups
    }
}

impl RequestScope {
    /// Creates the scope of a request. `span` is the first span of the request, and `groups` are the groups that
    /// receive its calls.
    pub(crate) fn new(id: Option<RequestId>, span: Option<SpanContext>, groups: GroupsInUse) -> Self {
        Self { request: Some(Arc::new(ScopedRequest { id, groups })), span }
    }

    /// Returns the scope for a call from another process. `tracer` records the spans of the call in this process.
    ///
    /// The sampled flag of the call is honoured, because only processes of the same app can send calls.
    pub(crate) fn of_call(context: &CallContext, groups: GroupsInUse, tracer: &Tracer) -> Self {
        let id = RequestId::from_raw(context.request);
        let trace = context.traceparent.as_ref().and_then(|text| TraceContext::parse(text.as_bytes()));
        let span = trace.map(|trace| match id {
            Some(id) => tracer.continue_call(trace, id),
            None => SpanContext::unrecorded(trace),
        });
        Self::new(id, span, groups)
    }

    /// Returns the id of the request. Returns `None` while an instance starts, and for work that cannot be assigned to
    /// a request, in an instance that serves several requests at the same time.
    pub(crate) fn id(&self) -> Option<RequestId> {
        self.request.as_ref()?.id
    }

    /// Returns the span that causes the request or call of this scope; `None` while the instance starts.
    pub(crate) fn span(&self) -> Option<&SpanContext> {
        self.span.as_ref()
    }

    /// Returns the trace of the request or call of this scope, and the span that causes this request or call; `None`
    /// while an instance starts.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        self.span.as_ref().map(SpanContext::trace)
    }

    /// Returns the span that causes the request or call of this scope; `None` while an instance starts.
    pub(crate) fn into_span(self) -> Option<SpanContext> {
        self.span
    }

    /// Returns a scope for the same request as this one, for work that `span` causes. Without `span`, the work is
    /// caused by the same span as in this scope.
    #[must_use]
    pub(crate) fn within(&self, span: Option<&SpanContext>) -> Self {
        Self { request: self.request.clone(), span: span.or(self.span.as_ref()).cloned() }
    }

    /// Returns the context that is sent with a call to another process.
    pub(crate) fn context(&self, deadline: Instant) -> CallContext {
        let traceparent = self.span.as_ref().map(|span| span.trace().to_traceparent());
        CallContext {
            deadline,
            request: self.id().unwrap_or_else(RequestId::random).get(),
            traceparent: traceparent.and_then(|text| Some(std::str::from_utf8(&text).ok()?.into())),
            plan: self.request.as_ref().map(|request| request.groups.plan()).unwrap_or_default(),
        }
    }

    /// Returns the groups that receive calls across seams, if their type is `G`.
    pub(crate) fn groups<G: CallableGroups>(&self) -> Option<&G> {
        let groups: &dyn Any = &*self.request.as_ref()?.groups;
        groups.downcast_ref()
    }
}
