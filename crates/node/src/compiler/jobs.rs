//! Compile jobs. At any time, at most one job compiles a given release, and its result goes to all requests that need
//! the release.
//!
//! A request is a deployment, or the load of a deployed app. All requests for the release wait for its job, each until
//! the request's own deadline. If at least one of them is a load, the job continues even when no request waits any
//! more, so that the next request finds the result. If all of them are deployments, the job is cancelled when the last
//! deployment stops waiting.
//!
//! A job needs a [permit](isomer_apps::fair_semaphore) for a compiler process. Each tenant that needs the release waits
//! for a permit in the tenant's own queue, and the first permit that is granted to any of these tenants starts the job.
//! So a tenant with a long or full queue does not delay other tenants that need the same release. If a tenant's queue
//! is full, only requests of this tenant fail.
//!
//! If a release is refused, loads of the release get the same error for [`FAILED_FOR`], without another compilation. A
//! deployment always compiles again. Failures of the node itself are not stored.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use isomer_api::{ApiProblem, ProblemKind};
use isomer_apps::fair_semaphore::{PermitRequest, SemaphorePermit};
use isomer_ids::{ReleaseDigest, TenantName};
use tokio::sync::{mpsc, watch};

/// The time for which loads of a refused release get the stored error, without another compilation.
const FAILED_FOR: Duration = Duration::from_secs(30);

/// The maximum number of stored errors. Further errors are not stored.
const FAILURES_MAX: usize = 1024;

/// The reason for a compilation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompileReason {
    /// A deployment: a client waits for the result.
    Deployment,
    /// The load of an app whose revision was deployed earlier, and must be compiled again.
    Load,
}

/// The compile jobs in progress, and the stored errors of refused releases. `T` is the result of a compilation.
pub(crate) struct CompileJobs<T>(Arc<Mutex<JobTable<T>>>);

struct JobTable<T> {
    running: HashMap<ReleaseDigest, CompileJob<T>>,
    failed: HashMap<ReleaseDigest, (Instant, ApiProblem)>,
}

struct CompileJob<T> {
    sender: Arc<watch::Sender<Option<Result<T, ApiProblem>>>>,
    /// Whether the job continues when no request waits for its result. True if a load has requested the job.
    is_kept: bool,
    /// The tenants that wait for a permit; `None` after the job got one.
    waiting: Option<PermitWaiters>,
}

/// The tenants that have requested a permit for one compile job.
struct PermitWaiters {
    tenants: HashSet<TenantName>,
    requests: mpsc::UnboundedSender<PermitRequest>,
}

impl<T: Clone + Send + Sync + 'static> CompileJobs<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(JobTable { running: HashMap::new(), failed: HashMap::new() })))
    }

    /// Returns the result of compiling `revision`. If a job compiles the revision already, waits for the job. If there
    /// is no such job, starts a job that calls `compile`. `request_permit` requests a permit for `tenant`. Must be
    /// called in a tokio runtime.
    ///
    /// # Errors
    /// If the compilation fails, or if there is no job yet and `request_permit` fails.
    pub(crate) async fn join<F>(
        &self,
        revision: &ReleaseDigest,
        tenant: &TenantName,
        reason: CompileReason,
        request_permit: impl FnOnce() -> Result<PermitRequest, ApiProblem>,
        compile: impl FnOnce(SemaphorePermit) -> F + Send + 'static,
    ) -> Result<T, ApiProblem>
    where
        F: Future<Output = Result<T, ApiProblem>> + Send + 'static,
    {
        let mut outcome = {
            let mut state = lock(&self.0);
            if let Some(job) = state.running.get_mut(revision) {
                job.is_kept |= reason == CompileReason::Load;
                if let Some(waiting) = &mut job.waiting
                    && !waiting.tenants.contains(tenant)
                    // Request a permit in this tenant's queue as well. If this queue is full, ignore the error: the job
                    // starts with a permit that another tenant has requested.
                    && let Ok(request) = request_permit()
                    && waiting.requests.send(request).is_ok()
                {
                    waiting.tenants.insert(tenant.clone());
                }
                job.sender.subscribe()
            } else {
                if reason == CompileReason::Load
                    && let Some((until, problem)) = state.failed.get(revision)
                    && Instant::now() < *until
                {
                    return Err(problem.clone());
                }
                let first = request_permit()?;
                let (sender, outcome) = watch::channel(None);
                let (requests, more) = mpsc::unbounded_channel();
                let sender = Arc::new(sender);
                let waiting = PermitWaiters { tenants: HashSet::from([tenant.clone()]), requests };
                let job = CompileJob {
                    sender: sender.clone(),
                    is_kept: reason == CompileReason::Load,
                    waiting: Some(waiting),
                };
                state.running.insert(revision.clone(), job);
                let permits = PermitRequests { first, more };
                tokio::spawn(run_job(self.0.clone(), revision.clone(), sender, permits, compile));
                outcome
            }
        };
        let ended = || ApiProblem::new(ProblemKind::Failed, "the compiler ended unexpectedly; see the node's log");
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(ended())),
            Err(_) => Err(ended()),
        }
    }
}

