//! Tests of an app's lifecycle with single events and with random sequences of events.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Weak;

use proptest::prelude::*;

use super::*;

struct TestTypes;

#[derive(Debug)]
struct TestLoaded {
    revision: u8,
}

#[derive(Clone, Default)]
struct TestLoad {
    is_lost: Rc<Cell<bool>>,
}

impl PendingLoad for TestLoad {
    fn is_lost(&self) -> bool {
        self.is_lost.get()
    }
}

impl Types for TestTypes {
    type Revision = u8;
    type Loaded = TestLoaded;
    type PendingLoad = TestLoad;
    type Hold = u32;
    type Retired = Weak<TestLoaded>;

    fn retire(loaded: &Arc<TestLoaded>) -> Weak<TestLoaded> {
        Arc::downgrade(loaded)
    }

    fn is_drained(retired: &Weak<TestLoaded>) -> bool {
        retired.strong_count() == 0
    }
}

#[derive(Debug, Clone)]
enum Event {
    Request,
    LoadSucceeds,
    LoadUnavailable,
    LoadFails,
    LoadIsLost,
    Put(u8, bool),
    TakeOver(u8, bool),
    Stop,
    Resume,
    Unload,
    Evict,
    Hold,
    Release,
    RequestsEnd,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::Request),
        4 => Just(Event::LoadSucceeds),
        1 => Just(Event::LoadUnavailable),
        2 => Just(Event::LoadFails),
        1 => Just(Event::LoadIsLost),
        1 => (0_u8..4, any::<bool>()).prop_map(|(revision, stopped)| Event::Put(revision, stopped)),
        2 => (0_u8..4, any::<bool>()).prop_map(|(revision, current)| Event::TakeOver(revision, current)),
        1 => Just(Event::Stop),
        2 => Just(Event::Resume),
        1 => Just(Event::Unload),
        2 => Just(Event::Evict),
        1 => Just(Event::Hold),
        2 => Just(Event::Release),
        2 => Just(Event::RequestsEnd),
        1 => (1_u64..90).prop_map(Event::Wait),
    ]
}

/// A lifecycle with its environment: a clock, at most one load, at most one hold, and requests.
struct World {
    lifecycle: Lifecycle<TestTypes>,
    now: Instant,
    /// The revision that the app is to serve.
    wanted: u8,
    load: Option<(LoadTicket<TestTypes>, TestLoad)>,
    /// Whether the app was changed since the load in progress was requested.
    changed_since_load: bool,
    hold: Option<HoldToken<TestTypes>>,
    requests: Vec<Arc<TestLoaded>>,
}

impl World {
    fn new() -> Self {
        Self {
            lifecycle: Lifecycle::new(0),
            now: Instant::now(),
            wanted: 0,
            load: None,
            changed_since_load: false,
            hold: None,
            requests: Vec::new(),
        }
    }

    fn request(&mut self) {
        match self.lifecycle.enter(self.now) {
            Entry::Stopped => assert!(self.lifecycle.is_stopped),
            Entry::Ready(loaded) => {
                assert_eq!(loaded.revision, self.wanted, "a request gets the revision that was requested last");
                self.requests.push(loaded);
            }
            Entry::Held(_) => assert!(self.hold.is_some()),
            Entry::Loading(_) => assert!(self.load.is_some(), "requests wait for a load that runs"),
            Entry::Failed => assert!(self.load.is_none()),
            Entry::MustLoad(ticket) => {
                assert!(self.load.is_none(), "a load is requested while another one runs");
                assert_eq!(ticket.revision, self.wanted);
                self.start_load(ticket);
            }
        }
    }

    fn start_load(&mut self, ticket: LoadTicket<TestTypes>) {
        let load = TestLoad::default();
        self.lifecycle.load_started(load.clone());
        self.load = Some((ticket, load));
        self.changed_since_load = false;
    }

