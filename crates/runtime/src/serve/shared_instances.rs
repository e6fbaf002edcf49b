//! The pool of instances that serve several requests at the same time (`concurrency = N`), for components that do only
//! asynchronous I/O.
//!
//! Each instance has its own task, which runs its wasmtime store ([`SharedInstance`]). Requests are sent to that task.
//! A trap or a missed deadline ends the instance and all requests that it is serving (at most N).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use isomer_telemetry::SpanContext;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::body::{RemainingWork, ResponseBody};
use super::exchange::HeadSender;
use super::instance_pool::{InstanceCounts, PoolLimits};
use super::replacement::ReplacementLimit;
use super::request::GuestRequest;
use super::shared_instance::{InstanceUsage, Job, SharedInstance};
use super::waiting::WaitingRequest;
use crate::clock::now;
use crate::failure::Failure;
use crate::guest::{GroupsInUse, ResponseSignals};
use crate::instance::{Instance, InstanceMaker, LinkedCode};
use crate::lanes::MeteredFuture;
use crate::pool::Account;
use crate::pool::idle::{Eviction, IdlePool, IdleSince, oldest_kept};
use crate::spans::record_wait;

/// The pool of one group's instances that each serve several requests at the same time.
pub(crate) struct SharedInstances {
    maker: Arc<InstanceMaker>,
    limits: PoolLimits,
    concurrency: u32,
    /// One permit for each request that may be in flight, for all instances of the group together.
    permits: Arc<Semaphore>,
    /// One permit for each live instance. An instance that gets no more requests keeps its permit until its last
    /// request has ended.
    instance_permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    workers: Mutex<Vec<Arc<Worker>>>,
    since: Arc<IdleSince>,
    replacements: ReplacementLimit,
}

/// The task of one instance, as the pool sees it. The pool gives requests only to the workers in its list. When a
/// worker is removed from the list, its task ends after the requests that it has.
struct Worker {
    /// Whether the instance runs the probed code. Set to `false` if no instance of the probed code can be created.
    is_probed: Arc<AtomicBool>,
    /// Sends requests to the task. The channel has room for every request that the instance may serve at the same time.
    /// It is never full, because a request is counted in `serving` before it is sent and until it has ended.
    jobs: mpsc::Sender<Job<RequestPermit>>,
    usage: Arc<InstanceUsage>,
    /// The number of requests that the worker is serving.
    serving: AtomicU32,
    /// The total number of requests that were sent to the worker.
    served: AtomicU32,
    created: Instant,
    /// The time at which the worker was started, or at which its last request ended or was moved to another worker, as
    /// a value of [`now`].
    idle: AtomicU64,
}

/// The permit for one request that `worker` serves. The worker counts the request until this value is dropped.
struct RequestPermit {
    pool: Arc<SharedInstances>,
    worker: Arc<Worker>,
    _permit: OwnedSemaphorePermit,
}

impl RequestPermit {
    /// Moves the request to `worker`, which must have counted the request already.
    fn move_to(&mut self, worker: Arc<Worker>) {
        let before = std::mem::replace(&mut self.worker, worker);
        self.pool.release(&before);
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.pool.release(&self.worker);
    }
}

impl SharedInstances {
    pub(crate) fn new(maker: Arc<InstanceMaker>, limits: PoolLimits, concurrency: u32) -> Arc<Self> {
        let shared = Arc::new(Self {
            maker,
            limits,
            concurrency,
            permits: Arc::new(Semaphore::new(limits.instances_max.saturating_mul(concurrency as usize))),
            instance_permits: Arc::new(Semaphore::new(limits.instances_max)),
            waiting: AtomicUsize::new(0),
            workers: Mutex::default(),
            since: Arc::default(),
            replacements: ReplacementLimit::default(),
        });
        shared.maker.register(&shared.since, &shared);
        shared
    }

    /// Serves one request and returns its response.
    ///
    /// # Errors
    /// If the guest returns no response. [`Failure`] lists the reasons.
    pub(crate) async fn handle(
        self: Arc<Self>,
        groups: GroupsInUse,
        request: GuestRequest,
    ) -> Result<http::Response<ResponseBody>, Failure> {
        let permit = self.permit(&request.span).await?;
        let unread = request.http.method() == http::Method::HEAD;
        let (head_sender, head) = oneshot::channel();
        let (ended_sender, ended) = oneshot::channel();
        let signals = ResponseSignals::new(request.until(), (!unread).then_some(request.stream_allowed));
        let worker = self.worker(&request);
        let permit = RequestPermit { pool: self.clone(), worker: worker.clone(), _permit: permit };
        let head_sender = HeadSender::new(head_sender, signals.clone());
        let job = Job { groups, request, head: head_sender, ended, signals: signals.clone(), permit };
        self.send(worker, job);
        let response = head.await.unwrap_or(Err(Failure::InstanceLost))?;
        Ok(ResponseBody::of(response, RemainingWork::Elsewhere, signals, ended_sender, unread))
    }

