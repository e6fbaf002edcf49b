//! Places of connections: how many there are, how many one source may have, and which connection is closed for a new one.
//!
//! A new connection never waits for a place. Where there is none, the connection that has had no request in progress for the longest time
//! is closed for it: half-open ones (a handshake or a head that does not come) and idle ones alike, of the source that has the most
//! connections first. So a source that opens connections without end closes its own, and the others keep theirs. A connection with a request
//! in progress is never closed; if there is no other, the new connection is refused.
//!
//! Requests do not touch the registry. Connections of a source are ordered by when they were last known to wait, which is a lower bound;
//! the order is brought up to date when a place is looked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::source::{Network, Source};
use crate::traffic::{Traffic, now_ms};

/// How long no connection to close is looked for after none was found: each look is at all connections.
const NEXT_SEARCH_MS: u64 = 20;

/// Connections of a front door, counted since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionCounts {
    /// Open now.
    pub open: usize,
    /// Taken on.
    pub accepted: u64,
    /// Idle or half-open ones that were closed so that another one could have the place.
    pub evicted: u64,
    /// Refused because every place, or every place of the source, was taken by a connection with a request in progress.
    pub refused: u64,
}

/// Counts the connections of a front door.
#[derive(Clone)]
pub struct Connections(pub(crate) Arc<Places>);

impl Connections {
    /// The counts as they are now.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        self.0.counts()
    }
}

/// The places of a front door.
pub(crate) struct Places {
    max: usize,
    per_source_max: usize,
    /// Networks whose connections count for the front door only, not for their source.
    uncounted: Vec<Network>,
    registry: Mutex<Registry>,
    /// Notified when the last place is free again.
    empty: Notify,
    accepted: AtomicU64,
    evicted: AtomicU64,
    refused: AtomicU64,
}

/// A connection's place. Free again when dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    pub(crate) traffic: Arc<Traffic>,
    id: u64,
}

#[derive(Default)]
struct Registry {
    next_id: u64,
    /// Where each connection is in `sources`.
    open: HashMap<u64, (Source, u64)>,
    /// Sources that have any.
    sources: HashMap<Source, OfSource>,
    /// The same sources by their number of connections.
    by_number: BTreeSet<(usize, Source)>,
    /// When all sources are searched again for a connection to close.
    next_search_ms: u64,
}

/// Connections of one source.
#[derive(Default)]
struct OfSource {
    /// By a lower bound of when they began to wait, and by id.
    connections: BTreeMap<(u64, u64), Arc<Traffic>>,
    /// When it is searched again for a connection to close.
    next_search_ms: u64,
}

