//! One instance, several requests at once: `concurrency = N`, for components that do only asynchronous I/O.
//!
//! Each instance has a task of its own that runs its store; requests are sent to it. A trap or a missed deadline takes the
//! instance down with all its requests (at most N). Whose fault a trap is cannot be told: all get it. After a missed deadline the
//! late ones get that, the others [`Failure::Neighbour`].
//!
//! A request is over when its response has been read. What its guest still does then goes on beside the next requests, and ends with
//! the instance at the latest: the store knows when it has no work left, but not whose work it is.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use isomer_telemetry::{Event, RequestId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use wasmtime::Trap;

use crate::account::{Account, Leaving};
use crate::body::{ResponseBody, Rest, Signals};
use crate::failure::{Failure, backtrace};
use crate::graph::Graph;
use crate::group::Request;
use crate::idle::{Evicted, Idle, IdleSince, now};
use crate::lanes::Metered;
use crate::pool::{IDLE_MAX, PoolLimits};
use crate::scope::{Scope, Until};
use crate::serve::{Head, Instance, InstanceMaker, call};
use crate::tasks;

pub(crate) struct SharedInstances {
    maker: Arc<InstanceMaker>,
    limits: PoolLimits,
    concurrency: u32,
    /// One per request that may be served at once, over all instances.
    permits: Arc<Semaphore>,
    /// One per live instance. A worn-out instance keeps its own until its last request is over.
    slots: Arc<Semaphore>,
    waiting: AtomicU32,
    workers: Mutex<Vec<Arc<Worker>>>,
    since: Arc<IdleSince>,
}

/// An instance's task, as the pool sees it.
struct Worker {
    /// Has a place for each request that it may serve at once. A request that is sent is counted in `serving` until it is over, so the channel
    /// is never full.
    jobs: mpsc::Sender<Job>,
    memory: Arc<Memory>,
    /// Requests that it serves now.
    serving: AtomicU32,
    /// Requests that it has taken in its life.
    taken: AtomicU32,
    born: Instant,
    /// Since when it serves none, by [`now`].
    idle: AtomicU64,
}

/// What a worker's instance holds. Its task drops this after the instance.
#[derive(Default)]
struct Memory {
    /// When a request was over last.
    bytes: AtomicU64,
    /// So many handles were left then that it gets no more requests.
    is_cluttered: AtomicBool,
    /// Where the worker was evicted.
    leaving: Mutex<Option<Leaving>>,
}

struct Job {
    graph: Arc<Graph>,
    request: Request,
    head: Head,
    ended: oneshot::Receiver<()>,
    signals: Arc<Signals>,
    place: Place,
}

/// A request's place with a worker.
struct Place {
    pool: Arc<SharedInstances>,
    worker: Arc<Worker>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Leaves its worker for another one, which counts it already.
    fn move_to(&mut self, worker: Arc<Worker>) {
        let before = std::mem::replace(&mut self.worker, worker);
        self.pool.left(&before);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.left(&self.worker);
    }
}

