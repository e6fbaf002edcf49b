//! One compile of a release at a time, whoever wants it.
//!
//! Whoever asks for a release that is being compiled waits for the same compile, each for as long as it likes. A compile that an app's
//! load has asked for goes on though nobody waits any more: the next request uses what comes of it. One that only deployments wait
//! for ends with the last of them. After a failure, loads are told of it for a while instead of trying again; a deployment always tries.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use isomer_api::{Problem, ProblemKind, RevisionId};
use tokio::sync::watch;

/// How long after a failed compile loads of the same release are told of the failure.
const FAILED_FOR: Duration = Duration::from_secs(30);

/// Failures that are remembered. Above that they are not.
const FAILURES_MAX: usize = 1024;

/// Who asks for a compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Somebody who has time, and can be told.
    Deployment,
    /// The load of an app that is deployed already.
    Load,
}

/// Compiles under way, and those that failed just now. `T` is what a compile gives.
pub(crate) struct Flights<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    under_way: HashMap<RevisionId, Flight<T>>,
    failed: HashMap<RevisionId, (Instant, Problem)>,
}

struct Flight<T> {
    told: Arc<watch::Sender<Option<Result<T, Problem>>>>,
    /// Does it go on though nobody waits?
    is_kept: bool,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { under_way: HashMap::new(), failed: HashMap::new() })))
    }

    /// What the compile of `revision` gives: the one that is under way, or else `compile`, begun now. Needs tokio's runtime.
    ///
    /// # Errors
    /// With that of the compile.
    pub(crate) async fn join<F>(&self, revision: &RevisionId, asker: Asker, compile: F) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let mut outcome = {
            let mut state = lock(&self.0);
            if let Some(flight) = state.under_way.get_mut(revision) {
                flight.is_kept |= asker == Asker::Load;
                flight.told.subscribe()
            } else {
                if asker == Asker::Load
                    && let Some((until, problem)) = state.failed.get(revision)
                    && Instant::now() < *until
                {
                    return Err(problem.clone());
                }
                let (told, outcome) = watch::channel(None);
                let told = Arc::new(told);
                let flight = Flight { told: told.clone(), is_kept: asker == Asker::Load };
                state.under_way.insert(revision.clone(), flight);
                tokio::spawn(fly(self.0.clone(), revision.clone(), told, compile));
                outcome
            }
        };
        let ended =
            || Problem::new(ProblemKind::Failed, "the compiler ended unexpectedly; the node's log has more about it");
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(ended())),
            Err(_) => Err(ended()),
        }
    }
}

async fn fly<T: Clone + Send + Sync>(
    state: Arc<Mutex<State<T>>>,
    revision: RevisionId,
    told: Arc<watch::Sender<Option<Result<T, Problem>>>>,
    compile: impl Future<Output = Result<T, Problem>> + Send,
) {
    // Whatever happens, a flight that is over is not waited for: its sender goes with the last that holds it.
    let landed = Landed { state: &state, revision: &revision, told: &told };
    let mut compile = std::pin::pin!(compile);
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut compile => break outcome,
            () = told.closed() => {
                let mut state = lock(&state);
                let is_kept = state.under_way.get(&revision).is_some_and(|flight| flight.is_kept);
                // Nobody can join while this holds the lock.
                if !is_kept && told.receiver_count() == 0 {
                    landed.take_off(&mut state);
                    return;
                }
                if !is_kept {
                    continue;
                }
            }
        }
        // Kept: nobody needs to wait.
        break compile.as_mut().await;
    };
    {
        let mut state = lock(&state);
        state.failed.remove(&revision);
        if let Err(problem) = &outcome {
            let now = Instant::now();
            state.failed.retain(|_, (until, _)| now < *until);
            if state.failed.len() < FAILURES_MAX {
                state.failed.insert(revision.clone(), (now + FAILED_FOR, problem.clone()));
            }
        }
    }
    drop(landed);
    told.send_replace(Some(outcome));
}

/// Takes a flight off the list, also if its compile panics.
struct Landed<'a, T> {
    state: &'a Mutex<State<T>>,
    revision: &'a RevisionId,
    told: &'a Arc<watch::Sender<Option<Result<T, Problem>>>>,
}