/// The permit requests of all tenants that wait for one compile job.
struct PermitRequests {
    first: PermitRequest,
    more: mpsc::UnboundedReceiver<PermitRequest>,
}

impl PermitRequests {
    /// Waits for the first permit that is granted, and cancels all other permit requests.
    async fn granted(self) -> SemaphorePermit {
        let Self { first, mut more } = self;
        let mut waiting = FuturesUnordered::new();
        waiting.push(first.granted());
        loop {
            tokio::select! {
                biased;
                Some(permit) = waiting.next() => return permit,
                Some(request) = more.recv() => waiting.push(request.granted()),
            }
        }
    }
}

async fn run_job<T: Clone + Send + Sync, F: Future<Output = Result<T, ApiProblem>> + Send>(
    state: Arc<Mutex<JobTable<T>>>,
    revision: ReleaseDigest,
    sender: Arc<watch::Sender<Option<Result<T, ApiProblem>>>>,
    permits: PermitRequests,
    compile: impl FnOnce(SemaphorePermit) -> F + Send,
) {
    // However this function ends, dropping `registration` removes the job from the table, which also holds the sender.
    // If the function ends without an outcome, no sender is left, so the waiting requests get an error.
    let registration = JobRegistration { state: &state, revision: &revision, sender: &sender };
    let compiled = async {
        let permit = permits.granted().await;
        if let Some(job) = lock(&state).running.get_mut(&revision) {
            job.waiting = None;
        }
        compile(permit).await
    };
    let outcome = tokio::select! {
        biased;
        outcome = compiled => outcome,
        () = registration.abandoned() => return,
    };
    {
        let mut state = lock(&state);
        state.failed.remove(&revision);
        if let Err(problem) = &outcome
            && problem.kind == ProblemKind::Refused
        {
            let now = Instant::now();
            state.failed.retain(|_, (until, _)| now < *until);
            if state.failed.len() < FAILURES_MAX {
                state.failed.insert(revision.clone(), (now + FAILED_FOR, problem.clone()));
            }
        }
    }
    drop(registration);
    sender.send_replace(Some(outcome));
}

/// The entry of a job in the table. Dropping this value removes the entry, even if the compilation panics.
struct JobRegistration<'a, T> {
    state: &'a Mutex<JobTable<T>>,
    revision: &'a ReleaseDigest,
    sender: &'a Arc<watch::Sender<Option<Result<T, ApiProblem>>>>,
}

impl<T> JobRegistration<'_, T> {
    /// Waits until no request waits for the job, then removes the job from the table. Waits forever if a load has
    /// requested the job.
    async fn abandoned(&self) {
        loop {
            self.sender.closed().await;
            let mut state = lock(self.state);
            if state.running.get(self.revision).is_some_and(|job| job.is_kept) {
                break;
            }
            // Check the number of receivers again: a request may have joined before the lock was taken, but none can
            // join while the lock is held.
            if self.sender.receiver_count() == 0 {
                self.remove_from(&mut state);
                return;
            }
        }
        std::future::pending().await
    }

    /// Removes the job from the table, unless the table has a newer job for the same release.
    fn remove_from(&self, state: &mut JobTable<T>) {
        if state.running.get(self.revision).is_some_and(|job| Arc::ptr_eq(&job.sender, self.sender)) {
            state.running.remove(self.revision);
        }
    }
}

impl<T> Drop for JobRegistration<'_, T> {
    fn drop(&mut self) {
        self.remove_from(&mut lock(self.state));
    }
}

