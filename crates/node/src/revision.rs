//! A revision of an app: its plan, composed and compiled, linked to what it was granted, with its routes.
//!
//! Everything slow happens once per content (see `composition`): a revision whose groups are all there is made without composing
//! anything. Of a shape with several groups, one process runs one or all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use isomer_front::{Site, Target};
use isomer_manifest::{App, ComponentName, Diagnostic, Limits, MONOLITH, Route};
use isomer_plan::{Group as PlannedGroup, Plan, PlanOptions};
use isomer_runtime::code::{CodeCache, CodeError};
use isomer_runtime::engine::{Engine, PoolSizes};
use isomer_runtime::group::GroupError;
use isomer_runtime::{Account, Failure, GivenClockAndRandom, Graph, Group, GroupHandle, GroupSettings, Stub};
use isomer_seam::SeamError;
use isomer_wire::Callee;
use sha2::{Digest as _, Sha256};

use crate::composition::Prepared;
use crate::parts::{Parts, PartsError};
use crate::seams::{self, Answering, Peers};

/// Requests that an instance serves before it is replaced.
const REQUESTS_PER_INSTANCE_MAX: u32 = 10_000;

/// Instances of a group that may live at once, where the engine's pool has room for as many.
const INSTANCES_MAX: u32 = 256;

/// How long an instance lives at most.
const INSTANCE_AGE_MAX: Duration = Duration::from_secs(600);

/// How long the first instance of a group may take to start.
const START_MAX: Duration = Duration::from_secs(30);

/// The components' bytes, by name.
pub type Components = BTreeMap<ComponentName, Arc<[u8]>>;

/// What is being done, for whoever shows progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Working out who runs where.
    Plan,
    /// Putting a group's components together.
    Compose(&'a str),
    /// Compiling a group.
    Compile(&'a str),
    /// Starting a group's first instance.
    Start(&'a str),
}

/// How a revision is made.
#[derive(Clone)]
pub struct RevisionOptions {
    /// The shape that the app takes.
    pub shape: String,
    /// Requests that one instance serves before it is replaced; 1 gives each request a fresh one.
    pub requests_per_instance_max: Option<u32>,
    /// Instances of a group that may live at once; as many as there is room for where absent.
    pub instances_max: Option<u32>,
    /// The group of the shape that this process runs; all where absent.
    pub process: Option<String>,
    /// Who answers for the shape's other groups. Where all run in this process, calls need no peers, and go to them if there are
    /// some.
    pub peers: Peers,
    /// For tests: the time of day and randomness depend on the request's trace and the component alone, and no instance serves
    /// several requests at once. What is random can be predicted then.
    pub given_clock_and_random: bool,
}

impl Default for RevisionOptions {
    /// The monolith, with the platform's own bounds.
    fn default() -> Self {
        Self {
            shape: MONOLITH.to_owned(),
            requests_per_instance_max: None,
            instances_max: None,
            process: None,
            peers: Peers::new(),
            given_clock_and_random: false,
        }
    }
}

/// Why a revision could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevisionError {
    /// A component's bytes are not what they should be.
    #[error("cannot read component `{component}`")]
    Component {
        /// Which.
        component: ComponentName,
        /// Why.
        source: SeamError,
    },
    /// The plan refuses the app. All findings, with their places in the manifest.
    #[error("the app cannot run as it is")]
    Plan(Vec<Diagnostic>),
    /// The shape has no such group.
    #[error("the shape has no group `{process}`; it has {known}")]
    NoProcess {
        /// What was asked for.
        process: String,
        /// Those that there are, in backticks.
        known: String,
    },
    /// A component is called that runs in another process, and nobody answers for that.
    #[error("component `{component}` runs in group `{process}`, and it is not known where that is")]
    NoPeer {
        /// Who is called.
        component: ComponentName,
        /// Where it runs.
        process: String,
    },
    /// The components of a group do not fit together.
    #[error("cannot compose group `{group}`")]
    Compose {
        /// Which.
        group: String,
        /// Why.
        source: SeamError,
    },
    /// The code cache, or the compiler.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The engine could not be set up.
    #[error("cannot set aside address space for the app's instances")]
    Engine {
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A group could not be linked.
    #[error("cannot link group `{group}`")]
    Link {
        /// Which.
        group: String,
        /// Why.
        source: GroupError,
    },
    /// A grant could not be made good.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// The first instance did not start.
    #[error("group `{group}` does not start")]
    Start {
        /// Which.
        group: String,
        /// Why.
        source: Failure,
    },
}

/// Something that can serve.
pub struct Revision {
    /// What was decided.
    pub plan: Plan,
    site: Site,
    answering: Arc<Answering>,
}

/// What a revision is made from.
struct Making<'a> {
    app: &'a App,
    components: &'a Components,
    options: &'a RevisionOptions,
    parts: &'a Parts,
    cache: &'a CodeCache,
    progress: &'a (dyn Fn(Step<'_>) + Sync),
    engine: Engine,
    account: Arc<Account>,
}

