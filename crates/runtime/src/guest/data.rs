//! A store's data: everything that the host knows about one instance while it runs.
//!
//! A fused group has several *owners* (its components) in one store. Which of them a host function acts for is not asked of the
//! guest: each labelled import was linked for one owner, and enters that owner's context before it does anything (see `wasi`).
//! Contexts are made when they are first needed, so an instance whose components print nothing and read no environment pays nothing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use isomer_telemetry::{EventSink, StandardStream};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::call_results::CallResults;
use super::denials::Denials;
use super::handles::{FIELDS_BYTES_MAX, HANDLE_BYTES, held, held_bytes};
use super::in_flight_calls::InFlightCalls;
use super::memory_limiter::MemoryLimiter;
use super::outbound_hooks::{NO_OWNER, OutboundHooks};
use super::output::{CurrentRequest, LineWriter};
use super::scope::{RequestScope, TimeLimit};
use super::signals::ResponseSignals;
use super::template::GroupTemplate;
use crate::folders::open_files::OpenFile;
use crate::folders::{FolderStorage, GrantedFolder, OpenDirectoryError};
use crate::pool::bounds::COMPONENT_HANDLES_MAX;
use crate::pool::{Account, HostMemory, OutOfMemory};

/// An instance in which more than this part of the handles is still held when a request is over is not used again, one in so many: else a
/// guest that forgets a handle with each request would fail one that is not to blame.
const HANDLES_KEPT_PART: usize = 2;

/// Random bytes that one call may ask for: WASI 0.3 gives no more at once, 0.2 traps.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// Directories that are granted to an owner, and where its guest sees them.
type Granted = Arc<[(Arc<GrantedFolder>, String)]>;

/// The data of one instance's store.
pub struct Guest {
    table: ResourceTable,
    http: WasiHttpCtx,
    hooks: OutboundHooks,
    /// One per owner, and a last one without any authority for the imports that all share.
    contexts: Box<[Option<Box<WasiCtx>>]>,
    /// The owner whose context is in use.
    current: usize,
    /// Unfinished lines to hand on when a request ends.
    writers: Vec<LineWriter>,
    request: Arc<CurrentRequest>,
    template: Arc<GroupTemplate>,
    pub(crate) limiter: MemoryLimiter,
    /// It was stopped because its account has no processor time left.
    pub(crate) out_of_cpu: bool,
    /// When the request or call that runs now must be over.
    until: Option<TimeLimit>,
    /// Of a request, whose response may give it more time.
    signals: Option<Arc<ResponseSignals>>,
    /// Calls across seams that were in_flight_calls.
    pub(crate) in_flight_calls: Arc<InFlightCalls>,
    /// Their call_results, until they are taken.
    pub(crate) call_results: CallResults,
    /// The seam over which the guest waits for a synchronous call.
    pub(crate) waits_for: Option<Arc<str>>,
    /// Of each handle of a file or a folder that the guest has opened, its part of the account's open files.
    files: HashMap<u32, OpenFile>,
    /// The granted directories of the owners that have asked for theirs. They stay open and the same until the store is dropped.
    granted: Vec<(usize, Granted)>,
    /// Handles of the host that it held when a request was over last.
    handles: usize,
    /// Tasks, streams, futures and sets that it had when they were counted last.
    pub(crate) entries: usize,
    /// Of the call of a capability whose result came last: it may still be on its way into the guest's memory.
    lowered: Option<HostMemory>,
}

impl Guest {
    /// `host` is what the instance takes of the host whatever its guest does.
    pub(crate) fn new(template: Arc<GroupTemplate>, memory_bytes: usize, host: HostMemory) -> Self {
        let owners = template.owners.len();
        let mut table = ResourceTable::new();
        table.set_max_capacity(template.handles_max());
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        Self {
            table,
            http,
            hooks: OutboundHooks { template: template.clone(), current: NO_OWNER, scope: None },
            contexts: (0..=owners).map(|_| None).collect(),
            current: owners,
            writers: Vec::new(),
            request: Arc::default(),
            limiter: MemoryLimiter::new(memory_bytes, template.account.clone(), host),
            template,
            out_of_cpu: false,
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
        }
    }