fn lock<T>(state: &Mutex<JobTable<T>>) -> MutexGuard<'_, JobTable<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use isomer_apps::fair_semaphore::FairSemaphoreLimits;
    use tokio::sync::Semaphore;

    use super::*;

    /// A fake compiler that waits for a permit from `go` before it ends, and counts its runs.
    #[derive(Clone)]
    struct FakeCompiler {
        started: Arc<watch::Sender<usize>>,
        ended: Arc<watch::Sender<usize>>,
        go: Arc<Semaphore>,
    }

    struct CountDrop(Arc<watch::Sender<usize>>);

    impl Drop for CountDrop {
        fn drop(&mut self) {
            self.0.send_modify(|count| *count += 1);
        }
    }

    impl FakeCompiler {
        fn new() -> Self {
            let counter = || Arc::new(watch::channel(0).0);
            Self { started: counter(), ended: counter(), go: Arc::new(Semaphore::new(0)) }
        }

        async fn compile(self, permit: SemaphorePermit, answer: Result<u32, ApiProblem>) -> Result<u32, ApiProblem> {
            let _counted = CountDrop(self.ended.clone());
            self.started.send_modify(|count| *count += 1);
            self.go.acquire().await.unwrap().forget();
            drop(permit);
            answer
        }

        fn started(&self) -> usize {
            *self.started.borrow()
        }

        async fn have_started(&self, count: usize) {
            self.started.subscribe().wait_for(|started| *started >= count).await.unwrap();
        }

        async fn have_ended(&self, count: usize) {
            self.ended.subscribe().wait_for(|ended| *ended >= count).await.unwrap();
        }
    }

    /// The compile jobs under test, and the semaphore of their permits.
    struct Fixture {
        jobs: CompileJobs<u32>,
        permits: isomer_apps::fair_semaphore::FairSemaphore,
        compiler: FakeCompiler,
    }

    impl Fixture {
        fn new(permits: usize, waiting: usize) -> Self {
            let limits =
                FairSemaphoreLimits { permits, of_tenant: permits, waiting: 100, waiting_of_tenant: waiting, slow: 0 };
            Self {
                jobs: CompileJobs::new(),
                permits: isomer_apps::fair_semaphore::FairSemaphore::new(limits),
                compiler: FakeCompiler::new(),
            }
        }

        fn request_permit(&self, tenant: &str) -> Result<PermitRequest, ApiProblem> {
            let full = |_| ApiProblem::new(ProblemKind::Unavailable, "too many wait");
            self.permits.request(&tenant.parse().unwrap()).map_err(full)
        }

        async fn join(
            &self,
            who: (&str, CompileReason),
            number: u8,
            answer: Result<u32, ApiProblem>,
        ) -> Result<u32, ApiProblem> {
            let (compiler, (tenant, reason)) = (self.compiler.clone(), who);
            let compile = move |permit| compiler.compile(permit, answer);
            let tenant_name = tenant.parse().unwrap();
            self.jobs
                .join(&ReleaseDigest::from([number; 16]), &tenant_name, reason, || self.request_permit(tenant), compile)
                .await
        }

        fn is_idle(&self) -> bool {
            lock(&self.jobs.0).running.is_empty()
        }
    }

    const LOAD: (&str, CompileReason) = ("t", CompileReason::Load);
    const DEPLOYMENT: (&str, CompileReason) = ("t", CompileReason::Deployment);

    fn problem() -> ApiProblem {
        ApiProblem::new(ProblemKind::Refused, "no")
    }

    #[tokio::test]
    async fn concurrent_requests_share_one_job() {
        let fixture = Fixture::new(4, 4);
        let all = [LOAD, DEPLOYMENT, LOAD, ("u", CompileReason::Load)].map(|who| fixture.join(who, 7, Ok(1)));
        let elsewhere = fixture.join(LOAD, 8, Ok(2));
        let go = async {
            fixture.compiler.have_started(2).await;
            fixture.compiler.go.add_permits(2);
        };
        let (all, elsewhere, ()) = futures::join!(futures::future::join_all(all), elsewhere, go);
        assert!(all.into_iter().all(|outcome| outcome == Ok(1)) && elsewhere == Ok(2));
        assert_eq!(fixture.compiler.started(), 2);
        assert!(fixture.is_idle());
    }

    #[tokio::test]
    async fn a_job_of_a_load_continues_without_it() {
        let fixture = Fixture::new(1, 4);
        let compiler = &fixture.compiler;
        let mut deployment = Box::pin(fixture.join(DEPLOYMENT, 7, Ok(1)));
        assert!((&mut deployment).now_or_never().is_none());
        compiler.have_started(1).await;
        drop(deployment);
        compiler.have_ended(1).await;
        let mut load = Box::pin(fixture.join(LOAD, 7, Ok(1)));
        assert!((&mut load).now_or_never().is_none());
        compiler.have_started(2).await;
        drop(load);
        let mut next = Box::pin(fixture.join(LOAD, 7, Ok(2)));
        assert!((&mut next).now_or_never().is_none());
        compiler.go.add_permits(1);
        assert_eq!(
            (next.await, compiler.started()),
            (Ok(1), 2),
            "the result of the job without waiting requests is used"
        );
    }

    #[tokio::test]
    async fn loads_get_a_recent_refusal_and_deployments_try_again() {
        let fixture = Fixture::new(1, 4);
        let compiler = &fixture.compiler;
        compiler.go.add_permits(1);
        assert_eq!(fixture.join(LOAD, 7, Err(problem())).await, Err(problem()));
        assert_eq!(fixture.join(LOAD, 7, Ok(1)).await, Err(problem()));
        assert_eq!(compiler.started(), 1);
        compiler.go.add_permits(1);
        assert_eq!(fixture.join(DEPLOYMENT, 7, Ok(2)).await, Ok(2));
        compiler.go.add_permits(1);
        assert_eq!(fixture.join(LOAD, 7, Ok(3)).await, Ok(3), "the error is no longer stored");
        // A failure of the node itself must not be stored as an error of the release.
        let failed = ApiProblem::new(ProblemKind::Failed, "no descriptors");
        compiler.go.add_permits(1);
        assert_eq!(fixture.join(LOAD, 7, Err(failed.clone())).await, Err(failed));
        compiler.go.add_permits(1);
        assert_eq!(fixture.join(LOAD, 7, Ok(4)).await, Ok(4));
    }

    #[tokio::test]
    async fn a_full_queue_fails_only_its_own_tenant() {
        // There is one permit, and each tenant may have one waiting request.
        let fixture = Fixture::new(1, 1);
        let compiler = &fixture.compiler;
        let busy = fixture.request_permit("greedy").unwrap().granted().now_or_never().unwrap();
        let mut first = Box::pin(fixture.join(("greedy", CompileReason::Load), 7, Ok(1)));
        assert!((&mut first).now_or_never().is_none());
        let refused = fixture.join(("greedy", CompileReason::Load), 8, Ok(2)).await.unwrap_err();
        assert_eq!(refused.kind, ProblemKind::Unavailable);
        // The error of the full queue is neither stored nor returned to another tenant.
        let mut other = Box::pin(fixture.join(("modest", CompileReason::Load), 8, Ok(3)));
        assert!((&mut other).now_or_never().is_none());
        drop(busy);
        compiler.go.add_permits(2);
        assert_eq!((first.await, other.await), (Ok(1), Ok(3)));
        compiler.go.add_permits(1);
        assert_eq!(fixture.join(("greedy", CompileReason::Load), 8, Ok(4)).await, Ok(4));
    }

    #[tokio::test]
    async fn the_first_granted_permit_starts_the_shared_job() {
        let fixture = Fixture::new(1, 100);
        let compiler = &fixture.compiler;
        let mut busy = fixture.request_permit("greedy").unwrap().granted().now_or_never();
        // The greedy tenant has ten requests in its queue before the request for this release.
        let queue: Vec<_> = (0..10).map(|_| fixture.request_permit("greedy").unwrap()).collect();
        let mut greedy = Box::pin(fixture.join(("greedy", CompileReason::Load), 7, Ok(1)));
        assert!((&mut greedy).now_or_never().is_none());
        let mut modest = Box::pin(fixture.join(("modest", CompileReason::Load), 7, Ok(2)));
        assert!((&mut modest).now_or_never().is_none());
        busy.take();
        // The first permit goes to the greedy tenant's queue, and the second permit to the other tenant.
        let mut queue = queue.into_iter();
        drop(queue.next().unwrap().granted().now_or_never().expect("permits are granted to tenants in turn"));
        // The job starts with the other tenant's permit, although nine requests still wait in the greedy tenant's
        // queue.
        compiler.have_started(1).await;
        compiler.go.add_permits(1);
        assert_eq!((greedy.await, modest.await), (Ok(1), Ok(1)));
        drop(queue);
        assert!(
            fixture.request_permit("greedy").unwrap().granted().now_or_never().is_some(),
            "the permit was released"
        );
    }

    #[tokio::test]
    async fn a_panic_fails_its_job_only() {
        let fixture = Fixture::new(1, 1);
        let (revision, tenant) = (ReleaseDigest::from([7; 16]), "t".parse().unwrap());
        let join = |panics: bool| {
            let compile = move |permit| async move {
                let _place: SemaphorePermit = permit;
                assert!(!panics, "the test requests a panic");
                Ok(1)
            };
            fixture.jobs.join(&revision, &tenant, CompileReason::Load, || fixture.request_permit("t"), compile)
        };
        assert!(join(true).await.is_err_and(|problem| problem.title.contains("unexpectedly")));
        assert_eq!(join(false).await, Ok(1));
    }
}
