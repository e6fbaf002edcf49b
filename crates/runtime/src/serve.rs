//! One request in one instance.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use isomer_display::size;
use isomer_telemetry::{Event, RequestId};
use tokio::sync::oneshot;
use wasmtime::component::{Accessor, ComponentExportIndex, InstancePre, Resource, TypedFunc};
use wasmtime::{AsContextMut as _, Store, StoreContextMut, Trap, UpdateDeadline};
use wasmtime_wasi_http::p2::bindings::http::types as types2;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::p3::bindings::http::types as types3;
use wasmtime_wasi_http::{FieldMap, WasiBody, WasiHttpView as _, p3};

use crate::begun::Begun;
use crate::body::Signals;
use crate::code::Code;
use crate::engine::Engine;
use crate::failure::{Failure, RoomLimit, backtrace};
use crate::foreign;
use crate::graph::Graph;
use crate::group::Request;
use crate::guest::{COMPONENT_HANDLES_MAX, Guest, Template};
use crate::idle::{Idle, IdleSince};
use crate::limits::RefusedBy;
use crate::room::Claim;
use crate::scope::{Scope, Until};
use crate::skeleton::{DispatchExport, DispatchFunctions, Entry};
use crate::slots::Slots;
use crate::tasks;

type Handle2 = TypedFunc<(Resource<HostIncomingRequest>, Resource<HostResponseOutparam>), ()>;
type Handle3 = TypedFunc<(Resource<p3::Request>,), (Result<Resource<p3::Response>, types3::ErrorCode>,)>;

/// Where a component exports a handler.
#[derive(Debug, Clone)]
pub(crate) enum HandlerExport {
    /// `wasi:http/incoming-handler@0.2`.
    P2(ComponentExportIndex),
    /// `wasi:http/handler@0.3`.
    P3(ComponentExportIndex),
}

/// The same in a live instance.
#[derive(Clone)]
pub(crate) enum HandlerFunction {
    P2(Handle2),
    P3(Handle3),
}

/// How instances of a group are made.
pub(crate) struct InstanceMaker {
    pub(crate) engine: Engine,
    /// Held so that whoever loads the same code finds it.
    pub(crate) _code: Code,
    /// What an instance takes of the engine's pool.
    pub(crate) slots: Slots,
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) handlers: Vec<HandlerExport>,
    /// One for each skeleton.
    pub(crate) dispatches: Vec<DispatchExport>,
    /// The functions of all skeletons.
    pub(crate) entries: Vec<Entry>,
    /// Has it a stub, which may begin calls?
    pub(crate) calls: bool,
    pub(crate) template: Arc<Template>,
    pub(crate) memory_bytes: usize,
    /// What the host holds for an instance whatever its guest does.
    pub(crate) host_bytes: usize,
}

/// A live instance, alone in its store.
pub(crate) struct Instance {
    pub(crate) store: Store<Guest>,
    pub(crate) handlers: Vec<HandlerFunction>,
    pub(crate) dispatches: Vec<DispatchFunctions>,
    /// Calls that it has begun; none where it cannot.
    pub(crate) begun: Option<Arc<Begun>>,
    served: u32,
    born: Instant,
    /// After the store, which is dropped first.
    claim: Claim,
}

/// The two ends that a request's run talks to its response over.
pub(crate) struct Exchange {
    pub(crate) head: Head,
    /// Resolves when the last frame of the response's body has been read.
    pub(crate) ended: oneshot::Receiver<()>,
    pub(crate) signals: Arc<Signals>,
}

/// The head of the response, or why there is none.
pub(crate) type HeadOrFailure = Result<http::Response<WasiBody>, Failure>;

/// Where it goes. The first one counts.
#[derive(Clone)]
pub(crate) struct Head {
    sender: Arc<Mutex<Option<oneshot::Sender<HeadOrFailure>>>>,
    signals: Arc<Signals>,
}

impl Head {
    pub(crate) fn new(sender: oneshot::Sender<HeadOrFailure>, signals: Arc<Signals>) -> Self {
        Self { sender: Arc::new(Mutex::new(Some(sender))), signals }
    }

    fn is_sent(&self) -> bool {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Gives `answer` back if there was one before, or nobody waits any more.
    pub(crate) fn send(&self, answer: HeadOrFailure) -> Option<HeadOrFailure> {
        if let Ok(response) = &answer {
            self.signals.answered(response);
        }
        match self.sender.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(sender) => sender.send(answer).err(),
            None => Some(answer),
        }
    }
}

