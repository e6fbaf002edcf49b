//! The data of a wasmtime store: the host's state of one running instance.
//!
//! A fused group has several *owners* (its components) in one wasmtime store. When the guest calls a host function,
//! nothing in the call tells which owner makes it. So an import that belongs to one owner is linked separately for this
//! owner, with a host function that first enters the owner's context (see `wasi`). A context is created at its first
//! use, so it costs nothing in an instance whose components print nothing and read no environment.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use isomer_telemetry::{Event, EventSink, SpanContext, StandardStream, TraceId};
use wasmtime::component::{GuestTaskId, Resource, ResourceTable};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::call_results::CallResults;
use super::concurrent_requests::ConcurrentRequests;
use super::denials::Denials;
use super::handles::{FIELDS_BYTES_MAX, HANDLE_BYTES, held, held_bytes};
use super::in_flight_calls::InFlightCalls;
use super::memory_limiter::MemoryLimiter;
use super::outbound_hooks::{NO_OWNER, OutboundHooks};
use super::output::{CurrentRequest, LineWriter, OutputOrigin};
use super::probed_calls::{FusedCall, ProbedCalls};
use super::provider_states::ProviderStates;
use super::scope::{RequestScope, TimeLimit};
use super::signals::ResponseSignals;
use super::template::GroupTemplate;
use crate::folders::open_files::OpenFile;
use crate::folders::{FolderStorage, GrantedFolder, OpenDirectoryError};
use crate::pool::bounds::COMPONENT_HANDLES_MAX;
use crate::pool::{Account, HostMemory, OutOfMemory};
use crate::seam::SeamFunction;

/// The maximum number of handles is divided by this number: an instance that holds more than half of the maximum at the
/// end of a request is not used again. Otherwise, if a guest leaks a handle with each request, a later request would
/// fail because of the leaks of earlier requests.
const HANDLES_KEPT_PART: usize = 2;

/// The maximum number of random bytes that one call returns. If a guest requests more, the function of WASI 0.3 returns
/// this many, and the function of WASI 0.2 traps.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// The directories that are granted to an owner, each with the path at which the owner's guest sees it.
type GrantedDirectories = Arc<[(Arc<GrantedFolder>, String)]>;

/// The data of one instance's wasmtime store.
pub struct Guest {
    table: ResourceTable,
    http: WasiHttpCtx,
    hooks: OutboundHooks,
    /// One context for each owner. The last context has no authority, and is for imports that all owners share.
    contexts: Box<[Option<Box<WasiCtx>>]>,
    /// The index in `contexts` of the context that host functions use now.
    current: usize,
    /// The writers of stdout and stderr. Their unfinished lines are emitted when a request ends.
    writers: Vec<LineWriter>,
    /// The request that the lines of output belong to.
    request: Arc<CurrentRequest>,
    pub(crate) concurrent: ConcurrentRequests,
    /// The calls over fused seams that have not ended. Always empty in a composition without probes.
    pub(crate) probed_calls: ProbedCalls<GuestTaskId, FusedCall>,
    template: Arc<GroupTemplate>,
    pub(crate) limiter: MemoryLimiter,
    /// Whether the guest was stopped because its account has no processor time left.
    pub(crate) out_of_cpu: bool,
    /// The scope of the current request or call; `None` between requests.
    pub(super) scope: Option<RequestScope>,
    /// The component that the current request or call entered the instance through. Known only in a probed composition.
    pub(super) entry: Option<Arc<str>>,
    /// The time limit of the current request or call; `None` between requests.
    until: Option<TimeLimit>,
    /// The signals of the current request, through which its response can extend the time limit.
    signals: Option<Arc<ResponseSignals>>,
    /// The asynchronous calls across seams that have started and whose results the guest has not taken yet.
    pub(crate) in_flight_calls: Arc<InFlightCalls>,
    /// The results of asynchronous calls across seams that have returned, until the guest takes them.
    pub(crate) call_results: CallResults,
    /// The seam of the synchronous call that the guest currently waits for.
    pub(crate) waits_for: Option<Arc<SeamFunction>>,
    /// The permits of the files and folders that the guest has open, by the number of the handle.
    files: HashMap<u32, OpenFile>,
    /// The granted directories of each owner that has requested them. They stay open until the wasmtime store is
    /// dropped.
    granted: Vec<(usize, GrantedDirectories)>,
    /// The number of host handles that the guest held at the end of the last request.
    handles: usize,
    /// The number of tasks, streams, futures and waitable sets of the guest when they were last counted.
    pub(crate) entries: usize,
    /// The charge for the last call of a capability. It is kept because the call's result may not have been copied
    /// completely into the guest's memory.
    lowered: Option<HostMemory>,
    states: ProviderStates,
}

