//! A revision of an app: its plan, composed and compiled, linked to what it was granted, with its routes.
//!
//! Everything slow happens once per content: what a group was composed to and compiled to is kept under a key over its components,
//! the plan's decisions and the engine's settings. A revision whose groups are all there is made without composing anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use isomer_front::{Site, Target};
use isomer_manifest::{App, ComponentName, Diagnostic, Limits, MONOLITH, Route};
use isomer_plan::{Group as PlannedGroup, Plan};
use isomer_runtime::code::{CodeCache, CodeError, Key};
use isomer_runtime::engine::{Engine, PoolSizes, Slots};
use isomer_runtime::group::GroupError;
use isomer_runtime::{Failure, Group, GroupSettings, Handler, Import, Owner};
use isomer_seam::{Composition, SeamError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::parts::{Parts, PartsError};

/// Instances of a group that may live at once, where the address space allows it.
const INSTANCES_MAX: u32 = 256;

/// Fewer than this would make a group useless under any load.
const INSTANCES_MIN: u32 = 16;

/// Memories that the pool of all groups sets address space aside for: 4 GiB each, out of 128 TiB, so that a next revision fits in
/// while this one ends.
const MEMORY_SLOTS_MAX: u32 = 8192;

/// Requests that an instance serves before it is replaced.
const REQUESTS_PER_INSTANCE_MAX: u32 = 10_000;

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
#[derive(Debug, Clone)]
pub struct RevisionOptions {
    /// The shape that the app takes.
    pub shape: String,
    /// Requests that one instance serves before it is replaced; 1 gives each request a fresh one.
    pub requests_per_instance_max: Option<u32>,
    /// Instances of a group that may live at once; as many as there is room for where absent.
    pub instances_max: Option<u32>,
}

impl Default for RevisionOptions {
    /// The monolith, with the platform's own bounds.
    fn default() -> Self {
        Self { shape: MONOLITH.to_owned(), requests_per_instance_max: None, instances_max: None }
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
}

/// What is kept beside a group's compiled code.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct GroupNote {
    imports: Vec<NotedImport>,
    /// Export name and interface, per handler.
    handlers: Vec<(String, String, String)>,
    memories: u32,
    tables: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct NotedImport {
    name: String,
    interface: String,
    shared: bool,
    owners: Vec<String>,
}

/// What a revision is made from.
struct Making<'a> {
    app: &'a App,
    components: &'a Components,
    options: &'a RevisionOptions,
    parts: &'a Parts,
    cache: &'a CodeCache,
    progress: &'a (dyn Fn(Step<'_>) + Sync),
}

/// A group on its way.
struct Prepared<'a> {
    group: &'a PlannedGroup,
    key: Key,
    note: GroupNote,
    /// The composition, unless its code is there already.
    bytes: Option<Vec<u8>>,
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
        let making = Making { app, components, options, parts, cache, progress };
        progress(Step::Plan);
        let plan = plan(app, components, &options.shape)?;
        let engine = Engine::on_demand().map_err(engine_failed)?;
        let digests = components.iter().map(|(name, bytes)| (name, Sha256::digest(bytes)));
        let digests = digests.collect::<BTreeMap<_, _>>();
        let mut prepared = Vec::new();
        for group in &plan.groups {
            prepared.push(making.prepare(group, &digests, &engine)?);
        }
        drop(engine);
        let mut sizes = PoolSizes::default();
        for one in &prepared {
            sizes.add(one.note.slots(), one.note.instances_max(options, plan.groups.len()));
        }
        let engine = Engine::new(sizes).map_err(engine_failed)?;
        let mut site = Site::new();
        for one in prepared {
            let group = making.start(&one, plan.groups.len(), &engine).await?;
            add_routes(&mut site, app, one.group, &group);
        }
        Ok(Self { plan, site })
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
    let mut types = BTreeMap::new();
    for (name, bytes) in components {
        let component = isomer_seam::component_type(bytes)
            .map_err(|source| RevisionError::Component { component: name.clone(), source })?;
        types.insert(name.clone(), component);
    }
    isomer_plan::plan(app, &types, shape).map_err(RevisionError::Plan)
}

fn engine_failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RevisionError {
    RevisionError::Engine { source: source.into() }
}

fn compose(group: &PlannedGroup, components: &Components) -> Result<(GroupNote, Vec<u8>), RevisionError> {
    let composition = isomer_seam::compose(group, components)
        .map_err(|source| RevisionError::Compose { group: group.name.clone(), source })?;
    let Composition { bytes, imports, exports } = composition;
    let slots = Slots::count(&bytes).map_err(engine_failed)?;
    let imports = imports.into_iter().map(|import| {
        let (shared, owners) = match import.owner {
            isomer_seam::Owner::Component(name) => (false, vec![name.to_string()]),
            isomer_seam::Owner::Shared(names) => (true, names.iter().map(ToString::to_string).collect()),
        };
        NotedImport { name: import.name, interface: import.interface, shared, owners }
    });
    let handlers = exports.into_iter().map(|export| (export.name, export.interface, export.component.to_string()));
    let note = GroupNote {
        imports: imports.collect(),
        handlers: handlers.collect(),
        memories: slots.memories,
        tables: slots.tables,
    };
    Ok((note, bytes))
}