    /// The handles that the host gave to this instance.
    pub fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// The account that this instance is charged to.
    pub fn account(&self) -> &Arc<Account> {
        &self.template.account
    }

    /// Charges what the table of handles is about to hold in addition.
    pub(crate) fn charge_handles(&mut self, bytes: usize) -> wasmtime::Result<()> {
        let table = &mut self.table;
        self.limiter.charge_host(bytes, || held_bytes(table)).map_err(wasmtime::Error::new)
    }

    /// Makes a handle of a file or a folder that was opened. `open` stands for its descriptor until the handle is dropped.
    pub(crate) fn push_file(&mut self, file: Descriptor, open: OpenFile) -> wasmtime::Result<Resource<Descriptor>> {
        self.charge_handles(HANDLE_BYTES)?;
        let handle = self.table.push(file)?;
        self.files.insert(handle.rep(), open);
        Ok(handle)
    }

    /// Drops a handle of a file or a folder.
    pub(crate) fn drop_file(&mut self, rep: u32) -> wasmtime::Result<()> {
        let closed = self.table.delete(Resource::<Descriptor>::new_own(rep))?;
        drop(closed);
        self.files.remove(&rep);
        Ok(())
    }

    /// Returns handles of the directories that are granted to `owner`, with the paths at which its guest sees them.
    ///
    /// # Errors
    /// When the account may not have so many files open, or cannot pay for the handles: a trap, as the interface has no error.
    pub(crate) fn get_directories(&mut self, owner: usize) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let granted = self.granted(owner)?;
        self.charge_handles(granted.len() * HANDLE_BYTES)?;
        let mut handles = Vec::with_capacity(granted.len());
        for (folder, path) in &*granted {
            handles.push((self.table.push(folder.handle())?, path.clone()));
        }
        Ok(handles)
    }

    fn granted(&mut self, owner: usize) -> wasmtime::Result<Granted> {
        if let Some((_, granted)) = self.granted.iter().find(|(of, _)| *of == owner) {
            return Ok(granted.clone());
        }
        let template = self.template.clone();
        let Some(settings) = template.owners.get(owner) else { return Ok(Granted::default()) };
        let mut granted = Vec::with_capacity(settings.directories.len());
        for (index, directory) in settings.directories.iter().enumerate() {
            match template.folders.open((owner, index), directory, &template.account) {
                Ok(folder) => granted.push((folder, directory.guest.clone())),
                // It was there when the app started; the guest sees no such directory.
                Err(OpenDirectoryError::Io(error)) => {
                    let text = format!("the granted directory `{}` cannot be opened: {error}", directory.guest);
                    template.denials.tell(&settings.component, &text);
                }
                Err(error @ OpenDirectoryError::TooMany { .. }) => return Err(wasmtime::Error::new(error)),
            }
        }
        let granted = Granted::from(granted);
        self.granted.push((owner, granted.clone()));
        Ok(granted)
    }

    /// Charges what the host holds for a call of a capability: its arguments, to begin with.
    ///
    /// # Errors
    /// When the account's memory is used up.
    pub fn charge_call(&mut self, argument_bytes: usize) -> Result<HostMemory, OutOfMemory> {
        // A guest that calls has taken the result of the call before.
        self.lowered = None;
        self.template.account.charge_host_memory(argument_bytes)
    }

    /// The call is over. Its result is copied into the guest's memory when the host function has returned, and not faster than the
    /// guest's own allocator is; so what it was charged stays charged until the next call, or the end of the request.
    pub fn end_call(&mut self, memory: HostMemory) {
        self.lowered = Some(memory);
    }

    /// Where to tell what a component was denied.
    pub fn denials(&self) -> &Denials {
        &self.template.denials
    }

    /// When the request that runs now must be over; `None` between requests and for commands.
    pub fn deadline(&self) -> Option<Instant> {
        self.until().map(|until| until.deadline)
    }

    pub(crate) fn until(&self) -> Option<TimeLimit> {
        self.signals.as_ref().map(|signals| signals.until()).or(self.until)
    }

    /// From now until the request ends, `signals` say when it must be over.
    pub(crate) fn follow(&mut self, signals: Arc<ResponseSignals>) {
        self.signals = Some(signals);
    }

    /// Returns whether it holds a body of WASI 0.2 that it has neither finished nor dropped: a response's, or a request's of its own.
    pub(crate) fn has_open_body(&mut self) -> bool {
        self.table.iter_mut().any(|entry| entry.is::<HostOutgoingBody>())
    }

    /// What the request that runs now takes along; `None` between requests.
    pub(crate) fn scope(&self) -> Option<Arc<RequestScope>> {
        self.hooks.scope.clone()
    }

    /// The trace that the request which runs now belongs to (`traceparent`), if it has one.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.hooks.scope.as_ref().and_then(|scope| scope.traceparent.as_ref()).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn sink(&self) -> &dyn EventSink {
        &*self.template.sink
    }

    /// Notes which request is served from now on.
    pub(crate) fn begin_request(&mut self, scope: Arc<RequestScope>, until: TimeLimit) {
        self.request.set(scope.id);
        self.limiter.forget_refusals();
        self.until = Some(until);
        self.signals = None;
        self.hooks.scope = Some(scope);
    }

    /// Hands on unfinished lines of output and forgets the request.
    pub(crate) fn end_request(&mut self) {
        for writer in &self.writers {
            writer.finish_line();
        }
        self.request.set(None);
        self.lowered = None;
        self.count_handles();
        self.until = None;
        self.signals = None;
        self.hooks.scope = None;
        if !self.granted.is_empty()
            && let Some(storage) = self.folder_storage()
        {
            storage.touched();
        }
    }

    /// Counts what the table of handles holds, and charges that.
    pub(crate) fn count_handles(&mut self) {
        let held = held(&mut self.table);
        self.limiter.settle_host(held.bytes);
        self.handles = held.handles;
    }

    /// Is so much left of the requests before that another one may not find enough handles? As they were counted last.
    pub(crate) fn is_cluttered(&self) -> bool {
        self.handles > self.template.handles_max() / HANDLES_KEPT_PART
            || self.entries > COMPONENT_HANDLES_MAX / HANDLES_KEPT_PART
    }

    /// The seam over which the guest waits, if it waits for a call.
    pub(crate) fn waits_for(&self) -> Option<Arc<str>> {
        self.waits_for.clone().or_else(|| self.in_flight_calls.oldest())
    }

    /// From here until the next call, host functions act for this owner.
    pub(crate) fn enter(&mut self, owner: usize) {
        self.current = owner;
        self.hooks.current = owner;
    }

    /// From here until the next call, host functions act for nobody.
    fn enter_no_owner(&mut self) {
        self.current = self.template.owners.len();
    }

    /// The context of the current owner, made if this is its first use.
    fn context(&mut self) -> WasiCtxView<'_> {
        let index = self.current;
        if self.contexts[index].is_none() {
            let context = self.make_context(index);
            self.contexts[index] = Some(Box::new(context));
        }
        let ctx = self.contexts[index].as_mut().expect("made above");
        WasiCtxView { ctx, table: &mut self.table }
    }

    /// What its folders take of; `None`: there is no limit. All owners of a store have the same tenant.
    pub(crate) fn folder_storage(&self) -> Option<Arc<dyn FolderStorage>> {
        self.template.owners.iter().find_map(|owner| owner.storage.clone())
    }

    /// The folders that its owners may write.
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

/// The context of the owner that was entered last. Only for functions that have just entered one.
pub(crate) fn owner_context(guest: &mut Guest) -> WasiCtxView<'_> {
    guest.context()
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}
