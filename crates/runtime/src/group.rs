//! A group: one component (often a composition of several), linked with host functions, and its pool of instances. It
//! serves requests and calls.

mod linker;
mod probed;
mod stub;

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_telemetry::metrics::InstanceMetrics;
use isomer_telemetry::{EventSink, SpanKind, SpanTemplate, semantics};
use isomer_wire::CallFailure;
use wasmtime::component::{Component, Linker};

pub use self::linker::LinkerError;
use self::linker::linker;
use self::probed::ProbingInputs;
pub use self::probed::{LinkedProbedCode, ProbedCode};
pub use self::stub::{SeamCallee, SeamStub, SeamTarget};
use crate::code::Code;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::folders::GrantedFolders;
use crate::guest::{
    CallableGroups, Denials, GroupTemplate, GroupsInUse, Guest, OwnerSettings, RequestScope, TimeLimit,
};
use crate::instance::{
    DispatchExport, HandlerIndex, InstanceMaker, LinkedCode, ProbedVariant, Skeleton, skeleton_functions,
};
use crate::pool::bounds::STACK_RESIDENT_BYTES;
use crate::pool::{Account, Slots};
use crate::serve::{ExclusiveInstances, GuestRequest, InstanceCounts, PoolLimits, ResponseBody, SharedInstances};
use crate::wasi::{Import, Provider};

/// The exported HTTP handler of a group's component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpHandlerExport {
    /// The name of the exported interface in the group's component.
    pub export: String,
    /// The standard id of the interface: `wasi:http/handler@0.3…` or `wasi:http/incoming-handler@0.2…`.
    pub interface: String,
}

/// The components and the settings of a group.
pub struct GroupSettings {
    /// The group's components, in any order.
    pub owners: Vec<OwnerSettings>,
    /// Receives the components' output and failures.
    pub sink: Arc<dyn EventSink>,
    /// The metrics of the group's instances.
    pub metrics: Arc<InstanceMetrics>,
    /// The account that the group's instances are charged to.
    pub account: Arc<Account>,
    /// The slots of the engine's pool that one instance takes. Only the number of stacks is used: the numbers of
    /// memories and tables are read from the compiled code.
    pub slots: Slots,
    /// The number of bytes on the host's heap that the engine needs for one instance:
    /// [`Footprint::state_bytes`](crate::engine::Footprint).
    pub state_bytes: usize,
    /// The memory limit of one instance in bytes, for all its components together.
    pub memory_bytes: usize,
    /// The maximum number of requests that one instance serves at the same time. Only handlers of WASI 0.3 can serve
    /// more than one.
    pub concurrency: u32,
    /// The maximum number of live instances of the group. The engine's pool may have room for fewer.
    pub instances_max: usize,
    /// The number of requests after which an instance is replaced by a new one.
    pub requests_per_instance_max: u32,
    /// The age at which an instance is replaced by a new one.
    pub instance_age_max: Duration,
    /// The stubs of the components that make calls across seams.
    pub stubs: Vec<SeamStub>,
    /// The skeletons of the components that receive calls from outside of the group.
    pub skeletons: Vec<Skeleton>,
    /// Whether the group can get probed code later, because its components call each other over fused seams.
    pub has_fused_seams: bool,
}

/// The maximum time that a request waits for an instance when all instances are busy.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The host memory of an instance in bytes, in addition to the engine's data about the instance: its wasmtime store,
/// one stack of usual depth, and the part of its slots that stays resident after the slots are returned to the pool.
const INSTANCE_BYTES: usize = 64 << 10;

/// Returns the bytes of host memory that an instance with `slots` takes. All stacks but one are counted at full depth,
/// because each component of the instance may be suspended in a deep call. The remaining stack is the one on which
/// results are lowered; it is counted in [`INSTANCE_BYTES`], at the usual depth.
fn instance_bytes(slots: Slots, state_bytes: usize) -> usize {
    let stacks = slots.stacks.saturating_sub(1) as usize;
    INSTANCE_BYTES + state_bytes + stacks * STACK_RESIDENT_BYTES
}