/// Bytes that one call of a host function may make the host copy out of a guest: strings, lists, whole batches of values.
const HOST_CALL_BYTES_MAX: usize = 32 << 20;

impl InstanceMaker {
    /// Lists a pool of such instances among those that give way to others.
    pub(crate) fn register<P: Idle + 'static>(&self, since: &Arc<IdleSince>, pool: &Arc<P>) {
        let pool: Weak<P> = Arc::downgrade(pool);
        let account = &self.template.account;
        self.engine.room().idlers.add(since.clone(), pool.clone(), account);
        account.idlers().add(since.clone(), pool, account);
    }

    /// Would another request have the room of one such instance, if it were not kept?
    pub(crate) fn is_room_wanted(&self) -> bool {
        self.engine.room().is_wanted(self.slots, &self.template.account)
    }

    pub(crate) async fn make(&self, deadline: Instant) -> Result<Instance, Failure> {
        let claim = self.engine.room().claim(self.slots, &self.template.account, deadline).await?;
        let host = self.template.account.charge_host_memory(self.host_bytes)?;
        let engine = self.pre.engine();
        let mut store = Store::new(engine, Guest::new(self.template.clone(), self.memory_bytes, host));
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(HOST_CALL_BYTES_MAX);
        store.set_max_component_handles(COMPONENT_HANDLES_MAX);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(on_epoch);
        let allowed = deadline.saturating_duration_since(Instant::now());
        store.data_mut().begin_request(Arc::default(), Until { deadline, allowed });
        let made = tokio::time::timeout_at(deadline.into(), self.pre.instantiate_async(&mut store)).await;
        let instance = match made {
            Ok(Ok(instance)) => instance,
            Ok(Err(error)) => {
                claim.check(&error, engine);
                return Err(cannot_make(&error, store.data(), allowed));
            }
            Err(_) => return Err(too_long(allowed)),
        };
        let handlers = self.handlers.iter().map(|export| match export {
            HandlerExport::P2(index) => instance.get_typed_func(&mut store, index).map(HandlerFunction::P2),
            HandlerExport::P3(index) => instance.get_typed_func(&mut store, index).map(HandlerFunction::P3),
        });
        let handlers = handlers.collect::<Result<Vec<_>, _>>();
        let handlers = handlers.map_err(|error| Failure::Instantiate {
            reason: foreign::cut(format_args!("{error:#}"), foreign::TEXT_BYTES_MAX),
        })?;
        let dispatches = self.dispatches.iter().map(|export| export.look_up(&mut store, &instance));
        let dispatches = dispatches.collect::<Result<Vec<_>, _>>();
        let dispatches = dispatches.map_err(|error| Failure::Instantiate {
            reason: foreign::cut(format_args!("{error:#}"), foreign::TEXT_BYTES_MAX),
        })?;
        let begun = self.calls.then(|| store.data().begun.clone());
        Ok(Instance { store, handlers, dispatches, begun, served: 0, born: Instant::now(), claim })
    }
}

fn cannot_make(error: &wasmtime::Error, guest: &Guest, allowed: Duration) -> Failure {
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Failure::Full { limit: RoomLimit::Miscount };
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return if guest.out_of_cpu { Failure::out_of_cpu(Vec::new()) } else { too_long(allowed) };
    }
    match guest.limiter.refused() {
        Some(RefusedBy::Account { limit_bytes }) => Failure::out_of_memory(limit_bytes, Vec::new()),
        Some(RefusedBy::Instance { limit_bytes }) => {
            Failure::Instantiate { reason: format!("it needs more memory than its limit of {}", size(limit_bytes)) }
        }
        None => Failure::Instantiate { reason: foreign::cut(format_args!("{error:#}"), foreign::TEXT_BYTES_MAX) },
    }
}

fn too_long(allowed: Duration) -> Failure {
    Failure::Instantiate { reason: format!("it has not started within {} ms", allowed.as_millis()) }
}

