//! The traces of the app of this process as the admin API shows them.

use std::sync::Arc;

use anyhow::Context as _;
use futures::StreamExt as _;
use isomer_admin::NewTraces;
use isomer_api::{ApiProblem, ProblemKind, Trace, TraceOrderRequest, TracePage, TraceQuery};
use isomer_capabilities::DataDir;
use isomer_console::CliError;
use isomer_supervisor::{NextTraces, TraceOrders};
use isomer_telemetry::{
    SamplingPolicy, SpanId, Tee, TraceFragment, TraceOrder, TraceSink, Tracer, Value, is_path_below, semantics,
};
use isomer_traces::{FollowFilter, InvalidTraceKey, TraceKey, TraceLimits, TraceStore, TraceStores};

/// The stored traces of the app, and the tracer that records new ones. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ServedTraces {
    store: TraceStore,
    tracer: Tracer,
    /// The orders for which some requests have not been traced yet. The member with the front door receives them.
    orders: TraceOrders,
    /// The receiver that exports the traces.
    export: Option<Arc<dyn TraceSink>>,
}

impl ServedTraces {
    /// Opens the traces in the data directory. `sampling` determines which requests are traced from now on. New traces
    /// are also passed to `export`.
    ///
    /// # Errors
    /// If the thread that writes the traces cannot be started.
    pub(crate) fn open(
        data: &DataDir,
        sampling: SamplingPolicy,
        export: Option<Arc<dyn TraceSink>>,
    ) -> Result<Self, CliError> {
        let stores = TraceStores::start(TraceLimits::default()).context("cannot start the store of traces")?;
        let store = stores.open(&data.traces(), &Arc::default());
        let orders = TraceOrders::default();
        let tracer = Tracer::new(None, sampling, sink(store.clone(), &orders, export.clone()));
        Ok(Self { store, tracer, orders, export })
    }

    /// Returns the tracer that records the requests of this process.
    pub(crate) fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Returns the receiver of the traces that the member `name` sends.
    pub(crate) fn of_member(&self, name: &str) -> Arc<dyn TraceSink> {
        sink(self.store.of_process(name), &self.orders, self.export.clone())
    }

    /// Returns the orders that members receive.
    pub(crate) fn orders(&self) -> TraceOrders {
        self.orders.clone()
    }

    /// Waits until all traces are written.
    pub(crate) fn flush(&self) {
        self.store.flush();
    }

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

    /// Samples the next requests to the app. `order` states how many requests, and for which path.
    pub(crate) fn order(&self, order: TraceOrderRequest) {
        let TraceOrderRequest { path, requests } = order;
        let order = NextTraces { path, requests };
        // If this process has no front door, its tracer samples no requests, so it never fulfils an order.
        self.tracer.order(trace_order(&order));
        self.orders.add(order);
    }

    /// If this process serves the front door, passes the remaining orders to its tracer; otherwise, removes all orders
    /// from its tracer. Called after the front door has moved to or from this process.
    pub(crate) fn move_orders(&self, is_local: bool) {
        let rest = if is_local { self.orders.rest() } else { Vec::new() };
        self.tracer.set_orders(rest.iter().map(trace_order));
    }
}

/// Converts an order that the supervisor has passed on.
pub(crate) fn trace_order(order: &NextTraces) -> TraceOrder {
    TraceOrder { path: order.path.clone(), requests: order.requests }
}

/// Returns the sink that passes traces to `store` and, if it is set, to `export`, and counts the requests of `orders`.
fn sink(store: impl TraceSink, orders: &TraceOrders, export: Option<Arc<dyn TraceSink>>) -> Arc<dyn TraceSink> {
    let stored: Arc<dyn TraceSink> = Arc::new(CountedTraces { orders: orders.clone(), next: store });
    match export {
        Some(export) => Arc::new(Tee::new([stored, export])),
        None => stored,
    }
}

/// Counts the requests that were sampled because of orders, and passes all traces on.
struct CountedTraces<S> {
    orders: TraceOrders,
    next: S,
}

impl<S: TraceSink> TraceSink for CountedTraces<S> {
    fn record(&self, fragment: TraceFragment) {
        if fragment.is_sampled
            && !self.orders.is_empty()
            && let Some(path) = path_of(&fragment)
        {
            self.orders.count(|ordered| is_path_below(path, ordered));
        }
        self.next.record(fragment);
    }
}

/// Returns the path of the request, if the fragment contains the first span of the request. This span has the id of the
/// request.
fn path_of(fragment: &TraceFragment) -> Option<&str> {
    let first = fragment.spans.iter().find(|span| span.id == SpanId::from(fragment.request))?;
    match first.attribute(semantics::URL_PATH) {
        Some(Value::Text(path)) => Some(path.as_str()),
        _ => None,
    }
}
