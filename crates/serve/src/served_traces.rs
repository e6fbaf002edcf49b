//! The traces of the app of this process as the admin API shows them.

use std::sync::Arc;

use anyhow::Context as _;
use futures::StreamExt as _;
use isomer_admin::NewTraces;
use isomer_api::{ApiProblem, ProblemKind, Trace, TraceOrderRequest, TracePage, TraceQuery};
use isomer_capabilities::DataDir;
use isomer_console::CliError;
use isomer_supervisor::{NextTraces, TraceOrders};
use isomer_telemetry::{SamplingPolicy, Tee, TraceOrder, TraceSink, Tracer};
use isomer_traces::{FollowFilter, InvalidTraceKey, TraceKey, TraceLimits, TraceStore, TraceStores};

/// The stored traces of the app, and the tracer that records new ones. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ServedTraces {
    store: TraceStore,
    tracer: Tracer,
    /// The orders for the member with the front door.
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
        let tracer = Tracer::new(None, sampling, with_export(store.clone(), export.clone()));
        Ok(Self { store, tracer, orders: TraceOrders::default(), export })
    }

    /// Returns the tracer that records the requests of this process.
    pub(crate) fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Returns the receiver of the traces that the member `name` sends.
    pub(crate) fn of_member(&self, name: &str) -> Arc<dyn TraceSink> {
        with_export(self.store.of_process(name), self.export.clone())
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
        // Each order is filled once: by the process with the front door.
        if !self.orders.send(NextTraces { path: path.clone(), requests }) {
            self.tracer.order(TraceOrder { path, requests });
        }
    }
}

/// Returns the sink that passes traces to `store` and, if it is set, to `export`.
fn with_export(store: impl TraceSink, export: Option<Arc<dyn TraceSink>>) -> Arc<dyn TraceSink> {
    let store: Arc<dyn TraceSink> = Arc::new(store);
    match export {
        Some(export) => Arc::new(Tee::new([store, export])),
        None => store,
    }
}