/// Runs on every epoch tick that finds the guest running. Stops a guest whose deadline has passed, or whose account has used up its
/// processor time, and has one yield whose time slice is over.
pub(crate) fn on_epoch(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<UpdateDeadline> {
    tasks::charge(store.as_context_mut())?;
    let guest = store.data_mut();
    if guest.limiter.account().must_stop() {
        guest.out_of_cpu = true;
        return Ok(UpdateDeadline::Interrupt);
    }
    Ok(match guest.deadline() {
        Some(deadline) if Instant::now() >= deadline => UpdateDeadline::Interrupt,
        _ if crate::meter::slice_is_over() => UpdateDeadline::Yield(1),
        _ => UpdateDeadline::Continue(1),
    })
}

impl Instance {
    /// How many requests it has served.
    pub(crate) fn served(&self) -> u32 {
        self.served
    }

    /// Would another request have its room, if it were not kept?
    pub(crate) fn is_room_wanted(&self) -> bool {
        self.claim.is_wanted()
    }

    /// See [`Guest::is_cluttered`].
    pub(crate) fn is_cluttered(&self) -> bool {
        self.store.data().is_cluttered()
    }

    pub(crate) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Memory of its account that it holds.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.store.data().limiter.held_bytes()
    }

    /// A request or a call begins in it.
    pub(crate) fn begin(&mut self, scope: Arc<Scope>, until: Until) {
        self.served += 1;
        self.store.set_epoch_deadline(1);
        self.store.data_mut().begin_request(scope, until);
    }

    /// Stays until whatever a call has started, and did not need for its answer, is over. An error ends the instance.
    pub(crate) async fn rest(&mut self) -> wasmtime::Result<()> {
        let run = self.store.run_concurrent(async |accessor| {
            let rest = async {
                std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                Ok(())
            };
            tasks::charged(accessor, rest).await
        });
        match &self.begun {
            Some(begun) => begun.beside(run).await.flatten(),
            None => run.await.flatten(),
        }
    }

    /// Serves one request from its head to the end of everything it started. `Ok` if the instance can be used again.
    pub(crate) async fn serve(&mut self, graph: Arc<Graph>, request: Request, exchange: Exchange) -> Result<(), ()> {
        let Exchange { head, ended, signals } = exchange;
        let Request { http, id, deadline, allowed, handler, component, .. } = request;
        let traceparent = http.headers().get("traceparent").cloned();
        let scope = Scope { id: Some(id), traceparent, graph: Some(graph) };
        self.begin(Arc::new(scope), Until { deadline, allowed });
        self.store.data_mut().follow(signals.clone());
        let function = self.handlers[handler].clone();
        let over = {
            // Pinned where it is made: these futures take some kilobytes, and each function that takes one by value would copy it.
            let mut run = pin!(self.store.run_concurrent(async |accessor| -> wasmtime::Result<()> {
                let run = pin!(async {
                    call(accessor, &function, http, &head, ended).await?;
                    // Whatever else the request started ends before the next one begins.
                    std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                    Ok(())
                });
                tasks::charged(accessor, run).await
            }));
            let run = pin!(async {
                match &self.begun {
                    Some(begun) => begun.beside(run.as_mut()).await,
                    None => run.as_mut().await,
                }
            });
            signals.limit(run).await
        };
        let allowed = signals.until().allowed;
        let failure = match over {
            Some(Ok(Ok(()))) => None,
            Some(Ok(Err(error)) | Err(error)) => Some(self.failure(&error, allowed)),
            None => Some(self.too_late(allowed)),
        };
        self.store.data_mut().end_request();
        match failure {
            // Counts only if the handler ended without a word. What made it do so may keep it from ever answering again: runtimes that serve
            // one request per instance end like this.
            None => match head.send(Err(Failure::NoResponse)) {
                None => Err(()),
                Some(_) => Ok(()),
            },
            Some(failure) => {
                signals.fail(&failure);
                report(head, &component, id, failure, self.store.data());
                Err(())
            }
        }
    }

    /// The deadline passed while the guest waited for something.
    fn too_late(&self, allowed: Duration) -> Failure {
        let failure = Failure::Deadline { deadline: allowed, backtrace: Vec::new() };
        match self.store.data().waits_for() {
            Some(seam) => Failure::Call { seam, failure: failure.to_call_failure(), backtrace: Vec::new() },
            None => failure,
        }
    }

    /// Counts an error that there should not be: see [`Claim::check`].
    pub(crate) fn check(&self, error: &wasmtime::Error) {
        self.claim.check(error, self.store.engine());
    }

    pub(crate) fn failure(&self, error: &wasmtime::Error, allowed: Duration) -> Failure {
        self.check(error);
        if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
            let backtrace = backtrace(error);
            if self.store.data().out_of_cpu {
                return Failure::out_of_cpu(backtrace);
            }
            return match self.store.data().answers.too_late() {
                Some((seam, failure)) => Failure::Call { seam, failure, backtrace },
                None => Failure::Deadline { deadline: allowed, backtrace },
            };
        }
        Failure::from_trap(error, self.store.data().limiter.refused())
    }
}

