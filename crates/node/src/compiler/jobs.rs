//! Compile jobs: at most one job compiles a release at a time, for all requests that need the release.
//!
//! All requests for a release that is being compiled wait for the same job, each until its own deadline. If the load of
//! an app has requested the job, the job continues even when no request waits any more, and the next request uses its
//! result. If only deployments have requested the job, it is cancelled when the last of them stops waiting.
//!
//! A job needs a [permit](isomer_apps::fair_semaphore) for a compiler, and each tenant waits for one in its own queue.
//! The first permit that is granted starts the job for all tenants. So a tenant whose queue is long or full does not
//! delay another tenant with the same release, and a full queue fails only the requests of its own tenant.
//!
//! After a release was refused, loads get the same error for a while instead of a new attempt; a deployment always
//! tries again. Failures of the node itself are not remembered.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use isomer_api::{ApiProblem, ProblemKind};
use isomer_apps::fair_semaphore::{FairPermit, PermitRequest};
use isomer_ids::{ReleaseDigest, TenantName};
use tokio::sync::{mpsc, watch};

/// How long the error of a failed compilation is returned to further loads of the same release, without compiling it
/// again.
const FAILED_FOR: Duration = Duration::from_secs(30);

/// The maximum number of remembered errors. Further errors are not remembered.
const FAILURES_MAX: usize = 1024;

/// Why a compilation is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompileReason {
    /// A deployment, whose client waits for the result.
    Deployment,
    /// The load of an app that was deployed before.
    Load,
}

/// The jobs in progress, and recent errors. `T` is the result of a compilation.
pub(crate) struct CompileJobs<T>(Arc<Mutex<JobTable<T>>>);

struct JobTable<T> {
    running: HashMap<ReleaseDigest, CompileJob<T>>,
    failed: HashMap<ReleaseDigest, (Instant, ApiProblem)>,
}

struct CompileJob<T> {
    sender: Arc<watch::Sender<Option<Result<T, ApiProblem>>>>,
    /// Whether the job continues when no request waits for it.
    is_kept: bool,
    /// `None` once the job has a permit.
    waiting: Option<PermitWaiters>,
}

/// The tenants that wait for a permit for one job.
struct PermitWaiters {
    tenants: HashSet<TenantName>,
    asked: mpsc::UnboundedSender<PermitRequest>,
}