impl SharedInstances {
    pub(crate) fn new(maker: Arc<InstanceMaker>, limits: PoolLimits, concurrency: u32) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(limits.instances_max.saturating_mul(concurrency as usize)));
        let slots = Arc::new(Semaphore::new(limits.instances_max));
        let (waiting, workers, since) = (AtomicU32::new(0), Mutex::default(), Arc::default());
        let shared = Arc::new(Self { maker, limits, concurrency, permits, slots, waiting, workers, since });
        shared.maker.register(&shared.since, &shared);
        shared
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Arc<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has left `worker`.
    fn left(&self, worker: &Worker) {
        let mut workers = self.workers();
        worker.idle.store(now(), Ordering::Relaxed);
        if worker.serving.fetch_sub(1, Ordering::AcqRel) == 1 {
            if self.maker.is_room_wanted() {
                workers.retain(|other| !std::ptr::eq(&**other, worker));
            }
            self.note_idle(&workers);
        }
    }

    fn note_idle(&self, workers: &[Arc<Worker>]) {
        self.since.set(workers.iter().filter_map(|worker| worker.idle_since()).min());
    }

    pub(crate) async fn handle(
        self: Arc<Self>,
        graph: Arc<Graph>,
        request: Request,
    ) -> Result<http::Response<ResponseBody>, Failure> {
        let permit = self.permit().await?;
        let unread = request.http.method() == http::Method::HEAD;
        let (head_sender, head) = oneshot::channel();
        let (ended_sender, ended) = oneshot::channel();
        let signals = Signals::new(request.until(), (!unread).then_some(request.stream_allowed));
        let worker = self.worker();
        let place = Place { pool: self.clone(), worker: worker.clone(), _permit: permit };
        let head_sender = Head::new(head_sender, signals.clone());
        let job = Job { graph, request, head: head_sender, ended, signals: signals.clone(), place };
        self.send(worker, job);
        let response = head.await.unwrap_or(Err(Failure::Neighbour))?;
        Ok(ResponseBody::of(response, Rest::Elsewhere, signals, ended_sender, unread))
    }

    /// Gives a job to `worker`, or to another one if that has just ended: a request that was not begun has lost nothing.
    fn send(self: &Arc<Self>, mut worker: Arc<Worker>, mut job: Job) {
        while let Err(refused) = worker.jobs.try_send(job) {
            job = refused.into_inner();
            worker = self.worker();
            job.place.move_to(worker.clone());
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let overloaded =
            |waiting: u32| Failure::Overloaded { instances: self.limits.instances_max, waiting: waiting as usize };
        let waiting = Queued::enter(&self.waiting);
        if waiting.before as usize >= self.limits.waiting_max {
            return Err(overloaded(waiting.before));
        }
        match tokio::time::timeout(self.limits.wait_max, self.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(overloaded(waiting.before)),
        }
    }

    /// A worker with room for one more, whose `serving` already counts it. A permit is held, so there is one or may be one.
    fn worker(self: &Arc<Self>) -> Arc<Worker> {
        let mut workers = self.workers();
        workers.retain(|worker| !worker.jobs.is_closed() && !self.is_worn_out(worker));
        let free = workers.iter().find(|worker| worker.serving.load(Ordering::Acquire) < self.concurrency);
        let worker = match free {
            Some(worker) => worker.clone(),
            None => {
                let (jobs, inbox) = mpsc::channel(self.concurrency.max(1) as usize);
                let (serving, taken) = (AtomicU32::new(0), AtomicU32::new(0));
                let (idle, memory) = (AtomicU64::new(now()), Arc::<Memory>::default());
                let run = Box::pin(self.clone().run(inbox, memory.clone()));
                let worker = Arc::new(Worker { jobs, memory, serving, taken, born: Instant::now(), idle });
                workers.push(worker.clone());
                tokio::spawn(Metered::new(&self.maker.template.account, run));
                worker
            }
        };
        worker.taken.fetch_add(1, Ordering::Relaxed);
        if worker.serving.fetch_add(1, Ordering::AcqRel) == 0 {
            self.note_idle(&workers);
        }
        worker
    }

    fn is_worn_out(&self, worker: &Worker) -> bool {
        worker.taken.load(Ordering::Relaxed) >= self.limits.requests_max
            || worker.memory.is_cluttered.load(Ordering::Relaxed)
            || worker.born.elapsed() >= self.limits.age_max
    }

    /// The life of one instance: until nobody can send to it any more, or it fails.
    async fn run(self: Arc<Self>, mut inbox: mpsc::Receiver<Job>, memory: Arc<Memory>) {
        let Some(first) = inbox.recv().await else { return };
        let (_slot, mut instance) = match self.make(first.request.deadline).await {
            Ok(made) => made,
            Err(failure) => {
                let _ = first.head.send(Err(failure));
                return;
            }
        };
        let serving = Mutex::new(BTreeMap::<RequestId, InFlight>::new());
        let busy = Notify::new();
        let handlers = instance.handlers.clone();
        // Which of its requests the guest works for cannot be told, so a call that it makes belongs to none of them, and has the time
        // that its callee is given.
        let scope = Scope { graph: Some(first.graph.clone()), ..Scope::default() };
        instance.store.data_mut().begin_request(Arc::new(scope), far_away());
        memory.bytes.store(instance.memory_bytes(), Ordering::Relaxed);
        let begun = instance.begun.clone();
        let outcome = {
            let run = instance.store.run_concurrent(async |accessor| {
                let mut calls = FuturesUnordered::new();
                let (mut next, mut open) = (Some(first), true);
                let serve = async {
                    loop {
                        if let Some(job) = next.take() {
                            let Job { request, head, ended, signals, place, graph: _ } = job;
                            let (id, function) = (request.id, &handlers[request.handler]);
                            let in_flight =
                                InFlight { component: request.component.clone(), head: head.clone(), signals };
                            serving.lock().unwrap_or_else(PoisonError::into_inner).insert(id, in_flight);
                            busy.notify_one();
                            let memory = &memory;
                            calls.push(async move {
                                let result = call(accessor, function, request.http, &head, ended).await;
                                let (held, is_cluttered) = accessor.with(|mut store| {
                                    let guest = store.data_mut();
                                    guest.count_handles();
                                    (guest.limiter.held_bytes(), guest.is_cluttered())
                                });
                                memory.bytes.store(held, Ordering::Relaxed);
                                memory.is_cluttered.store(is_cluttered, Ordering::Relaxed);
                                drop(place);
                                (id, head, result)
                            });
                        }
                        tokio::select! {
                            job = inbox.recv(), if open => match job {
                                Some(job) => next = Some(job),
                                None => open = false,
                            },
                            Some((id, head, result)) = calls.next() => settle(&serving, id, &head, result)?,
                            else => return Ok(()),
                        }
                    }
                };
                tasks::charged(accessor, serve).await
            });
            let mut run = pin!(async {
                match &begun {
                    Some(begun) => begun.beside(run).await,
                    None => run.await,
                }
            });
            let is_idle = || serving.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
            loop {
                // Nothing ticks for an instance that does nothing.
                let tick = async {
                    if is_idle() {
                        busy.notified().await;
                    }
                    tokio::time::sleep(DEADLINE_TICK).await;
                };
                tokio::select! {
                    outcome = &mut run => break Some(outcome.flatten()),
                    () = tick => {
                        let now = Instant::now();
                        // One whose client does not read is ended by who sends it, and must not cost the others their instance.
                        let late = |one: &InFlight| one.is_late(now) && !one.signals.waits_for_client();
                        if serving.lock().unwrap_or_else(PoisonError::into_inner).values().any(late) {
                            break None;
                        }
                    }
                }
            }
        };
        inbox.close();
        instance.store.data_mut().end_request();
        self.take_down(&instance, outcome, serving);
        while let Some(mut job) = inbox.recv().await {
            let worker = self.worker();
            job.place.move_to(worker.clone());
            self.send(worker, job);
        }
    }

    /// An instance and its slot, which must outlive it.
    async fn make(&self, deadline: Instant) -> Result<(OwnedSemaphorePermit, Instance), Failure> {
        let slot = tokio::time::timeout(self.limits.wait_max, self.slots.clone().acquire_owned()).await;
        let Ok(Ok(slot)) = slot else {
            return Err(Failure::Overloaded { instances: self.limits.instances_max, waiting: 0 });
        };
        Ok((slot, self.maker.make(deadline).await?))
    }

    /// Tells the requests that an instance was serving when it ended what became of them.
    fn take_down(
        &self,
        instance: &Instance,
        outcome: Option<wasmtime::Result<()>>,
        serving: Mutex<BTreeMap<RequestId, InFlight>>,
    ) {
        let guest = instance.store.data();
        let now = Instant::now();
        if let Some(Err(error)) = &outcome {
            instance.check(error);
        }
        // Which of the requests a trap belongs to cannot be told: the store has one call stack for all. Every one gets it.
        let mut serving = serving.into_inner().unwrap_or_else(PoisonError::into_inner);
        while let Some((id, one)) = serving.pop_first() {
            let late = one.is_late(now);
            let allowed = one.signals.until().allowed;
            let failure = match &outcome {
                None | Some(Ok(())) if late => Failure::Deadline { deadline: allowed, backtrace: Vec::new() },
                Some(Err(error)) if late && error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) => {
                    Failure::Deadline { deadline: allowed, backtrace: backtrace(error) }
                }
                Some(Err(error)) if guest.out_of_cpu => Failure::out_of_cpu(backtrace(error)),
                Some(Err(error)) => Failure::from_trap(error, guest.limiter.refused()),
                None | Some(Ok(())) => Failure::Neighbour,
            };
            one.signals.fail(&failure);
            if let Some(Err(failure)) = one.head.send(Err(failure)) {
                guest.sink().emit(Event::RequestFailed {
                    component: &one.component,
                    request: id,
                    reason: &failure,
                    backtrace: failure.backtrace(),
                    response_cut_off: true,
                });
            }
        }
    }
}

