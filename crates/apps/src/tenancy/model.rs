//! A model of the races between loads, deployments, changes of secrets, stops, holds and evictions. It runs the real
//! lifecycle under many schedules.
//!
//! `shared_lifecycle.rs` is compiled here a second time, with shuttle's lock and atomics instead of those of the
//! standard library. At each use of a lock or an atomic, shuttle decides which task continues: randomly with a seed, or
//! with few changes of priority (PCT). The rest of the system (a disk, a tenant's counter of inputs, the task of a
//! load) is modelled as simply as possible. Each modelled function has the steps of a real function, in the same order;
//! its comment names the real function.
//!
//! Each request checks the invariants: see [`World::request`]. To test the checks, the scenarios are also run with
//! known mistakes ([`Planted`]). The test fails unless each of these mistakes violates an invariant.
//!
//! With `ISOMER_LONG=1`, many more schedules are tried. A failure prints its schedule, which `shuttle::replay` can
//! repeat.
//!
//! The file is long because the model, its invariants and the planted mistakes are read together.

mod sync {
    pub(super) use std::sync::PoisonError;

    pub(super) use shuttle::sync::atomic::{AtomicBool, Ordering};
    pub(super) use shuttle::sync::{Mutex, MutexGuard};
    use std::sync::Arc;

    /// Like `Slot` in `sync.rs`, but shuttle may switch tasks at each use of the lock.
    pub(super) struct Slot<T>(Mutex<Option<Arc<T>>>);

    impl<T> Slot<T> {
        pub(super) fn empty() -> Self {
            Self(Mutex::new(None))
        }

        pub(super) fn load(&self) -> Option<Arc<T>> {
            self.0.lock().unwrap().clone()
        }

        pub(super) fn read<U>(&self, read: impl FnOnce(&Arc<T>) -> U) -> Option<U> {
            self.load().as_ref().map(read)
        }

        pub(super) fn set(&self, new: Option<&Arc<T>>) {
            let before = std::mem::replace(&mut *self.0.lock().unwrap(), new.cloned());
            drop(before);
        }
    }
}

use super::lifecycle;

#[path = "shared_lifecycle.rs"]
#[allow(dead_code, reason = "only the real tenancy uses all of it")]
#[allow(clippy::duplicate_mod, reason = "the model runs the real lifecycle")]
mod shared_lifecycle;

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::hold::is_in_use;
use lifecycle::{LoadEnd, LoadResult, LoadTicket, PendingLoad, Types};
use shared_lifecycle::{EntryAfterLoad, SharedLifecycle};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::atomic::AtomicU64;
use shuttle::sync::{Condvar, Mutex};
use shuttle::{Config, Runner, thread};

/// The same number as `RELOADS_MAX` in `loader.rs`.
const RELOADS_MAX: u32 = 3;

/// Returns the number of schedules for each scenario.
fn schedules() -> usize {
    if std::env::var_os("ISOMER_LONG").is_some() { 100_000 } else { 10_000 }
}

/// A revision in memory. A request finds the revision, and then uses only its site.
struct Loaded {
    site: Arc<Site>,
    /// The number of all revisions in memory.
    live: Arc<AtomicUsize>,
}

/// The part of a revision that serves requests.
struct Site {
    revision: u32,
    /// The value that the tenant's secret had when the revision was started.
    secret: u32,
    /// The number of requests that the site serves now: those whose [`SiteInUse`] has not been dropped.
    in_flight: AtomicU64,
}

/// A site that serves a request. The request is counted until this value is dropped.
struct SiteInUse(Arc<Site>);

impl Site {
    fn begin_request(self: &Arc<Self>) -> SiteInUse {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        SiteInUse(self.clone())
    }
}

impl Clone for SiteInUse {
    fn clone(&self) -> Self {
        self.0.begin_request()
    }
}

