//! Places of connections: how many there are, how many one source may have, and which connection is closed for a new one.
//!
//! A new connection never waits for a place. Where there is none, the connection that has had no request in progress for the longest time
//! is closed for it: half-open ones (a handshake or a head that does not come) and idle ones alike, of the clients that have the most
//! connections first. So a client that opens connections without end closes its own, and the others keep theirs. A connection with a request
//! in progress is never closed; if there is no other, the new connection is refused.
//!
//! A client is a source, or one connection of a trusted proxy as long as the proxy has not said whose it is: what one of a proxy's clients
//! does is not held against the others.
//!
//! Requests do not touch the registry. Connections of a client are ordered by when they were last known to wait, which is a lower bound,
//! and clients with the same number of connections by their first; the order is brought up to date when a place is looked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isomer_transport::{ClientNetwork, IpNetwork};
use tokio::sync::Notify;

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
    /// Networks of trusted proxies: their connections count for the front door only, until it is known whose they are.
    uncounted: Vec<IpNetwork>,
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

/// Whose connections are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Client {
    /// All connections of one source.
    Source(ClientNetwork),
    /// One connection of a trusted proxy, by its id: whose it is is not known.
    Proxied(u64),
}

#[derive(Default)]
struct Registry {
    next_id: u64,
    /// Where each connection is in `clients`.
    open: HashMap<u64, (Client, u64)>,
    /// Clients that have any.
    clients: HashMap<Client, OfClient>,
    /// The same clients by their number of connections, and among equals by the first key of theirs.
    by_number: BTreeMap<usize, BTreeSet<(u64, Client)>>,
    /// When all clients are searched again for a connection to close.
    next_search_ms: u64,
}

/// Connections of a client, by a lower bound of when they began to wait, and by id.
type Waiting = BTreeMap<(u64, u64), Arc<Traffic>>;

/// Connections of one client.
#[derive(Default)]
struct OfClient {
    connections: Waiting,
    /// When it is searched again for a connection to close.
    next_search_ms: u64,
}

/// What the first connection of a client was found to do.
enum Seen {
    /// It waits, and no connection of the client's has waited longer.
    Waits(u64),
    /// It has a request in progress, as all others of the client's.
    Busy,
    /// Something later than what was known of it; another one may be the first now.
    Moved,
}

