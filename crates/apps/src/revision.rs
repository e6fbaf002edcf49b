//! A started revision. It consists of the app's routes, and of the package's code, which is mapped and linked to the
//! capabilities that the app was granted.
//!
//! Starting is fast, because planning, composing and compiling were done when the [`Package`] was made.

use std::sync::Arc;
use std::time::Duration;

use isomer_front::gateway::AppGateway;
use isomer_front::{RouteTarget, SiteOwner, StreamLimits};
use isomer_manifest::Route;
use isomer_runtime::code::CodeSource;
use isomer_runtime::engine::{Engine, PoolSizes};
use isomer_runtime::{Account, DeterministicClockAndRandom, Graph, Group, GroupHandle, GroupSettings, SeamStub};
use isomer_telemetry::Tracer;
use isomer_telemetry::metrics::{InstanceMetrics, MetricValue, SeriesGroup, Snapshot, catalog};
use isomer_wire::Callee;

use crate::app_capabilities::AppCapabilities;
use crate::error::RevisionError;
use crate::group_handler::{AppSite, GroupHandler};
use crate::package::{Package, PackedGroup};
use crate::probing::RevisionProbes;
use crate::progress::Progress;
use crate::seams::{self, LocalCallee, Peers};
use crate::tab_site::TabSite;
use crate::web_files;
use crate::web_files_error::WebFilesError;

/// The default number of requests that an instance serves before it is replaced.
const REQUESTS_PER_INSTANCE_MAX: u32 = 10_000;

/// The default maximum number of live instances of a group. The maximum is lower if the engine's pool has no room for
/// this number.
const INSTANCES_MAX: u32 = 256;

/// The age at which an instance is replaced.
const INSTANCE_AGE_MAX: Duration = Duration::from_secs(600);

/// The time limit for starting the first instance of a group.
const START_MAX: Duration = Duration::from_secs(30);

/// The options for starting a package.
#[derive(Clone)]
pub struct StartOptions {
    /// The number of requests that one instance serves before it is replaced; with 1, each request gets a new instance.
    /// `None` uses the number in the manifest or the default.
    pub requests_per_instance_max: Option<u32>,
    /// The maximum number of live instances of a group; `None` for the default. The maximum is lower if the engine's
    /// pool has no room for this number.
    pub instances_max: Option<u32>,
    /// The maximum duration of a request, even if the manifest allows more.
    pub deadline_max: Duration,
    /// The maximum duration of a stream of server-sent events, even if the manifest allows more.
    pub stream_max: Duration,
    /// The callees in the shape's other processes, by group. May be empty if all groups run in this process. The calls
    /// of a remote seam go to the entry for the callee's group, if there is one, even if the group also runs in this
    /// process.
    pub peers: Peers,
    /// The account that the guests are charged to.
    pub account: Arc<Account>,
    /// The owner of the app's site: the app and its logs. `None` if the app is the only app of a process.
    pub owner: Option<SiteOwner>,
    /// Records the spans of the app's requests, and of calls from other processes.
    pub tracer: Tracer,
    /// The series in which the app's requests, calls and instances are measured.
    pub series: Arc<SeriesGroup>,
    /// Makes the groups' probed code, which sampled requests run. `None` if all requests run the plain code.
    pub(crate) probes: Option<ProbeOptions>,
    /// The gateway of the app, which serves tabs if the package has a browser group.
    pub gateway: Option<Arc<AppGateway>>,
    /// Whether to start the first instance of each group now. If `false`, the first request starts the instance, and
    /// fails if the instance does not start.
    pub warm_up: bool,
}

impl Default for StartOptions {
    /// Returns options that add no limits to those of the manifest and the platform, with an account without limits.
    fn default() -> Self {
        Self {
            requests_per_instance_max: None,
            instances_max: None,
            deadline_max: Duration::MAX,
            stream_max: Duration::MAX,
            peers: Peers::new(),
            account: Account::unlimited(),
            owner: None,
            tracer: Tracer::default(),
            series: Arc::default(),
            probes: None,
            gateway: None,
            warm_up: true,
        }
    }
}

/// How a revision gets its probed code.
#[derive(Clone)]
pub(crate) struct ProbeOptions {
    pub(crate) supplier: Arc<RevisionProbes>,
    /// Whether to make the code when the revision has started, because most requests will be sampled. If `false`, the
    /// first sampled request makes it.
    pub(crate) is_expected: bool,
}