impl Drop for SiteInUse {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A channel for one value, which all waiting tasks receive.
struct Broadcast<T>(Mutex<Option<T>>, Condvar);

impl<T: Clone> Broadcast<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(None), Condvar::new()))
    }

    fn send(&self, value: T) {
        *self.0.lock().unwrap() = Some(value);
        self.1.notify_all();
    }

    fn wait(&self) -> T {
        let mut value = self.0.lock().unwrap();
        while value.is_none() {
            value = self.1.wait(value).unwrap();
        }
        value.clone().unwrap()
    }
}

/// The reason why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Stopped,
    Loading,
    Broken,
}

type Outcome = Result<SiteInUse, Refusal>;

impl PendingLoad for Arc<Broadcast<Outcome>> {
    fn is_lost(&self) -> bool {
        // In the model, every load that was started ends with a result.
        false
    }
}

struct Model;

impl Types for Model {
    type Revision = u32;
    type Loaded = Loaded;
    type PendingLoad = Arc<Broadcast<Outcome>>;
    type Hold = Arc<Broadcast<()>>;
    type Retired = Weak<Site>;

    fn retire(loaded: &Arc<Loaded>) -> Weak<Site> {
        Arc::downgrade(&loaded.site)
    }

    fn is_drained(retired: &Weak<Site>) -> bool {
        retired.strong_count() == 0
    }
}

/// The durable state of an app, as it is on disk or as it was last reported to an admin.
#[derive(Debug, Clone, Copy, Default)]
struct DurableState {
    revision: u32,
    secret: u32,
    is_stopped: bool,
    /// The number of changes to the app.
    changes: u32,
    stops: u32,
    /// The number of times that the app was resumed after a stop.
    resumes: u32,
}

/// A mistake that the test plants in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// Mistake: the result of a load is used even if the app was changed since the load was requested.
    NoGeneration,
    /// Mistake: a revision takes over even if the inputs with which it was started have changed.
    NoInputs,
    /// Mistake: the inputs are compared before the lock for the take-over is acquired, instead of after that.
    InputsBeforeLock,
    /// Mistake: when a secret changes, the revision is taken out of service before the counter of changes to the inputs
    /// is increased, instead of after that.
    UnloadedBeforeCounted,
    /// Mistake: a load ends while the requests of the app are held, instead of waiting for the end of the hold.
    LoadsThroughHolds,
    /// Mistake: the stores are switched without waiting for the requests in flight.
    NoDrain,
    /// Mistake: before the stores are switched, only counted requests are awaited, not requests that have a reference
    /// to the revision and are not counted yet.
    DrainsCountedOnly,
    /// Mistake: before the stores are switched, the count of requests is checked before the references to the revision,
    /// instead of after them.
    ChecksCountFirst,
    /// Mistake: before the stores are switched, only the requests of the revision in service are awaited, not those of
    /// earlier revisions.
    DrainsTheLastOnly,
    /// Mistake: each request loads the app itself, instead of waiting for a load that already runs.
    NoSharing,
}

