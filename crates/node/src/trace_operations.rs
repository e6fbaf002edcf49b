//! The operations of the admin API on the traces of apps.

use futures::StreamExt as _;
use isomer_admin::NewTraces;
use isomer_api::{ApiProblem, ProblemKind, Trace, TraceOrderRequest, TracePage, TraceQuery};
use isomer_ids::{AppName, TenantName};
use isomer_telemetry::TraceOrder;
use isomer_traces::{FollowFilter, InvalidTraceKey, TraceKey, TraceStore};

use crate::node::Node;
use crate::problems;

impl Node {
    /// Returns the traces of an app that match `query`. Blocks.
    pub(crate) fn trace_page(
        &self,
        tenant: &TenantName,
        app: &AppName,
        query: &TraceQuery,
    ) -> Result<TracePage, ApiProblem> {
        Ok(self.traces_of(tenant, app)?.query(query)?)
    }

    /// Returns a trace. `id` is the id of the trace, or the id of its request. Blocks.
    pub(crate) fn one_trace(&self, tenant: &TenantName, app: &AppName, id: &str) -> Result<Trace, ApiProblem> {
        let invalid = |error: InvalidTraceKey| ApiProblem::new(ProblemKind::BadRequest, error.to_string());
        let key: TraceKey = id.parse().map_err(invalid)?;
        self.traces_of(tenant, app)?.get(key)?.ok_or_else(|| ApiProblem::not_found("trace", id))
    }

    /// Returns the traces of an app that match `query` and are recorded from now on. Blocks.
    pub(crate) fn new_traces(
        &self,
        tenant: &TenantName,
        app: &AppName,
        query: &TraceQuery,
    ) -> Result<NewTraces, ApiProblem> {
        let filter = FollowFilter::new(query)?;
        let traces = self.traces_of(tenant, app)?.follow()?;
        Ok(traces.filter(move |trace| std::future::ready(filter.includes(trace))).boxed())
    }

    /// Samples the next requests to an app. `order` states how many requests, and for which path. Blocks.
    pub(crate) fn order_app_traces(
        &self,
        tenant: &TenantName,
        app: &AppName,
        order: TraceOrderRequest,
    ) -> Result<(), ApiProblem> {
        let revision = self.state.app(tenant, app).map_err(problems::of_state)?.current().revision.clone();
        let tracer = self.repository.tracer_of(tenant, app, &revision)?;
        tracer.order(TraceOrder { path: order.path, requests: order.requests });
        self.tenancy.expect_sampled_requests(tenant, app);
        Ok(())
    }

    fn traces_of(&self, tenant: &TenantName, app: &AppName) -> Result<TraceStore, ApiProblem> {
        self.state.app(tenant, app).map_err(problems::of_state)?;
        self.repository.traces_of(tenant, app)
    }
}