impl Worker {
    /// Notes that it is to end, and that its memory will be free then. It must be off the list.
    fn evict(&self, account: &Arc<Account>) -> Evicted {
        let bytes = self.memory.bytes.load(Ordering::Relaxed);
        *self.memory.leaving.lock().unwrap_or_else(PoisonError::into_inner) = Some(account.leaving(bytes));
        Evicted { bytes, is_gone: false }
    }

    /// By [`now`]; `None` while it serves a request.
    fn idle_since(&self) -> Option<u64> {
        (self.serving.load(Ordering::Acquire) == 0).then(|| self.idle.load(Ordering::Relaxed))
    }
}

/// Whoever is taken off the list gets no more requests, which ends its task.
impl Idle for SharedInstances {
    fn drop_oldest(&self) -> Option<Evicted> {
        let mut workers = self.workers();
        let idle = workers.iter().enumerate().filter_map(|(index, worker)| Some((worker.idle_since()?, index)));
        let oldest = idle.min();
        let oldest = oldest.map(|(_, index)| workers.swap_remove(index));
        self.note_idle(&workers);
        oldest.map(|worker| worker.evict(&self.maker.template.account))
    }

    fn idle_bytes(&self) -> u64 {
        let workers = self.workers();
        let idle = workers.iter().filter(|worker| worker.idle_since().is_some());
        idle.map(|worker| worker.memory.bytes.load(Ordering::Relaxed)).sum()
    }

