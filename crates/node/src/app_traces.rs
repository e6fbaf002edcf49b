//! The traces of apps: their stores, and the tracers that record them.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use isomer_disk::Reserve;
use isomer_ids::{AppName, ReleaseDigest, TenantName};
use isomer_telemetry::{AppSampling, SamplingLimits, SamplingPolicy, Tracer};
use isomer_traces::{TenantTraces, TraceLimits, TraceStore, TraceStores};

/// The stores and tracers of all apps of a node.
pub(crate) struct AppTraces {
    stores: TraceStores,
    /// Which requests are traced, and the limits for the settings of apps; `None` if no traces are recorded.
    sampling: Option<SamplingLimits>,
    tracers: Mutex<HashMap<(TenantName, AppName), RevisionTracers>>,
}

/// The tracers of an app's revisions, the newest last. A revision gets a tracer when it is started for the first time
/// since the node started, or when a client requests traces of its next requests. It keeps the tracer while the app is
/// evicted, so that such requests of clients are not lost.
type RevisionTracers = Vec<(ReleaseDigest, Tracer)>;

/// The maximum number of revisions of an app that have a tracer. At most one of them serves requests, and one is a
/// candidate.
const REVISIONS_MAX: usize = 4;

impl AppTraces {
    /// Starts the thread that writes traces. Traces do not use the disk space that `reserve` keeps free. Without
    /// `sampling`, no requests are recorded, and only the stored traces can be read.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn start(reserve: Arc<Reserve>, sampling: Option<SamplingLimits>) -> io::Result<Self> {
        let stores = TraceStores::start(TraceLimits::NODE)?;
        stores.leave_free(move || reserve.room());
        Ok(Self { stores, sampling, tracers: Mutex::default() })
    }

    /// Returns the stores.
    pub(crate) fn stores(&self) -> &TraceStores {
        &self.stores
    }

    /// Opens the store in `folder`.
    pub(crate) fn store(&self, folder: &Path, of_tenant: &Arc<TenantTraces>) -> TraceStore {
        self.stores.open(folder, of_tenant)
    }

    /// Returns the tracer of a revision of an app. The first call for a revision creates its tracer with `make`.
    pub(crate) fn tracer(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        make: impl FnOnce(SamplingPolicy) -> Tracer,
    ) -> Tracer {
        let Some(sampling) = self.sampling else { return Tracer::default() };
        let mut tracers = self.tracers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_app = tracers.entry((tenant.clone(), app.clone())).or_default();
        if let Some((_, tracer)) = of_app.iter().find(|(of, _)| of == revision) {
            return tracer.clone();
        }
        if of_app.len() == REVISIONS_MAX {
            of_app.remove(0);
        }
        let tracer = make(sampling.default);
        of_app.push((revision.clone(), tracer.clone()));
        tracer
    }

    /// Returns the policy for an app with the settings `app`; `None` if no traces are recorded.
    pub(crate) fn policy(&self, app: &AppSampling) -> Option<SamplingPolicy> {
        self.sampling.as_ref().map(|limits| limits.policy(app))
    }

    /// Forgets the tracers of a removed app, or of all apps of a removed tenant.
    pub(crate) fn forget(&self, tenant: &TenantName, app: Option<&AppName>) {
        let is_removed = |of: &(TenantName, AppName)| of.0 == *tenant && app.is_none_or(|app| *app == of.1);
        self.tracers.lock().unwrap_or_else(PoisonError::into_inner).retain(|of, _| !is_removed(of));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_keeps_its_tracer_until_the_app_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let traces = AppTraces::start(Arc::new(Reserve::new(dir.path(), 0)), Some(SamplingLimits::NODE)).unwrap();
        let tenant: TenantName = "acme".parse().unwrap();
        let made = std::cell::Cell::new(0);
        let tracer = |app: &str, revision: u8| {
            let revision = ReleaseDigest::from([revision; 16]);
            traces.tracer(&tenant, &app.parse().unwrap(), &revision, |_| {
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
