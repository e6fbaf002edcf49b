//! The traces of the app of this process as the admin API shows them.

use futures::StreamExt as _;
use isomer_admin::NewTraces;
use isomer_api::{ApiProblem, ProblemKind, Trace, TraceOrderRequest, TracePage, TraceQuery};
use isomer_telemetry::{TraceOrder, Tracer};
use isomer_traces::{FollowFilter, InvalidTraceKey, TraceKey, TraceStore};

/// The stored traces of the app, and the tracer that records new ones.
pub(crate) struct ServedTraces {
    pub(crate) store: TraceStore,
    pub(crate) tracer: Tracer,
}

impl ServedTraces {
    /// Returns the traces that match `query`. Blocks while it reads files.
    pub(crate) fn page(&self, query: &TraceQuery) -> Result<TracePage, ApiProblem> {
        Ok(self.store.query(query)?)
    }

    /// Returns the trace with the id `id`. Blocks while it reads files.
    pub(crate) fn trace(&self, id: &str) -> Result<Trace, ApiProblem> {
        let key: TraceKey =
            id.parse().map_err(|error: InvalidTraceKey| ApiProblem::new(ProblemKind::BadRequest, error.to_string()))?;
        self.store.get(key)?.ok_or_else(|| ApiProblem::not_found("trace", id))
    }

    /// Returns the traces that match `query` and are recorded from now on.
    pub(crate) fn follow(&self, query: &TraceQuery) -> Result<NewTraces, ApiProblem> {
        let filter = FollowFilter::new(query)?;
        let traces = self.store.follow()?;
        Ok(traces.filter(move |trace| std::future::ready(filter.includes(trace))).boxed())
    }

    /// Samples the next requests.
    pub(crate) fn order(&self, order: TraceOrderRequest) {
        self.tracer.order(TraceOrder { path: order.path, requests: order.requests });
    }
}