struct World {
    lifecycle: SharedLifecycle<Model, ()>,
    planted: Planted,
    /// Whether loads of the first revision fail.
    is_broken: AtomicBool,
    /// The state on disk, from which loads start revisions.
    disk: Mutex<DurableState>,
    /// The state that was reported to admins.
    acknowledged: Mutex<DurableState>,
    /// The counter of changes to the inputs with which revisions are started. The real tenancy has this counter in
    /// `Tenant::inputs`.
    inputs: AtomicU64,
    /// The number of times that the app's stores were switched.
    switches: AtomicUsize,
    live: Arc<AtomicUsize>,
    loads: AtomicUsize,
    evictions: AtomicUsize,
    tasks: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl World {
    fn new(planted: Planted) -> Arc<Self> {
        Arc::new(Self {
            lifecycle: SharedLifecycle::new(0, ()),
            planted,
            is_broken: AtomicBool::new(false),
            disk: Mutex::new(DurableState::default()),
            acknowledged: Mutex::new(DurableState::default()),
            inputs: AtomicU64::new(0),
            switches: AtomicUsize::new(0),
            live: Arc::default(),
            loads: AtomicUsize::new(0),
            evictions: AtomicUsize::new(0),
            tasks: Mutex::new(Vec::new()),
        })
    }

    fn spawn(self: &Arc<Self>, task: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let world = self.clone();
        let task = thread::spawn(move || task(&world));
        self.tasks.lock().unwrap().push(task);
    }

    fn join_all(&self) {
        while let Some(task) = { self.tasks.lock().unwrap().pop() } {
            task.join().unwrap();
        }
    }

    /// Waits until all tasks have ended. Then checks that one more request is served, and that no revision is in memory
    /// after the app is stopped.
    fn end(self: &Arc<Self>) {
        self.join_all();
        assert!(self.live.load(Ordering::SeqCst) <= 1, "a revision that is out of service is in memory");
        self.request();
        self.join_all();
        drop(self.lifecycle.lock().stop());
        assert_eq!(self.live.load(Ordering::SeqCst), 0, "a revision of the stopped app is in memory");
    }

    fn on_disk(&self) -> DurableState {
        *self.disk.lock().unwrap()
    }

    fn record(&self, change: impl FnOnce(&mut DurableState)) {
        let mut disk = self.disk.lock().unwrap();
        change(&mut disk);
        disk.changes += 1;
    }

    /// Makes a request, and checks the invariants for it.
    fn request(self: &Arc<Self>) {
        let before = *self.acknowledged.lock().unwrap();
        let mut found_at = None;
        let outcome = self.enter(&mut found_at);
        let after = self.on_disk();
        match outcome {
            Ok(site) => {
                let (revision, secret) = (site.0.revision, site.0.secret);
                assert!(
                    (before.revision..=after.revision).contains(&revision),
                    "revision {revision} serves the request, but only revisions from {} to {} may",
                    before.revision,
                    after.revision
                );
                let latest = before.secret;
                assert!(secret >= latest, "a request is served with the old secret {secret}, not {latest}");
                let is_resumed = after.resumes > before.resumes;
                assert!(!before.is_stopped || is_resumed, "a stopped app serves a request");
                let switches = found_at.unwrap_or_else(|| self.switches.load(Ordering::SeqCst));
                thread::yield_now();
                assert_eq!(switches, self.switches.load(Ordering::SeqCst), "stores are switched under a request");
            }
            Err(Refusal::Stopped) => assert!(after.stops > 0, "a request for an app that was not stopped is refused"),
            Err(Refusal::Loading) => {
                assert!(after.changes - before.changes > RELOADS_MAX, "a load is given up too early");
            }
            Err(Refusal::Broken) => {
                assert!(self.is_broken.load(Ordering::SeqCst) && before.revision == 0, "a working revision is refused");
            }
        }
    }

    /// Models the admission of a request: `Tenancy::admit`, `Loader::load` and `loader::wait_for_release`. When the
    /// request finds a revision, sets `found_at` to the number of switches of the stores so far.
    fn enter(self: &Arc<Self>, found_at: &mut Option<usize>) -> Outcome {
        loop {
            if self.lifecycle.is_stopped() {
                return Err(Refusal::Stopped);
            }
            // Models `App::begin_request`: the request first finds the revision, and is counted a moment later.
            let site = self.lifecycle.read(|loaded| {
                *found_at = Some(self.switches.load(Ordering::SeqCst));
                thread::yield_now();
                loaded.site.begin_request()
            });
            if let Some(site) = site {
                return Ok(site);
            }
            let begin = |ticket| {
                let outcome = Broadcast::new();
                let sender = outcome.clone();
                self.spawn(move |world| sender.send(world.run(ticket)));
                Ok::<_, Infallible>(outcome)
            };
            if self.planted == Planted::NoSharing {
                let revision = self.on_disk().revision;
                return Ok(self.make(revision).site.begin_request());
            }
            let Ok(entry) = self.lifecycle.enter(Instant::now(), begin);
            return match entry {
                EntryAfterLoad::Stopped => Err(Refusal::Stopped),
                EntryAfterLoad::Failed => Err(Refusal::Broken),
                EntryAfterLoad::Ready(loaded) => Ok(loaded.site.begin_request()),
                EntryAfterLoad::Loading(outcome) => outcome.wait(),
                EntryAfterLoad::Held(held) => {
                    held.wait();
                    continue;
                }
            };
        }
    }

    /// Models `Loader::run`.
    fn run(&self, mut ticket: LoadTicket<Model>) -> Outcome {
        let mut reloads = 0..RELOADS_MAX;
        loop {
            let result = match self.make(ticket.revision) {
                broken if broken.site.revision == 0 && self.is_broken.load(Ordering::SeqCst) => LoadResult::Failed,
                loaded => LoadResult::Loaded(loaded),
            };
            while self.planted != Planted::LoadsThroughHolds
                && let Some(held) = self.lifecycle.held()
            {
                held.wait();
            }
            let mut locked = self.lifecycle.lock();
            if self.planted == Planted::NoGeneration {
                ticket = ticket.renewed(locked.lifecycle());
            }
            let (end, unused) = locked.load_finished(&ticket, result, Instant::now());
            let outcome = match end {
                LoadEnd::Serves(loaded) | LoadEnd::Superseded(loaded) => Ok(loaded.site.begin_request()),
                LoadEnd::Reload(next) => {
                    if reloads.next().is_some() {
                        ticket = next;
                        continue;
                    }
                    locked.load_cancelled();
                    Err(Refusal::Loading)
                }
                LoadEnd::Stopped => Err(Refusal::Stopped),
                LoadEnd::Unavailable => Err(Refusal::Loading),
                LoadEnd::Failed => Err(Refusal::Broken),
            };
            drop(locked);
            drop(unused);
            return outcome;
        }
    }

    /// Models `DiskRepository::fetch` and `Loader::start`.
    fn make(&self, revision: u32) -> Arc<Loaded> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let secret = self.on_disk().secret;
        thread::yield_now();
        self.live.fetch_add(1, Ordering::SeqCst);
        let site = Site { revision, secret, in_flight: AtomicU64::new(0) };
        Arc::new(Loaded { site: Arc::new(site), live: self.live.clone() })
    }