impl Places {
    pub(crate) fn new(max: usize, per_source_max: usize, uncounted: Vec<Network>) -> Arc<Self> {
        Arc::new(Self {
            max,
            per_source_max,
            uncounted,
            registry: Mutex::default(),
            empty: Notify::new(),
            accepted: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// A place for a new connection from `address`; `None` if there is none, and none can be made.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let source = Source::of(address);
        let mut registry = self.lock();
        if !self.make_room(&mut registry, source, self.is_counted(address)) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let (traffic, id) = (Traffic::new(), registry.next_id);
        registry.next_id += 1;
        registry.insert(source, now_ms(), id, traffic.clone());
        Some(Place { places: self.clone(), traffic, id })
    }

    /// Closes a connection that has no request in progress, where there is one: for what has run out beside places.
    pub(crate) fn evict_any(&self) -> bool {
        self.evict(&mut self.lock(), None)
    }

    /// Resolves when no connection is open.
    pub(crate) async fn all_free(&self) {
        loop {
            let empty = self.empty.notified();
            if self.lock().open.is_empty() {
                return;
            }
            empty.await;
        }
    }

    pub(crate) fn counts(&self) -> ConnectionCounts {
        ConnectionCounts {
            open: self.lock().open.len(),
            accepted: self.accepted.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn is_counted(&self, address: IpAddr) -> bool {
        !self.uncounted.iter().any(|network| network.contains(address))
    }

    /// Makes room for one more connection of `source`.
    fn make_room(&self, registry: &mut Registry, source: Source, counted: bool) -> bool {
        let of_source = registry.sources.get(&source).map_or(0, |it| it.connections.len());
        if counted && of_source >= self.per_source_max {
            return self.evict(registry, Some(source));
        }
        registry.open.len() < self.max || self.evict(registry, None)
    }

    /// Closes the connection that has waited longest: of `source`, or of the first source with one, from the largest on.
    fn evict(&self, registry: &mut Registry, source: Option<Source>) -> bool {
        let now = now_ms();
        let found = match source {
            Some(source) => registry.longest_waiting(source, now),
            None => registry.longest_waiting_of_largest(now),
        };
        let Some(id) = found else { return false };
        registry.remove(id).inspect(|traffic| traffic.evict());
        self.evicted.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // Nothing in here panics half-way.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn insert(&mut self, source: Source, since_ms: u64, id: u64, traffic: Arc<Traffic>) {
        self.open.insert(id, (source, since_ms));
        let connections = &mut self.sources.entry(source).or_default().connections;
        self.by_number.remove(&(connections.len(), source));
        connections.insert((since_ms, id), traffic);
        self.by_number.insert((connections.len(), source));
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Traffic>> {
        let (source, since_ms) = self.open.remove(&id)?;
        let connections = &mut self.sources.get_mut(&source)?.connections;
        self.by_number.remove(&(connections.len(), source));
        let traffic = connections.remove(&(since_ms, id));
        match connections.len() {
            0 => drop(self.sources.remove(&source)),
            number => drop(self.by_number.insert((number, source))),
        }
        traffic
    }

    /// The connection that has waited longest, of the largest source that has one that waits.
    fn longest_waiting_of_largest(&mut self, now_ms: u64) -> Option<u64> {
        if now_ms < self.next_search_ms {
            return None;
        }
        let mut next = self.by_number.last().copied();
        while let Some(largest) = next {
            let found = self.longest_waiting(largest.1, now_ms);
            if found.is_some() {
                return found;
            }
            next = self.by_number.range(..largest).next_back().copied();
        }
        self.next_search_ms = now_ms + NEXT_SEARCH_MS;
        None
    }

    /// The connection of `source` that has waited longest, if one of them waits.
    fn longest_waiting(&mut self, source: Source, now_ms: u64) -> Option<u64> {
        let of_source = self.sources.get_mut(&source)?;
        if now_ms < of_source.next_search_ms {
            return None;
        }
        let connections = &mut of_source.connections;
        // Each look either ends this or moves one connection back: to when it began to wait, or behind now if it does not wait.
        for _ in 0..=connections.len() {
            let (&(known_ms, id), traffic) = connections.first_key_value()?;
            let since_ms = match traffic.waiting_since_ms() {
                Some(since_ms) if since_ms <= known_ms => return Some(id),
                None if known_ms > now_ms => break,
                since_ms => since_ms.unwrap_or(now_ms + 1),
            };
            let traffic = connections.remove(&(known_ms, id))?;
            connections.insert((since_ms, id), traffic);
            self.open.insert(id, (source, since_ms));
        }
        of_source.next_search_ms = now_ms + NEXT_SEARCH_MS;
        None
    }
}

impl Place {
    /// Counts the connection for another source from now on, as a proxy said. `false` if that source has no place.
    pub(crate) fn move_to(&self, address: IpAddr) -> bool {
        let source = Source::of(address);
        let mut registry = self.places.lock();
        let Some((before, since_ms)) = registry.open.get(&self.id).copied() else { return false };
        if before == source {
            return true;
        }
        let Some(traffic) = registry.remove(self.id) else { return false };
        // Whoever a trusted proxy names is a client, in a trusted network too.
        if !self.places.make_room(&mut registry, source, true) {
            self.places.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        registry.insert(source, since_ms, self.id, traffic);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut registry = self.places.lock();
        registry.remove(self.id);
        if registry.open.is_empty() {
            self.places.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn places(max: usize, per_source_max: usize) -> Arc<Places> {
        let proxy = Network { address: ip("10.0.0.9"), prefix: 32 };
        Places::new(max, per_source_max, vec![proxy])
    }

    /// Has it been evicted?
    fn is_evicted(place: &Place) -> bool {
        !place.places.lock().open.contains_key(&place.id)
    }

    #[test]
    fn a_source_closes_its_own_connections_first() {
        let places = places(100, 2);
        let one = places.take(ip("192.0.2.1")).expect("a place");
        let two = places.take(ip("192.0.2.1")).expect("a place");
        let other = places.take(ip("192.0.2.2")).expect("a place");
        let three = places.take(ip("192.0.2.1")).expect("a place");
        assert!(is_evicted(&one) && !is_evicted(&two) && !is_evicted(&other) && !is_evicted(&three));
        // One with a request is not closed; when all have one, the next connection is refused.
        let _running = [Traffic::begin(&two.traffic), Traffic::begin(&three.traffic)];
        assert!(places.take(ip("192.0.2.1")).is_none());
        assert!(places.take(ip("192.0.2.2")).is_some());
        let counts = places.counts();
        assert_eq!((counts.open, counts.accepted, counts.evicted, counts.refused), (3, 5, 1, 1));
    }

    #[test]
    fn when_all_places_are_taken_the_largest_source_gives_one() {
        let places = places(4, 3);
        let other = places.take(ip("2001:db8:0:1::1")).expect("a place");
        let mut greedy: Vec<_> = (0..3).map(|_| places.take(ip("192.0.2.1")).expect("a place")).collect();
        let next = places.take(ip("2001:db8:0:2::1")).expect("a place");
        assert!(is_evicted(&greedy[0]) && !is_evicted(&greedy[1]) && !is_evicted(&other) && !is_evicted(&next));
        drop(greedy.remove(0));
        assert_eq!(places.counts().open, 4);
        // The largest has only connections in use: another one's is closed.
        let _running: Vec<_> = greedy.iter().map(|place| Traffic::begin(&place.traffic)).collect();
        let last = places.take(ip("2001:db8:0:3::1")).expect("a place");
        assert!(!is_evicted(&greedy[0]) && !is_evicted(&last));
        assert_eq!(usize::from(is_evicted(&other)) + usize::from(is_evicted(&next)), 1);
    }

    #[test]
    fn the_one_that_has_waited_longest_is_closed() {
        let places = places(3, 3);
        let all: Vec<_> = (0..3).map(|_| places.take(ip("192.0.2.1")).expect("a place")).collect();
        // The first one had a request after the others were made.
        let request = Traffic::begin(&all[0].traffic);
        let made = now_ms();
        while now_ms() == made {
            std::thread::yield_now();
        }
        drop(request);
        let _next = places.take(ip("192.0.2.1")).expect("a place");
        assert!(!is_evicted(&all[0]) && is_evicted(&all[1]) && !is_evicted(&all[2]));
    }

    #[test]
    fn a_proxys_connections_are_counted_for_its_clients() {
        let places = places(100, 1);
        let one = places.take(ip("10.0.0.9")).expect("a place");
        let two = places.take(ip("10.0.0.9")).expect("a place");
        assert!(one.move_to(ip("192.0.2.1")));
        let request = Traffic::begin(&one.traffic);
        assert!(!two.move_to(ip("192.0.2.1")), "it has its one place");
        drop(request);
        assert!(places.take(ip("10.0.0.9")).expect("a place").move_to(ip("192.0.2.2")));
        drop((one, two));
        assert_eq!(places.counts().open, 0);
        let registry = places.lock();
        assert!(registry.sources.is_empty() && registry.by_number.is_empty());
    }
}