    fn drop_old(&self) {
        let before = now().saturating_sub(u64::try_from(IDLE_MAX.as_nanos()).unwrap_or(u64::MAX));
        let mut workers = self.workers();
        workers.retain(|worker| worker.idle_since().is_none_or(|since| since >= before));
        self.note_idle(&workers);
    }
}

/// How often deadlines are looked at.
const DEADLINE_TICK: Duration = Duration::from_millis(5);

/// A request that an instance serves.
struct InFlight {
    component: Arc<str>,
    head: Head,
    signals: Arc<Signals>,
}

impl InFlight {
    fn is_late(&self, now: Instant) -> bool {
        self.signals.until().deadline <= now
    }
}

/// A call has come to its end; an error ends the instance.
fn settle(
    serving: &Mutex<BTreeMap<RequestId, InFlight>>,
    id: RequestId,
    head: &Head,
    result: wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    result?;
    let _ = head.send(Err(Failure::NoResponse));
    serving.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    Ok(())
}

/// A deadline for a store that several requests share: theirs are looked at by the instance's task.
fn far_away() -> Until {
    let allowed = Duration::from_secs(365 * 24 * 3600);
    Until { deadline: Instant::now() + allowed, allowed }
}

struct Queued<'a> {
    count: &'a AtomicU32,
    before: u32,
}

impl<'a> Queued<'a> {
    fn enter(count: &'a AtomicU32) -> Self {
        Self { count, before: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
