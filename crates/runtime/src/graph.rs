//! The groups of one revision that run in this process and call one another.
//!
//! Groups may call each other in cycles, so no group owns another group. The graph owns all of them, and a request
//! holds a reference to the graph while it runs. So a request stays in the revision in which it started, and the groups
//! of a revision are dropped when its last request has ended.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use isomer_display::size;
use isomer_ids::PlanDigest;
use isomer_telemetry::Tracer;
use isomer_transport::InFlight;
use isomer_wire::image::IMAGE_BYTES_MAX;
use isomer_wire::{Call, CallFailure};
use tokio::time::timeout_at;

use crate::code::Code;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::group::{Group, GroupError, GroupSettings, HttpHandlerExport, LinkedProbedCode, ProbedCode};
use crate::guest::{CallableGroups, GroupFunction, GroupsInUse, RequestScope, TimeLimit, fields_bytes};
use crate::lanes::MeteredFuture;
use crate::pool::Account;
use crate::serve::{GuestRequest, InstanceCounts, ResponseBody};
use crate::wasi::{Import, Provider};

/// Supplies the probed code of a graph's groups.
pub trait ProbedCodeSupplier: Send + Sync + 'static {
    /// Starts to make the probed code of the group at `index`, which then is passed to [`Graph::link_probed_code`]. Called
    /// when the group gets its first sampled request or call. Must not block.
    fn request(&self, graph: Weak<Graph>, index: usize);
}

/// All groups of one revision in this process.
pub struct Graph {
    plan: PlanDigest,
    groups: Box<[Group]>,
    /// Records the spans of calls from other processes.
    tracer: Tracer,
    /// The count of the requests and calls that run in the groups.
    in_flight: InFlight,
    this: Weak<Self>,
    /// Supplies the groups' probed code. Not set if the groups never run probed code.
    supplier: OnceLock<Arc<dyn ProbedCodeSupplier>>,
}

impl Graph {
    /// Returns the graph of `groups`, which belong to one plan. A [`GroupFunction`] refers to a group by its index in
    /// `groups`. `tracer` records the spans of calls from other processes.
    pub fn new(plan: PlanDigest, groups: Vec<Group>, tracer: Tracer) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            plan,
            groups: groups.into(),
            tracer,
            in_flight: InFlight::default(),
            this: this.clone(),
            supplier: OnceLock::new(),
        })
    }

    /// Makes sampled requests and calls run probed code, which `supplier` supplies. Has no effect if there is a supplier
    /// already.
    pub fn set_probed_code_supplier(&self, supplier: Arc<dyn ProbedCodeSupplier>) {
        let _ = self.supplier.set(supplier);
    }

    /// Requests the probed code of all groups from the supplier, unless it was requested before.
    pub fn request_probed_code(&self) {
        let expecting = self.groups.iter().enumerate().filter(|(_, group)| group.expects_probed_code());
        expecting.for_each(|(index, _)| self.request_probed_code_of(index));
    }

    fn request_probed_code_of(&self, index: usize) {
        if let Some(supplier) = self.supplier.get() {
            supplier.request(self.this.clone(), index);
        }
    }

    /// Links the probed code of the group at `index`, for [`Graph::start_probed_code`]. Returns `None` if there is no
    /// such group, or if it has no fused seams. Linking takes some time, so this function should not be called on a
    /// thread that runs guests.
    ///
    /// # Errors
    /// If the code does not fit the group.
    pub fn link_probed_code(&self, index: usize, code: ProbedCode) -> Result<Option<LinkedProbedCode>, GroupError> {
        self.groups.get(index).map_or(Ok(None), |group| group.link_probed_code::<Self>(code))
    }

    /// Creates one instance of the probed code of the group at `index`, within the time `allowed`. Sampled requests and
    /// calls that start after that run the probed code.
    ///
    /// # Errors
    /// If the instance cannot be created. The code is not used in this case.
    pub async fn start_probed_code(
        &self,
        index: usize,
        code: LinkedProbedCode,
        allowed: Duration,
    ) -> Result<(), Failure> {
        match self.groups.get(index) {
            Some(group) => group.start_probed_code(code, allowed).await,
            None => Ok(()),
        }
    }

    /// Returns the number of groups that have probed code.
    pub fn probed_groups(&self) -> usize {
        self.groups.iter().filter(|group| group.probed_code_used().is_some()).count()
    }

    /// Removes the probed code of the group at `index`. The group's next sampled request requests it again.
    pub fn remove_probed_code(&self, index: usize) {
        if let Some(group) = self.groups.get(index) {
            group.remove_probed_code();
        }
    }

    /// Returns the time at which a sampled request last used the probed code of the group at `index`, on a clock that all
    /// graphs of the process share. Returns `None` if the group has no probed code.
    pub fn probed_code_used(&self, index: usize) -> Option<u64> {
        self.groups.get(index)?.probed_code_used()
    }

    /// Returns the digest of the plan that the groups were started with.
    pub fn plan(&self) -> PlanDigest {
        self.plan
    }

    /// Returns the count of the requests and calls that run in the groups. It may include requests that have not
    /// reached a group yet.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Returns the numbers of instances of each group, in the order of the groups.
    pub fn instance_counts(&self) -> impl Iterator<Item = InstanceCounts> {
        self.groups.iter().map(Group::instance_counts)
    }

    /// Returns a handle for sending requests to the group at `index`.
    ///
    /// # Panics
    /// If there is no group at `index`.
    pub fn group(self: &Arc<Self>, index: usize) -> GroupHandle {
        assert!(index < self.groups.len(), "a graph of {} groups has no group {index}", self.groups.len());
        GroupHandle { graph: self.clone(), index }
    }

    /// Runs a call from another process. The call is in flight from now on, and fails if its deadline passes.
    ///
    /// # Errors
    /// The errors of [`isomer_wire::Callee::call`].
    pub fn run_call(
        self: &Arc<Self>,
        function: GroupFunction,
        call: Call,
    ) -> impl Future<Output = Result<Vec<u8>, CallFailure>> + Send + use<> {
        self.clone().run(GroupsInUse::new(self.clone()), function, call)
    }

    async fn run(
        self: Arc<Self>,
        groups: GroupsInUse,
        function: GroupFunction,
        call: Call,
    ) -> Result<Vec<u8>, CallFailure> {
        let Call { context, image, .. } = call;
        if image.len() > IMAGE_BYTES_MAX as usize {
            return Err(CallFailure::refused(format!("an image of {} is too large", size(image.len()))));
        }
        let deadline = context.deadline;
        let allowed = deadline.saturating_duration_since(std::time::Instant::now());
        let scope = RequestScope::of_call(&context, groups, &self.tracer);
        let Some(group) = self.groups.get(function.group) else { return Err(no_such_group()) };
        let account = group.account().clone();
        let memory = account.charge_host_memory(image.len());
        let _memory = memory.map_err(|full| CallFailure::overloaded(full.to_string()))?;
        let called = async move { self.call(function, scope, TimeLimit { deadline, allowed }, &image).await };
        let called = MeteredFuture::new(&account, Box::pin(called));
        match timeout_at(deadline.into(), called).await {
            Ok(result) => result,
            Err(_) => {
                Err(CallFailure::deadline(Failure::Deadline { deadline: allowed, backtrace: vec![] }.to_string()))
            }
        }
    }
}