impl Revision {
    /// Plans, composes, compiles, links and starts. `progress` is told each step.
    ///
    /// # Errors
    /// At the first step that fails; nothing of the revision is left then.
    pub async fn build(
        app: &App,
        components: &Components,
        options: &RevisionOptions,
        parts: &Parts,
        cache: &CodeCache,
        progress: &(dyn Fn(Step<'_>) + Sync),
    ) -> Result<Self, RevisionError> {
        progress(Step::Plan);
        let plan_options = PlanOptions { given_clock_and_random: options.given_clock_and_random };
        let plan = plan_with(app, components, &options.shape, plan_options)?;
        let groups = groups_of(&plan, options)?;
        let engine = Engine::on_demand().map_err(engine_failed)?;
        let digests = components.iter().map(|(name, bytes)| (name, Sha256::digest(bytes)));
        let digests = digests.collect::<BTreeMap<_, _>>();
        let mut prepared = Vec::new();
        for &group in &groups {
            prepared.push(Prepared::new(group, components, &digests, &engine, cache, progress)?);
        }
        drop(engine);
        let engine = Engine::new(PoolSizes::of_one_app()).map_err(engine_failed)?;
        let account = Account::unlimited();
        let making = Making { app, components, options, parts, cache, progress, engine, account };
        let entrances = seams::entrances(&groups);
        let mut made = Vec::with_capacity(groups.len());
        for one in &prepared {
            let stubs = seams::stubs(app, &plan, one.group, &entrances, &options.peers)?;
            made.push(making.start(one, stubs).await?);
        }
        let graph = Graph::new(identity(&plan, &digests), made);
        let mut site = Site::new();
        for (index, group) in groups.iter().enumerate() {
            add_routes(&mut site, app, group, &graph.group(index));
        }
        Ok(Self { site, answering: Arc::new(Answering { graph, entrances }), plan })
    }

    /// Names this revision: the same in all processes that were given the same components and the same plan.
    pub fn identity(&self) -> isomer_wire::Revision {
        self.answering.graph.revision()
    }

    /// Answers the calls of the shape's other processes, for as long as somebody holds it.
    pub fn callee(&self) -> Arc<dyn Callee> {
        self.answering.clone()
    }

    /// The routes, for the front door.
    pub fn into_site(self) -> (Plan, Site) {
        (self.plan, self.site)
    }
}

/// Works out who runs where. Changes nothing.
///
/// # Errors
/// When a component cannot be read, or the plan refuses the app.
pub fn plan(app: &App, components: &Components, shape: &str) -> Result<Plan, RevisionError> {
    plan_with(app, components, shape, PlanOptions::default())
}

fn plan_with(app: &App, components: &Components, shape: &str, options: PlanOptions) -> Result<Plan, RevisionError> {
    let mut types = BTreeMap::new();
    for (name, bytes) in components {
        let component = isomer_seam::component_type(bytes)
            .map_err(|source| RevisionError::Component { component: name.clone(), source })?;
        types.insert(name.clone(), component);
    }
    isomer_plan::plan_with(app, &types, shape, options).map_err(RevisionError::Plan)
}

pub(crate) fn engine_failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RevisionError {
    RevisionError::Engine { source: source.into() }
}

/// The compositions that this process runs.
fn groups_of<'a>(plan: &'a Plan, options: &RevisionOptions) -> Result<Vec<&'a PlannedGroup>, RevisionError> {
    let Some(process) = &options.process else { return Ok(plan.groups.iter().collect()) };
    let mut processes = plan.processes();
    processes.remove(process.as_str()).ok_or_else(|| {
        let known = processes.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        RevisionError::NoProcess { process: process.clone(), known }
    })
}