    /// Models the rollout of a revision of an app without stores.
    fn deploy(&self, revision: u32) {
        let inputs = self.inputs.load(Ordering::SeqCst);
        let started = self.make(revision);
        self.record(|disk| (disk.revision, disk.is_stopped) = (revision, false));
        self.take_over(started, inputs);
        self.acknowledged.lock().unwrap().revision = revision;
    }

    /// Models the rollout of a revision with `Takeover::run`, which switches the app's stores. If `is_refused`, the
    /// rollout is refused and the stores are not switched.
    fn deploy_with_stores(&self, revision: u32, is_refused: bool) {
        let hold = Broadcast::new();
        let token = self.lifecycle.lock().hold(hold.clone());
        // Models `RequestHold::drained`.
        let is_busy = |before: &Arc<Loaded>| {
            let is_busy = || before.site.in_flight.load(Ordering::SeqCst) > 0;
            match self.planted {
                Planted::DrainsCountedOnly => is_busy(),
                Planted::ChecksCountFirst => {
                    let is_busy = is_busy();
                    thread::yield_now();
                    is_busy || Arc::strong_count(before) > 1
                }
                _ => is_in_use(before, || {
                    thread::yield_now();
                    is_busy()
                }),
            }
        };
        while self.planted != Planted::NoDrain
            && (token.before.as_ref().is_some_and(is_busy)
                || (self.planted != Planted::DrainsTheLastOnly && !self.lifecycle.is_drained()))
        {
            thread::yield_now();
        }
        if !is_refused {
            self.record(|disk| (disk.revision, disk.is_stopped) = (revision, false));
            self.switches.fetch_add(1, Ordering::SeqCst);
            let inputs = self.inputs.load(Ordering::SeqCst);
            let started = self.make(revision);
            self.take_over(started, inputs);
        }
        // Models `RequestHold::drop`.
        let released = self.lifecycle.lock().release(token);
        hold.send(());
        drop(released);
        if !is_refused {
            self.acknowledged.lock().unwrap().revision = revision;
        }
    }