impl Places {
    pub(crate) fn new(max: usize, per_source_max: usize, uncounted: Vec<IpNetwork>) -> Arc<Self> {
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
        let mut registry = self.lock();
        let id = registry.next_id;
        let client = match self.is_counted(address) {
            true => Client::Source(ClientNetwork::of(address)),
            false => Client::Proxied(id),
        };
        if !self.make_room(&mut registry, client) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let traffic = Traffic::new();
        registry.next_id += 1;
        registry.insert(client, now_ms(), id, traffic.clone());
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

    /// Makes room for one more connection of `client`.
    fn make_room(&self, registry: &mut Registry, client: Client) -> bool {
        let number = registry.clients.get(&client).map_or(0, |it| it.connections.len());
        if matches!(client, Client::Source(_)) && number >= self.per_source_max {
            return self.evict(registry, Some(client));
        }
        if registry.open.len() < self.max {
            return true;
        }
        // With one more it would have the most of all.
        let would_be_largest = registry.by_number.last_key_value().is_some_and(|(largest, _)| number >= *largest);
        (would_be_largest && self.evict(registry, Some(client))) || self.evict(registry, None)
    }

    /// Closes the connection that has waited longest: of `client`, or of those that have the most connections.
    fn evict(&self, registry: &mut Registry, client: Option<Client>) -> bool {
        let now = now_ms();
        let found = match client {
            Some(client) => registry.longest_waiting(client, now),
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
    fn insert(&mut self, client: Client, since_ms: u64, id: u64, traffic: Arc<Traffic>) {
        self.open.insert(id, (client, since_ms));
        self.change(client, |connections| connections.insert((since_ms, id), traffic));
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Traffic>> {
        let (client, since_ms) = self.open.remove(&id)?;
        self.change(client, |connections| connections.remove(&(since_ms, id)))
    }

    /// Changes the connections of a client, and its place among the clients with them.
    fn change<T>(&mut self, client: Client, change: impl FnOnce(&mut Waiting) -> T) -> T {
        let place = |connections: &Waiting| Some((connections.len(), connections.first_key_value()?.0.0));
        let connections = &mut self.clients.entry(client).or_default().connections;
        let before = place(connections);
        let value = change(connections);
        let after = place(connections);
        if after.is_none() {
            self.clients.remove(&client);
        }
        if before == after {
            return value;
        }
        if let Some((number, since_ms)) = before
            && let Some(equals) = self.by_number.get_mut(&number)
        {
            equals.remove(&(since_ms, client));
            if equals.is_empty() {
                self.by_number.remove(&number);
            }
        }
        if let Some((number, since_ms)) = after {
            self.by_number.entry(number).or_default().insert((since_ms, client));
        }
        value
    }

    /// The connection that has waited longest of the clients with the most connections; of those with fewer where none of theirs waits.
    fn longest_waiting_of_largest(&mut self, now_ms: u64) -> Option<u64> {
        if now_ms < self.next_search_ms {
            return None;
        }
        let mut number = self.by_number.last_key_value().map(|(number, _)| *number);
        while let Some(of_largest) = number {
            // Each look but the last moves one connection back, and none more than to where it is busy.
            for _ in 0..=2 * self.open.len() {
                let Some((_, client)) = self.by_number.get(&of_largest).and_then(|equals| equals.first()) else {
                    break;
                };
                match self.look(*client, now_ms) {
                    Some(Seen::Waits(id)) => return Some(id),
                    Some(Seen::Moved) => {}
                    // So are the first ones of all equals, as they come behind it.
                    Some(Seen::Busy) | None => break,
                }
            }
            number = self.by_number.range(..of_largest).next_back().map(|(number, _)| *number);
        }
        self.next_search_ms = now_ms + NEXT_SEARCH_MS;
        None
    }

    /// The connection of `client` that has waited longest, if one of them waits.
    fn longest_waiting(&mut self, client: Client, now_ms: u64) -> Option<u64> {
        let of_client = self.clients.get(&client)?;
        if now_ms < of_client.next_search_ms {
            return None;
        }
        for _ in 0..=2 * of_client.connections.len() {
            match self.look(client, now_ms)? {
                Seen::Waits(id) => return Some(id),
                Seen::Moved => {}
                Seen::Busy => break,
            }
        }
        self.clients.get_mut(&client)?.next_search_ms = now_ms + NEXT_SEARCH_MS;
        None
    }

    /// Looks at the first connection of `client`: moves it to when it began to wait, or behind now if it does not wait.
    fn look(&mut self, client: Client, now_ms: u64) -> Option<Seen> {
        let (&(known_ms, id), traffic) = self.clients.get(&client)?.connections.first_key_value()?;
        let since_ms = match traffic.waiting_since_ms() {
            Some(since_ms) if since_ms <= known_ms => return Some(Seen::Waits(id)),
            None if known_ms > now_ms => return Some(Seen::Busy),
            since_ms => since_ms.unwrap_or(now_ms + 1),
        };
        self.change(client, |connections| {
            let traffic = connections.remove(&(known_ms, id))?;
            connections.insert((since_ms, id), traffic)
        });
        self.open.insert(id, (client, since_ms));
        Some(Seen::Moved)
    }
}

impl Place {
    /// Counts the connection for another source from now on, as a proxy said. `false` if that source has no place.
    pub(crate) fn move_to(&self, address: IpAddr) -> bool {
        // Whoever a trusted proxy names is a client, in a trusted network too.
        let client = Client::Source(ClientNetwork::of(address));
        let mut registry = self.places.lock();
        let Some((before, since_ms)) = registry.open.get(&self.id).copied() else { return false };
        if before == client {
            return true;
        }
        let Some(traffic) = registry.remove(self.id) else { return false };
        if !self.places.make_room(&mut registry, client) {
            self.places.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        registry.insert(client, since_ms, self.id, traffic);
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
        let proxy = IpNetwork { address: ip("10.0.0.9"), prefix: 32 };
        Places::new(max, per_source_max, vec![proxy])
    }

    /// Waits until the clock of the registry has gone on.
    fn later() {
        let before = now_ms();
        while now_ms() == before {
            std::thread::yield_now();
        }
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
        assert!(is_evicted(&other) && !is_evicted(&next), "of equals the one that has waited longest");
    }

    #[test]
    fn the_one_that_has_waited_longest_is_closed() {
        let places = places(3, 3);
        let all: Vec<_> = (0..3).map(|_| places.take(ip("192.0.2.1")).expect("a place")).collect();
        // The first one had a request after the others were made.
        let request = Traffic::begin(&all[0].traffic);
        later();
        drop(request);
        let _next = places.take(ip("192.0.2.1")).expect("a place");
        assert!(!is_evicted(&all[0]) && is_evicted(&all[1]) && !is_evicted(&all[2]));
    }

    #[test]
    fn of_clients_with_as_many_connections_the_one_that_has_waited_longest_is_closed() {
        let places = places(3, 3);
        // Not by their addresses: the last one is the greatest.
        let all = ["192.0.2.2", "192.0.2.1", "192.0.2.3"].map(|address| {
            let place = places.take(ip(address)).expect("a place");
            later();
            place
        });
        let next = places.take(ip("192.0.2.9")).expect("a place");
        assert_eq!(all.each_ref().map(is_evicted), [true, false, false]);
        later();
        // One that is in use is passed over, and counts from the end of its request.
        let request = Traffic::begin(&all[1].traffic);
        later();
        let another = places.take(ip("192.0.2.8")).expect("a place");
        assert_eq!(all.each_ref().map(is_evicted), [true, false, true]);
        drop(request);
        later();
        drop(places.take(ip("192.0.2.7")).expect("a place"));
        assert!(is_evicted(&next) && !is_evicted(&another) && !is_evicted(&all[1]));
    }

    #[test]
    fn a_proxy_does_not_pay_for_one_of_its_clients() {
        let places = places(6, 6);
        let unknown: Vec<_> = (0..3).map(|_| places.take(ip("10.0.0.9")).expect("a place")).collect();
        let proxied = |client: &str| {
            let place = places.take(ip("10.0.0.9")).expect("a place");
            assert!(place.move_to(ip(client)));
            place
        };
        let modest = proxied("192.0.2.1");
        let mut greedy: Vec<_> = (0..20).map(|_| proxied("192.0.2.2")).collect();
        assert!(!unknown.iter().chain([&modest]).any(is_evicted), "the greedy one has closed its own");
        assert_eq!(greedy.iter().filter(|place| !is_evicted(place)).count(), 2);
        // So it is when it comes from elsewhere.
        let direct: Vec<_> = (0..20).map(|_| places.take(ip("192.0.2.3")).expect("a place")).collect();
        assert!(!unknown.iter().chain([&modest]).any(is_evicted));
        greedy.retain(|place| !is_evicted(place));
        assert_eq!((greedy.len(), direct.iter().filter(|place| !is_evicted(place)).count()), (1, 1));
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
        assert!(registry.clients.is_empty() && registry.by_number.is_empty());
    }
}
