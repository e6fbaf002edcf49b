//! One instance that serves several requests at the same time, from its first request to its end.
//!
//! The instance's execution calls the handler for each request that arrives. It ends when no more requests can arrive,
//! when the guest traps, or when a request is late. Every request that is then in flight gets the failure that
//! [`InFlightRequests`] chooses for it.
//!
//! The guest's calls across seams, its spans and its output belong to the request for which it works: see
//! `guest/call_origin`.
//!
//! A request ends when its response has been read. The guest may then still have work to do for the request. This work
//! continues while later requests are served, and ends at the latest when the instance ends. It is not assigned to the
//! request, because the wasmtime store shows only whether any work is left.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use isomer_telemetry::{Event, RequestId, TraceContext};
use tokio::sync::{Notify, mpsc, oneshot};
use wasmtime::Trap;
use wasmtime::component::Accessor;

use super::exchange::{HeadSender, call};
use super::in_flight_requests::{InFlightRequests, RequestEnd, RequestState, RunEnd};
use super::request::GuestRequest;
use crate::failure::{Failure, backtrace};
use crate::guest::{ConcurrentRequest, GroupsInUse, Guest, RequestScope, ResponseSignals, TimeLimit, tasks};
use crate::instance::{HandlerFunction, Instance, InstanceMaker};
use crate::pool::account::EvictedMemory;

/// The interval at which the deadlines of the requests in flight are checked.
const DEADLINE_TICK: Duration = Duration::from_millis(5);

/// The time limit of a wasmtime store that several requests share: practically none, because [`SharedInstance`] checks
/// the deadlines of the requests.
const NO_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A request that was sent to the task of an instance.
pub(super) struct Job<P> {
    pub(super) groups: GroupsInUse,
    pub(super) request: GuestRequest,
    pub(super) head: HeadSender,
    /// Resolves when the last frame of the response's body has been read.
    pub(super) ended: oneshot::Receiver<()>,
    pub(super) signals: Arc<ResponseSignals>,
    /// The permit of the request, dropped when the request has ended.
    pub(super) permit: P,
}

/// The memory and handles that an instance uses, as its pool sees them. The instance's task drops this value after the
/// instance.
#[derive(Default)]
pub(super) struct InstanceUsage {
    /// The number of bytes that the account was charged for the instance at the end of the last request.
    bytes: AtomicU64,
    /// Whether the instance held so many handles at the end of the last request that it must not get more requests.
    is_cluttered: AtomicBool,
    /// Whether the guest has no work left: no request, and no work that it continues after a response.
    is_quiet: AtomicBool,
    /// The memory of the evicted instance, which new charges may use before the instance has been dropped. `None` if
    /// the instance was not evicted.
    evicted: Mutex<Option<EvictedMemory>>,
}

impl InstanceUsage {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_cluttered(&self) -> bool {
        self.is_cluttered.load(Ordering::Relaxed)
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.is_quiet.load(Ordering::Acquire)
    }

    /// Marks the instance as evicted. New charges may use `memory`, the memory of the instance, even before the
    /// instance has been dropped.
    pub(super) fn set_evicted(&self, memory: EvictedMemory) {
        *self.evicted.lock().unwrap_or_else(PoisonError::into_inner) = Some(memory);
    }

    fn update(&self, guest: &mut Guest) {
        guest.count_handles();
        self.bytes.store(guest.limiter.held_bytes(), Ordering::Relaxed);
        self.is_cluttered.store(guest.is_cluttered(), Ordering::Relaxed);
    }
}

/// An instance, the requests that it is serving, and the channel through which it receives requests.
pub(super) struct SharedInstance<P> {
    maker: Arc<InstanceMaker>,
    instance: Instance,
    inbox: mpsc::Receiver<Job<P>>,
    requests: Requests,
    usage: Arc<InstanceUsage>,
}