    /// Models `Tenancy::take_over`.
    fn take_over(&self, started: Arc<Loaded>, inputs: u64) {
        let is_current = || inputs == self.inputs.load(Ordering::SeqCst);
        let revision = started.site.revision;
        let unused = match self.planted {
            Planted::NoInputs => self.lifecycle.lock().take_over(revision, started, || true),
            Planted::InputsBeforeLock => {
                let is_current = is_current();
                self.lifecycle.lock().take_over(revision, started, || is_current)
            }
            _ => self.lifecycle.lock().take_over(revision, started, is_current),
        };
        drop(unused);
    }

    /// Models `Node::change_secret`.
    fn set_secret(&self) {
        self.record(|disk| disk.secret += 1);
        let secret = self.on_disk().secret;
        let count = || self.inputs.fetch_add(1, Ordering::SeqCst);
        if self.planted != Planted::UnloadedBeforeCounted {
            count();
        }
        let unused = self.lifecycle.lock().unload();
        drop(unused);
        if self.planted == Planted::UnloadedBeforeCounted {
            count();
        }
        self.acknowledged.lock().unwrap().secret = secret;
    }

    /// Models `Node::set_stopped`.
    fn stop(&self) {
        self.record(|disk| (disk.is_stopped, disk.stops) = (true, disk.stops + 1));
        let unused = self.lifecycle.lock().stop();
        drop(unused);
        self.acknowledged.lock().unwrap().is_stopped = true;
    }

    /// Models `Node::set_stopped`.
    fn start(&self) {
        self.record(|disk| (disk.is_stopped, disk.resumes) = (false, disk.resumes + 1));
        let mut acknowledged = self.acknowledged.lock().unwrap();
        (acknowledged.is_stopped, acknowledged.resumes) = (false, acknowledged.resumes + 1);
        drop(acknowledged);
        self.lifecycle.lock().resume();
    }

