//! One compile of a release at a time, for all that want it.
//!
//! All that ask for a release whose compile is under way wait for the same one, each for as long as it likes. A compile that an app's load has
//! asked for goes on though no request waits any more: the next one uses what comes of it. One that only deployments wait for ends with the last
//! of them.
//!
//! A compile needs one of the compilers' [places](crate::places), and each tenant waits for one in its own right: the first that is granted one
//! starts the compile for all. So a tenant whose queue is long or full delays no other that has the same release, and a full queue is an answer
//! to the one who asked, not an outcome that others share.
//!
//! After a release was refused, loads are told of it for a while instead of trying again; a deployment always tries. What failed for the node's
//! own reasons is not remembered.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use isomer_api::{Problem, ProblemKind, RevisionId, TenantName};
use tokio::sync::{mpsc, watch};

use crate::places::{Asked, Place};

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
    /// Absent once the compile has a place.
    waiting: Option<Waiting>,
}

/// Who waits for a place for a compile.
struct Waiting {
    tenants: HashSet<TenantName>,
    asked: mpsc::UnboundedSender<Asked>,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { under_way: HashMap::new(), failed: HashMap::new() })))
    }

    /// What the compile of `revision` gives: the one that is under way, or else `compile`, started now. `ask` asks for a place in the name of
    /// `tenant`. Needs tokio's runtime.
    ///
    /// # Errors
    /// With that of the compile, and with that of `ask` where no compile is under way.
    pub(crate) async fn join<F>(
        &self,
        revision: &RevisionId,
        tenant: &TenantName,
        asker: Asker,
        ask: impl FnOnce() -> Result<Asked, Problem>,
        compile: impl FnOnce(Place) -> F + Send + 'static,
    ) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let mut outcome = {
            let mut state = lock(&self.0);
            if let Some(flight) = state.under_way.get_mut(revision) {
                flight.is_kept |= asker == Asker::Load;
                if let Some(waiting) = &mut flight.waiting
                    && !waiting.tenants.contains(tenant)
                    // Where its own queue is full, it waits for the places of the others.
                    && let Ok(asked) = ask()
                    && waiting.asked.send(asked).is_ok()
                {
                    waiting.tenants.insert(tenant.clone());
                }
                flight.told.subscribe()
            } else {
                if asker == Asker::Load
                    && let Some((until, problem)) = state.failed.get(revision)
                    && Instant::now() < *until
                {
                    return Err(problem.clone());
                }
                let first = ask()?;
                let (told, outcome) = watch::channel(None);
                let (asked, more) = mpsc::unbounded_channel();
                let told = Arc::new(told);
                let waiting = Waiting { tenants: HashSet::from([tenant.clone()]), asked };
                let flight = Flight { told: told.clone(), is_kept: asker == Asker::Load, waiting: Some(waiting) };
                state.under_way.insert(revision.clone(), flight);
                let places = Places { first, more };
                tokio::spawn(fly(self.0.clone(), revision.clone(), told, places, compile));
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

/// The places that were asked for, for one compile.
struct Places {
    first: Asked,
    more: mpsc::UnboundedReceiver<Asked>,
}

impl Places {
    /// The first that is granted. All others are given up.
    async fn granted(self) -> Place {
        let Self { first, mut more } = self;
        let mut waiting = FuturesUnordered::new();
        waiting.push(first.place());
        loop {
            tokio::select! {
                biased;
                Some(place) = waiting.next() => return place,
                Some(asked) = more.recv() => waiting.push(asked.place()),
            }
        }
    }
}

async fn fly<T: Clone + Send + Sync, F: Future<Output = Result<T, Problem>> + Send>(
    state: Arc<Mutex<State<T>>>,
    revision: RevisionId,
    told: Arc<watch::Sender<Option<Result<T, Problem>>>>,
    places: Places,
    compile: impl FnOnce(Place) -> F + Send,
) {
    // Whatever happens, a flight that is over is not waited for: its sender goes with the last that holds it.
    let landed = Landed { state: &state, revision: &revision, told: &told };
    let compiled = async {
        let place = places.granted().await;
        if let Some(flight) = lock(&state).under_way.get_mut(&revision) {
            flight.waiting = None;
        }
        compile(place).await
    };
    let outcome = tokio::select! {
        biased;
        outcome = compiled => outcome,
        () = landed.is_given_up() => return,
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
    /// Resolves when no request waits for a flight that is not kept. It is off the list then.
    async fn is_given_up(&self) {
        loop {
            self.told.closed().await;
            let mut state = lock(self.state);
            if state.under_way.get(self.revision).is_some_and(|flight| flight.is_kept) {
                break;
            }
            // No request can join while this holds the lock.
            if self.told.receiver_count() == 0 {
                self.take_off(&mut state);
                return;
            }
        }
        std::future::pending().await
    }

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
    use crate::places::PlaceLimits;

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
        async fn compile(self, place: Place, answer: Result<u32, Problem>) -> Result<u32, Problem> {
            let _counted = CountDrop(self.dropped.clone());
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.go.notified().await;
            drop(place);
            answer
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::SeqCst)
        }
    }

    /// Flights, and the places that they need.
    struct Airport {
        flights: Flights<u32>,
        places: crate::places::Places,
        compiler: Compiler,
    }

    impl Airport {
        fn new(places: usize, waiting: usize) -> Self {
            let limits = PlaceLimits { places, of_tenant: places, waiting: 100, waiting_of_tenant: waiting, slow: 0 };
            Self { flights: Flights::new(), places: crate::places::Places::new(limits), compiler: Compiler::default() }
        }

        fn ask(&self, tenant: &str) -> Result<Asked, Problem> {
            let full = |_| Problem::new(ProblemKind::Unavailable, "too many wait");
            self.places.ask(&tenant.parse().unwrap()).map_err(full)
        }

        async fn join(&self, who: (&str, Asker), number: u8, answer: Result<u32, Problem>) -> Result<u32, Problem> {
            let (compiler, (tenant, asker)) = (self.compiler.clone(), who);
            let compile = move |place| compiler.compile(place, answer);
            let tenant_name = tenant.parse().unwrap();
            self.flights.join(&RevisionId::from([number; 16]), &tenant_name, asker, || self.ask(tenant), compile).await
        }

        fn is_idle(&self) -> bool {
            lock(&self.flights.0).under_way.is_empty()
        }
    }

    const LOAD: (&str, Asker) = ("t", Asker::Load);
    const DEPLOYMENT: (&str, Asker) = ("t", Asker::Deployment);

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
        let airport = Airport::new(4, 4);
        let all = [LOAD, DEPLOYMENT, LOAD, ("u", Asker::Load)].map(|who| airport.join(who, 7, Ok(1)));
        let elsewhere = airport.join(LOAD, 8, Ok(2));
        let go = async {
            settle().await;
            assert_eq!(airport.compiler.begun(), 2);
            airport.compiler.go.notify_waiters();
        };
        let (all, elsewhere, ()) = futures::join!(futures::future::join_all(all), elsewhere, go);
        assert!(all.into_iter().all(|outcome| outcome == Ok(1)) && elsewhere == Ok(2));
        assert_eq!(airport.compiler.begun(), 2);
        assert!(airport.is_idle());
    }

    #[tokio::test]
    async fn what_a_load_asked_for_goes_on_without_it() {
        let airport = Airport::new(1, 4);
        let compiler = &airport.compiler;
        for who in [DEPLOYMENT, LOAD] {
            let mut late = Box::pin(airport.join(who, 7, Ok(1)));
            assert!((&mut late).now_or_never().is_none());
            settle().await;
            drop(late);
            settle().await;
        }
        assert_eq!((compiler.begun(), compiler.dropped.load(Ordering::SeqCst)), (2, 1), "the deployment's has ended");
        let mut next = Box::pin(airport.join(LOAD, 7, Ok(2)));
        assert!((&mut next).now_or_never().is_none());
        compiler.go.notify_one();
        assert_eq!((next.await, compiler.begun()), (Ok(1), 2), "the one that was late is used");
    }

    #[tokio::test]
    async fn loads_are_told_of_a_refusal_and_deployments_try_again() {
        let airport = Airport::new(1, 4);
        let compiler = &airport.compiler;
        compiler.go.notify_one();
        assert_eq!(airport.join(LOAD, 7, Err(problem())).await, Err(problem()));
        assert_eq!(airport.join(LOAD, 7, Ok(1)).await, Err(problem()));
        assert_eq!(compiler.begun(), 1);
        compiler.go.notify_one();
        assert_eq!(airport.join(DEPLOYMENT, 7, Ok(2)).await, Ok(2));
        compiler.go.notify_one();
        assert_eq!(airport.join(LOAD, 7, Ok(3)).await, Ok(3), "it is forgotten");
        // The node's own failures are not the release's.
        let failed = Problem::new(ProblemKind::Failed, "no descriptors");
        compiler.go.notify_one();
        assert_eq!(airport.join(LOAD, 7, Err(failed.clone())).await, Err(failed));
        compiler.go.notify_one();
        assert_eq!(airport.join(LOAD, 7, Ok(4)).await, Ok(4));
    }

    #[tokio::test]
    async fn a_full_queue_is_the_answer_to_the_one_who_asked_and_to_no_other() {
        // One place, and a tenant may have one that waits.
        let airport = Airport::new(1, 1);
        let compiler = &airport.compiler;
        let busy = airport.ask("greedy").unwrap().place().now_or_never().unwrap();
        let mut first = Box::pin(airport.join(("greedy", Asker::Load), 7, Ok(1)));
        assert!((&mut first).now_or_never().is_none());
        let refused = airport.join(("greedy", Asker::Load), 8, Ok(2)).await.unwrap_err();
        assert_eq!(refused.kind, ProblemKind::Unavailable);
        // Neither has another tenant to hear of it, nor is it remembered.
        let mut other = Box::pin(airport.join(("modest", Asker::Load), 8, Ok(3)));
        assert!((&mut other).now_or_never().is_none());
        drop(busy);
        settle().await;
        for _ in 0..2 {
            compiler.go.notify_one();
            settle().await;
        }
        assert_eq!((first.await, other.await), (Ok(1), Ok(3)));
        compiler.go.notify_one();
        assert_eq!(airport.join(("greedy", Asker::Load), 8, Ok(4)).await, Ok(4));
    }

    #[tokio::test]
    async fn the_first_tenant_that_is_granted_a_place_starts_the_compile_for_all() {
        let airport = Airport::new(1, 100);
        let compiler = &airport.compiler;
        let mut busy = airport.ask("greedy").unwrap().place().now_or_never();
        // Before its release, the greedy tenant has others in its queue.
        let queue: Vec<_> = (0..10).map(|_| airport.ask("greedy").unwrap()).collect();
        let mut greedy = Box::pin(airport.join(("greedy", Asker::Load), 7, Ok(1)));
        assert!((&mut greedy).now_or_never().is_none());
        let mut modest = Box::pin(airport.join(("modest", Asker::Load), 7, Ok(2)));
        assert!((&mut modest).now_or_never().is_none());
        settle().await;
        busy.take();
        // One place goes to the greedy tenant's queue, the next one to the other tenant.
        let mut queue = queue.into_iter();
        drop(queue.next().unwrap().place().now_or_never().expect("it is granted in the order of tenants"));
        settle().await;
        assert_eq!(compiler.begun(), 1, "it does not wait for the greedy tenant's other nine");
        compiler.go.notify_one();
        assert_eq!((greedy.await, modest.await), (Ok(1), Ok(1)));
        drop(queue);
        assert!(airport.ask("greedy").unwrap().place().now_or_never().is_some(), "nothing holds the place");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_no_obstacle() {
        let airport = Airport::new(1, 1);
        let (revision, tenant) = (RevisionId::from([7; 16]), "t".parse().unwrap());
        let join = |panics: bool| {
            let compile = move |place| async move {
                let _place: Place = place;
                assert!(!panics, "as a test wants it");
                Ok(1)
            };
            airport.flights.join(&revision, &tenant, Asker::Load, || airport.ask("t"), compile)
        };
        assert!(join(true).await.is_err_and(|problem| problem.title.contains("unexpectedly")));
        assert_eq!(join(false).await, Ok(1));
    }
}