impl<T: Clone + Send + Sync + 'static> CompileJobs<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(JobTable { running: HashMap::new(), failed: HashMap::new() })))
    }

    /// Returns the result of compiling `revision`. Waits for the job in progress if there is one, and otherwise starts
    /// `compile`. `ask` requests a permit for `tenant`. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// With the error of the compilation. Without a job in progress, also with the error of `ask`.
    pub(crate) async fn join<F>(
        &self,
        revision: &ReleaseDigest,
        tenant: &TenantName,
        reason: CompileReason,
        ask: impl FnOnce() -> Result<PermitRequest, ApiProblem>,
        compile: impl FnOnce(FairPermit) -> F + Send + 'static,
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
                    // If the tenant's own queue is full, the tenant waits for the permits that other tenants have
                    // requested.
                    && let Ok(asked) = ask()
                    && waiting.asked.send(asked).is_ok()
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
                let first = ask()?;
                let (sender, outcome) = watch::channel(None);
                let (asked, more) = mpsc::unbounded_channel();
                let sender = Arc::new(sender);
                let waiting = PermitWaiters { tenants: HashSet::from([tenant.clone()]), asked };
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

/// The permits that were requested for one job.
struct PermitRequests {
    first: PermitRequest,
    more: mpsc::UnboundedReceiver<PermitRequest>,
}

impl PermitRequests {
    /// Returns the first permit that is granted, and cancels all other requests.
    async fn granted(self) -> FairPermit {
        let Self { first, mut more } = self;
        let mut waiting = FuturesUnordered::new();
        waiting.push(first.granted());
        loop {
            tokio::select! {
                biased;
                Some(permit) = waiting.next() => return permit,
                Some(asked) = more.recv() => waiting.push(asked.granted()),
            }
        }
    }
}

async fn run_job<T: Clone + Send + Sync, F: Future<Output = Result<T, ApiProblem>> + Send>(
    state: Arc<Mutex<JobTable<T>>>,
    revision: ReleaseDigest,
    sender: Arc<watch::Sender<Option<Result<T, ApiProblem>>>>,
    permits: PermitRequests,
    compile: impl FnOnce(FairPermit) -> F + Send,
) {
    // Removes the job however it ends. The channel closes then, because its last sender is dropped.
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

/// A job's entry in the table. Dropping it removes the entry, even if the compile panics.
struct JobRegistration<'a, T> {
    state: &'a Mutex<JobTable<T>>,
    revision: &'a ReleaseDigest,
    sender: &'a Arc<watch::Sender<Option<Result<T, ApiProblem>>>>,
}

impl<T> JobRegistration<'_, T> {
    /// Resolves when no request waits for a job that only deployments have requested. Removes the job before it
    /// resolves.
    async fn abandoned(&self) {
        loop {
            self.sender.closed().await;
            let mut state = lock(self.state);
            if state.running.get(self.revision).is_some_and(|job| job.is_kept) {
                break;
            }
            // No request can join while the lock is held.
            if self.sender.receiver_count() == 0 {
                self.remove_from(&mut state);
                return;
            }
        }
        std::future::pending().await
    }

    /// Removes the entry, unless another job for the same release has replaced it.
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

    /// A compiler for tests that waits for a signal before it ends, and counts its runs.
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

        async fn compile(self, permit: FairPermit, answer: Result<u32, ApiProblem>) -> Result<u32, ApiProblem> {
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

    /// Jobs, and the permits that they need.
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

        fn ask(&self, tenant: &str) -> Result<PermitRequest, ApiProblem> {
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
            self.jobs.join(&ReleaseDigest::from([number; 16]), &tenant_name, reason, || self.ask(tenant), compile).await
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
        assert_eq!((next.await, compiler.started()), (Ok(1), 2), "the one that was late is used");
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
        assert_eq!(fixture.join(LOAD, 7, Ok(3)).await, Ok(3), "it is forgotten");
        // A failure of the node itself is not a failure of the release.
        let failed = ApiProblem::new(ProblemKind::Failed, "no descriptors");
        compiler.go.add_permits(1);
        assert_eq!(fixture.join(LOAD, 7, Err(failed.clone())).await, Err(failed));
        compiler.go.add_permits(1);
        assert_eq!(fixture.join(LOAD, 7, Ok(4)).await, Ok(4));
    }

    #[tokio::test]
    async fn a_full_queue_fails_only_its_own_tenant() {
        // One permit, and one waiting request per tenant.
        let fixture = Fixture::new(1, 1);
        let compiler = &fixture.compiler;
        let busy = fixture.ask("greedy").unwrap().granted().now_or_never().unwrap();
        let mut first = Box::pin(fixture.join(("greedy", CompileReason::Load), 7, Ok(1)));
        assert!((&mut first).now_or_never().is_none());
        let refused = fixture.join(("greedy", CompileReason::Load), 8, Ok(2)).await.unwrap_err();
        assert_eq!(refused.kind, ProblemKind::Unavailable);
        // The error is neither shared with another tenant nor remembered.
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
        let mut busy = fixture.ask("greedy").unwrap().granted().now_or_never();
        // The greedy tenant has other requests in its queue before its release.
        let queue: Vec<_> = (0..10).map(|_| fixture.ask("greedy").unwrap()).collect();
        let mut greedy = Box::pin(fixture.join(("greedy", CompileReason::Load), 7, Ok(1)));
        assert!((&mut greedy).now_or_never().is_none());
        let mut modest = Box::pin(fixture.join(("modest", CompileReason::Load), 7, Ok(2)));
        assert!((&mut modest).now_or_never().is_none());
        busy.take();
        // One permit goes to the greedy tenant's queue, the next one to the other tenant.
        let mut queue = queue.into_iter();
        drop(queue.next().unwrap().granted().now_or_never().expect("it is granted in the order of tenants"));
        // The job does not wait for the greedy tenant's other nine requests.
        compiler.have_started(1).await;
        compiler.go.add_permits(1);
        assert_eq!((greedy.await, modest.await), (Ok(1), Ok(1)));
        drop(queue);
        assert!(fixture.ask("greedy").unwrap().granted().now_or_never().is_some(), "nothing holds the permit");
    }

    #[tokio::test]
    async fn a_panic_fails_its_job_only() {
        let fixture = Fixture::new(1, 1);
        let (revision, tenant) = (ReleaseDigest::from([7; 16]), "t".parse().unwrap());
        let join = |panics: bool| {
            let compile = move |permit| async move {
                let _place: FairPermit = permit;
                assert!(!panics, "as a test wants it");
                Ok(1)
            };
            fixture.jobs.join(&revision, &tenant, CompileReason::Load, || fixture.ask("t"), compile)
        };
        assert!(join(true).await.is_err_and(|problem| problem.title.contains("unexpectedly")));
        assert_eq!(join(false).await, Ok(1));
    }
}