/// A failure goes to the client if the head is still open, else to the log.
fn report(head: Head, component: &str, id: RequestId, failure: Failure, guest: &Guest) {
    if let Some(Err(failure)) = head.send(Err(failure)) {
        guest.sink().emit(Event::RequestFailed {
            component,
            request: id,
            reason: &failure,
            backtrace: failure.backtrace(),
            response_cut_off: true,
        });
    }
}

/// A handler gives the final response only, so one with an informational status is none (RFC 9110, section 15.2): a client would go on
/// waiting for another one, or take what follows for another protocol.
fn final_response(response: http::Response<WasiBody>) -> HeadOrFailure {
    match response.status() {
        status if status.is_informational() => Err(Failure::NotFinal { status: status.as_u16() }),
        _ => Ok(response),
    }
}

/// Calls the handler and stays until it has returned and (0.3) its response is read.
pub(crate) async fn call(
    accessor: &Accessor<Guest>,
    function: &HandlerFunction,
    request: http::Request<WasiBody>,
    head: &Head,
    ended: oneshot::Receiver<()>,
) -> wasmtime::Result<()> {
    match function {
        HandlerFunction::P3(handle) => call3(accessor, handle, request, head, ended).await,
        HandlerFunction::P2(handle) => call2(accessor, handle, request, head, ended).await,
    }
}

async fn call3(
    accessor: &Accessor<Guest>,
    handle: &Handle3,
    request: http::Request<WasiBody>,
    head: &Head,
    ended: oneshot::Receiver<()>,
) -> wasmtime::Result<()> {
    let (call, read) = accessor.with(|mut store| -> wasmtime::Result<_> {
        let http = store.data_mut().http();
        let (head, body) = request.into_parts();
        let uri = head.uri.into_parts();
        let headers = FieldMap::new_immutable(http.hooks, head.headers);
        let (request, read) =
            p3::Request::new(head.method, uri.scheme, uri.authority, uri.path_and_query, headers, None, body);
        let request = http.table.push(request)?;
        Ok((handle.start_call_concurrent(store, (request,))?, read))
    })?;
    match handle.finish_call_concurrent(accessor, call).await?.0 {
        Ok(response) => {
            let response = accessor.with(|mut store| -> wasmtime::Result<_> {
                let response = store.data_mut().http().table.delete(response)?;
                response.into_http(store, read)
            })?;
            let response = final_response(response);
            let is_answered = response.is_ok();
            if head.send(response).is_none() && is_answered {
                // Not sent means that the body was dropped unread; then this run is dropped too.
                let _ = ended.await;
            }
        }
        Err(code) => {
            let body_too_large = matches!(code, types3::ErrorCode::HttpRequestBodySize(_));
            let _ = head.send(Err(Failure::Handler {
                code: foreign::cut(format_args!("{code:?}"), foreign::TEXT_BYTES_MAX),
                body_too_large,
            }));
        }
    }
    Ok(())
}

async fn call2(
    accessor: &Accessor<Guest>,
    handle: &Handle2,
    request: http::Request<WasiBody>,
    head: &Head,
    ended: oneshot::Receiver<()>,
) -> wasmtime::Result<()> {
    let secure = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
    let scheme = if secure { types2::Scheme::Https } else { types2::Scheme::Http };
    let call = accessor.with(|mut store| -> wasmtime::Result<_> {
        let mut http = store.data_mut().http();
        let request = match http.new_incoming_request(scheme, request) {
            Ok(request) => request,
            Err(error) => {
                let _ = head.send(Err(Failure::BadRequest { reason: foreign::cut(&error, foreign::TEXT_BYTES_MAX) }));
                return Ok(None);
            }
        };
        let head = head.clone();
        let outparam = http.new_response_outparam_from_callback(move |answer| {
            let _ = head.send(match answer {
                Ok(response) => final_response(response.map(|body| body.boxed_unsync())),
                Err(code) => {
                    let body_too_large = matches!(code, types2::ErrorCode::HttpRequestBodySize(_));
                    Err(Failure::Handler {
                        code: foreign::cut(format_args!("{code:?}"), foreign::TEXT_BYTES_MAX),
                        body_too_large,
                    })
                }
            });
        })?;
        Ok(Some(handle.start_call_concurrent(store, (request, outparam))?))
    })?;
    let Some(call) = call else { return Ok(()) };
    handle.finish_call_concurrent(accessor, call).await?;
    // A body whose store goes looks finished. One that its handler has left open is not, so the store stays until its reader has
    // read what is there and seen that no more comes.
    if head.is_sent() && accessor.with(|mut store| store.data_mut().has_open_body()) {
        head.signals.set_returned();
        let _ = ended.await;
    }
    Ok(())
}
