//! Makes and links probed code when a group requests it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use isomer_diagnostics::chain;
use isomer_display::excerpt::{self, cut};
use isomer_ids::{PlanDigest, TenantName};
use isomer_runtime::code::CodeSource;
use isomer_runtime::engine::Engine;
use isomer_runtime::{Graph, LinkedProbedCode, ProbedCode, ProbedCodeSupplier};
use isomer_telemetry::metrics::SeriesGroup;

use super::failures::Failures;
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

/// The time limit for starting the first instance of probed code, as for the first instance of plain code.
const START_MAX: Duration = Duration::from_secs(30);

/// A group of a tenant's app: the tenant, the app, the plan of its revision, and the index of the group. The plan includes
/// the digests of the components.
type GroupKey = (TenantName, Arc<str>, PlanDigest, usize);

/// What all revisions of a process share: the limits of making probed code, and the groups that have it.
pub(crate) struct ProbeSupply {
    engine: Engine,
    cache: CodeSource,
    runtime: tokio::runtime::Handle,
    semaphore: FairSemaphore,
    groups: ProbedGroups,
    failures: Failures<GroupKey>,
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
    pub(crate) fn new(engine: Engine, cache: CodeSource, groups_max: usize) -> Arc<Self> {
        let semaphore = FairSemaphore::new(FairSemaphoreLimits {
            permits: MAKING_MAX,
            of_tenant: MAKING_PER_TENANT_MAX,
            waiting: WAITING_MAX,
            waiting_of_tenant: WAITING_PER_TENANT_MAX,
            slow: 0,
        });
        let runtime = tokio::runtime::Handle::current();
        let (groups, failures) = (ProbedGroups::new(groups_max), Failures::default());
        Arc::new(Self { engine, cache, runtime, semaphore, groups, failures })
    }
}

impl ProbedCodeSupplier for RevisionProbes {
    fn request(&self, graph: Weak<Graph>, index: usize) {
        let Self { supply, maker, tenant, app, series } = self;
        let Some(plan) = graph.upgrade().map(|graph| graph.plan()) else { return };
        let key: GroupKey = (tenant.clone(), app.clone(), plan, index);
        let is_paused = supply.failures.is_paused(&key, Instant::now());
        let Some(permit) = supply.semaphore.request(tenant).ok().filter(|_| !is_paused) else {
            forget(&graph, index);
            return;
        };
        let (supply, maker, series) = (supply.clone(), maker.clone(), series.clone());
        self.supply.runtime.clone().spawn(async move {
            let _permit = permit.granted().await;
            // Nothing is made for an app that was evicted or replaced in the meantime.
            if graph.strong_count() == 0 {
                return;
            }
            let reason = match maker.make(index).await {
                Ok(Some(made)) => supply.add(&key, &graph, made, series).await.err(),
                Ok(None) => None,
                Err(ProbingError::Busy(_)) => return forget(&graph, index),
                Err(error) => Some(chain(&error)),
            };
            if let Some(reason) = reason {
                let (tenant, app, ..) = &key;
                log_failure(tenant, app, &reason);
                supply.failures.add(key, Instant::now());
                forget(&graph, index);
            }
        });
    }
}

impl ProbeSupply {
    /// Adds probed code to its group, after the code has been linked and has started.
    ///
    /// # Errors
    /// The reason for which the code cannot be used.
    async fn add(
        self: &Arc<Self>,
        (tenant, _, _, index): &GroupKey,
        graph: &Weak<Graph>,
        made: ProbedGroup,
        series: Arc<SeriesGroup>,
    ) -> Result<(), String> {
        let Some(running) = graph.upgrade() else { return Ok(()) };
        let (supply, linking, index) = (self.clone(), running.clone(), *index);
        let link = move || supply.link(&linking, index, &made, &series);
        let linked = tokio::task::spawn_blocking(link).await.map_err(|_| "linking it failed".to_owned())?;
        if let Some(code) = linked? {
            running.start_probed_code(index, code, START_MAX).await.map_err(|failure| chain(&failure))?;
            self.groups.add(tenant.clone(), graph.clone(), index);
        }
        Ok(())
    }

    /// Maps the code and links it. Blocks.
    fn link(
        &self,
        graph: &Graph,
        index: usize,
        made: &ProbedGroup,
        series: &Arc<SeriesGroup>,
    ) -> Result<Option<LinkedProbedCode>, String> {
        let code = self.cache.load(&self.engine, &made.key);
        let code = code.ok_or_else(|| "its compiled code cannot be read".to_owned())?;
        let metadata = &made.metadata;
        let (slots, state_bytes) = (metadata.slots(), metadata.state_bytes());
        let probed = ProbedCode { code, probes: metadata.probes(series), slots, state_bytes };
        graph.link_probed_code(index, probed).map_err(|error| chain(&error))
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
    isomer_telemetry::warn!(%tenant, app, reason, "cannot run an app with probes, so its traces contain no fused calls");
}
