//! Makes and links probed code when a group requests it.

use std::sync::{Arc, Weak};

use isomer_diagnostics::chain;
use isomer_display::excerpt::{self, cut};
use isomer_ids::TenantName;
use isomer_runtime::code::CodeCache;
use isomer_runtime::engine::Engine;
use isomer_runtime::{Graph, ProbedCode, ProbedCodeSupplier};
use isomer_telemetry::metrics::SeriesGroup;

use super::maker::{ProbedCodeMaker, ProbedGroup, ProbingError};
use super::registry::ProbedGroups;
use crate::fair_semaphore::{FairSemaphore, FairSemaphoreLimits};

/// The maximum number of groups whose probed code is made at the same time. On a node, each of them also waits for a
/// permit of the compiler.
const MAKING_MAX: usize = 4;

/// The maximum number of one tenant's groups whose probed code is made at the same time.
const MAKING_PER_TENANT_MAX: usize = 1;

/// The maximum number of groups that wait until their probed code is made. The next sampled request of a further group
/// requests the code again.
const WAITING_MAX: usize = 256;

/// The maximum number of one tenant's groups that wait.
const WAITING_PER_TENANT_MAX: usize = 32;

/// What all revisions of a process share: the limits of making probed code, and the groups that have it.
pub(crate) struct ProbeSupply {
    engine: Engine,
    cache: CodeCache,
    runtime: tokio::runtime::Handle,
    semaphore: FairSemaphore,
    groups: ProbedGroups,
}

/// Supplies the probed code of one revision.
pub(crate) struct RevisionProbes {
    pub(crate) supply: Arc<ProbeSupply>,
    pub(crate) maker: Arc<dyn ProbedCodeMaker>,
    pub(crate) tenant: TenantName,
    /// The name of the app, for the log.
    pub(crate) app: Arc<str>,
    pub(crate) series: Arc<SeriesGroup>,
}

impl ProbeSupply {
    /// Returns a supply for at most `groups_max` groups. Must be called in a tokio runtime.
    pub(crate) fn new(engine: Engine, cache: CodeCache, groups_max: usize) -> Arc<Self> {
        let semaphore = FairSemaphore::new(FairSemaphoreLimits {
            permits: MAKING_MAX,
            of_tenant: MAKING_PER_TENANT_MAX,
            waiting: WAITING_MAX,
            waiting_of_tenant: WAITING_PER_TENANT_MAX,
            slow: 0,
        });
        let runtime = tokio::runtime::Handle::current();
        Arc::new(Self { engine, cache, runtime, semaphore, groups: ProbedGroups::new(groups_max) })
    }
}

impl ProbedCodeSupplier for RevisionProbes {
    fn request(&self, graph: Weak<Graph>, index: usize) {
        let Self { supply, maker, tenant, app, series } = self;
        let Ok(permit) = supply.semaphore.request(tenant) else {
            forget(&graph, index);
            return;
        };
        let (supply, maker, series) = (supply.clone(), maker.clone(), series.clone());
        let (tenant, app) = (tenant.clone(), app.clone());
        self.supply.runtime.clone().spawn(async move {
            let _permit = permit.granted().await;
            // Nothing is made for an app that was evicted or replaced in the meantime.
            if graph.strong_count() == 0 {
                return;
            }
            let made = match maker.make(index).await {
                Ok(Some(made)) => made,
                Ok(None) => return,
                Err(ProbingError::Busy(_)) => return forget(&graph, index),
                Err(error) => return log_failure(&tenant, &app, &chain(&error)),
            };
            let link = move || supply.link(&graph, index, &made, &series);
            let linked = tokio::task::spawn_blocking(link).await;
            if let Ok(Err(reason)) = linked {
                log_failure(&tenant, &app, &reason);
            }
        });
    }
}

impl ProbeSupply {
    /// Maps the code and links it. Blocks.
    fn link(
        &self,
        graph: &Weak<Graph>,
        index: usize,
        made: &ProbedGroup,
        series: &Arc<SeriesGroup>,
    ) -> Result<(), String> {
        let Some(running) = graph.upgrade() else { return Ok(()) };
        let code = self.cache.load(&self.engine, &made.key);
        let code = code.ok_or_else(|| "its compiled code cannot be read".to_owned())?;
        let metadata = &made.metadata;
        let (slots, state_bytes) = (metadata.slots(), metadata.state_bytes());
        let probed = ProbedCode { code, probes: metadata.probes(series), slots, state_bytes };
        running.add_probed_code(index, probed).map_err(|error| chain(&error))?;
        self.groups.add(graph.clone(), index);
        Ok(())
    }
}

/// Makes the group request its probed code again at its next sampled request.
fn forget(graph: &Weak<Graph>, index: usize) {
    if let Some(graph) = graph.upgrade() {
        graph.remove_probed_code(index);
    }
}

fn log_failure(tenant: &TenantName, app: &str, reason: &str) {
    let reason = cut(reason, excerpt::TEXT_BYTES_MAX);
    isomer_telemetry::warn!(%tenant, app, reason, "cannot compile an app with probes, so its traces contain no fused calls");
}
