//! A group: one (composed) component, linked, with its pool of instances. What the front door calls.

mod linker;
mod stub;

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_telemetry::EventSink;
use isomer_wire::CallFailure;
use wasmtime::component::Component;

pub use self::linker::LinkError;
use self::linker::linker;
pub use self::stub::{Destination, Stub, Target};
use crate::code::Code;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::folders::GrantedFolders;
use crate::guest::{CallableGroups, Denials, GroupTemplate, OwnerSettings, RequestScope, TimeLimit};
use crate::instance::{DispatchExport, HandlerExport, InstanceMaker, Skeleton, skeleton_functions};
use crate::pool::bounds::STACK_RESIDENT_BYTES;
use crate::pool::{Account, Slots};
use crate::serve::{ExclusiveInstances, PoolLimits, Request, ResponseBody, SharedInstances};
use crate::wasi::{Import, Provider};

/// An exported HTTP handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// The name of the exported interface in the (composed) component.
    pub export: String,
    /// The interface's id: `wasi:http/handler@0.3…` or `wasi:http/incoming-handler@0.2…`.
    pub interface: String,
}

/// What a group is made of.
pub struct GroupSettings {
    /// Its components, in any order.
    pub owners: Vec<OwnerSettings>,
    /// Where their output goes.
    pub sink: Arc<dyn EventSink>,
    /// Who pays for its instances.
    pub account: Arc<Account>,
    /// What one instance takes of the engine's pool. Memories and tables are what the code itself says.
    pub slots: Slots,
    /// Bytes that the engine needs on the host's heap for one instance: [`Footprint::state_bytes`](crate::engine::Footprint).
    pub state_bytes: usize,
    /// Bytes of memory of one instance, all components together.
    pub memory_bytes: usize,
    /// Requests that one instance may serve at once. Only handlers of WASI 0.3 can serve more than one.
    pub concurrency: u32,
    /// Live instances, where the engine's pool has room for as many.
    pub instances_max: usize,
    /// Requests that one instance may serve before it is replaced.
    pub requests_per_instance_max: u32,
    /// How long an instance may live.
    pub instance_age_max: Duration,
    /// Those of its components that call across seams.
    pub stubs: Vec<Stub>,
    /// Those of its components that are called from outside.
    pub skeletons: Vec<Skeleton>,
}

/// How long a request may wait for an instance when all are busy.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What an instance takes of the host whatever it does, beside the engine's own data about it: its store, a stack as deep as usual, what
/// it keeps resident of returned memory.
const INSTANCE_BYTES: usize = 64 << 10;

/// What the host holds for an instance that takes `slots`. Each of its components may wait deep in its code, and then has a stack of its
/// own; the one stack more, on which results are lowered meanwhile, counts as deep as usual.
fn instance_bytes(slots: Slots, state_bytes: usize) -> usize {
    let stacks = slots.stacks.saturating_sub(1) as usize;
    INSTANCE_BYTES + state_bytes + stacks * STACK_RESIDENT_BYTES
}

/// Why a group could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// An import is met by nothing, or cannot be defined.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// One instance would be a good part of the pool, or more than all of it.
    #[error(
        "an instance of the group takes {} memories, {} tables and {} stacks; that is more than one may have",
        slots.memories, slots.tables, slots.stacks
    )]
    TooLarge {
        /// What it takes.
        slots: Slots,
    },
    /// What an instance takes depends on what it is given.
    #[error("the group's component imports a core module: build what it needs into the component")]
    ImportsModule,
    /// The component needs something else than what it was linked with.
    #[error("cannot link the group's component")]
    Prepare {
        /// What wasmtime said.
        source: wasmtime::Error,
    },
    /// It has no such export.
    #[error("the group's component has no export `{export}` with the functions `call` and `call-async`")]
    NoSkeleton {
        /// The export's name.
        export: String,
    },
    /// It has no such export.
    #[error("the group's component has no export `{export}` with a function `handle`")]
    NoHandler {
        /// The export's name.
        export: String,
    },
}

/// A group that can serve requests and calls. It does so as part of a [`Graph`](crate::Graph).
pub struct Group {
    requests: Instances,
    /// Where calls are served; none where the group has no skeleton.
    calls: Option<Arc<ExclusiveInstances>>,
    account: Arc<Account>,
}

enum Instances {
    /// A request has an instance for itself.
    ExclusiveInstances(Arc<ExclusiveInstances>),
    /// Several requests share one.
    Shared(Arc<SharedInstances>),
}