/// The reasons why a group cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// An import has no provider, or cannot be defined in the linker.
    #[error(transparent)]
    Link(#[from] LinkerError),
    /// One instance would take too many of the pool's slots.
    #[error(
        "an instance of the group takes {} memories, {} tables and {} stacks; that is more than one instance may take",
        slots.memories, slots.tables, slots.stacks
    )]
    TooLarge {
        /// The slots that the instance would take.
        slots: Slots,
    },
    /// The component imports a core module. The size of its instances would depend on the supplied module, but must be
    /// known in advance.
    #[error("the group's component imports a core module: build the module into the component")]
    ImportsModule,
    /// The types of the component's imports do not match the definitions in the linker.
    #[error("cannot link the group's component")]
    Prepare {
        /// The error that wasmtime returned.
        source: wasmtime::Error,
    },
    /// The component has no export for a skeleton.
    #[error("the group's component has no export `{export}` with the functions `call` and `call-async`")]
    NoSkeleton {
        /// The name of the missing export.
        export: String,
    },
    /// The component has no export for the handler.
    #[error("the group's component has no export `{export}` with a function `handle`")]
    NoHandler {
        /// The name of the missing export.
        export: String,
    },
}

/// A group that is ready to serve requests and calls, as part of a [`Graph`](crate::Graph).
pub struct Group {
    requests: Instances,
    /// The pool of instances that serve calls; `None` if the group has no skeleton.
    calls: Option<Arc<ExclusiveInstances>>,
    account: Arc<Account>,
    maker: Arc<InstanceMaker>,
    /// The inputs for linking probed code; `None` if the group has no fused seams.
    probing: Option<Box<ProbingInputs>>,
}

enum Instances {
    /// Each instance serves one request at a time.
    Exclusive(Arc<ExclusiveInstances>),
    /// An instance serves several requests at a time.
    Shared(Arc<SharedInstances>),
}

impl Group {
    /// Links the group's component and prepares its instance pool. Does not run guest code. `G` is the type of the
    /// graph that the group will be part of.
    ///
    /// # Errors
    /// If the component has an import that no provider implements, or lacks the export of a handler or of a skeleton.
    pub(crate) fn link<G: CallableGroups>(
        engine: &Engine,
        code: &Code,
        imports: &[Import],
        handlers: &[HttpHandlerExport],
        providers: &[Arc<dyn Provider>],
        settings: GroupSettings,
    ) -> Result<Self, GroupError> {
        let GroupSettings { stubs, skeletons, account, slots, state_bytes, .. } = settings;
        let (slots, room) = fitting(engine, code, slots, &account)?;
        let instances_max = settings.instances_max.clamp(1, room as usize);
        let names = settings.owners.iter().map(|owner| owner.component.clone()).collect::<Vec<_>>();
        let calls = !stubs.is_empty();
        let probing = settings
            .has_fused_seams
            .then(|| Box::new(ProbingInputs::new(imports, handlers, providers, &stubs, &skeletons)));
        let linker = linker::<G>(engine, imports, &names, providers, stubs)?;
        let exports = skeletons.iter().map(|skeleton| skeleton.export.as_str());
        let maker = Arc::new(InstanceMaker {
            engine: engine.clone(),
            plain: linked(code, &linker, handlers, exports, (slots, state_bytes))?,
            probed: ProbedVariant::default(),
            calls,
            has_fused_seams: settings.has_fused_seams,
            template: Arc::new(GroupTemplate {
                owners: settings.owners.into(),
                folders: GrantedFolders::default(),
                denials: Denials::new(settings.sink.clone()),
                sink: settings.sink,
                account: account.clone(),
                concurrent_others: settings.concurrency.saturating_sub(1) as usize,
            }),
            memory_bytes: settings.memory_bytes,
            span: Arc::new(start_span(&names)),
            metrics: settings.metrics,
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
            let exclusive = || Arc::new(ExclusiveInstances::new(maker.clone(), skeleton_functions, limits(1)));
            let calls = called.then(exclusive);
            Self { requests: Instances::Shared(shared), calls, account, maker, probing }
        } else {
            let exclusive = Arc::new(ExclusiveInstances::new(maker.clone(), skeleton_functions, limits(1)));
            let calls = called.then(|| exclusive.clone());
            Self { requests: Instances::Exclusive(exclusive), calls, account, maker, probing }
        })
    }

