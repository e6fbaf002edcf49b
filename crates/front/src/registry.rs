//! The open connections: the maximum number in total and per client, and which connection is closed to make room.
//!
//! A new connection never waits for a permit. If no permit is left, the registry closes the connection that has been
//! idle for the longest time, among the connections of the clients with the most connections. Half-open connections
//! (with an incomplete handshake or head) are treated as idle. So a client that keeps opening connections loses its own
//! connections and not those of other clients. A connection with a request in progress is never closed. If all
//! connections have a request in progress, the new connection is refused.
//!
//! A client is a client network, or a single connection of a trusted proxy until the proxy has announced its client. So
//! the behaviour of one client of a proxy does not affect the proxy's other clients.
//!
//! The registry orders the connections of a client by the time at which each one last became idle, and clients with the
//! same number of connections by the time of their first connection. Requests do not update the registry. It reads the
//! current times, and updates the order, only when it searches for a connection to close. So the times that it knows
//! before may be too early.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isomer_telemetry::metrics::{MetricSource, MetricValue, Metrics, Snapshot, catalog};
use isomer_transport::{ClientNetwork, IpNetwork};
use tokio::sync::watch;

use crate::activity::{Activity, now_ms};
use crate::limits::Limits;

/// The pause after a search that found no connection to close. During this pause, no new search is made, because each
/// search looks at all connections.
const SEARCH_PAUSE_MS: u64 = 20;

/// Statistics of a front door's connections since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionCounts {
    /// The number of connections that are open now.
    pub open: usize,
    /// The number of accepted connections.
    pub accepted: u64,
    /// The number of idle or half-open connections that were closed to make room for another one.
    pub evicted: u64,
    /// The number of refused connections. A connection is refused if the front door or the client network has its
    /// maximum number of connections, and all of them have a request in progress.
    pub refused: u64,
}

/// A handle to the statistics of a front door's connections.
#[derive(Clone)]
pub struct Connections(pub(crate) Arc<ConnectionRegistry>);

impl Connections {
    /// Creates the statistics of front doors with these limits, which have no trusted proxies. The front doors are
    /// created later ([`Front::with_connections`](crate::Front::with_connections)).
    #[must_use]
    pub fn new(limits: &Limits, metrics: Option<&Metrics>) -> Self {
        let registry = ConnectionRegistry::new(limits.connections_max, limits.connections_per_source_max, Vec::new());
        if let Some(metrics) = metrics {
            registry.report_to(metrics);
        }
        Self(registry)
    }

    /// Returns the current statistics.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        self.0.counts()
    }
}

/// The open connections of a front door.
pub(crate) struct ConnectionRegistry {
    max: usize,
    per_source_max: usize,
    /// The networks of trusted proxies. The maximum per client network does not apply to a proxy's connection until the
    /// proxy has announced its client.
    proxies: Vec<IpNetwork>,
    connections: Mutex<OpenConnections>,
    accepted: AtomicU64,
    evicted: AtomicU64,
    refused: AtomicU64,
}

/// The right to keep a connection open. Dropping the permit makes room for another connection.
pub(crate) struct ConnectionPermit {
    registry: Arc<ConnectionRegistry>,
    pub(crate) activity: Arc<Activity>,
    id: u64,
}

/// A client, as the unit by which connections are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Client {
    /// A client network.
    Network(ClientNetwork),
    /// The id of a connection of a trusted proxy that has not announced its client.
    Proxied(u64),
}

#[derive(Default)]
struct OpenConnections {
    next_id: u64,
    /// The open connections, by id. The value is the connection's client, and the time in the connection's
    /// [`ByIdleTime`] key. Client, time and id are sufficient to find the connection in `clients`.
    open: HashMap<u64, (Client, u64)>,
    /// The connections of each client that has any.
    clients: HashMap<Client, ClientConnections>,
    /// The clients by their number of connections. Clients with the same number are ordered by the time in the first
    /// key of their [`ByIdleTime`].
    by_number: BTreeMap<usize, BTreeSet<(u64, Client)>>,
    /// The earliest time of the next search through all clients for a connection to close.
    next_search_ms: u64,
}

/// The connections of a client. The key consists of a lower bound of the time at which the connection became idle, and
/// the connection's id.
type ByIdleTime = BTreeMap<(u64, u64), Arc<Activity>>;

/// The connections of one client.
#[derive(Default)]
struct ClientConnections {
    connections: ByIdleTime,
    /// The earliest time of the next search through the client's connections for one to close.
    next_search_ms: u64,
}