    fn finish_load(&mut self, make: impl FnOnce(u8) -> LoadResult<TestTypes>) {
        // While a hold makes requests wait, no load ends, because the real loader waits for the end of the hold.
        if self.hold.is_some() {
            return;
        }
        let Some((ticket, load)) = self.load.take() else { return };
        let result = make(ticket.revision);
        let is_loaded = matches!(result, LoadResult::Loaded(_));
        let (end, unused) = self.lifecycle.load_finished(&ticket, result, self.now);
        let serves = matches!(end, LoadEnd::Serves(_));
        assert!(!(serves && self.changed_since_load), "a load is used although the app was changed");
        assert_eq!(unused.is_some(), is_loaded && !serves, "a loaded revision is served or returned");
        if let LoadEnd::Reload(next) = end {
            assert_eq!(next.revision, self.wanted);
            self.load = Some((next, load));
            self.changed_since_load = false;
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Request => self.request(),
            Event::LoadSucceeds => {
                self.finish_load(|revision| LoadResult::Loaded(Arc::new(TestLoaded { revision })));
            }
            Event::LoadUnavailable => self.finish_load(|_| LoadResult::Unavailable),
            Event::LoadFails => self.finish_load(|_| LoadResult::Failed),
            Event::LoadIsLost => {
                if let Some((_, load)) = self.load.take() {
                    load.is_lost.set(true);
                }
            }
            Event::Put(revision, is_stopped) => {
                self.changed_since_load |= self.wanted != *revision || *is_stopped;
                self.wanted = *revision;
                self.lifecycle.put(revision, *is_stopped);
            }
            Event::TakeOver(revision, is_current) => {
                self.changed_since_load = true;
                self.wanted = *revision;
                let loaded = Arc::new(TestLoaded { revision: *revision });
                let is_served = *is_current && !self.lifecycle.is_stopped;
                let taken = self.lifecycle.take_over(*revision, loaded, *is_current);
                assert_eq!(taken.unused.is_none(), is_served);
            }
            Event::Stop => {
                self.changed_since_load = true;
                self.lifecycle.stop();
            }
            Event::Resume => self.lifecycle.resume(),
            Event::Unload => {
                self.changed_since_load = true;
                self.lifecycle.unload();
            }
            Event::Evict => {
                if let Some(loaded) = self.lifecycle.loaded().cloned() {
                    assert!(self.lifecycle.evict(&loaded) && !self.lifecycle.evict(&loaded));
                }
            }
            Event::Hold => {
                if self.hold.is_none() {
                    self.changed_since_load = true;
                    self.hold = Some(self.lifecycle.hold(1));
                }
            }
            Event::Release => {
                if let Some(token) = self.hold.take() {
                    let before = token.before.clone();
                    if let Release::Restored = self.lifecycle.release(token) {
                        let (before, now) = (before.expect("a revision was in service"), self.lifecycle.loaded());
                        assert!(now.is_some_and(|now| Arc::ptr_eq(now, &before)));
                    }
                    self.changed_since_load = true;
                }
            }
            Event::RequestsEnd => self.requests.clear(),
            Event::Wait(seconds) => self.now += Duration::from_secs(*seconds),
        }
        self.check();
    }

    fn check(&mut self) {
        let lifecycle = &mut self.lifecycle;
        assert!(!lifecycle.is_stopped || lifecycle.loaded.is_none(), "a stopped app is in memory");
        assert!(lifecycle.loaded.as_ref().is_none_or(|loaded| loaded.revision == self.wanted));
        let ids = |entry: Entry<TestTypes>| match entry {
            Entry::Stopped => 0,
            Entry::Ready(loaded) => 1 + loaded.revision,
            Entry::Held(_) => 10,
            Entry::Loading(_) => 11,
            Entry::Failed => 12,
            Entry::MustLoad(ticket) => 13 + ticket.revision,
        };
        assert_eq!(ids(lifecycle.enter(self.now)), ids(lifecycle.enter(self.now)), "a query changes nothing");
        let in_service = lifecycle.loaded.clone();
        let held = self.hold.as_ref().and_then(|token| token.before.clone());
        let is_current = |loaded: &Arc<TestLoaded>| {
            [&in_service, &held].into_iter().flatten().any(|current| Arc::ptr_eq(current, loaded))
        };
        let has_old_requests = self.requests.iter().any(|loaded| !is_current(loaded));
        assert!(!(has_old_requests && lifecycle.is_drained()), "a revision that left service still has requests");
    }
}

proptest! {
    /// After any sequence of events, an app that is neither held nor stopped serves the revision that was requested
    /// last.
    #[test]
    fn the_revision_that_was_asked_for_last_is_served_in_the_end(events in prop::collection::vec(event(), 0..60)) {
        let mut world = World::new();
        for event in &events {
            world.apply(event);
        }
        for event in [Event::Release, Event::Resume, Event::LoadSucceeds, Event::LoadSucceeds, Event::Wait(120), Event::Request,
            Event::LoadSucceeds, Event::RequestsEnd, Event::Request]
        {
            world.apply(&event);
        }
        prop_assert_eq!(world.requests.first().map(|loaded| loaded.revision), Some(world.wanted));
    }
}

#[test]
fn failed_loads_are_retried_after_pauses_that_grow() {
    let mut world = World::new();
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        world.apply(&Event::Request);
        world.apply(&Event::LoadFails);
        world.now += Duration::from_secs(pause) - Duration::from_millis(1);
        assert!(matches!(world.lifecycle.enter(world.now), Entry::Failed), "{pause} s");
        world.now += Duration::from_millis(1);
        assert!(matches!(world.lifecycle.enter(world.now), Entry::MustLoad(_)), "{pause} s");
    }
    world.apply(&Event::Request);
    world.apply(&Event::LoadFails);
    world.apply(&Event::Unload);
    assert!(matches!(world.lifecycle.enter(world.now), Entry::MustLoad(_)), "a change ends the pause");
}

#[test]
fn a_lost_load_is_started_again() {
    let mut world = World::new();
    world.apply(&Event::Request);
    assert!(matches!(world.lifecycle.enter(world.now), Entry::Loading(_)));
    world.apply(&Event::LoadIsLost);
    assert!(matches!(world.lifecycle.enter(world.now), Entry::MustLoad(_)));
}