    /// Returns the pools whose instances serve one request or call at a time.
    fn exclusive(&self) -> impl Iterator<Item = &Arc<ExclusiveInstances>> {
        let requests = match &self.requests {
            Instances::Exclusive(exclusive) => Some(exclusive),
            Instances::Shared(_) => self.calls.as_ref(),
        };
        requests.into_iter()
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Returns the numbers of instances and of waiting requests and calls.
    pub(crate) fn instance_counts(&self) -> InstanceCounts {
        let shared = match &self.requests {
            Instances::Exclusive(_) => InstanceCounts::default(),
            Instances::Shared(shared) => shared.counts(),
        };
        self.exclusive().map(|exclusive| exclusive.counts()).fold(shared, |sum, counts| InstanceCounts {
            live: sum.live + counts.live,
            idle: sum.idle + counts.idle,
            waiting: sum.waiting + counts.waiting,
        })
    }

    /// Creates one instance in advance and keeps it for the first request or call. Instances that serve several
    /// requests at a time are not created in advance.
    ///
    /// # Errors
    /// If the instance cannot be created. The group could not serve a request in that case.
    pub async fn warm_up(&self, allowed: Duration) -> Result<(), Failure> {
        for instances in self.exclusive() {
            instances.warm_up(Instant::now() + allowed).await?;
        }
        Ok(())
    }

    pub(crate) async fn handle(
        &self,
        groups: GroupsInUse,
        request: GuestRequest,
    ) -> Result<http::Response<ResponseBody>, Failure> {
        match &self.requests {
            Instances::Exclusive(exclusive) => exclusive.clone().handle(groups, request).await,
            Instances::Shared(shared) => shared.clone().handle(groups, request).await,
        }
    }

    pub(crate) async fn call(
        &self,
        function: usize,
        scope: RequestScope,
        until: TimeLimit,
        image: &[u8],
    ) -> Result<Vec<u8>, CallFailure> {
        match &self.calls {
            Some(calls) => calls.call(function, scope, until, image).await,
            None => {
                Err(CallFailure::refused("no function of the called group can be called from outside of the group"))
            }
        }
    }
}

/// Returns the template for the spans in which instances with the components `names` are created.
fn start_span(names: &[Arc<str>]) -> SpanTemplate {
    SpanTemplate::new(semantics::START_INSTANCE, SpanKind::Internal)
        .with(semantics::COLD_START, true)
        .with(semantics::COMPONENTS, names.join(", "))
}

/// Returns the slots that one instance of `code` takes, and the number of instances that the engine's pool has room
/// for. `recorded` are the slots that were recorded when the code was compiled.
fn fitting(engine: &Engine, code: &Code, recorded: Slots, account: &Account) -> Result<(Slots, u32), GroupError> {
    let slots = recorded.of_compiled(code.component()).ok_or(GroupError::ImportsModule)?;
    let room = engine.room().instances_of_group(slots, account);
    if !slots.fits() || room == 0 {
        return Err(GroupError::TooLarge { slots });
    }
    Ok((slots, room))
}

/// Links `code`, and finds its handlers and the exports of its skeletons. `state_bytes` is the number of bytes on the
/// host's heap that the engine needs for one instance.
fn linked<'a>(
    code: &Code,
    linker: &Linker<Guest>,
    handlers: &[HttpHandlerExport],
    skeletons: impl Iterator<Item = &'a str>,
    (slots, state_bytes): (Slots, usize),
) -> Result<LinkedCode, GroupError> {
    let component = code.component();
    let pre = linker.instantiate_pre(component).map_err(|source| GroupError::Prepare { source })?;
    let handlers = handlers.iter().map(|handler| find_handler(component, handler));
    let dispatches = skeletons.map(|export| {
        DispatchExport::find(component, export).ok_or_else(|| GroupError::NoSkeleton { export: export.to_owned() })
    });
    Ok(LinkedCode {
        _code: code.clone(),
        is_probed: false,
        slots,
        pre,
        handlers: handlers.collect::<Result<_, _>>()?,
        dispatches: dispatches.collect::<Result<_, _>>()?,
        host_bytes: instance_bytes(slots, state_bytes),
    })
}

fn find_handler(component: &Component, handler: &HttpHandlerExport) -> Result<HandlerIndex, GroupError> {
    let missing = || GroupError::NoHandler { export: handler.export.clone() };
    let instance = component.get_export_index(None, &handler.export).ok_or_else(missing)?;
    let function = component.get_export_index(Some(&instance), "handle").ok_or_else(missing)?;
    Ok(if handler.interface.starts_with("wasi:http/incoming-handler@0.2") {
        HandlerIndex::P2(function)
    } else {
        HandlerIndex::P3(function)
    })
}