/// A hash over what the components are and what was decided about them.
fn identity(plan: &Plan, digests: &BTreeMap<&ComponentName, impl AsRef<[u8]>>) -> isomer_wire::Revision {
    let decided = (&plan.app, &plan.version, &plan.shape, &plan.groups, &plan.seams, &plan.access);
    let mut hasher = Sha256::new();
    hasher.update(serde_json::to_vec(&decided).expect("a plan is plain data"));
    for (name, digest) in digests {
        hasher.update((name.as_str().len() as u64).to_le_bytes());
        hasher.update(name.as_str());
        hasher.update(digest);
    }
    let hash: [u8; 32] = hasher.finalize().into();
    let mut identity = isomer_wire::Revision::default();
    identity.copy_from_slice(&hash[..16]);
    identity
}

impl Making<'_> {
    async fn start(&self, one: &Prepared<'_>, stubs: Vec<Stub>) -> Result<Group, RevisionError> {
        let name = &one.group.name;
        let component = one.code(self.components, &self.engine, self.cache, self.progress)?;
        let handlers = one.note.handlers();
        let skeletons = seams::skeletons(one.group, &one.note);
        let used = !handlers.is_empty() || !skeletons.is_empty();
        let settings = GroupSettings {
            owners: self.parts.owners(self.app, &one.group.components)?,
            sink: self.parts.sink(),
            memory_bytes: memory_bytes(self.app, one.group),
            concurrency: concurrency(self.app, one.group, self.options),
            account: self.account.clone(),
            slots: one.note.slots(),
            instances_max: self.options.instances_max.unwrap_or(INSTANCES_MAX) as usize,
            requests_per_instance_max: self.options.requests_per_instance_max.unwrap_or(REQUESTS_PER_INSTANCE_MAX),
            instance_age_max: INSTANCE_AGE_MAX,
            stubs,
            skeletons,
        };
        let imports = one.note.imports();
        let mut providers = self.parts.providers().to_vec();
        if self.options.given_clock_and_random {
            providers.insert(0, Arc::new(GivenClockAndRandom));
        }
        let group = Group::new(&self.engine, &component, &imports, &handlers, &providers, settings)
            .map_err(|source| RevisionError::Link { group: name.clone(), source })?;
        if used {
            (self.progress)(Step::Start(name));
            group.warm_up(START_MAX).await.map_err(|source| RevisionError::Start { group: name.clone(), source })?;
        }
        Ok(group)
    }
}

/// A fused group's memory is that of the components that take its requests and calls: the largest of their limits.
fn memory_bytes(app: &App, group: &PlannedGroup) -> usize {
    let handlers = group.handlers.iter().map(|handler| &handler.component);
    let entered = handlers.chain(group.skeletons.iter().map(|skeleton| &skeleton.component));
    let limits = entered.filter_map(|component| app.components.get(component));
    let bytes = limits.map(|component| component.limits.memory_bytes()).max();
    usize::try_from(bytes.unwrap_or(Limits::MEMORY_BYTES_DEFAULT)).unwrap_or(usize::MAX)
}

/// An instance serves several requests at once only if all handlers of its group can.
fn concurrency(app: &App, group: &PlannedGroup, options: &RevisionOptions) -> u32 {
    if options.given_clock_and_random {
        return 1;
    }
    let of = |handler: &isomer_plan::Handler| match handler.http {
        isomer_plan::Http::P3 => app.components.get(&handler.component).map_or(1, |component| component.concurrency),
        isomer_plan::Http::P2 => 1,
    };
    group.handlers.iter().map(of).min().unwrap_or(1)
}

fn add_routes(site: &mut Site, app: &App, planned: &PlannedGroup, group: &GroupHandle) {
    for (index, handler) in planned.handlers.iter().enumerate() {
        let Some(component) = app.components.get(&handler.component) else { continue };
        let target = Target {
            group: group.clone(),
            handler: index,
            component: handler.component.as_str().into(),
            deadline: component.limits.request_deadline(),
            body_bytes_max: component.limits.body_bytes(),
        };
        for route in &handler.routes {
            match route {
                Route::Exact(path) => site.exact(path.clone(), target.clone()),
                Route::Prefix(path) => site.prefix(path.clone(), target.clone()),
            }
        }
    }
}