    /// Models `LoadedApps::evict_least_recently_used`.
    fn evict(&self) {
        if let Some(loaded) = self.lifecycle.loaded()
            && self.lifecycle.evict(&loaded)
        {
            self.evictions.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Runs a scenario under many schedules.
#[allow(clippy::print_stdout, reason = "a test that fails shows its seed")]
fn try_out(planted: Planted, scenario: fn(&Arc<World>)) {
    let seed = std::env::var("ISOMER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x150_4e12);
    println!("ISOMER_SEED={seed}");
    let run = move || {
        let world = World::new(planted);
        scenario(&world);
        world.end();
    };
    let half = schedules() / 2;
    Runner::new(RandomScheduler::new_from_seed(seed, half), Config::new()).run(run);
    Runner::new(PctScheduler::new_from_seed(seed, 4, half), Config::new()).run(run);
}

/// Runs a scenario without a mistake. Then runs it with each planted mistake, and checks that it fails with a message
/// that contains the given text.
fn try_with(scenario: fn(&Arc<World>), planted: &[(Planted, &str)]) {
    try_out(Planted::Nothing, scenario);
    for (planted, expected) in planted {
        let outcome = catch_unwind(AssertUnwindSafe(|| try_out(*planted, scenario)));
        let panic = outcome.expect_err(&format!("the model does not find the planted mistake {planted:?}"));
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        assert!(message.contains(expected), "the planted mistake {planted:?} fails another check: {message}");
    }
}

#[test]
fn requests_for_an_idle_app_load_it_once() {
    let scenario = |world: &Arc<World>| {
        for _ in 0..4 {
            world.spawn(World::request);
        }
        world.join_all();
        assert_eq!(world.loads.load(Ordering::SeqCst), 1, "loads");
    };
    try_with(scenario, &[(Planted::NoSharing, "right: 1")]);
}

#[test]
fn an_evicted_app_is_loaded_again_once() {
    let scenario = |world: &Arc<World>| {
        for _ in 0..3 {
            world.spawn(|world| {
                world.request();
                world.request();
            });
        }
        world.spawn(|world| {
            world.evict();
            thread::yield_now();
            world.evict();
        });
        world.join_all();
        let (loads, evictions) = (world.loads.load(Ordering::SeqCst), world.evictions.load(Ordering::SeqCst));
        assert!(loads <= 1 + evictions, "{loads} loads for {evictions} evictions");
    };
    try_with(scenario, &[(Planted::NoSharing, "evictions")]);
}

#[test]
fn requests_get_the_reported_revision_and_secret() {
    let scenario = |world: &Arc<World>| {
        for _ in 0..2 {
            world.spawn(|world| {
                world.request();
                world.request();
            });
        }
        world.spawn(|world| {
            world.deploy(1);
            world.request();
            world.deploy(2);
        });
        world.spawn(|world| {
            world.set_secret();
            world.request();
        });
        world.spawn(|world| world.evict());
    };
    let secret = "a request is served with the old secret";
    let planted = [
        (Planted::NoGeneration, "revision 0 serves the request"),
        (Planted::NoInputs, secret),
        (Planted::InputsBeforeLock, secret),
        (Planted::UnloadedBeforeCounted, secret),
    ];
    try_with(scenario, &planted);
}

#[test]
fn a_stopped_app_is_not_loaded() {
    let scenario = |world: &Arc<World>| {
        for _ in 0..2 {
            world.spawn(World::request);
            world.spawn(World::request);
            world.spawn(|world| {
                world.stop();
                world.request();
            });
            world.join_all();
            assert!(world.lifecycle.loaded().is_none(), "a stopped app is in memory");
            world.spawn(World::request);
            world.start();
        }
    };
    try_with(scenario, &[(Planted::NoGeneration, "a stopped app is in memory")]);
}

#[test]
fn a_failure_ends_with_its_revision() {
    let scenario = |world: &Arc<World>| {
        world.is_broken.store(true, Ordering::SeqCst);
        for _ in 0..2 {
            world.spawn(|world| {
                world.request();
                world.request();
            });
        }
        world.spawn(|world| {
            world.deploy(1);
            world.evict();
            world.request();
        });
    };
    try_with(scenario, &[(Planted::NoGeneration, "a working revision is refused")]);
}

#[test]
fn stores_are_switched_while_no_request_runs() {
    let scenario = |world: &Arc<World>| {
        for _ in 0..2 {
            world.spawn(|world| {
                world.request();
                world.request();
            });
        }
        world.spawn(|world| {
            world.deploy_with_stores(1, true);
            world.deploy_with_stores(2, false);
            world.request();
        });
        world.spawn(|world| world.set_secret());
        world.spawn(|world| world.evict());
    };
    let switched = "stores are switched under a request";
    let planted = [
        (Planted::LoadsThroughHolds, switched),
        (Planted::NoDrain, switched),
        (Planted::DrainsTheLastOnly, switched),
        (Planted::NoGeneration, "revision 0 serves the request"),
    ];
    try_with(scenario, &planted);
}

#[test]
fn a_drain_waits_for_requests_that_have_just_found_the_revision() {
    let scenario = |world: &Arc<World>| {
        world.spawn(World::request);
        world.join_all();
        for _ in 0..2 {
            world.spawn(World::request);
        }
        world.spawn(|world| world.deploy_with_stores(1, false));
    };
    let switched = "stores are switched under a request";
    try_with(scenario, &[(Planted::DrainsCountedOnly, switched), (Planted::ChecksCountFirst, switched)]);
}

#[test]
fn everything_races_at_once() {
    let scenario = |world: &Arc<World>| {
        for _ in 0..2 {
            world.spawn(|world| {
                world.request();
                world.request();
            });
        }
        world.spawn(|world| {
            world.deploy(1);
            world.stop();
            world.deploy_with_stores(2, false);
            world.start();
        });
        world.spawn(|world| {
            world.set_secret();
            world.set_secret();
        });
        world.spawn(|world| {
            world.evict();
            world.evict();
        });
    };
    try_with(scenario, &[]);
}