    /// Sends a job to `worker`, or to another worker if the task of `worker` has just ended. Sending the job again is
    /// safe, because the request has not started.
    fn send(self: &Arc<Self>, mut worker: Arc<Worker>, mut job: Job<RequestPermit>) {
        while let Err(refused) = worker.jobs.try_send(job) {
            job = refused.into_inner();
            worker = self.worker(&job.request);
            job.permit.move_to(worker.clone());
        }
    }

    async fn permit(&self, span: &SpanContext) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = WaitingRequest::enter(&self.waiting);
        let overloaded = || Failure::Overloaded { instances: self.limits.instances_max, waiting: waiting.earlier() };
        if waiting.earlier() >= self.limits.waiting_max {
            return Err(overloaded());
        }
        record_wait(Some(span), &self.maker.metrics, async {
            match tokio::time::timeout(self.limits.wait_max, self.permits.clone().acquire_owned()).await {
                Ok(Ok(permit)) => Ok(permit),
                Ok(Err(_)) | Err(_) => Err(overloaded()),
            }
        })
        .await
    }

    /// Returns a worker with room for `request`, and counts the request. The worker runs the probed code if the request
    /// is sampled and the group has probed code. Starts a worker if no worker with this code has room.
    ///
    /// If there are as many workers as instances are allowed, the request is served by a worker with the other code. The
    /// caller holds a permit of `permits`, so in this case one of the workers has room. But a sampled request may cause
    /// an idle plain worker to be replaced, as often as [`ReplacementLimit`] allows.
    fn worker(self: &Arc<Self>, request: &GuestRequest) -> Arc<Worker> {
        let probed = self.maker.probed.code_for(Some(&request.span));
        let mut workers = self.workers();
        workers.retain(|worker| !worker.jobs.is_closed() && !self.is_worn_out(worker));
        let has_room = |worker: &&Arc<Worker>| worker.serving.load(Ordering::Acquire) < self.concurrency;
        let is_probed = probed.is_some();
        let mut free = workers.iter().find(|worker| worker.is_probed() == is_probed && has_room(worker)).cloned();
        // A worker that was removed from the list may still need its permit to finish its requests.
        let is_full = workers.len() >= self.limits.instances_max || self.instance_permits.available_permits() == 0;
        if free.is_none() && is_full {
            let replaceable = workers.iter().position(|worker| is_probed && worker.is_replaceable());
            match replaceable.filter(|_| self.replacements.allows(now())) {
                Some(idle) => drop(workers.swap_remove(idle).evict(self.account())),
                None => free = workers.iter().find(has_room).cloned(),
            }
        }
        let worker = free.unwrap_or_else(|| {
            let worker = self.start_worker(probed);
            workers.push(worker.clone());
            worker
        });
        worker.served.fetch_add(1, Ordering::Relaxed);
        if worker.serving.fetch_add(1, Ordering::AcqRel) == 0 {
            self.note_idle(&workers);
        }
        worker
    }

    fn start_worker(self: &Arc<Self>, probed: Option<Arc<LinkedCode>>) -> Arc<Worker> {
        let (jobs, inbox) = mpsc::channel(self.concurrency.max(1) as usize);
        let usage = Arc::<InstanceUsage>::default();
        let is_probed = Arc::new(AtomicBool::new(probed.is_some()));
        let run = Box::pin(self.clone().run(probed, is_probed.clone(), inbox, usage.clone()));
        tokio::spawn(MeteredFuture::new(self.account(), run));
        Arc::new(Worker {
            is_probed,
            jobs,
            usage,
            serving: AtomicU32::new(0),
            served: AtomicU32::new(0),
            created: Instant::now(),
            idle: AtomicU64::new(now()),
        })
    }

    /// Runs the task of one worker: serves requests with one instance until the instance ends. Then other workers
    /// receive the requests that have not started.
    async fn run(
        self: Arc<Self>,
        probed: Option<Arc<LinkedCode>>,
        is_probed: Arc<AtomicBool>,
        mut inbox: mpsc::Receiver<Job<RequestPermit>>,
        usage: Arc<InstanceUsage>,
    ) {
        let Some(first) = inbox.recv().await else { return };
        let made = self.make(probed.as_deref(), first.request.deadline, &first.request.span).await;
        let (_permit, instance) = match made {
            Ok(made) => made,
            Err(failure) => {
                let _ = first.head.send(Err(failure));
                return;
            }
        };
        drop(probed);
        is_probed.store(instance.is_probed(), Ordering::Relaxed);
        let mut inbox = SharedInstance::new(self.maker.clone(), instance, inbox, usage.clone()).run(first).await;
        while let Some(mut job) = inbox.recv().await {
            let worker = self.worker(&job.request);
            job.permit.move_to(worker.clone());
            self.send(worker, job);
        }
    }

    /// Creates an instance of `probed`, or of the plain code if that fails. The returned permit must be dropped after the
    /// instance.
    async fn make(
        &self,
        probed: Option<&LinkedCode>,
        deadline: Instant,
        span: &SpanContext,
    ) -> Result<(OwnedSemaphorePermit, Instance), Failure> {
        let acquired = async {
            let permit = self.instance_permits.clone().acquire_owned();
            match tokio::time::timeout(self.limits.wait_max, permit).await {
                Ok(Ok(permit)) => Ok(permit),
                Ok(Err(_)) | Err(_) => Err(Failure::Overloaded { instances: self.limits.instances_max, waiting: 0 }),
            }
        };
        let permit = record_wait(Some(span), &self.maker.metrics, acquired).await?;
        if let Some(probed) = probed
            && let Some(instance) = self.maker.make_probed(probed, deadline, Some(span)).await
        {
            return Ok((permit, instance));
        }
        Ok((permit, self.maker.make(None, deadline, Some(span)).await?))
    }

    /// Returns the numbers of instances and of waiting requests.
    pub(crate) fn counts(&self) -> InstanceCounts {
        let live = self.limits.instances_max.saturating_sub(self.instance_permits.available_permits());
        let idle = self.workers().iter().filter(|worker| worker.idle_since().is_some()).count();
        InstanceCounts { live, idle: idle.min(live), waiting: self.waiting.load(Ordering::Relaxed) }
    }

    fn account(&self) -> &Arc<Account> {
        &self.maker.template.account
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Arc<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subtracts a request from the count of `worker`, because the request has ended or was moved to another worker.
    fn release(&self, worker: &Worker) {
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

    fn is_worn_out(&self, worker: &Worker) -> bool {
        worker.served.load(Ordering::Relaxed) >= self.limits.requests_max
            || worker.usage.is_cluttered()
            || worker.created.elapsed() >= self.limits.age_max
    }
}

impl Worker {
    /// Starts the eviction of the worker's instance: from now on, new charges may use the instance's memory, although
    /// the instance has not been dropped yet. The caller must have removed the worker from the list of workers.
    fn evict(&self, account: &Arc<Account>) -> Eviction {
        let bytes = self.usage.bytes();
        self.usage.set_evicted(account.evicted(bytes));
        Eviction { bytes, is_gone: false }
    }

    fn is_probed(&self) -> bool {
        self.is_probed.load(Ordering::Relaxed)
    }

    /// Returns whether the worker runs plain code and can be replaced without stopping any work.
    fn is_replaceable(&self) -> bool {
        !self.is_probed() && self.idle_since().is_some() && self.usage.is_quiet()
    }

    /// Returns the time at which the worker became idle, as a value of [`now`]. Returns `None` while it serves a
    /// request.
    fn idle_since(&self) -> Option<u64> {
        (self.serving.load(Ordering::Acquire) == 0).then(|| self.idle.load(Ordering::Relaxed))
    }
}

impl IdlePool for SharedInstances {
    fn evict_oldest(&self) -> Option<Eviction> {
        let mut workers = self.workers();
        let idle = workers.iter().enumerate().filter_map(|(index, worker)| Some((worker.idle_since()?, index)));
        let oldest = idle.min();
        let oldest = oldest.map(|(_, index)| workers.swap_remove(index));
        self.note_idle(&workers);
        oldest.map(|worker| worker.evict(self.account()))
    }

    fn idle_bytes(&self) -> u64 {
        let workers = self.workers();
        let idle = workers.iter().filter(|worker| worker.idle_since().is_some());
        idle.map(|worker| worker.usage.bytes()).sum()
    }

    fn evict_old(&self) {
        let before = oldest_kept();
        let mut workers = self.workers();
        workers.retain(|worker| worker.idle_since().is_none_or(|since| since >= before));
        self.note_idle(&workers);
    }
}