/// A revision that can serve requests and calls.
pub struct Revision {
    site: Arc<AppSite>,
    local_callee: Arc<LocalCallee>,
    series: Arc<SeriesGroup>,
    /// The names of the groups, in the order of the groups in `graph`.
    groups: Box<[Arc<str>]>,
}

/// Starts the groups of a package. Contains the values that are the same for all groups.
struct GroupStarter<'a> {
    package: &'a Package,
    engine: &'a Engine,
    cache: &'a CodeSource,
    parts: &'a AppCapabilities,
    options: &'a StartOptions,
    progress: &'a (dyn Fn(Progress<'_>) + Sync),
    /// For tests: the deterministic clock and randomness. All groups of the process share this value, because it counts
    /// the calls of each component.
    clock_and_random: DeterministicClockAndRandom,
}

impl Revision {
    /// Maps the package's code, links the groups to the capabilities in `parts`, and starts the groups. `parts` must
    /// contain the capabilities of [`Package::grants`]. Calls `progress` at each step.
    ///
    /// # Errors
    /// If code is missing, if a group cannot be linked, or if an instance does not start. Groups that were already
    /// started are then shut down.
    pub async fn start(
        package: &Package,
        engine: &Engine,
        cache: &CodeSource,
        parts: &AppCapabilities,
        options: &StartOptions,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Self, RevisionError> {
        let clock_and_random = DeterministicClockAndRandom::default();
        let starting = GroupStarter { package, engine, cache, parts, options, progress, clock_and_random };
        let functions = seams::local_functions(&package.groups);
        let mut made = Vec::with_capacity(package.groups.len());
        for packed in &package.groups {
            let stubs = seams::stubs(packed, &functions, &options.peers, options.deadline_max, &options.series)?;
            made.push(starting.group(packed, stubs).await?);
        }
        let graph = Graph::new(package.plan_digest(), made, options.tracer.clone());
        if let Some(ProbeOptions { supplier, is_expected }) = &options.probes {
            graph.set_probed_code_supplier(supplier.clone());
            if *is_expected {
                graph.request_probed_code();
            }
        }
        let mut site = AppSite::new().counted_in(graph.in_flight().clone()).traced_by(options.tracer.clone());
        site = site.measured_in(options.series.clone());
        if let Some(owner) = &options.owner {
            site = site.owned_by(owner.clone());
        }
        for (index, packed) in package.groups.iter().enumerate() {
            add_routes(&mut site, packed, &graph.group(index), options);
        }
        let groups = package.groups.iter().map(|packed| packed.name.as_str().into()).collect();
        let local_callee = Arc::new(LocalCallee { graph, functions });
        if let (Some(tabs), Some(gateway), false) = (&package.tabs, &options.gateway, package.groups.is_empty()) {
            let (cache, key, account) = (cache.clone(), tabs.files.clone(), options.account.clone());
            let loaded = tokio::task::spawn_blocking(move || web_files::load(&cache, &key, &account)).await;
            let loaded = loaded.unwrap_or(Err(WebFilesError::Missing));
            let loaded = loaded.map_err(|source| RevisionError::WebFiles { group: tabs.group.clone(), source })?;
            let group = local_callee.graph.group(0);
            let (peers, deadline_max) = (&options.peers, options.deadline_max);
            let tab_site = TabSite { tabs, gateway, local: &local_callee, group: &group, peers, deadline_max };
            site = tab_site.serving_tabs(site, loaded)?;
        }
        Ok(Self { site: Arc::new(site), local_callee, series: options.series.clone(), groups })
    }

    /// Returns the digest of the plan, which is equal in all processes with the same components and the same plan.
    pub fn plan_digest(&self) -> isomer_ids::PlanDigest {
        self.local_callee.graph.plan()
    }

    /// Returns the callee for calls from other processes of the shape. The revision runs until the callee is dropped.
    pub fn callee(&self) -> Arc<dyn Callee> {
        self.local_callee.clone()
    }

    /// Returns the routes of the revision for the front door.
    pub fn site(&self) -> &Arc<AppSite> {
        &self.site
    }

    /// Returns the groups. While a request or call is in flight, it holds a reference, so the groups are not dropped.
    pub(crate) fn graph(&self) -> &Arc<Graph> {
        &self.local_callee.graph
    }

    /// Adds the numbers of instances to a snapshot of metrics.
    pub(crate) fn collect_metrics(&self, snapshot: &mut Snapshot) {
        if self.series.labels().is_empty() {
            return;
        }
        for (name, counts) in self.groups.iter().zip(self.graph().instance_counts()) {
            let labels: Vec<_> = self.series.labels().iter().chain([name]).cloned().collect();
            for (metric, number) in [
                (&catalog::INSTANCES_LIVE, counts.live),
                (&catalog::INSTANCES_IDLE, counts.idle),
                (&catalog::INSTANCES_WAITING, counts.waiting),
            ] {
                snapshot.push(metric, labels.clone(), MetricValue::integer(number as u64));
            }
        }
    }

    /// Returns whether requests or calls are in flight. A request is in flight from the time at which its site was
    /// found until its guest has finished and the response body has ended. An instance that may serve several requests
    /// at the same time counts as busy until it is evicted, even while it is idle.
    pub(crate) fn is_busy(&self) -> bool {
        !self.graph().in_flight().is_idle()
    }
}

/// Creates an engine with a pool of `sizes`, which all apps of a process share. If `source_lines` is true, call stacks
/// name source lines.
///
/// # Errors
/// If the address space of the pool cannot be reserved.
pub fn engine(sizes: PoolSizes, source_lines: bool) -> Result<Engine, RevisionError> {
    let engine = if source_lines { Engine::with_source_lines(sizes) } else { Engine::new(sizes) };
    engine.map_err(|source| RevisionError::Engine { source: source.into() })
}

impl GroupStarter<'_> {
    async fn group(&self, packed: &PackedGroup, stubs: Vec<SeamStub>) -> Result<Group, RevisionError> {
        let name = &packed.name;
        let code = self.cache.load(self.engine, &packed.key);
        let code = code.ok_or_else(|| RevisionError::NoCode { group: name.clone() })?;
        let handlers = packed.note.handlers();
        let skeletons = seams::skeletons(packed);
        let used = !handlers.is_empty() || !skeletons.is_empty();
        let settings = GroupSettings {
            owners: self.parts.owners(self.package.grants(), &packed.components)?,
            sink: self.parts.sink(),
            metrics: InstanceMetrics::new(self.options.series.clone(), name),
            account: self.options.account.clone(),
            slots: packed.note.slots(),
            state_bytes: packed.note.state_bytes(),
            memory_bytes: usize::try_from(packed.memory_bytes).unwrap_or(usize::MAX),
            concurrency: packed.concurrency,
            instances_max: self.options.instances_max.unwrap_or(INSTANCES_MAX) as usize,
            requests_per_instance_max: self
                .options
                .requests_per_instance_max
                .or(packed.reuse)
                .unwrap_or(REQUESTS_PER_INSTANCE_MAX),
            instance_age_max: INSTANCE_AGE_MAX,
            stubs,
            skeletons,
            // Components that are composed into one component are nearly always connected.
            has_fused_seams: self.options.probes.is_some() && packed.components.len() > 1,
        };
        let imports = packed.note.imports();
        let mut providers = self.parts.providers().to_vec();
        if self.package.deterministic {
            providers.insert(0, Arc::new(self.clock_and_random.clone()));
        }
        let group = Group::new(self.engine, &code, &imports, &handlers, &providers, settings)
            .map_err(|source| RevisionError::Link { group: name.clone(), source })?;
        if used && self.options.warm_up {
            (self.progress)(Progress::Start(name));
            group.warm_up(START_MAX).await.map_err(|source| RevisionError::Start { group: name.clone(), source })?;
        }
        Ok(group)
    }
}

fn add_routes(site: &mut AppSite, packed: &PackedGroup, group: &GroupHandle, options: &StartOptions) {
    for (index, handler) in packed.handlers.iter().enumerate() {
        let target = RouteTarget {
            handler: GroupHandler::new(group.clone(), index),
            component: handler.component.as_str().into(),
            deadline: handler.deadline.min(options.deadline_max),
            stream: StreamLimits { max: handler.stream_max.min(options.stream_max), idle_max: handler.stream_idle },
            body_bytes_max: handler.body_bytes_max,
            compress: handler.compress,
        };
        for route in &handler.routes {
            match route {
                Route::Exact(path) => site.exact(path.clone(), target.clone()),
                Route::Prefix(path) => site.prefix(path.clone(), target.clone()),
            }
        }
    }
}
