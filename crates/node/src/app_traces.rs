//! The traces of apps: their stores, and the tracers that record them.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use isomer_admin::NewTraces;
use isomer_api::{ApiProblem, ProblemKind, Trace, TraceOrderRequest, TracePage, TraceQuery};
use isomer_disk::Reserve;
use isomer_ids::{AppName, ReleaseDigest, TenantName};
use isomer_telemetry::{TraceOrder, Tracer};
use isomer_traces::{FollowFilter, InvalidTraceKey, TenantTraces, TraceKey, TraceLimits, TraceStore, TraceStores};

use crate::node::Node;
use crate::problems;

/// The stores and tracers of all apps of a node.
pub(crate) struct AppTraces {
    stores: TraceStores,
    tracers: Mutex<HashMap<(TenantName, AppName), RevisionTracers>>,
}

/// The tracers of an app's revisions that were started, or whose traces were ordered, since the node started; the newest
/// last. A revision keeps its tracer while the app is evicted, so that orders stay valid.
type RevisionTracers = Vec<(ReleaseDigest, Tracer)>;

/// The maximum number of revisions of an app that have a tracer. At most one of them serves requests, and one is a
/// candidate.
const REVISIONS_MAX: usize = 4;

impl AppTraces {
    /// Starts the thread that writes traces. Traces leave the space of `reserve` free.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn start(reserve: Arc<Reserve>) -> io::Result<Self> {
        let stores = TraceStores::start(TraceLimits::NODE)?;
        stores.leave_free(move || reserve.room());
        Ok(Self { stores, tracers: Mutex::default() })
    }

    /// Returns the stores.
    pub(crate) fn stores(&self) -> &TraceStores {
        &self.stores
    }

    /// Opens the store in `folder`.
    pub(crate) fn store(&self, folder: &Path, of_tenant: &Arc<TenantTraces>) -> TraceStore {
        self.stores.open(folder, of_tenant)
    }

    /// Returns the tracer of a revision of an app. `make` makes it at the first call.
    pub(crate) fn tracer(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        make: impl FnOnce() -> Tracer,
    ) -> Tracer {
        let mut tracers = self.tracers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_app = tracers.entry((tenant.clone(), app.clone())).or_default();
        if let Some((_, tracer)) = of_app.iter().find(|(of, _)| of == revision) {
            return tracer.clone();
        }
        if of_app.len() == REVISIONS_MAX {
            of_app.remove(0);
        }
        let tracer = make();
        of_app.push((revision.clone(), tracer.clone()));
        tracer
    }

    /// Forgets the tracers of a removed app, or of all apps of a removed tenant.
    pub(crate) fn forget(&self, tenant: &TenantName, app: Option<&AppName>) {
        let is_removed = |of: &(TenantName, AppName)| of.0 == *tenant && app.is_none_or(|app| *app == of.1);
        self.tracers.lock().unwrap_or_else(PoisonError::into_inner).retain(|of, _| !is_removed(of));
    }
}

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

    /// Returns the trace with the id `id`, the id of the trace or of its request. Blocks.
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

    /// Samples the next requests of an app. Blocks.
    pub(crate) fn order_app_traces(
        &self,
        tenant: &TenantName,
        app: &AppName,
        order: TraceOrderRequest,
    ) -> Result<(), ApiProblem> {
        let revision = self.state.app(tenant, app).map_err(problems::of_state)?.current().revision.clone();
        let tracer = self.repository.tracer_of(tenant, app, &revision)?;
        tracer.order(TraceOrder { path: order.path, requests: order.requests });
        Ok(())
    }

    fn traces_of(&self, tenant: &TenantName, app: &AppName) -> Result<TraceStore, ApiProblem> {
        self.state.app(tenant, app).map_err(problems::of_state)?;
        self.repository.traces_of(tenant, app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_keeps_its_tracer_until_the_app_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let traces = AppTraces::start(Arc::new(Reserve::new(dir.path(), 0))).unwrap();
        let tenant: TenantName = "acme".parse().unwrap();
        let made = std::cell::Cell::new(0);
        let tracer = |app: &str, revision: u8| {
            let revision = ReleaseDigest::from([revision; 16]);
            traces.tracer(&tenant, &app.parse().unwrap(), &revision, || {
                made.set(made.get() + 1);
                Tracer::default()
            });
        };
        tracer("shop", 0);
        tracer("shop", 0);
        tracer("blog", 0);
        assert_eq!(made.get(), 2);
        (1..=4).for_each(|revision| tracer("shop", revision));
        tracer("shop", 4);
        assert_eq!(made.get(), 6);
        let counts = || traces.tracers.lock().unwrap().values().map(Vec::len).sum::<usize>();
        assert_eq!(counts(), REVISIONS_MAX + 1);
        traces.forget(&"other".parse().unwrap(), None);
        traces.forget(&tenant, Some(&"shop".parse().unwrap()));
        assert_eq!(counts(), 1);
        traces.forget(&tenant, None);
        assert_eq!(counts(), 0);
    }
}