/// The state of the connection with the lowest key in a client's [`ByIdleTime`], as a search finds it.
enum FirstConnection {
    /// The connection is idle, and no other connection of the client has been idle for longer.
    Idle(u64),
    /// The connection and all other connections of the client have a request in progress.
    Busy,
    /// The time in the connection's [`ByIdleTime`] key was outdated and has been corrected. So the client's first
    /// connection may be a different one now.
    Moved,
}

impl ConnectionRegistry {
    pub(crate) fn new(max: usize, per_source_max: usize, proxies: Vec<IpNetwork>) -> Arc<Self> {
        Arc::new(Self {
            max,
            per_source_max,
            proxies,
            connections: Mutex::default(),
            accepted: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Registers a new connection from `address`. Returns `None` if there are too many connections and none can be
    /// closed.
    pub(crate) fn accept(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionPermit> {
        let mut open = self.lock();
        let id = open.next_id;
        let client = match self.is_counted(address) {
            true => Client::Network(ClientNetwork::of(address)),
            false => Client::Proxied(id),
        };
        if !self.make_room(&mut open, client) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let activity = Activity::new();
        open.next_id += 1;
        open.insert(client, now_ms(), id, activity.clone());
        Some(ConnectionPermit { registry: self.clone(), activity, id })
    }

    /// Closes an idle connection, because another resource is exhausted. Returns `false` if no connection is idle.
    pub(crate) fn evict_any(&self) -> bool {
        self.evict(&mut self.lock(), None)
    }

    pub(crate) fn counts(&self) -> ConnectionCounts {
        ConnectionCounts {
            open: self.lock().open.len(),
            accepted: self.accepted.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Adds the statistics to all later snapshots of `metrics`.
    pub(crate) fn report_to(self: &Arc<Self>, metrics: &Metrics) {
        let registry: Arc<dyn MetricSource> = self.clone();
        metrics.add_source(Arc::downgrade(&registry));
    }

    fn is_counted(&self, address: IpAddr) -> bool {
        !self.proxies.iter().any(|network| network.contains(address))
    }

    /// Makes room for one more connection of `client`. Returns `false` if this requires closing a connection and none
    /// is idle.
    fn make_room(&self, open: &mut OpenConnections, client: Client) -> bool {
        let number = open.clients.get(&client).map_or(0, |it| it.connections.len());
        if matches!(client, Client::Network(_)) && number >= self.per_source_max {
            return self.evict(open, Some(client));
        }
        if open.open.len() < self.max {
            return true;
        }
        // Whether the client, with one more connection, would have the most connections of all clients.
        let would_be_largest = open.by_number.last_key_value().is_some_and(|(largest, _)| number >= *largest);
        (would_be_largest && self.evict(open, Some(client))) || self.evict(open, None)
    }

    /// Closes the connection that has been idle for the longest time, among those of `client`. If `client` is `None`,
    /// chooses among those of the clients that have the most connections. Returns `false` if no connection is idle.
    fn evict(&self, open: &mut OpenConnections, client: Option<Client>) -> bool {
        let now = now_ms();
        let found = match client {
            Some(client) => open.longest_idle(client, now),
            None => open.longest_idle_of_largest(now),
        };
        let Some(id) = found else { return false };
        open.remove(id).inspect(|activity| activity.evict());
        self.evicted.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        // A poisoned lock is safe to use, because no code panics in the middle of a change.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetricSource for ConnectionRegistry {
    fn collect(&self, snapshot: &mut Snapshot) {
        let counts = self.counts();
        snapshot.push(&catalog::CONNECTIONS, vec![], MetricValue::integer(counts.open as u64));
        snapshot.push(&catalog::CONNECTIONS_EVICTED, vec![], MetricValue::integer(counts.evicted));
        snapshot.push(&catalog::CONNECTIONS_REFUSED, vec![], MetricValue::integer(counts.refused));
    }
}

impl OpenConnections {
    fn insert(&mut self, client: Client, since_ms: u64, id: u64, activity: Arc<Activity>) {
        self.open.insert(id, (client, since_ms));
        self.change(client, |connections| connections.insert((since_ms, id), activity));
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Activity>> {
        let (client, since_ms) = self.open.remove(&id)?;
        self.change(client, |connections| connections.remove(&(since_ms, id)))
    }

    /// Changes the connections of a client, and updates the client's position in `by_number`.
    fn change<T>(&mut self, client: Client, change: impl FnOnce(&mut ByIdleTime) -> T) -> T {
        let position = |connections: &ByIdleTime| Some((connections.len(), connections.first_key_value()?.0.0));
        let connections = &mut self.clients.entry(client).or_default().connections;
        let before = position(connections);
        let value = change(connections);
        let after = position(connections);
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

    /// Returns the id of the connection that has been idle for the longest time, among the clients with the most
    /// connections. If these have no idle connection, continues with the clients that have fewer connections.
    fn longest_idle_of_largest(&mut self, now_ms: u64) -> Option<u64> {
        if now_ms < self.next_search_ms {
            return None;
        }
        let mut number = self.by_number.last_key_value().map(|(number, _)| *number);
        while let Some(of_largest) = number {
            // Each iteration except the last one finds an outdated key, and corrects it: to the time at which the
            // connection became idle, or to `now_ms + 1` if it is busy. As long as no request begins or ends during the
            // search, each connection is corrected at most twice, so this number of iterations is sufficient.
            for _ in 0..=2 * self.open.len() {
                let Some((_, client)) = self.by_number.get(&of_largest).and_then(|equals| equals.first()) else {
                    break;
                };
                match self.check_first(*client, now_ms) {
                    Some(FirstConnection::Idle(id)) => return Some(id),
                    Some(FirstConnection::Moved) => {}
                    // This connection's key is `now_ms + 1`, the time of a busy connection. The first connections of
                    // the other clients in `equals` have no earlier key, so they are also busy.
                    Some(FirstConnection::Busy) | None => break,
                }
            }
            number = self.by_number.range(..of_largest).next_back().map(|(number, _)| *number);
        }
        self.next_search_ms = now_ms + SEARCH_PAUSE_MS;
        None
    }

    /// Returns the id of the connection of `client` that has been idle for the longest time, if any is idle.
    fn longest_idle(&mut self, client: Client, now_ms: u64) -> Option<u64> {
        let of_client = self.clients.get(&client)?;
        if now_ms < of_client.next_search_ms {
            return None;
        }
        for _ in 0..=2 * of_client.connections.len() {
            match self.check_first(client, now_ms)? {
                FirstConnection::Idle(id) => return Some(id),
                FirstConnection::Moved => {}
                FirstConnection::Busy => break,
            }
        }
        self.clients.get_mut(&client)?.next_search_ms = now_ms + SEARCH_PAUSE_MS;
        None
    }

    /// Checks the first connection in the order of `client`'s connections. The key of a connection contains the time
    /// since which it is idle. If this time is outdated, replaces it with the time at which the connection became idle
    /// last, or with `now_ms + 1` if the connection is busy.
    fn check_first(&mut self, client: Client, now_ms: u64) -> Option<FirstConnection> {
        let (&(known_ms, id), activity) = self.clients.get(&client)?.connections.first_key_value()?;
        let since_ms = match activity.idle_since_ms() {
            Some(since_ms) if since_ms <= known_ms => return Some(FirstConnection::Idle(id)),
            None if known_ms > now_ms => return Some(FirstConnection::Busy),
            since_ms => since_ms.unwrap_or(now_ms + 1),
        };
        self.change(client, |connections| {
            let activity = connections.remove(&(known_ms, id))?;
            connections.insert((since_ms, id), activity)
        });
        self.open.insert(id, (client, since_ms));
        Some(FirstConnection::Moved)
    }
}

impl ConnectionPermit {
    /// From now on, counts the connection for the network of `address`, which a proxy has announced. Returns `false` if
    /// that network has too many connections.
    pub(crate) fn move_to(&self, address: IpAddr) -> bool {
        // The address that the proxy announces is that of a client, even if it belongs to a trusted network.
        let client = Client::Network(ClientNetwork::of(address));
        let mut open = self.registry.lock();
        let Some((before, since_ms)) = open.open.get(&self.id).copied() else { return false };
        if before == client {
            return true;
        }
        let Some(activity) = open.remove(self.id) else { return false };
        if !self.registry.make_room(&mut open, client) {
            self.registry.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        open.insert(client, since_ms, self.id, activity);
        true
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.registry.lock().remove(self.id);
    }
}

/// The connections of one front door, which waits for them when it drains. Front doors that share a
/// [`ConnectionRegistry`] must not wait for each other's connections: the one that takes over keeps its connections open.
#[derive(Clone, Default)]
pub(crate) struct OwnConnections(watch::Sender<usize>);

/// Counts a connection of a front door until it is dropped.
pub(crate) struct OwnConnection(watch::Sender<usize>);

impl OwnConnections {
    pub(crate) fn begin(&self) -> OwnConnection {
        self.0.send_modify(|open| *open += 1);
        OwnConnection(self.0.clone())
    }

    pub(crate) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until no connection of the front door is open.
    pub(crate) async fn wait_none(&self) {
        // Fails only if there is no sender, but `self` is one.
        let _ = self.0.subscribe().wait_for(|open| *open == 0).await;
    }
}

impl Drop for OwnConnection {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests;