impl<P: Send> SharedInstance<P> {
    pub(super) fn new(
        maker: Arc<InstanceMaker>,
        instance: Instance,
        inbox: mpsc::Receiver<Job<P>>,
        usage: Arc<InstanceUsage>,
    ) -> Self {
        usage.bytes.store(instance.memory_bytes(), Ordering::Relaxed);
        Self { maker, instance, inbox, requests: Requests::default(), usage }
    }

    /// Serves `first` and all requests that arrive after it, until the execution of the instance ends. Drops the
    /// instance and returns the closed inbox, which contains the requests that have not started.
    pub(super) async fn run(mut self, first: Job<P>) -> mpsc::Receiver<Job<P>> {
        // This scope is only used for calls that cannot be assigned to one of the requests: see `CallOrigin`.
        let scope = RequestScope::new(None, None, first.groups.clone());
        let until = TimeLimit { deadline: Instant::now() + NO_DEADLINE, allowed: NO_DEADLINE };
        self.instance.store.data_mut().begin_request(scope, until);
        let outcome = self.serve(first).await;
        self.inbox.close();
        if let Some(Err(error)) = &outcome {
            let failure = Failure::from_trap(error, None);
            self.instance.store.data_mut().fail_probed_calls(&failure);
        }
        self.instance.store.data_mut().end_request();
        send_failures(&self.instance, outcome, self.requests);
        self.inbox
    }

    /// Runs the instance. Returns the result of the execution, or `None` if it was stopped because a request was late.
    async fn serve(&mut self, first: Job<P>) -> Option<wasmtime::Result<()>> {
        let Self { maker, instance, inbox, requests, usage } = self;
        let (maker, is_probed) = (&**maker, instance.is_probed());
        let (handlers, in_flight_calls) = (&instance.handlers, instance.in_flight_calls.clone());
        let requests = &*requests;
        let run = instance.store.run_concurrent(async |accessor| {
            tasks::charged(accessor, serve_all(accessor, first, inbox, handlers, requests, usage, (maker, is_probed)))
                .await
        });
        let run = pin!(async {
            match &in_flight_calls {
                Some(calls) => calls.run_alongside(run).await,
                None => run.await,
            }
        });
        tokio::select! {
            outcome = run => Some(outcome.flatten()),
            () = requests.late() => None,
        }
    }
}

/// Calls the handler for `first` and for each request that arrives, until no more can arrive and all have ended. After
/// an error, the instance must be dropped.
async fn serve_all<P: Send>(
    accessor: &Accessor<Guest>,
    first: Job<P>,
    inbox: &mut mpsc::Receiver<Job<P>>,
    handlers: &[HandlerFunction],
    requests: &Requests,
    usage: &InstanceUsage,
    (maker, is_probed): (&InstanceMaker, bool),
) -> wasmtime::Result<()> {
    let mut calls = FuturesUnordered::new();
    let (mut next, mut is_open) = (Some(first), true);
    loop {
        if let Some(job) = next.take() {
            usage.is_quiet.store(false, Ordering::Release);
            let Job { request, head, ended, signals, permit, groups } = job;
            let GuestRequest { http, id, span, handler, component, .. } = request;
            let function = &handlers[handler];
            let trace = span.trace();
            maker.note_run(Some(&span), is_probed);
            let scope = RequestScope::new(Some(id), Some(span), groups);
            let mut concurrent =
                Some(ConcurrentRequest { scope, component: component.clone(), signals: signals.clone() });
            requests.begin(id, InFlightRequest { component, trace, head: head.clone(), signals });
            calls.push(async move {
                let mut running = None;
                let mut on_start = |guest: &mut Guest, task| {
                    if let Some(request) = concurrent.take() {
                        guest.probed_calls.end_request(task);
                        guest.concurrent.insert(task, request);
                        running = Some(task);
                    }
                };
                let result = call(accessor, function, http, &head, ended, &mut on_start).await;
                accessor.with(|mut store| {
                    let guest = store.data_mut();
                    if let Some(task) = running
                        && guest.concurrent.remove(task, id)
                    {
                        guest.probed_calls.end_request(task);
                    }
                    usage.update(guest);
                });
                drop(permit);
                (id, head, result)
            });
        }
        tokio::select! {
            job = inbox.recv(), if is_open => match job {
                Some(job) => next = Some(job),
                None => is_open = false,
            },
            Some((id, head, result)) = calls.next() => {
                result?;
                // Has no effect if the handler has already sent a head.
                let _ = head.send(Err(Failure::NoResponse));
                requests.lock().end(id);
            }
            () = poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)),
                if is_open && calls.is_empty() && !usage.is_quiet() =>
            {
                usage.is_quiet.store(true, Ordering::Release);
            }
            else => return Ok(()),
        }
    }
}