impl GroupNote {
    fn slots(&self) -> Slots {
        Slots { memories: self.memories, tables: self.tables }
    }

    /// As many instances as fit into this group's share of the address space, within bounds; fewer where the options say so.
    fn instances_max(&self, options: &RevisionOptions, groups: usize) -> u32 {
        let share = MEMORY_SLOTS_MAX / u32::try_from(groups.max(1)).unwrap_or(u32::MAX);
        let room = (share / self.memories.max(1)).clamp(INSTANCES_MIN, INSTANCES_MAX);
        options.instances_max.map_or(room, |wanted| wanted.clamp(1, room))
    }

    fn imports(&self) -> Vec<Import> {
        let import = |import: &NotedImport| {
            let mut owners = import.owners.iter().map(|name| Arc::<str>::from(name.as_str()));
            let owner = match (import.shared, owners.next()) {
                (false, Some(owner)) => Owner::Component(owner),
                (_, first) => Owner::Shared(first.into_iter().chain(owners).collect()),
            };
            Import { name: import.name.clone(), interface: import.interface.clone(), owner }
        };
        self.imports.iter().map(import).collect()
    }
}

impl Making<'_> {
    fn prepare<'g>(
        &self,
        group: &'g PlannedGroup,
        digests: &BTreeMap<&ComponentName, impl AsRef<[u8]>>,
        engine: &Engine,
    ) -> Result<Prepared<'g>, RevisionError> {
        let decisions = serde_json::to_vec(group).expect("a planned group is plain data");
        let mut ingredients = vec![env!("CARGO_PKG_VERSION").as_bytes(), decisions.as_slice()];
        ingredients.extend(group.components.iter().filter_map(|name| digests.get(name)).map(AsRef::as_ref));
        let key = Key::new(engine, ingredients);
        if let Some(note) = self.cache.note(&key).and_then(|note| serde_json::from_slice(&note).ok()) {
            return Ok(Prepared { group, key, note, bytes: None });
        }
        (self.progress)(Step::Compose(&group.name));
        let (note, bytes) = compose(group, self.components)?;
        Ok(Prepared { group, key, note, bytes: Some(bytes) })
    }

    async fn start(&self, one: &Prepared<'_>, groups: usize, engine: &Engine) -> Result<Arc<Group>, RevisionError> {
        let name = &one.group.name;
        let component = match self.cache.load(engine, &one.key) {
            Some(component) => component,
            None => {
                // A note without its code was cut off, or cleaned up: put together again what was not.
                let composed = match &one.bytes {
                    Some(bytes) => bytes,
                    None => &compose(one.group, self.components)?.1,
                };
                (self.progress)(Step::Compile(name));
                let note = serde_json::to_vec(&one.note).expect("a note is plain data");
                self.cache.compile(engine, &one.key, composed, &note)?
            }
        };
        let handlers = one.note.handlers.iter();
        let handlers =
            handlers.map(|(export, interface, _)| Handler { export: export.clone(), interface: interface.clone() });
        let settings = GroupSettings {
            owners: self.parts.owners(self.app, &one.group.components)?,
            sink: self.parts.sink(),
            memory_bytes: memory_bytes(self.app, one.group),
            concurrency: concurrency(self.app, one.group),
            instances_max: one.note.instances_max(self.options, groups) as usize,
            requests_per_instance_max: self.options.requests_per_instance_max.unwrap_or(REQUESTS_PER_INSTANCE_MAX),
            instance_age_max: INSTANCE_AGE_MAX,
        };
        let handlers = handlers.collect::<Vec<_>>();
        let group = Group::new(engine, &component, &one.note.imports(), &handlers, self.parts.providers(), settings)
            .map_err(|source| RevisionError::Link { group: name.clone(), source })?;
        if !handlers.is_empty() {
            (self.progress)(Step::Start(name));
            group.warm_up(START_MAX).await.map_err(|source| RevisionError::Start { group: name.clone(), source })?;
        }
        group.start_sweeper();
        Ok(Arc::new(group))
    }
}

/// A fused group's memory is that of the components that take its requests: the largest of their limits.
fn memory_bytes(app: &App, group: &PlannedGroup) -> usize {
    let limits = group.handlers.iter().filter_map(|handler| app.components.get(&handler.component));
    let bytes = limits.map(|component| component.limits.memory_bytes()).max();
    usize::try_from(bytes.unwrap_or(Limits::MEMORY_BYTES_DEFAULT)).unwrap_or(usize::MAX)
}

/// An instance serves several requests at once only if all handlers of its group can.
fn concurrency(app: &App, group: &PlannedGroup) -> u32 {
    let of = |handler: &isomer_plan::Handler| match handler.http {
        isomer_plan::Http::P3 => app.components.get(&handler.component).map_or(1, |component| component.concurrency),
        isomer_plan::Http::P2 => 1,
    };
    group.handlers.iter().map(of).min().unwrap_or(1)
}

fn add_routes(site: &mut Site, app: &App, planned: &PlannedGroup, group: &Arc<Group>) {
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
