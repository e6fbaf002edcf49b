//! What a request takes along the whole chain of calls that it causes.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use isomer_ids::PlanDigest;
use isomer_telemetry::RequestId;
use isomer_wire::{CallContext, CallFailure};

/// A function of a group that others call: by the group's position in its graph, and the function's among all those of the
/// group's skeletons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupFunction {
    /// Which group.
    pub group: usize,
    /// Which function.
    pub function: usize,
}

/// The groups of one process of a revision, as calls across seams see them.
///
/// A [`RequestScope`] holds them behind a pointer, and the host functions of stubs are generic over their type: so this layer knows nothing of how groups
/// are made, and a call needs no boxed future.
pub(crate) trait CallableGroups: Any + fmt::Debug + Send + Sync {
    /// Returns the digest of the plan that the groups were started with.
    fn plan(&self) -> PlanDigest;

    /// Makes a call to one of the groups, within a poll that is measured. Sets no timer: the caller drops the future at the deadline.
    fn call(
        &self,
        entrance: GroupFunction,
        scope: Arc<RequestScope>,
        until: TimeLimit,
        image: &[u8],
    ) -> impl Future<Output = Result<Vec<u8>, CallFailure>> + Send
    where
        Self: Sized;
}

/// The same for all stores that work for one request.
#[derive(Debug, Default)]
pub(crate) struct RequestScope {
    /// None while an instance starts, and where one store serves several requests at once.
    pub(crate) id: Option<RequestId>,
    pub(crate) traceparent: Option<HeaderValue>,
    /// The groups that calls lead to. One request stays in one revision: it holds that revision's groups until it is over.
    pub(crate) groups: Option<Arc<dyn CallableGroups>>,
}

/// How long one store may work for a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimit {
    /// When it must be over.
    pub(crate) deadline: Instant,
    /// How long that was at first: never less than what is left.
    pub(crate) allowed: Duration,
}

impl RequestScope {
    /// That of a call that came from somewhere else.
    pub(crate) fn of_call(context: &CallContext, groups: Arc<dyn CallableGroups>) -> Self {
        Self {
            id: RequestId::from_raw(context.request),
            traceparent: context.traceparent.as_deref().and_then(|text| HeaderValue::from_str(text).ok()),
            groups: Some(groups),
        }
    }

    /// The context of a call to somewhere else.
    pub(crate) fn context(&self, deadline: Instant) -> CallContext {
        CallContext {
            deadline,
            request: self.id.unwrap_or_else(RequestId::random).get(),
            traceparent: self.traceparent.as_ref().and_then(|value| Some(value.to_str().ok()?.into())),
            plan: self.groups.as_ref().map(|groups| groups.plan()).unwrap_or_default(),
        }
    }

    /// Returns the groups that calls lead to, if they are a `G`.
    pub(crate) fn groups<G: CallableGroups>(&self) -> Option<&G> {
        let groups: &dyn Any = &**self.groups.as_ref()?;
        groups.downcast_ref()
    }
}