impl<T> Landed<'_, T> {
    /// Unless that was done, and another one flies by now.
    fn take_off(&self, state: &mut State<T>) {
        if state.under_way.get(self.revision).is_some_and(|flight| Arc::ptr_eq(&flight.told, self.told)) {
            state.under_way.remove(self.revision);
        }
    }
}

impl<T> Drop for Landed<'_, T> {
    fn drop(&mut self) {
        self.take_off(&mut lock(self.state));
    }
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use tokio::sync::Notify;

    use super::*;

    /// A compile that waits for a word, and counts.
    #[derive(Clone, Default)]
    struct Compiler {
        begun: Arc<AtomicUsize>,
        dropped: Arc<AtomicUsize>,
        go: Arc<Notify>,
    }

    struct CountDrop(Arc<AtomicUsize>);

    impl Drop for CountDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Compiler {
        fn compile(&self, answer: Result<u32, Problem>) -> impl Future<Output = Result<u32, Problem>> + Send + 'static {
            let this = self.clone();
            async move {
                let _counted = CountDrop(this.dropped.clone());
                this.begun.fetch_add(1, Ordering::SeqCst);
                this.go.notified().await;
                answer
            }
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::SeqCst)
        }
    }

    fn revision() -> RevisionId {
        RevisionId::from([7; 16])
    }

    fn problem() -> Problem {
        Problem::new(ProblemKind::Refused, "no")
    }

    /// Lets all tasks that can run do so.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn all_wait_for_one_compile() {
        let (flights, compiler) = (Flights::new(), Compiler::default());
        let (revision, other) = (revision(), RevisionId::from([8; 16]));
        let join = |asker| flights.join(&revision, asker, compiler.compile(Ok(1)));
        let all = futures::future::join_all([Asker::Load, Asker::Deployment, Asker::Load].map(join));
        let elsewhere = flights.join(&other, Asker::Load, async { Ok(2) });
        let go = async {
            settle().await;
            assert_eq!(compiler.begun(), 1);
            compiler.go.notify_one();
        };
        let (all, elsewhere, ()) = futures::join!(all, elsewhere, go);
        assert!(all.into_iter().all(|outcome| outcome == Ok(1)) && elsewhere == Ok(2));
        assert_eq!(compiler.begun(), 1);
        assert!(lock(&flights.0).under_way.is_empty());
    }

    #[tokio::test]
    async fn what_a_load_asked_for_goes_on_without_it() {
        let (flights, compiler, revision) = (Flights::new(), Compiler::default(), revision());
        for asker in [Asker::Deployment, Asker::Load] {
            let mut late = Box::pin(flights.join(&revision, asker, compiler.compile(Ok(1))));
            assert!((&mut late).now_or_never().is_none());
            settle().await;
            drop(late);
            settle().await;
        }
        assert_eq!((compiler.begun(), compiler.dropped.load(Ordering::SeqCst)), (2, 1), "the deployment's has ended");
        let mut next = Box::pin(flights.join(&revision, Asker::Load, compiler.compile(Ok(2))));
        assert!((&mut next).now_or_never().is_none());
        compiler.go.notify_one();
        assert_eq!((next.await, compiler.begun()), (Ok(1), 2), "the one that was late is used");
    }

    #[tokio::test]
    async fn loads_are_told_of_a_failure_and_deployments_try_again() {
        let (flights, compiler, revision) = (Flights::new(), Compiler::default(), revision());
        compiler.go.notify_one();
        assert_eq!(flights.join(&revision, Asker::Load, compiler.compile(Err(problem()))).await, Err(problem()));
        assert_eq!(flights.join(&revision, Asker::Load, compiler.compile(Ok(1))).await, Err(problem()));
        assert_eq!(compiler.begun(), 1);
        compiler.go.notify_one();
        assert_eq!(flights.join(&revision, Asker::Deployment, compiler.compile(Ok(2))).await, Ok(2));
        compiler.go.notify_one();
        assert_eq!(flights.join(&revision, Asker::Load, compiler.compile(Ok(3))).await, Ok(3), "it is forgotten");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_no_obstacle() {
        let (flights, revision) = (Flights::new(), revision());
        let outcome = flights.join(&revision, Asker::Load, async { panic!("as a test wants it") }).await;
        assert!(outcome.is_err_and(|problem| problem.title.contains("unexpectedly")));
        assert_eq!(flights.join(&revision, Asker::Load, async { Ok(1) }).await, Ok(1));
    }
}