impl Guest {
    /// Returns the data of a new instance. `host` is the charge for the host memory that every instance of the group
    /// takes.
    pub(crate) fn new(template: Arc<GroupTemplate>, memory_bytes: usize, host: HostMemory) -> Self {
        let owners = template.owners.len();
        let mut table = ResourceTable::new();
        table.set_max_capacity(template.handles_max());
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        Self {
            table,
            http,
            hooks: OutboundHooks { template: template.clone(), current: NO_OWNER, span: None },
            contexts: (0..=owners).map(|_| None).collect(),
            current: owners,
            writers: Vec::new(),
            request: Arc::default(),
            concurrent: ConcurrentRequests::default(),
            probed_calls: ProbedCalls::default(),
            limiter: MemoryLimiter::new(memory_bytes, template.account.clone(), host),
            template,
            out_of_cpu: false,
            scope: None,
            entry: None,
            until: None,
            signals: None,
            in_flight_calls: Arc::default(),
            call_results: CallResults::default(),
            waits_for: None,
            files: HashMap::new(),
            granted: Vec::new(),
            handles: 0,
            entries: 0,
            lowered: None,
            states: ProviderStates::default(),
        }
    }

    /// Returns the table of the handles that the host gave to this instance.
    pub fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Returns the account that this instance is charged to.
    pub fn account(&self) -> &Arc<Account> {
        &self.template.account
    }

    /// Charges `bytes` for entries that are about to be added to the table of handles.
    pub(crate) fn charge_handles(&mut self, bytes: usize) -> wasmtime::Result<()> {
        let table = &mut self.table;
        self.limiter.charge_host(bytes, || held_bytes(table)).map_err(wasmtime::Error::new)
    }

    /// Creates a handle for an open file or folder. `open` counts the file's descriptor until the handle is dropped.
    pub(crate) fn push_file(&mut self, file: Descriptor, open: OpenFile) -> wasmtime::Result<Resource<Descriptor>> {
        self.charge_handles(HANDLE_BYTES)?;
        let handle = self.table.push(file)?;
        self.files.insert(handle.rep(), open);
        Ok(handle)
    }

    /// Drops the handle `rep` of a file or folder.
    pub(crate) fn drop_file(&mut self, rep: u32) -> wasmtime::Result<()> {
        let closed = self.table.delete(Resource::<Descriptor>::new_own(rep))?;
        drop(closed);
        self.files.remove(&rep);
        Ok(())
    }