impl Group {
    /// Links a component and prepares its pool. Nothing runs yet.
    ///
    /// # Errors
    /// When an import is met by nothing, or a handler or a skeleton is missing.
    pub(crate) fn link<G: CallableGroups>(
        engine: &Engine,
        code: &Code,
        imports: &[Import],
        handlers: &[Handler],
        providers: &[Arc<dyn Provider>],
        settings: GroupSettings,
    ) -> Result<Self, GroupError> {
        let GroupSettings { stubs, skeletons, account, slots, .. } = settings;
        let component = code.component();
        let slots = slots.of_compiled(component).ok_or(GroupError::ImportsModule)?;
        let room = engine.room().instances_of_group(slots, &account);
        if !slots.fits() || room == 0 {
            return Err(GroupError::TooLarge { slots });
        }
        let instances_max = settings.instances_max.clamp(1, room as usize);
        let names = settings.owners.iter().map(|owner| owner.component.clone()).collect::<Vec<_>>();
        let calls = !stubs.is_empty();
        let linker = linker::<G>(engine, imports, &names, providers, stubs)?;
        let pre = linker.instantiate_pre(component).map_err(|source| GroupError::Prepare { source })?;
        let handlers = handlers.iter().map(|handler| find_handler(component, handler));
        let dispatches = skeletons.iter().map(|skeleton| {
            let missing = || GroupError::NoSkeleton { export: skeleton.export.clone() };
            DispatchExport::find(component, &skeleton.export).ok_or_else(missing)
        });
        let maker = Arc::new(InstanceMaker {
            engine: engine.clone(),
            _code: code.clone(),
            slots,
            pre,
            handlers: handlers.collect::<Result<_, _>>()?,
            dispatches: dispatches.collect::<Result<_, _>>()?,
            calls,
            template: Arc::new(GroupTemplate {
                owners: settings.owners.into(),
                folders: GrantedFolders::default(),
                denials: Denials::new(settings.sink.clone()),
                sink: settings.sink,
                account: account.clone(),
                beside: settings.concurrency.saturating_sub(1) as usize,
            }),
            memory_bytes: settings.memory_bytes,
            host_bytes: instance_bytes(slots, settings.state_bytes),
        });
        let limits = |concurrency: u32| PoolLimits {
            instances_max,
            waiting_max: instances_max.saturating_mul(concurrency as usize),
            wait_max: WAIT_MAX,
            requests_max: settings.requests_per_instance_max,
            age_max: settings.instance_age_max,
        };
        let called = !skeletons.is_empty();
        let skeleton_functions = skeleton_functions(&skeletons);
        Ok(if settings.concurrency > 1 {
            let limits_shared = limits(settings.concurrency);
            let shared = SharedInstances::new(maker.clone(), limits_shared, settings.concurrency);
            let calls = called.then(|| Arc::new(ExclusiveInstances::new(maker, skeleton_functions, limits(1))));
            Self { requests: Instances::Shared(shared), calls, account }
        } else {
            let alone = Arc::new(ExclusiveInstances::new(maker, skeleton_functions, limits(1)));
            Self { calls: called.then(|| alone.clone()), requests: Instances::ExclusiveInstances(alone), account }
        })
    }

    /// The pools whose instances serve one thing at a time.
    fn alone(&self) -> impl Iterator<Item = &Arc<ExclusiveInstances>> {
        let requests = match &self.requests {
            Instances::ExclusiveInstances(alone) => Some(alone),
            Instances::Shared(_) => self.calls.as_ref(),
        };
        requests.into_iter()
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Makes one instance ahead of the first request and keeps it.
    ///
    /// # Errors
    /// When it cannot be made: then no request could be served either.
    pub async fn warm_up(&self, allowed: Duration) -> Result<(), Failure> {
        for alone in self.alone() {
            alone.warm_up(Instant::now() + allowed).await?;
        }
        Ok(())
    }

    pub(crate) async fn handle(
        &self,
        groups: Arc<dyn CallableGroups>,
        request: Request,
    ) -> Result<http::Response<ResponseBody>, Failure> {
        match &self.requests {
            Instances::ExclusiveInstances(alone) => alone.clone().handle(groups, request).await,
            Instances::Shared(shared) => shared.clone().handle(groups, request).await,
        }
    }

    pub(crate) async fn call(
        &self,
        function: usize,
        scope: Arc<RequestScope>,
        until: TimeLimit,
        image: &[u8],
    ) -> Result<Vec<u8>, CallFailure> {
        match &self.calls {
            Some(calls) => calls.call(function, scope, until, image).await,
            None => Err(CallFailure::refused("nothing in this group can be called")),
        }
    }
}

fn find_handler(component: &Component, handler: &Handler) -> Result<HandlerExport, GroupError> {
    let missing = || GroupError::NoHandler { export: handler.export.clone() };
    let instance = component.get_export_index(None, &handler.export).ok_or_else(missing)?;
    let function = component.get_export_index(Some(&instance), "handle").ok_or_else(missing)?;
    Ok(if handler.interface.starts_with("wasi:http/incoming-handler@0.2") {
        HandlerExport::P2(function)
    } else {
        HandlerExport::P3(function)
    })
}
