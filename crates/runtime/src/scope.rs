//! What a request takes along the whole chain of calls that it causes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use isomer_telemetry::RequestId;
use isomer_wire::CallContext;

use crate::graph::Graph;

/// The same for all stores that work for one request.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// None while an instance starts, and where one store serves several requests at once.
    pub(crate) id: Option<RequestId>,
    pub(crate) traceparent: Option<HeaderValue>,
    /// The groups that calls lead to. One request stays in one revision: it holds that revision's groups until it is over.
    pub(crate) graph: Option<Arc<Graph>>,
}

/// How long one store may work for a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    /// When it must be over.
    pub(crate) deadline: Instant,
    /// How long that was at first: never less than what is left.
    pub(crate) allowed: Duration,
}

impl Scope {
    /// That of a call that came from somewhere else.
    pub(crate) fn of_call(context: &CallContext, graph: Arc<Graph>) -> Self {
        Self {
            id: RequestId::from_raw(context.request),
            traceparent: context.traceparent.as_deref().and_then(|text| HeaderValue::from_str(text).ok()),
            graph: Some(graph),
        }
    }

    /// The context of a call to somewhere else.
    pub(crate) fn context(&self, deadline: Instant) -> CallContext {
        CallContext {
            deadline,
            request: self.id.unwrap_or_else(RequestId::random).get(),
            traceparent: self.traceparent.as_ref().and_then(|value| Some(value.to_str().ok()?.into())),
            plan: self.graph.as_ref().map(|graph| graph.plan()).unwrap_or_default(),
        }
    }
}