/// Sends a failure to each request that was in flight when the execution of `instance` ended with `outcome`.
fn send_failures(instance: &Instance, outcome: Option<wasmtime::Result<()>>, requests: Requests) {
    let guest = instance.store.data();
    let is_out_of_cpu = guest.out_of_cpu;
    let run = match &outcome {
        None => RunEnd::Late,
        Some(Ok(())) => RunEnd::Returned,
        Some(Err(error)) if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) => {
            RunEnd::Interrupted { is_out_of_cpu }
        }
        Some(Err(_)) => RunEnd::Trapped { is_out_of_cpu },
    };
    let error = outcome.as_ref().and_then(|outcome| outcome.as_ref().err());
    if let Some(error) = error {
        instance.check(error);
    }
    for (id, request, end) in requests.into_inner().end_all(run, Instant::now()) {
        let backtrace = || error.map(backtrace).unwrap_or_default();
        let failure = match (end, error) {
            (RequestEnd::Deadline, _) => {
                Failure::Deadline { deadline: request.signals.until().allowed, backtrace: backtrace() }
            }
            (RequestEnd::OutOfCpu, _) => Failure::out_of_cpu(backtrace()),
            (RequestEnd::Trap, Some(error)) => Failure::from_trap(error, guest.limiter.refused()),
            (RequestEnd::Trap | RequestEnd::InstanceLost, _) => Failure::InstanceLost,
        };
        request.signals.fail(&failure);
        if let Some(Err(failure)) = request.head.send(Err(failure)) {
            guest.sink().emit(Event::RequestFailed {
                component: &request.component,
                request: id,
                trace: Some(request.trace),
                reason: &failure,
                backtrace: failure.backtrace(),
                response_cut_off: true,
            });
        }
    }
}

/// A request that an instance is serving.
struct InFlightRequest {
    component: Arc<str>,
    /// The span of the request.
    trace: TraceContext,
    head: HeadSender,
    signals: Arc<ResponseSignals>,
}

impl RequestState for InFlightRequest {
    fn until(&self) -> TimeLimit {
        self.signals.until()
    }

    fn waits_for_client(&self) -> bool {
        self.signals.waits_for_client()
    }
}

/// The requests in flight, shared between the execution that serves them and the task that checks their deadlines.
#[derive(Default)]
struct Requests {
    in_flight: Mutex<InFlightRequests<InFlightRequest>>,
    /// Notified when a request starts while no other request is in flight.
    busy: Notify,
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, InFlightRequests<InFlightRequest>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, id: RequestId, request: InFlightRequest) {
        if self.lock().begin(id, request) {
            self.busy.notify_one();
        }
    }

    /// Waits until a request is so late that the instance must be stopped. No timer runs while the instance serves no
    /// request.
    async fn late(&self) {
        loop {
            if self.lock().is_empty() {
                self.busy.notified().await;
            }
            tokio::time::sleep(DEADLINE_TICK).await;
            if self.lock().must_stop(Instant::now()) {
                return;
            }
        }
    }

    fn into_inner(self) -> InFlightRequests<InFlightRequest> {
        self.in_flight.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