    /// Returns handles of the directories that are granted to `owner`, with the paths at which the owner's guest sees
    /// them.
    ///
    /// # Errors
    /// If the account has reached its limit of open files, or has no memory left for the handles. The interface has no
    /// error for this, so the guest traps.
    pub(crate) fn get_directories(&mut self, owner: usize) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let granted = self.granted(owner)?;
        self.charge_handles(granted.len() * HANDLE_BYTES)?;
        let mut handles = Vec::with_capacity(granted.len());
        for (folder, path) in &*granted {
            handles.push((self.table.push(folder.handle())?, path.clone()));
        }
        Ok(handles)
    }

    fn granted(&mut self, owner: usize) -> wasmtime::Result<GrantedDirectories> {
        if let Some((_, granted)) = self.granted.iter().find(|(of, _)| *of == owner) {
            return Ok(granted.clone());
        }
        let template = self.template.clone();
        let Some(settings) = template.owners.get(owner) else { return Ok(GrantedDirectories::default()) };
        let mut granted = Vec::with_capacity(settings.directories.len());
        for (index, directory) in settings.directories.iter().enumerate() {
            match template.folders.open((owner, index), directory, &template.account) {
                Ok(folder) => granted.push((folder, directory.guest.clone())),
                // The directory could be opened when the app started, but not any more. It is omitted from the list
                // that the guest gets.
                Err(OpenDirectoryError::Io(error)) => {
                    let text = format!("the granted directory `{}` cannot be opened: {error}", directory.guest);
                    template.denials.report(&settings.component, &text);
                }
                Err(error @ OpenDirectoryError::TooMany { .. }) => return Err(wasmtime::Error::new(error)),
            }
        }
        let granted = GrantedDirectories::from(granted);
        self.granted.push((owner, granted.clone()));
        Ok(granted)
    }

    /// Begins a call of a capability: charges the host memory of the call's arguments, and releases the charge of the
    /// previous call.
    ///
    /// # Errors
    /// If the account has no memory left.
    pub fn charge_call(&mut self, argument_bytes: usize) -> Result<HostMemory, OutOfMemory> {
        // A guest that makes another call has already received the result of the previous call.
        self.lowered = None;
        self.template.account.charge_host_memory(argument_bytes)
    }

    /// Ends a call of a capability, but keeps its charge until the next call or the end of the request. The call's
    /// result is copied into the guest's memory only after the host function has returned, and the guest's allocator,
    /// which is called for the copy, can take any time.
    pub fn end_call(&mut self, memory: HostMemory) {
        self.lowered = Some(memory);
    }

    /// Returns the value through which denied accesses of the group's guests are reported.
    pub fn denials(&self) -> &Denials {
        &self.template.denials
    }

    /// Returns the state that a capability keeps for this instance; `None` if the capability has not set it. Each type is
    /// one state. The capability charges the memory of the state.
    pub fn provider_state<T: Send + 'static>(&mut self) -> &mut Option<T> {
        self.states.get()
    }

    /// Passes an event to the log of the app.
    pub fn emit(&self, event: Event<'_>) {
        self.template.sink.emit(event);
    }

    /// Returns the time at which the guest is stopped; `None` between requests and for commands.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.until().map(|until| until.deadline)
    }

    pub(crate) fn until(&self) -> Option<TimeLimit> {
        self.signals.as_ref().map(|signals| signals.until()).or(self.until)
    }

    /// Makes `signals` determine the deadline of the current request until the request ends.
    pub(crate) fn follow(&mut self, signals: Arc<ResponseSignals>) {
        self.signals = Some(signals);
    }

    /// Returns whether the guest holds a WASI 0.2 body that it has neither finished nor dropped: the body of the
    /// response or of an outgoing request.
    pub(crate) fn has_open_body(&mut self) -> bool {
        self.table.iter_mut().any(|entry| entry.is::<HostOutgoingBody>())
    }

    /// Returns the scope in which the guest runs; `None` between requests. If the instance serves one request at a
    /// time, this is the scope of the request. Otherwise, the scope belongs to none of the requests: see `CallOrigin`.
    pub(crate) fn scope(&self) -> Option<RequestScope> {
        self.scope.clone()
    }

    /// Sets the component that the current request or call entered the instance through.
    pub(crate) fn set_entry(&mut self, component: Arc<str>) {
        self.entry = Some(component);
    }

    /// Returns the trace of the current request, if it has one.
    pub(crate) fn trace_id(&self) -> Option<TraceId> {
        self.scope.as_ref()?.span().map(|span| span.trace().trace_id)
    }

    pub(crate) fn sink(&self) -> &dyn EventSink {
        &*self.template.sink
    }

    /// Returns the request that the lines of output belong to.
    pub(super) fn output_request(&self) -> &CurrentRequest {
        &self.request
    }

    /// Makes output belong to the current request again, or to none if the instance serves several requests.
    pub(crate) fn attribute_output_to_scope(&mut self) {
        let scope = self.scope.as_ref();
        let (request, trace) = (scope.and_then(RequestScope::id), scope.and_then(RequestScope::trace));
        self.request.set(OutputOrigin { request, trace });
    }

    /// Makes the request of `scope` the current request, with the time limit `until`.
    pub(crate) fn begin_request(&mut self, scope: RequestScope, until: TimeLimit) {
        self.request.set(OutputOrigin { request: scope.id(), trace: scope.trace() });
        self.limiter.forget_refusals();
        self.until = Some(until);
        self.signals = None;
        self.scope = Some(scope);
    }

    /// Ends the current request: emits unfinished lines of output and counts the handles that the guest still holds.
    pub(crate) fn end_request(&mut self) {
        for writer in &self.writers {
            writer.finish_line();
        }
        self.request.set(OutputOrigin::default());
        self.lowered = None;
        self.count_handles();
        self.until = None;
        self.signals = None;
        drop(self.probed_calls.end_all());
        self.scope = None;
        self.concurrent = ConcurrentRequests::default();
        if !self.granted.is_empty()
            && let Some(storage) = self.folder_storage()
        {
            storage.touched();
        }
    }

    /// Counts the entries in the table of handles, and adjusts the account's charge for their memory.
    pub(crate) fn count_handles(&mut self) {
        let held = held(&mut self.table);
        self.limiter.set_host_held(held.bytes);
        self.handles = held.handles;
    }

    /// Returns whether another request might find too few free handles, because earlier requests left many handles
    /// open. Uses the numbers that were recorded when handles and tasks were last counted.
    pub(crate) fn is_cluttered(&self) -> bool {
        self.handles > self.template.handles_max() / HANDLES_KEPT_PART
            || self.entries > COMPONENT_HANDLES_MAX / HANDLES_KEPT_PART
    }

    /// Returns the seam of the synchronous call that the guest waits for. If there is none, returns the seam of the
    /// guest's oldest asynchronous call in flight, or `None` if no call is in flight.
    pub(crate) fn waits_for(&self) -> Option<Arc<SeamFunction>> {
        self.waits_for.clone().or_else(|| self.in_flight_calls.oldest())
    }

    /// Makes host functions use the context of `owner` until another owner is selected.
    pub(crate) fn enter(&mut self, owner: usize) {
        self.current = owner;
        self.hooks.current = owner;
    }

    /// Sets the owner for which the next outgoing request is sent, and the span that causes the request.
    pub(crate) fn enter_sender(&mut self, owner: usize, span: Option<SpanContext>) {
        self.enter(owner);
        self.hooks.span = span;
    }

    /// Makes host functions use the context that belongs to no owner and has no grants, until [`Self::enter`] selects
    /// an owner.
    fn enter_no_owner(&mut self) {
        self.current = self.template.owners.len();
    }

    /// Returns the WASI context of the current owner. Creates the context if this is its first use.
    fn context(&mut self) -> WasiCtxView<'_> {
        let index = self.current;
        if self.contexts[index].is_none() {
            let context = self.make_context(index);
            self.contexts[index] = Some(Box::new(context));
        }
        let ctx = self.contexts[index].as_mut().expect("the context was created above");
        WasiCtxView { ctx, table: &mut self.table }
    }

    /// Returns the tenant's storage, in which the instance's writes to folders reserve space; `None` if the tenant's
    /// storage has no limit. The storage of any owner is the right one, because all owners in a wasmtime store belong
    /// to the same tenant.
    pub(crate) fn folder_storage(&self) -> Option<Arc<dyn FolderStorage>> {
        self.template.owners.iter().find_map(|owner| owner.storage.clone())
    }

    /// Returns the host paths of the folders that the instance's owners may write to.
    pub(crate) fn writable_folders(&self) -> Arc<[PathBuf]> {
        let directories = self.template.owners.iter().flat_map(|owner| &owner.directories);
        directories.filter(|directory| directory.write).map(|directory| directory.host.clone()).collect()
    }

    fn make_context(&mut self, index: usize) -> WasiCtx {
        let mut builder = WasiCtxBuilder::new();
        builder.max_random_size(RANDOM_BYTES_MAX);
        if let Some(owner) = self.template.owners.get(index) {
            let writer = |stream| {
                LineWriter::new(owner.component.clone(), stream, self.request.clone(), self.template.sink.clone())
            };
            let (stdout, stderr) = (writer(StandardStream::Stdout), writer(StandardStream::Stderr));
            builder.stdout(stdout.clone()).stderr(stderr.clone()).envs(&owner.environment).args(&owner.arguments);
            self.writers.extend([stdout, stderr]);
        }
        builder.build()
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.enter_no_owner();
        self.context()
    }
}

/// Returns the WASI context of the current owner. Must be called only by host functions that have just selected the
/// owner.
pub(crate) fn owner_context(guest: &mut Guest) -> WasiCtxView<'_> {
    guest.context()
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}