impl CallableGroups for Graph {
    fn plan(&self) -> PlanDigest {
        self.plan
    }

    fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    async fn call(
        &self,
        function: GroupFunction,
        scope: RequestScope,
        until: TimeLimit,
        image: &[u8],
    ) -> Result<Vec<u8>, CallFailure> {
        match self.groups.get(function.group) {
            Some(group) => {
                if group.wants_probed_code(scope.span()) {
                    self.request_probed_code_of(function.group);
                }
                group.call(function.function, scope, until, image).await
            }
            None => Err(no_such_group()),
        }
    }
}

impl Group {
    /// Links the group's component and prepares its instance pool. Does not run guest code.
    ///
    /// # Errors
    /// If the component has an import that no provider implements, or lacks the export of a handler or of a skeleton.
    pub fn new(
        engine: &Engine,
        code: &Code,
        imports: &[Import],
        handlers: &[HttpHandlerExport],
        providers: &[Arc<dyn Provider>],
        settings: GroupSettings,
    ) -> Result<Self, GroupError> {
        Self::link::<Graph>(engine, code, imports, handlers, providers, settings)
    }
}

fn no_such_group() -> CallFailure {
    CallFailure::refused("the called group does not run in this process")
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}

/// A handle for one group of a graph. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GroupHandle {
    graph: Arc<Graph>,
    index: usize,
}

impl GroupHandle {
    /// Returns the account that the group's requests are charged to.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        self.graph.groups[self.index].account()
    }

    /// Sends one request to the group and returns the response. The body of the response must be read or dropped,
    /// because the request holds its instance until then.
    ///
    /// # Errors
    /// If the guest returns no response. [`Failure`] lists the reasons.
    pub async fn handle(&self, request: GuestRequest) -> Result<http::Response<ResponseBody>, Failure> {
        let group = &self.graph.groups[self.index];
        if group.wants_probed_code(Some(&request.span)) {
            self.graph.request_probed_code_of(self.index);
        }
        let memory = group.account().charge_host_memory(request.host_bytes())?;
        let response = group.handle(GroupsInUse::new(self.graph.clone()), request).await?;
        let (head, body) = response.into_parts();
        let head_bytes = fields_bytes(&head.headers);
        Ok(http::Response::from_parts(head, body.charged(head_bytes, memory)?))
    }
}
